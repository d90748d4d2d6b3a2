package store_test

// What Redis loses of what has terms, and of changes, is made again by whoever holds it, in whatever order. On the real Redis only, as the epochs.

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"allim/internal/store"
	"allim/pkg/notify"
)

// inAnyOrder has two publishers do something, the first before the second, all of it lost, and has both look at what they hold in each order.
func inAnyOrder(t *testing.T, before func(*bench), first, second func(*bench, *store.Store), want func(*bench)) {
	for _, order := range []string{"first, second", "second, first"} {
		t.Run(order, func(t *testing.T) {
			t.Parallel()
			b := epochBench(t)
			one, two := b.another("publisher"), b.another("publisher")
			before(b)
			b.lose(func() {
				first(b, one)
				second(b, two)
			})
			if order == "second, first" {
				one, two = two, one
			}
			b.touch(one)
			b.touch(two)
			one.Remark(b.ctx)
			two.Remark(b.ctx)
			want(b)
		})
	}
}

// by is a write of one message by a publisher.
func by(b *bench, s *store.Store, m *notify.Message) {
	b.Helper()
	if r := s.Write(b.ctx, []notify.Stream{ann}, m, store.Committed)[0]; r.Err != nil || r.Duplicate {
		b.Fatalf("%s: %+v", m.ID, r)
	}
}

func TestOfTwoLostItemsOfACollapseKeyTheLaterOneStands(t *testing.T) {
	t.Parallel()
	inAnyOrder(t, func(b *bench) { b.notify(ann, "c", "n0") },
		func(b *bench, s *store.Store) { by(b, s, collapsing("n1", "c", "k")) },
		func(b *bench, s *store.Store) { by(b, s, collapsing("n2", "c", "k")) },
		func(b *bench) {
			b.wantList(ann, store.Query{Status: store.All}, "n2 n0")
			b.wantBadge(ann, "2/2 c=2")
			if got := b.mark(ann, "read", store.Mark{IDs: []string{"n1"}}); got.Changed != 1 {
				b.Errorf("the former one: %+v", got)
			}
			if r := b.put(collapsing("n1", "c", "k")); !r.Duplicate {
				b.Errorf("the former one again: %+v", r)
			}
		})
}

// The older one is lost, the newer one stands, in the next history.
func TestALostItemDoesNotReplaceOneOfTheNewHistory(t *testing.T) {
	t.Parallel()
	b := epochBench(t)
	one, two := b.another("publisher"), b.another("publisher")
	b.notify(ann, "c", "n0")
	b.lose(func() { by(b, one, collapsing("n1", "c", "k")) })
	by(b, two, collapsing("n2", "c", "k"))
	b.touch(one)
	b.wantList(ann, store.Query{Status: store.All}, "n2 n0")
}

func TestOfTwoLostUpdatesTheLaterOneStands(t *testing.T) {
	t.Parallel()
	update := func(data string) func(*bench, *store.Store) {
		return func(b *bench, s *store.Store) {
			if r := s.Update(b.ctx, []notify.Stream{ann}, store.UpdateOf{ID: "n1", Data: []byte(data)}, store.Committed)[0]; r.Err != nil || !r.Changed {
				b.Fatalf("update: %+v", r)
			}
		}
	}
	inAnyOrder(t, func(b *bench) { b.notify(ann, "c", "n1") }, update("1"), update("2"), func(b *bench) {
		if p := b.wantList(ann, store.Query{}, "n1"); string(p.Items[0].Data) != "2" {
			b.Errorf("it is %s", p.Items[0].Data)
		}
	})
}

func TestALostUpdateWaitsForItsItem(t *testing.T) {
	t.Parallel()
	inAnyOrder(t, func(b *bench) { b.notify(ann, "c", "n0") },
		func(b *bench, s *store.Store) { by(b, s, notification("n1", "c")) },
		func(b *bench, s *store.Store) {
			if r := s.Update(b.ctx, []notify.Stream{ann}, store.UpdateOf{ID: "n1", Data: []byte("2")}, store.Committed)[0]; r.Err != nil {
				b.Fatal(r.Err)
			}
		}, func(b *bench) {
			if p := b.wantList(ann, store.Query{}, "n1 n0"); string(p.Items[0].Data) != "2" {
				b.Errorf("it is %s", p.Items[0].Data)
			}
		})
}

func TestALostItemThatWasRetractedStaysAway(t *testing.T) {
	t.Parallel()
	for _, how := range []store.RetractOf{{ID: "n1"}, {Collapse: "k"}} {
		t.Run(fmt.Sprint(how), func(t *testing.T) {
			inAnyOrder(t, func(b *bench) { b.notify(ann, "c", "n0") },
				func(b *bench, s *store.Store) { by(b, s, collapsing("n1", "c", "k")) },
				func(b *bench, s *store.Store) {
					if r := s.Retract(b.ctx, []notify.Stream{ann}, how, store.Committed)[0]; r.Err != nil || !r.Changed {
						b.Fatalf("%+v", r)
					}
				}, func(b *bench) {
					b.wantList(ann, store.Query{}, "n0")
					b.wantBadge(ann, "1/1 c=1")
				})
		})
	}
}

// What a retraction by a key hit is what it takes back again, not what came with that key later.
func TestALostRetractionTakesBackWhatItHadHit(t *testing.T) {
	t.Parallel()
	b := epochBench(t)
	one, two := b.another("publisher"), b.another("publisher")
	b.put(collapsing("n1", "c", "k"))
	b.lose(func() {
		two.Retract(b.ctx, []notify.Stream{ann}, store.RetractOf{Collapse: "k"}, store.Committed)
		by(b, one, collapsing("n2", "c", "k"))
	})
	b.touch(one)
	b.touch(two)
	b.wantList(ann, store.Query{}, "n2")
}

func TestOfTwoLostPreferencesTheLaterOneStands(t *testing.T) {
	t.Parallel()
	mute := func(categories ...string) func(*bench, *store.Store) {
		return func(b *bench, s *store.Store) {
			if _, _, changed, err := s.Preferences(b.ctx, ann, &categories, ""); err != nil || !changed {
				b.Fatalf("%t, %v", changed, err)
			}
		}
	}
	inAnyOrder(t, func(b *bench) { b.notify(ann, "c", "n0") }, mute("a", "b"), mute("b"), func(b *bench) {
		if got, _, _, err := b.Store.Preferences(b.ctx, ann, nil, ""); err != nil || len(got) != 1 || got[0] != "b" {
			b.Errorf("preferences %v, %v", got, err)
		}
	})
}

func TestALostItemThatHasExpiredDoesNotComeBack(t *testing.T) {
	t.Parallel()
	b := epochBench(t)
	b.notify(ann, "c", "n0")
	one := b.another("publisher")
	m := expiring("n1", "c", 300*time.Millisecond)
	b.lose(func() { by(b, one, m) })
	b.past(m.ExpiresAt)
	b.touch(one)
	b.wantList(ann, store.Query{}, "n0")
	if got := b.events(1); got != "" {
		b.Errorf("the stream says %s", got)
	}
}

func TestWhatWasAcknowledgedBeforeItsCategoryWasMutedComesBack(t *testing.T) {
	t.Parallel()
	inAnyOrder(t, func(b *bench) { b.notify(ann, "c", "n0") },
		func(b *bench, s *store.Store) { by(b, s, notification("n1", "c")) },
		func(b *bench, s *store.Store) {
			mute := []string{"c"}
			if _, _, _, err := s.Preferences(b.ctx, ann, &mute, ""); err != nil {
				b.Fatal(err)
			}
		}, func(b *bench) { b.wantList(ann, store.Query{}, "n1 n0") })
}

// An attempt of a change that comes about late undoes nothing that came after it.
func TestAnAttemptOfAChangeThatComesLateUndoesNothing(t *testing.T) {
	t.Parallel()
	for form, resets := range lateForms {
		t.Run(form, func(t *testing.T) {
			t.Parallel()
			b := epochBench(t)
			s, r := b.through("publisher", store.Options{})
			b.put(collapsing("n1", "c", "k"))
			b.touch(s)
			update := func(data string) error {
				return s.Update(b.ctx, []notify.Stream{ann}, store.UpdateOf{ID: "n1", Data: []byte(data)}, store.Committed)[0].Err
			}
			r.lateFirst(t, resets, func() error { return update("1") }, func() {
				if err := update("2"); err != nil {
					t.Fatal(err)
				}
			})
			if p := b.wantList(ann, store.Query{}, "n1"); string(p.Items[0].Data) != "2" {
				t.Errorf("the item is %s", p.Items[0].Data)
			}
			r.lateFirst(t, resets, func() error {
				return s.Retract(b.ctx, []notify.Stream{ann}, store.RetractOf{Collapse: "k"}, store.Committed)[0].Err
			}, func() {
				if err := s.Write(b.ctx, []notify.Stream{ann}, collapsing("n2", "c", "k"), store.Committed)[0].Err; err != nil {
					t.Fatal(err)
				}
				b.touch(s)
			})
			b.wantList(ann, store.Query{}, "n2")
			mute := func(categories ...string) error {
				_, _, _, err := s.Preferences(b.ctx, ann, &categories, "")
				return err
			}
			r.lateFirst(t, resets, func() error { return mute("a") }, func() {
				if err := mute("b"); err != nil {
					t.Fatal(err)
				}
			})
			if got, _, _, _ := s.Preferences(b.ctx, ann, nil, ""); len(got) != 1 || got[0] != "b" {
				t.Errorf("preferences %v", got)
			}
		})
	}
}

func TestAChangeThatIsTriedAgainIsAnsweredAsTheFirstTime(t *testing.T) {
	t.Parallel()
	b := epochBench(t)
	s, r := b.through("publisher", store.Options{})
	b.notify(ann, "c", "n1")
	s.Update(b.ctx, []notify.Stream{ann}, store.UpdateOf{ID: "none"}, store.Committed) // Redis knows the script from then on
	for i, do := range []func() store.Result{
		func() store.Result {
			return s.Update(b.ctx, []notify.Stream{ann}, store.UpdateOf{ID: "n1", Data: []byte("1")}, store.Committed)[0]
		},
		func() store.Result {
			return s.Retract(b.ctx, []notify.Stream{ann}, store.RetractOf{ID: "n1"}, store.Committed)[0]
		},
	} {
		r.eat.Store(true)
		if got := do(); got.Err != nil || !got.Changed || got.Position.Offset != uint64(i+2) || r.eat.Load() {
			t.Errorf("change %d: %+v", i, got)
		}
	}
}

func TestNobodyChangesEventTopics(t *testing.T) {
	t.Parallel()
	b := realBench(t, store.Options{})
	for _, got := range []store.Result{
		b.publisher.Update(b.ctx, []notify.Stream{stream("a")}, store.UpdateOf{ID: "n1"}, store.Committed)[0],
		b.publisher.Retract(b.ctx, []notify.Stream{stream("a")}, store.RetractOf{ID: "n1"}, store.Committed)[0],
	} {
		if !errors.Is(got.Err, notify.ErrInvalid) {
			t.Errorf("got %+v", got)
		}
	}
}

// A mark hits what it had hit: not what took the place of that since, which its user has not looked at yet.
func TestALostMarkDoesNotHitWhatTookThePlaceOfItsItemLater(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"read", "seen", "archive", "delete"} {
		for _, all := range []bool{false, true} {
			t.Run(fmt.Sprint(name, all), func(t *testing.T) {
				inAnyOrder(t, func(b *bench) { b.put(collapsing("n1", "c", "k")) },
					func(b *bench, s *store.Store) {
						m := store.Mark{Change: notify.Marks[name], All: all}
						if !all {
							m.IDs = []string{"n1"}
						}
						b.must(s.Mark(b.ctx, ann, m))
					},
					func(b *bench, s *store.Store) { by(b, s, collapsing("n2", "c", "k")) },
					func(b *bench) {
						b.wantList(ann, store.Query{Status: store.All}, "n2")
						b.wantBadge(ann, "1/1 c=1")
					})
			})
		}
	}
}

// By whatever name an item was marked.
func TestALostMarkByAFormerIDComesAgain(t *testing.T) {
	t.Parallel()
	for _, eaten := range []bool{false, true} {
		b := epochBench(t)
		s, r := b.through("gateway", store.Options{})
		b.put(collapsing("n1", "c", "k"))
		b.put(collapsing("n2", "c", "k"))
		b.touch(s)
		b.lose(func() {
			r.eat.Store(eaten)
			b.must(s.Mark(b.ctx, ann, store.Mark{Change: notify.ChangeRead, IDs: []string{"n1"}}))
		})
		b.touch(s)
		b.wantList(ann, store.Query{}, "n2/sr")
	}
}

func TestARetractionByAKeyOfNothingIsNotOfAnItemOfThatName(t *testing.T) {
	t.Parallel()
	b := epochBench(t)
	b.notify(ann, "c", "order-7")
	b.retract(store.RetractOf{Collapse: "order-7"})
	b.newHistory()
	b.touch(b.publisher)
	b.wantList(ann, store.Query{}, "order-7")
}

func TestAnUpdateThatWasRefusedIsRefusedAgain(t *testing.T) {
	t.Parallel()
	b := epochBench(t)
	s, r := b.through("publisher", store.Options{})
	five, four := int32(5), int32(4)
	b.notify(ann, "c", "n1")
	b.touch(s)
	update := func(u store.UpdateOf) error {
		return s.Update(b.ctx, []notify.Stream{ann}, u, store.Committed)[0].Err
	}
	if err := update(store.UpdateOf{ID: "n1", Data: []byte("5"), Version: &five}); err != nil {
		t.Fatal(err)
	}
	for want, u := range map[error]store.UpdateOf{notify.ErrConflict: {ID: "n1", Data: []byte("4"), Version: &four}, notify.ErrNotFound: {ID: "x"}} {
		r.eat.Store(true)
		if err := update(u); !errors.Is(err, want) || r.eat.Load() {
			t.Errorf("got %v, want %v", err, want)
		}
	}
}
