package store_test

// Epochs are bound to the history of a Redis. These run on the real one only: the embedded Redis tells no history id.

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"allim/internal/store"
	"allim/internal/testkit"
	"allim/pkg/notify"
)

func epochBench(t *testing.T) *bench {
	return newBench(t, testkit.Redis(t, "--enable-debug-command", "yes").As, store.Options{})
}

// newHistory is what a promotion or a restart does to the id of the Redis history.
func (b *bench) newHistory() {
	b.Helper()
	if err := b.rdb.Do(b.ctx, "DEBUG", "CHANGE-REPL-ID").Err(); err != nil {
		b.Fatal(err)
	}
}

// forget has the publisher be another one, which holds nothing of what the first one wrote.
func (b *bench) forget() { b.publisher = b.another("publisher") }

// another is one more program of a role.
func (b *bench) another(role string) *store.Store {
	b.Helper()
	return open(b, connect(b.T, b.as(role)), b.opt)
}

// snapshot remembers keys; the function it returns puts them back, as a replica that was behind has them when it is promoted.
func (b *bench) snapshot(keys ...string) (restore func()) {
	b.Helper()
	was := map[string]string{}
	for _, k := range keys {
		was[k] = b.rdb.Dump(b.ctx, k).Val()
	}
	return func() {
		b.Helper()
		for k, v := range was {
			if v == "" {
				b.rdb.Del(b.ctx, k)
			} else if err := b.rdb.RestoreReplace(b.ctx, k, 0, v).Err(); err != nil {
				b.Fatal(err)
			}
		}
	}
}

func TestNewHistoryThatLostNothingResetsNobody(t *testing.T) {
	b := epochBench(t)
	s := stream("orders/7")
	old := b.publish(s, "a").Position
	top := b.publish(s, "b").Position
	b.newHistory()
	if r := b.recover(s, top, 10); r.Outcome != notify.Delta || r.Position != top {
		t.Fatalf("at the top: %+v", r)
	}
	next := b.publish(s, "c").Position
	if next.Epoch == top.Epoch || next.Offset != 3 {
		t.Fatalf("after the change: %s", next)
	}
	for _, from := range []notify.Position{old, top} {
		r := b.recover(s, from, 10)
		if r.Outcome != notify.Delta || r.Position != next || r.Messages[0].Position.Offset != from.Offset+1 {
			t.Fatalf("from %s: %+v", from, r)
		}
	}
}

func TestNewHistoryResetsWhoSawWhatItLost(t *testing.T) {
	b := epochBench(t)
	s := stream("orders/7")
	kept := b.publish(s, "a", "b").Position
	behind := b.snapshot(b.keys.Event(s).All()...)
	seen := b.publish(s, "lost1", "lost2").Position
	behind()
	b.newHistory()
	b.forget() // or it would write again what was lost
	if r := b.recover(s, seen, 10); r.Outcome != notify.Reset || r.Why != notify.WhyLost || r.Top.Offset != 2 || r.Top.Epoch == seen.Epoch {
		t.Fatalf("who saw lost messages: %+v", r)
	}
	b.publish(s, "c", "d")
	if r := b.recover(s, seen, 10); r.Outcome != notify.Reset || r.Why != notify.WhyLost {
		t.Fatalf("offsets are taken again, yet: %+v", r)
	}
	r := b.recover(s, kept, 10)
	if r.Outcome != notify.Delta || cmp.Diff([]string{"c", "d"}, ids(r.Messages)) != "" {
		t.Fatalf("who saw only what was kept: %+v", r)
	}
}

func TestTheBaseListRemembersFourHistories(t *testing.T) {
	b := epochBench(t)
	s := stream("orders/7")
	var at []notify.Position
	for _, id := range []string{"a", "b", "c", "d", "e", "f"} {
		at = append(at, b.publish(s, id).Position)
		b.newHistory()
	}
	b.publish(s, "g")
	for i, from := range at {
		want, why := notify.Delta, notify.Why("")
		if i < 2 {
			want, why = notify.Reset, notify.WhyUnknown
		}
		if r := b.recover(s, from, 10); r.Outcome != want || r.Why != why {
			t.Errorf("from %s, %d histories ago: outcome %v %q, want %v %q", from, len(at)-i, r.Outcome, r.Why, want, why)
		}
	}
}

func TestWipedInboxLeavesNoGhosts(t *testing.T) {
	b := epochBench(t)
	top := b.notify(ann, "c", "n1", "n2").Position
	k := b.keys.Inbox(ann)
	b.rdb.Del(b.ctx, k.Meta, k.Index)
	b.wantBadge(ann, "0/0")
	next := b.notify(ann, "c", "n3").Position
	if next.Epoch == top.Epoch || next.Offset != 3 {
		t.Fatalf("goes on at %s after %s", next, top)
	}
	b.wantBadge(ann, "1/1 c=1")
	b.wantList(ann, store.Query{}, "n3")
}

func TestMarkUpToAPositionOfAnOlderHistoryIsStale(t *testing.T) {
	b := epochBench(t)
	upto := b.notify(ann, "", "n1").Position
	b.newHistory()
	if _, err := b.Mark(b.ctx, ann, store.Mark{Change: notify.ChangeRead, Upto: &upto}); err == nil {
		t.Fatal("a mark up to a position of an older epoch was taken")
	}
}
