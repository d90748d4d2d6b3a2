package store_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/redis/go-redis/v9"

	"allim/internal/store"
	"allim/internal/testkit"
	"allim/pkg/notify"
)

// parts counts the pipelines of a client, from 1 on, and lets tests stand between them.
type parts struct {
	n    atomic.Int64
	at   int64  // before this one…
	do   func() // …this is done
	eats int64  // the answer of this one is lost
}

func (p *parts) DialHook(next redis.DialHook) redis.DialHook { return next }

func (p *parts) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (p *parts) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		n := p.n.Add(1)
		if n == p.at {
			p.do()
		}
		err := next(ctx, cmds)
		if n == p.eats {
			err = errors.New("the answer is lost")
			for _, c := range cmds {
				c.SetErr(err)
			}
		}
		return err
	}
}

// watched is one more publisher, whose pipelines p counts from now on.
func (b *bench) watched(p *parts) *store.Store {
	b.Helper()
	c := connect(b.T, b.as("publisher"))
	o := b.opt
	s := open(b, c, o)
	b.touch(s) // Redis knows the script from then on
	c.AddHook(p)
	return s
}

// fill puts n0, n1, … into ann's inbox, many at once, and returns where that ends.
func (b *bench) fill(from, to int, category string) (top notify.Position) {
	b.Helper()
	var begun []*store.Pending
	for i := from; i < to; i++ {
		begun = append(begun, b.publisher.Begin(b.ctx, []notify.Stream{ann}, notification(fmt.Sprint("n", i), category), store.Committed, nil))
	}
	for _, p := range begun {
		r := p.Results()[0]
		if r.Err != nil || r.Duplicate {
			b.Fatalf("fill: %+v", r)
		}
		top = r.Position
	}
	return top
}

// states are the ids of the inbox that are unread, and that are archived.
func (b *bench) states() (unread, archived []string) {
	b.Helper()
	k := b.keys.Inbox(ann)
	return b.rdb.ZRange(b.ctx, k.Unread, 0, -1).Val(), b.rdb.ZRange(b.ctx, k.Archived, 0, -1).Val()
}

func TestAMarkOfTenThousandItemsIsMadeInParts(t *testing.T) {
	t.Parallel()
	b := realBench(t, store.Options{Inbox: store.Inbox{Size: 10_000}})
	from := b.fill(0, 10_000, "c")
	p := &parts{}
	s := b.watched(p)
	at := from.Offset
	for _, step := range []struct {
		name             string
		mark             store.Mark
		changed, parts   int
		badge            string
		unread, archived int
		events           uint64
	}{
		{"read", store.Mark{All: true}, 10_000, 20, "0/0", 0, 0, 20},
		{"read", store.Mark{All: true}, 0, 11, "0/0", 0, 0, 0},
		{"unread", store.Mark{IDs: []string{"n5", "n9999"}}, 2, 1, "2/0 c=2", 2, 0, 1},
		{"archive", store.Mark{Upto: &notify.Position{Epoch: from.Epoch, Offset: 1200}}, 1200, 3, "1/0 c=1", 2, 1200, 3},
		{"read", store.Mark{All: true}, 2, 11, "0/0", 0, 1200, 2},
		{"unread", store.Mark{All: true}, 10_000, 20, "8800/0 c=8800", 10_000, 1200, 20},
		{"unarchive", store.Mark{All: true}, 1200, 12, "10000/0 c=10000", 10_000, 0, 3},
		{"seen", store.Mark{All: true}, 0, 11, "10000/0 c=10000", 10_000, 0, 0},
		{"delete", store.Mark{Upto: &notify.Position{Epoch: from.Epoch, Offset: 9_990}}, 9_990, 20, "10/0 c=10", 10, 0, 20},
	} {
		p.n.Store(0)
		step.mark.Change = notify.Marks[step.name]
		got, err := s.Mark(b.ctx, ann, step.mark)
		if err != nil {
			t.Fatal(err)
		}
		if at += step.events; got.Changed != step.changed || step.events > 0 && got.Position.Offset != at || step.events == 0 && got.Position.Offset != 0 {
			t.Errorf("%s: %+v, want %d changed, at %d", step.name, got, step.changed, at)
		}
		if n := p.n.Load(); n != int64(step.parts) {
			t.Errorf("%s: %d parts, want %d", step.name, n, step.parts)
		}
		unread, archived := b.states()
		if len(unread) != step.unread || len(archived) != step.archived {
			t.Errorf("%s: %d unread and %d archived, want %d and %d", step.name, len(unread), len(archived), step.unread, step.archived)
		}
		b.wantBadge(ann, step.badge)
	}
	b.wantLifetimes(ann)
}

// Whoever was there before hears of all 10,000 without a reset, by events of no more than 500.
func TestAMarkOfTenThousandItemsFitsTheResumeWindow(t *testing.T) {
	t.Parallel()
	b := realBench(t, store.Options{Inbox: store.Inbox{Size: 10_000}})
	from := b.fill(0, 10_000, "")
	b.mark(ann, "read", store.Mark{All: true})
	known := map[string]bool{}
	for range 20 {
		r := b.recover(ann, from, 1)
		if r.Outcome != notify.Delta || len(r.Messages) != 1 || r.Messages[0].Change != notify.ChangeRead || len(r.Messages[0].IDs) > 500 {
			t.Fatalf("from %s: %v, %d messages", from, r.Outcome, len(r.Messages))
		}
		for _, id := range r.Messages[0].IDs {
			known[id] = true
		}
		from = r.Position
	}
	if len(known) != 10_000 {
		t.Errorf("%d ids were named", len(known))
	}
}

func TestAMarkOfAllMeansWhatWasThereAtItsFirstPart(t *testing.T) {
	t.Parallel()
	b := realBench(t, store.Options{Inbox: store.Inbox{Size: 2000}})
	b.fill(0, 1200, "")
	p := &parts{at: 2, do: func() { b.notify(ann, "", "late") }}
	if got, err := b.watched(p).Mark(b.ctx, ann, store.Mark{Change: notify.ChangeRead, All: true}); err != nil || got.Changed != 1200 || p.n.Load() != 3 {
		t.Fatalf("%+v, %v, %d parts", got, err, p.n.Load())
	}
	if unread, _ := b.states(); !slices.Equal(unread, []string{"late"}) {
		t.Errorf("unread are %v", unread)
	}
}

func TestAPartWhoseAnswerIsLostIsAnsweredAgain(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"read", "archive", "delete"} {
		for eats := range 3 {
			t.Run(fmt.Sprint(name, " ", eats+1), func(t *testing.T) {
				t.Parallel()
				b := epochBench(t)
				b.opt.Inbox.Size = 2000
				b.forget()
				b.fill(0, 1200, "")
				p := &parts{eats: int64(eats + 1)}
				s := b.watched(p)
				behind := b.snapshot(b.keys.Inbox(ann).All()...)
				got, err := s.Mark(b.ctx, ann, store.Mark{Change: notify.Marks[name], All: true})
				if err != nil || got.Changed != 1200 || got.Position.Offset != 1203 || p.n.Load() != 4 {
					t.Fatalf("%+v, %v, %d parts", got, err, p.n.Load())
				}
				behind()
				b.newHistory()
				b.touch(s) // all of it is held
				unread, archived := b.states()
				if name == "archive" && len(archived) != 1200 || name != "archive" && len(unread) > 0 {
					t.Errorf("%d unread, %d archived", len(unread), len(archived))
				}
			})
		}
	}
}

// A failover comes between two parts: what was done comes again, and what stands where lost items stood is not meant.
func TestAMarkInPartsGoesOnBehindAFailover(t *testing.T) {
	t.Parallel()
	b := epochBench(t)
	b.opt.Inbox.Size = 2000
	b.forget()
	b.fill(0, 700, "")
	behind := b.snapshot(b.keys.Inbox(ann).All()...)
	b.fill(700, 705, "")
	other := b.another("publisher")
	p := &parts{at: 2}
	s := b.watched(p)
	p.do = func() {
		behind()
		b.newHistory()
		if r := other.Write(b.ctx, []notify.Stream{ann}, notification("new", ""), store.Committed)[0]; r.Err != nil || r.Position.Offset != 701 {
			t.Errorf("the new one: %+v", r)
		}
	}
	got, err := s.Mark(b.ctx, ann, store.Mark{Change: notify.ChangeRead, All: true})
	if err != nil || got.Changed != 700 {
		t.Fatalf("%+v, %v", got, err)
	}
	b.touch(s)
	if unread, _ := b.states(); !slices.Equal(unread, []string{"new"}) {
		t.Errorf("%d unread: %v", len(unread), unread[:min(len(unread), 5)])
	}
}

func TestOfALostMarkOfAllAndAMarkOfAnotherHolderTheLaterOneWins(t *testing.T) {
	t.Parallel()
	for _, order := range []string{"all, ids", "ids, all"} {
		for _, first := range []string{"all", "ids"} {
			t.Run(order+" "+first+" first", func(t *testing.T) {
				t.Parallel()
				b := epochBench(t)
				b.opt.Inbox.Size = 2000
				b.forget()
				b.fill(0, 1200, "")
				all, one := b.another("gateway"), b.another("gateway")
				do := map[string]func(){
					"all": func() { b.must(all.Mark(b.ctx, ann, store.Mark{Change: notify.ChangeRead, All: true})) },
					"ids": func() {
						b.must(one.Mark(b.ctx, ann, store.Mark{Change: notify.ChangeUnread, IDs: []string{"n3", "n900", "n1199"}}))
					},
				}
				var want []string
				b.lose(func() {
					if first == "all" {
						do["all"]()
						do["ids"]()
						want = []string{"n3", "n900", "n1199"}
					} else {
						do["ids"]()
						do["all"]()
					}
				})
				holders := map[string]*store.Store{"all": all, "ids": one}
				for name := range strings.SplitSeq(order, ", ") {
					b.touch(holders[name])
				}
				if unread, _ := b.states(); !slices.Equal(unread, want) {
					t.Errorf("%d unread: %v, want %v", len(unread), unread[:min(len(unread), 5)], want)
				}
			})
		}
	}
}

// must fails the test where a mark did.
func (b *bench) must(_ store.Marked, err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

func TestWhoLeavesAMarkInPartsLeavesTheRestUndone(t *testing.T) {
	t.Parallel()
	b := realBench(t, store.Options{Inbox: store.Inbox{Size: 2000}})
	b.fill(0, 1200, "")
	ctx, cancel := context.WithCancel(b.ctx)
	p := &parts{at: 2, do: cancel}
	s := b.watched(p)
	if _, err := s.Mark(ctx, ann, store.Mark{Change: notify.ChangeRead, All: true}); !errors.Is(err, notify.ErrUnavailable) {
		t.Fatalf("got %v", err)
	}
	testkit.Eventually(t, soon, func() bool { return s.Waiting() == 0 }, "let it go")
	if unread, _ := b.states(); len(unread) != 200 {
		t.Errorf("%d unread", len(unread))
	}
	b.must(s.Mark(b.ctx, ann, store.Mark{Change: notify.ChangeRead, All: true}))
	b.wantBadge(ann, "0/0")
}

func TestAMarkOfAllInTheNewHistoryWinsOverALostOne(t *testing.T) {
	t.Parallel()
	for _, read := range []bool{false, true} {
		b := epochBench(t)
		b.opt.Inbox.Size = 2000
		b.forget()
		b.fill(0, 1200, "")
		all, one := b.another("gateway"), b.another("gateway")
		if read { // then it changes nothing, and the user said so all the same
			b.must(all.Mark(b.ctx, ann, store.Mark{Change: notify.ChangeRead, All: true}))
		}
		b.lose(func() {
			b.must(one.Mark(b.ctx, ann, store.Mark{Change: notify.ChangeUnread, IDs: []string{"n3", "n900", "n1199"}}))
		})
		b.must(all.Mark(b.ctx, ann, store.Mark{Change: notify.ChangeRead, All: true}))
		b.touch(one)
		if unread, _ := b.states(); len(unread) != 0 {
			t.Errorf("unread are %v", unread)
		}
	}
}
