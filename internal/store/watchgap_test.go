package store_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"allim/internal/store"
	"allim/internal/testkit"
	"allim/pkg/notify"
)

// Where there is no room nothing fails; what is left out is told as one gap, in its place.
func TestWhatFindsNoRoomIsToldAsOneGap(t *testing.T) {
	few := quick
	few.Entries = 10
	light := quick
	light.Bytes = 1000 // of 10 events of some 75 bytes each, and the first that is over it
	for name, bounds := range map[string]store.Events{"events": few, "bytes": light} {
		t.Run(name, func(t *testing.T) {
			bounds.Again, bounds.Lease = time.Hour, time.Minute
			onEach(t, store.Options{Events: bounds}, func(b *bench) {
				w := b.watch("g", all)
				from := time.Now().Truncate(time.Millisecond)
				b.notify(ann, "c", "n")
				for i := range 20 {
					b.event(ann, notify.EventSeen, fmt.Sprint("n", i))
				}
				b.mark(ann, "read", store.Mark{All: true}) // it does not fail, and is not told
				log := b.keys.Backend(b.keys.Partition(ann), notify.DefaultTenant).Events
				held := b.rdb.XLen(b.ctx, log).Val()
				if held < 10 || held > 15 {
					b.Fatalf("%d events are kept", held)
				}
				var got []notify.Event
				for len(got) < int(held) {
					got = append(got, w.news()...)
				}
				if slices.ContainsFunc(got, func(e notify.Event) bool { return e.Type == notify.EventGap }) {
					b.Fatalf("a gap before there is room: %s", eventsText(got))
				}
				w.ack(got...)
				gap := w.wantNews("gap")[0]
				if gap.From.Before(from) || gap.To.Before(gap.From) || gap.To.After(gap.Time) {
					b.Errorf("it began at %v and is from %v to %v, told at %v", from, gap.From, gap.To, gap.Time)
				}
				b.event(ann, notify.EventSeen, "later")
				w.wantNews("seen:ann:later")
			})
		})
	}
}

// A gap is told by the next event, too, where nobody looks for what can go.
func TestTheNextEventTellsAGapBeforeItself(t *testing.T) {
	bounds := store.Events{Entries: 2, Trim: time.Hour}
	onEach(t, store.Options{Events: bounds}, func(b *bench) {
		w := b.watch("g", all)
		w.wantQuiet() // it has looked once
		for i := range 4 {
			b.event(ann, notify.EventSeen, fmt.Sprint("n", i))
		}
		log := b.keys.Backend(b.keys.Partition(ann), notify.DefaultTenant).Events
		w.wantNews("seen:ann:n0 seen:ann:n1")
		b.rdb.XTrimMaxLen(b.ctx, log, 0)
		b.event(ann, notify.EventSeen, "n4")
		w.wantNews("gap seen:ann:n4")
	})
}

// The group that is furthest behind when there is no room, and that acknowledges nothing, is over: the others go on, and its next Watch begins with a gap.
func TestAGroupThatHoldsUpTheOthersLapses(t *testing.T) {
	bounds := quick
	bounds.Entries, bounds.Patience, bounds.Again = 10, 500*time.Millisecond, time.Hour
	onEach(t, store.Options{Events: bounds}, func(b *bench) {
		idle := b.watch("idle", all)
		b.event(ann, notify.EventSeen, "first")
		idle.wantNews("seen:ann:first")
		w := b.watch("g", all)
		sent, heard, gaps := 0, 0, 0
		var lapsed []string
		testkit.Eventually(b, 20*time.Second, func() bool {
			b.event(ann, notify.EventSeen, fmt.Sprint("n", sent))
			sent++
			n, err := w.Next(b.ctx, 20*time.Millisecond)
			if err != nil {
				b.Fatal(err)
			}
			w.ack(n.Events...)
			heard += len(n.Events)
			for _, e := range n.Events {
				if e.Type == notify.EventGap {
					gaps++
				}
			}
			lapsed = append(lapsed, n.Lapsed...)
			return len(lapsed) > 0 && gaps > 0
		}, "the group lapses")
		if len(lapsed) != 1 || lapsed[0] != "idle" {
			b.Fatalf("%v lapsed", lapsed)
		}
		gap := idle.news() // without a new Watch, since it looks
		if !strings.HasPrefix(gap[0].ID, "gap-") || gap[0].To.Before(gap[0].From) || time.Since(gap[0].From) > time.Minute {
			b.Fatalf("it is %+v", gap[0])
		}
		b.event(ann, notify.EventSeen, "last")
		testkit.Eventually(b, 10*time.Second, func() bool { // there may be a gap of what found no room, too
			return strings.Contains(eventsText(idle.news()), "seen:ann:last")
		}, "it goes on")
		again := b.watch("idle", all) // it did not acknowledge its gap
		if got := again.news(); got[0].ID != gap[0].ID {
			b.Errorf("again %s, first %s", got[0].ID, gap[0].ID)
		}
		if err := b.publisher.AckEvents(b.ctx, notify.DefaultTenant, "idle", []string{gap[0].ID}); err != nil {
			b.Fatal(err)
		}
		if n, err := b.watch("idle", all).Next(b.ctx, 0); err != nil || slices.ContainsFunc(n.Events, func(e notify.Event) bool { return strings.HasPrefix(e.ID, "gap-") }) {
			b.Errorf("acknowledged, and again %s, %v", eventsText(n.Events), err)
		}
	})
}

// Nobody watches in it or acknowledges for its age: a group is over, and what it would have had with it.
func TestAGroupThatNobodySpeaksForLapses(t *testing.T) {
	bounds := quick
	bounds.Age = 3 * time.Second
	onEach(t, store.Options{Events: bounds}, func(b *bench) {
		gone := b.watch("gone", all)
		if err := gone.Close(b.ctx); err != nil {
			b.Fatal(err)
		}
		w := b.watch("g", all)
		var lapsed []string
		testkit.Eventually(b, 20*time.Second, func() bool {
			b.event(ann, notify.EventSeen, "n")
			n, err := w.Next(b.ctx, 50*time.Millisecond)
			if err != nil {
				b.Fatal(err)
			}
			w.ack(n.Events...)
			lapsed = append(lapsed, n.Lapsed...)
			return len(lapsed) > 0
		}, "it lapses")
		next, created, err := b.publisher.Watch(b.ctx, notify.DefaultTenant, "gone", all)
		if err != nil || created {
			b.Fatalf("created %v, %v", created, err)
		}
		if got := (watcher{next, b}).news(); !strings.HasPrefix(got[0].ID, "gap-") || len(got) != 1 {
			b.Errorf("it begins with %s", eventsText(got))
		}
		testkit.Eventually(b, 10*time.Second, func() bool { // there may be a gap of what got too old for it, too
			b.event(ann, notify.EventSeen, "n2")
			n, err := next.Next(b.ctx, 50*time.Millisecond)
			return err == nil && strings.Contains(eventsText(n.Events), "seen:ann:n2")
		}, "it goes on")
	})
}

// Without any watcher nothing is kept at all, and nothing is written any more.
func TestNothingIsKeptForNobody(t *testing.T) {
	bounds := quick
	bounds.Age = 3 * time.Second
	onEach(t, store.Options{Events: bounds}, func(b *bench) {
		w := b.watch("g", all)
		listener := b.watch("", all)
		b.event(ann, notify.EventSeen, "n1")
		w.wantNews("seen:ann:n1")
		listener.wantNews("seen:ann:n1")
		meta := b.keys.Backend(b.keys.Partition(ann), notify.DefaultTenant).Meta
		testkit.Eventually(b, 10*time.Second, func() bool { return b.rdb.Exists(b.ctx, meta).Val() == 0 }, "its keys have gone")
		log := b.keys.Backend(b.keys.Partition(ann), notify.DefaultTenant).Events
		before := b.rdb.XLen(b.ctx, log).Val()
		b.event(ann, notify.EventSeen, "n2")
		if n := b.rdb.XLen(b.ctx, log).Val(); n != before {
			b.Errorf("%d events were written for nobody", n-before)
		}
		next := b.watch("g", all)
		next.wantNews("gap")
		b.event(ann, notify.EventSeen, "n3")
		if got := next.news(); eventsText(got) != "seen:ann:n3" {
			b.Errorf("then %s", eventsText(got))
		}
	})
}

// All keys have an end of their life, whoever made them.
func TestKeysOfBackendsHaveALifetime(t *testing.T) {
	b := realBench(t, store.Options{Events: quick})
	b.watch("", all)
	b.event(ann, notify.EventSeen, "n1")
	b.watch("g", all)
	b.event(ann, notify.EventSeen, "n2")
	for _, key := range b.rdb.Keys(b.ctx, "al:{*").Val() {
		if b.rdb.PTTL(b.ctx, key).Val() <= 0 {
			t.Errorf("%s has none", key)
		}
	}
}

// A watcher that has no partition yet learns from the registry alone that all is lost.
func TestAWatcherWithoutAPartitionKnowsOfALoss(t *testing.T) {
	bounds := quick
	bounds.Lease = 3 * time.Second
	b := realBench(t, store.Options{Events: bounds})
	b.watch("g", all)
	second := b.watch("g", all)
	if err := b.rdb.FlushDB(b.ctx).Err(); err != nil {
		t.Fatal(err)
	}
	second.wantNews("gap")
	b.event(ann, notify.EventSeen, "n1")
	if got := second.news(); eventsText(got) != "seen:ann:n1" {
		t.Errorf("then %s", eventsText(got))
	}
}

// What is older than it may be goes, and who did not acknowledge it hears of a gap.
func TestWhatGetsTooOldIsAGap(t *testing.T) {
	bounds := quick
	bounds.Age = 2 * time.Second
	onEach(t, store.Options{Events: bounds}, func(b *bench) {
		w := b.watch("g", all)
		b.event(ann, notify.EventSeen, "n1")
		w.wantNews("seen:ann:n1")
		var gap notify.Event
		for gap.ID == "" { // until then it comes again
			if got := w.news(); got[len(got)-1].Type == notify.EventGap {
				gap = got[len(got)-1]
			}
		}
		if gap.From.After(gap.To) || gap.To.After(time.Now()) {
			b.Errorf("it is %+v", gap)
		}
	})
}

// What gets too old while there is no room is one gap with what found none: from the first to the last of both.
func TestAGapIsOfAllThatWasLeftOut(t *testing.T) {
	bounds := quick
	bounds.Age, bounds.Entries = 2*time.Second, 1
	onEach(t, store.Options{Events: bounds}, func(b *bench) {
		w := b.watch("g", all)
		b.event(ann, notify.EventSeen, "n1")
		first := w.wantNews("seen:ann:n1")[0].Time
		testkit.Eventually(b, 10*time.Second, func() bool { return time.Since(first) > 50*time.Millisecond }, "it is later")
		last := time.Now().Truncate(time.Millisecond)
		b.event(ann, notify.EventSeen, "n2") // there is no room for it
		var gap notify.Event
		for gap.ID == "" { // until then the first comes again
			if got := w.news(); got[len(got)-1].Type == notify.EventGap {
				gap = got[len(got)-1]
			}
		}
		if gap.From.After(first) || gap.To.Before(last) {
			b.Errorf("from %v to %v, want %v to %v at least", gap.From, gap.To, first, last)
		}
	})
}

// Redis loses everything: the watcher begins anew, knows that something may be missing, and what comes then comes.
func TestAWatcherOutlivesARedisThatLosesEverything(t *testing.T) {
	b := realBench(t, store.Options{Events: quick})
	w := b.watch("g", all)
	b.event(ann, notify.EventSeen, "n1")
	w.wantNews("seen:ann:n1")
	if err := b.rdb.FlushDB(b.ctx).Err(); err != nil {
		t.Fatal(err)
	}
	w.wantNews("gap")
	b.event(ann, notify.EventSeen, "n2")
	if got := w.news(); eventsText(got) != "seen:ann:n2" {
		t.Errorf("then %s", eventsText(got))
	}
}
