package store_test

// What is said of what is not there, or not there yet, and what is left of what was.

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"allim/internal/keyspace"
	"allim/internal/store"
	"allim/pkg/notify"
)

func TestARetractionOfAUserWithoutAnInboxHolds(t *testing.T) {
	onEach(t, store.Options{}, func(b *bench) {
		if got := b.retract(store.RetractOf{ID: "n1"}); got.Changed {
			b.Errorf("got %+v", got)
		}
		if b.real {
			b.wantKeysLive(time.Minute)
		}
		if r := b.put(notification("n1", "c")); !r.Duplicate {
			b.Errorf("it comes all the same: %+v", r)
		}
		b.notify(ann, "c", "n2")
		b.wantList(ann, store.Query{}, "n2")
		if b.real {
			b.wantLifetimes(ann)
		}
	})
}

// What changed nothing where there was no stream is not made again when there is one.
func TestWhatWasSaidToNobodyIsNotSaidToWhoComesLater(t *testing.T) {
	t.Parallel()
	b := epochBench(t)
	one := b.another("publisher")
	if _, _, changed, err := one.Preferences(b.ctx, ann, &[]string{}, ""); err != nil || changed {
		t.Fatalf("%t, %v", changed, err)
	}
	if r := one.Retract(b.ctx, []notify.Stream{ann}, store.RetractOf{Collapse: "order-7"}, store.Committed)[0]; r.Err != nil || r.Changed {
		t.Fatalf("%+v", r)
	}
	b.mute("c")
	b.notify(ann, "d", "order-7", "n2")
	b.newHistory()
	by(b, one, notification("n3", "d")) // it looks at what it holds
	b.wantList(ann, store.Query{}, "n3 n2 order-7")
	if muted, _, _, err := b.Store.Preferences(b.ctx, ann, nil, ""); err != nil || len(muted) != 1 {
		t.Errorf("muted are %v, %v", muted, err)
	}
}

// An item takes all of it along, also where its stream has no terms.
func TestAnUpdateGoesWithItsItem(t *testing.T) {
	onEach(t, store.Options{Inbox: store.Inbox{Size: 2}}, func(b *bench) {
		for i, leave := range []func(id string){
			func(id string) { b.mark(ann, "delete", store.Mark{IDs: []string{id}}) },
			func(id string) { b.retract(store.RetractOf{ID: id}) },
			func(id string) { b.notify(ann, "c", id+"-a", id+"-b", id+"-c") },
		} {
			id := fmt.Sprint("n", i)
			b.notify(ann, "c", id)
			if got := b.update(store.UpdateOf{ID: id, Data: []byte("1")}); !got.Changed {
				b.Fatalf("%+v", got)
			}
			leave(id)
			for field := range b.rdb.HGetAll(b.ctx, b.keys.Inbox(ann).Items).Val() {
				if name, _, _ := strings.Cut(field, "\x00"); name == id {
					b.Errorf("%q is left", field)
				}
			}
		}
	})
}

func TestWhatIsHiddenIsNoneOfAMarkOfAll(t *testing.T) {
	onEach(t, store.Options{}, func(b *bench) {
		var all []string
		for i := range 60 {
			all = append(all, fmt.Sprint("n", i))
			b.put(expiring(all[i], "c", time.Hour))
		}
		b.notify(ann, "c", "stays")
		b.hurry("x", all...)
		if got := b.mark(ann, "read", store.Mark{All: true}); got.Changed != 1 {
			b.Errorf("got %+v", got)
		}
		if got := b.events(111); got != "r:stays" {
			b.Errorf("the stream says %s", got)
		}
	})
}

func TestARetractionByItsCollapseKeyTakesBackAllThatWait(t *testing.T) {
	onEach(t, store.Options{}, func(b *bench) {
		for _, id := range []string{"n1", "n2", "n3"} {
			m := scheduled(id, "c", time.Hour)
			m.Terms.Collapse = "k"
			b.put(m)
		}
		b.put(collapsing("now", "c", "k"))
		b.put(scheduled("other", "c", time.Hour))
		got := b.retract(store.RetractOf{Collapse: "k"})
		if !got.Changed || got.Position.Offset != 2 {
			b.Errorf("taken back: %+v", got)
		}
		b.wantList(ann, store.Query{}, "")
		if again := b.retract(store.RetractOf{Collapse: "k"}); again.Changed {
			b.Errorf("once more: %+v", again)
		}
		b.hurry("s", "other")
		b.due()
		b.wantList(ann, store.Query{}, "other")
	})
}

// Its place among those of its key is that of its time, whatever was lost of it.
func TestAScheduledNotificationTakesThePlaceOfWhatCameBeforeItsTime(t *testing.T) {
	t.Parallel()
	for _, lost := range []string{"nothing", "the schedule", "what came"} {
		t.Run(lost, func(t *testing.T) {
			t.Parallel()
			b := epochBench(t)
			one := b.another("publisher")
			b.notify(ann, "c", "n0")
			m := scheduled("n1", "c", 400*time.Millisecond)
			m.Terms.Collapse = "k"
			plan := func() {
				if r := one.Write(b.ctx, []notify.Stream{ann}, m, store.Committed)[0]; r.Err != nil || !r.Scheduled {
					t.Fatalf("%+v", r)
				}
			}
			came := func() {
				b.put(collapsing("n2", "c", "k"))
				b.past(m.Terms.NotBefore)
				if d := b.due(); d.Scheduled != 1 {
					t.Errorf("got %+v", d)
				}
			}
			switch lost {
			case "nothing":
				plan()
				came()
			case "the schedule":
				b.lose(plan)
				b.touch(one)
				came()
			default:
				b.lose(func() {
					plan()
					came()
				})
				b.touch(b.publisher) // n2
				b.touch(one)
			}
			b.wantList(ann, store.Query{}, "n1 n0")
		})
	}
}

// What still waits is held, and not written again.
func TestAScheduleThatIsStillThereIsHeld(t *testing.T) {
	t.Parallel()
	b, r := countedBench(t, store.Options{})
	b.put(scheduled("n1", "c", time.Hour))
	b.newHistory()
	b.touch(b.publisher)
	wantReplayed(t, r, 1, 0, 0, 0)
}

// The item is gone for good: nobody waits for it.
func TestALostUpdateOfWhatWasReplacedIsGivenUpAtOnce(t *testing.T) {
	t.Parallel()
	b := epochBench(t)
	one := b.another("publisher")
	b.put(collapsing("n1", "c", "k"))
	b.lose(func() {
		one.Update(b.ctx, []notify.Stream{ann}, store.UpdateOf{ID: "n1", Data: []byte("1")}, store.Committed)
	})
	b.put(collapsing("n2", "c", "k"))
	b.touch(one)
	if n := one.Remarks(); n != 0 {
		t.Errorf("%d wait for their items", n)
	}
	if p := b.wantList(ann, store.Query{}, "n2"); string(p.Items[0].Data) == "1" {
		t.Error("the new item has the old one's update")
	}
}

// Claims for which there is no room do not stand in front of what else is due.
func TestWhatThereIsNoRoomForHoldsUpNothingElse(t *testing.T) {
	t.Parallel()
	b := realBench(t, store.Options{Inbox: store.Inbox{Size: 300}})
	var all []string
	for i := range 210 {
		all = append(all, fmt.Sprint("n", i))
		b.put(escalating(all[i], notify.ChangeSeen, time.Hour))
	}
	b.hurry("w", all...)
	b.put(scheduled("later", "c", time.Hour))
	b.hurry("s", "later")
	if d, err := b.publisher.Due(b.ctx, &free{}); err != nil || d.Scheduled != 1 || len(d.Claims) != 0 {
		t.Errorf("got %+v, %v", d, err)
	}
}

// Many items of one end, in an inbox that holds many: they go in few looks, and no script takes them all.
func TestThousandsThatExpireAtOnceGoInFewLooks(t *testing.T) {
	t.Parallel()
	b := realBench(t, store.Options{Inbox: store.Inbox{Size: 10_000}})
	const n = 3000
	k, members := b.keys.Inbox(ann), make([]redis.Z, n)
	b.fill(0, n, "c")
	for i := range members {
		members[i] = redis.Z{Score: 1, Member: fmt.Sprint("x\x00n", i)}
	}
	b.rdb.ZAdd(b.ctx, k.Deadlines, members...)
	b.rdb.HSet(b.ctx, k.Meta, "o", "1")
	b.rdb.ZAdd(b.ctx, b.keys.Due(b.keys.Partition(ann)), redis.Z{Score: 1, Member: keyspace.Member(ann)})
	gone, looks := 0, 0
	for more := true; more; looks++ {
		d := b.due()
		gone, more = gone+d.Expired, d.More
	}
	if gone != n || looks > 5 {
		t.Errorf("%d went in %d looks", gone, looks)
	}
	b.wantBadge(ann, "0/0")
	b.wantList(ann, store.Query{Status: store.All}, "")
	b.notify(ann, "c", "new")
	b.wantLifetimes(ann)
}
