package store_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"allim/internal/store"
	"allim/internal/testkit"
	"allim/pkg/notify"
)

// quick are times that tests can wait for.
var quick = store.Events{Again: 500 * time.Millisecond, Lease: time.Second, Trim: 50 * time.Millisecond}

// A watcher is a Watch, and how it ends.
type watcher struct {
	*store.Watch
	b *bench
}

func all(notify.EventType) bool { return true }

func (b *bench) watch(group string, wants func(notify.EventType) bool) watcher {
	b.Helper()
	w, _, err := b.publisher.Watch(b.ctx, notify.DefaultTenant, group, wants)
	if err != nil {
		b.Fatal(err)
	}
	return watcher{w, b}
}

// news waits for the next events.
func (w watcher) news() []notify.Event {
	w.b.Helper()
	var got []notify.Event
	testkit.Eventually(w.b, 10*time.Second, func() bool {
		n, err := w.Next(w.b.ctx, 50*time.Millisecond)
		if err != nil {
			w.b.Fatal(err)
		}
		got = n.Events
		return len(got) > 0
	}, "events")
	return got
}

// wantNews waits until events have come that are written "read:ann:n1,n2 …", in any order of users.
func (w watcher) wantNews(want string) (got []notify.Event) {
	w.b.Helper()
	n := len(strings.Fields(want))
	for len(got) < n {
		got = append(got, w.news()...)
	}
	w.b.sameNews(got, want)
	return got
}

// wantQuiet looks a few times and hears nothing.
func (w watcher) wantQuiet() {
	w.b.Helper()
	for range 5 {
		n, err := w.Next(w.b.ctx, 20*time.Millisecond)
		if err != nil || len(n.Events) > 0 {
			w.b.Fatalf("heard %s, %v", eventsText(n.Events), err)
		}
	}
}

func (b *bench) sameNews(got []notify.Event, want string) {
	b.Helper()
	if text := eventsText(got); text != want {
		b.Fatalf("heard %q, want %q", text, want)
	}
}

var typeNames = map[notify.EventType]string{notify.EventOnline: "online", notify.EventOffline: "offline", notify.EventSeen: "seen", notify.EventRead: "read", notify.EventGap: "gap"}

func eventsText(all []notify.Event) string {
	var out []string
	for _, e := range all {
		text := typeNames[e.Type]
		if e.Type != notify.EventGap {
			text += ":" + e.Topic.Name()
		}
		if len(e.IDs) > 0 {
			text += ":" + strings.Join(e.IDs, ",")
		}
		out = append(out, text)
	}
	return strings.Join(out, " ")
}

func (w watcher) ack(events ...notify.Event) {
	w.b.Helper()
	var ids []string
	for _, e := range events {
		ids = append(ids, e.ID)
	}
	if err := w.b.publisher.AckEvents(w.b.ctx, notify.DefaultTenant, "g", ids); err != nil {
		w.b.Fatal(err)
	}
}

func TestMarksAreToldToWhoWatches(t *testing.T) {
	onEach(t, store.Options{Events: quick}, func(b *bench) {
		b.notify(ann, "c", "n0")
		b.mark(ann, "seen", store.Mark{All: true}) // nobody listens yet
		if n := b.rdb.Exists(b.ctx, b.keys.Backend(b.keys.Partition(ann), notify.DefaultTenant).Events).Val(); n != 0 {
			b.Fatal("something was written for nobody")
		}
		w, created, err := b.publisher.Watch(b.ctx, notify.DefaultTenant, "g", all)
		if err != nil || !created {
			b.Fatalf("created %v, %v", created, err)
		}
		other := b.watch("h", func(t notify.EventType) bool { return t == notify.EventRead })
		listener := b.watch("", all)
		b.notify(ann, "c", "n1", "n2", "n3", "n4", "n5")
		b.mark(ann, "seen", store.Mark{IDs: []string{"n1"}, Origin: "p9Xk3vQ0aLr7Tz1e"})
		b.mark(ann, "read", store.Mark{IDs: []string{"n1", "n2"}})
		b.mark(ann, "archive", store.Mark{IDs: []string{"n3"}})
		b.mark(ann, "unread", store.Mark{IDs: []string{"n1"}})
		b.mark(ann, "delete", store.Mark{IDs: []string{"n1"}})
		b.mark(ann, "read", store.Mark{All: true})
		want := "seen:ann:n1 seen:ann:n2 read:ann:n1,n2 seen:ann:n3 seen:ann:n4,n5 read:ann:n0,n3,n4,n5"
		got := watcher{w, b}.wantNews(want)
		if got[0].Origin != "p9Xk3vQ0aLr7Tz1e" || got[1].Origin != "" || time.Since(got[0].Time) > time.Minute || got[0].Topic != "user:ann" {
			b.Errorf("the first is %+v", got[0])
		}
		listener.wantNews(want)
		other.wantNews("read:ann:n1,n2 read:ann:n0,n3,n4,n5")
		if _, created, err := b.publisher.Watch(b.ctx, notify.DefaultTenant, "g", all); err != nil || created {
			b.Errorf("a second watcher: created %v, %v", created, err)
		}
	})
}

// What members do to items of segments is told as what they do to their own.
func TestMarksOfSegmentsAreToldToWhoWatches(t *testing.T) {
	onEach(t, store.Options{Events: quick}, func(b *bench) {
		b.member(ann, "org-7")
		b.notify(ann, "c", "own")
		for _, id := range []string{"s1", "s2", "s3"} {
			b.tell(notification(id, "news"))
		}
		w := b.watch("g", all)
		b.markAll(ann, "seen", store.Mark{IDs: []string{"s1"}, Origin: "p9Xk3vQ0aLr7Tz1e"})
		b.markAll(ann, "read", store.Mark{IDs: []string{"s1", "s2"}})
		b.markAll(ann, "delete", store.Mark{IDs: []string{"s2"}})
		b.markAll(ann, "archive", store.Mark{IDs: []string{"s3"}})
		b.markAll(ann, "unarchive", store.Mark{IDs: []string{"s3"}})
		b.markAll(ann, "read", store.Mark{All: true})
		got := w.wantNews("seen:ann:s1 seen:ann:s2 read:ann:s1,s2 seen:ann:s3 seen:ann:own read:ann:own read:ann:s3")
		if got[0].Origin != "p9Xk3vQ0aLr7Tz1e" || got[0].Topic != "user:ann" {
			b.Errorf("the first is %+v", got[0])
		}
	})
}

// What is acknowledged does not come again, what is not does, by the same id; and what a group has done with is taken away.
func TestEventsComeUntilTheyAreAcknowledged(t *testing.T) {
	onEach(t, store.Options{Events: quick}, func(b *bench) {
		w := b.watch("g", all)
		b.notify(ann, "c", "n1", "n2", "n3")
		b.mark(ann, "seen", store.Mark{IDs: []string{"n1"}})
		b.mark(ann, "seen", store.Mark{IDs: []string{"n2"}})
		b.mark(ann, "seen", store.Mark{IDs: []string{"n3"}})
		got := w.wantNews("seen:ann:n1 seen:ann:n2 seen:ann:n3")
		w.ack(got[1])
		again := map[string]notify.Event{}
		for len(again) < 2 {
			for _, e := range w.news() {
				again[e.ID] = e
			}
		}
		if one, three := again[got[0].ID], again[got[2].ID]; one.Time != got[0].Time || one.IDs[0] != "n1" || three.IDs[0] != "n3" {
			b.Errorf("again %+v, first %+v", again, got)
		}
		w.ack(append(got, notify.Event{ID: "0-1-1"}, notify.Event{ID: "x"}, notify.Event{ID: "gap-1-2"})...)
		log := b.keys.Backend(b.keys.Partition(ann), notify.DefaultTenant).Events
		testkit.Eventually(b, 10*time.Second, func() bool { w.wantQuiet(); return b.rdb.XLen(b.ctx, log).Val() == 0 }, "nothing is left")
	})
}

func TestManyEventsComeInOrderAndWithinABound(t *testing.T) {
	onEach(t, store.Options{Events: store.Events{Lease: time.Minute, Trim: time.Minute}}, func(b *bench) {
		w := b.watch("g", all)
		const users, each = 3, 500
		for u := range users {
			st := stream(fmt.Sprint("user:u", u))
			for n := range each {
				b.event(st, notify.EventSeen, fmt.Sprint("n", n))
			}
		}
		next, total := map[notify.Topic]int{}, 0
		take := func() []notify.Event {
			news, err := w.Next(b.ctx, time.Second)
			if err != nil {
				b.Fatal(err)
			}
			for _, e := range news.Events {
				if want := fmt.Sprint("n", next[e.Topic]); e.IDs[0] != want {
					b.Fatalf("%s: got %s, want %s", e.Topic, e.IDs[0], want)
				}
				next[e.Topic]++
			}
			total += len(news.Events)
			return news.Events
		}
		var open []notify.Event
		for total < 1000 {
			open = append(open, take()...)
		}
		if total != 1000 {
			b.Fatalf("it has %d that it did not acknowledge", total)
		}
		w.wantQuiet()
		for len(open) > 0 {
			w.ack(open...)
			open = nil
			if total < users*each {
				open = take()
			}
		}
		if total != users*each {
			b.Errorf("%d came", total)
		}
	})
}

// event puts an event where marks and presence put them.
func (b *bench) event(st notify.Stream, what notify.EventType, id string) {
	b.Helper()
	if err := store.TellEvent(b.ctx, b.publisher, st, what, id); err != nil {
		b.Fatal(err)
	}
}

// Two watchers share a group. One stands still for good: what it had comes to the other, and what it would have had.
func TestAWatcherThatIsGoneIsReplaced(t *testing.T) {
	onEach(t, store.Options{Events: quick}, func(b *bench) {
		users := make([]notify.Stream, 40)
		for i := range users {
			users[i] = stream(fmt.Sprint("user:u", i))
		}
		first := b.watch("g", all)
		second := b.watch("g", all)
		tell := func(round string) {
			for _, u := range users {
				b.event(u, notify.EventSeen, round)
			}
		}
		heard := map[string]map[string]bool{"first": {}, "second": {}}
		look := func(w watcher, who string, ack bool) {
			n, err := w.Next(b.ctx, 20*time.Millisecond)
			if err != nil {
				b.Fatal(err)
			}
			for _, e := range n.Events {
				heard[who][e.IDs[0]+e.Topic.Name()] = true
			}
			if ack {
				w.ack(n.Events...)
			}
		}
		round := 0
		testkit.Eventually(b, 20*time.Second, func() bool { // both have some
			tell(fmt.Sprint(round))
			round++
			look(first, "first", true)
			look(second, "second", true)
			return len(heard["second"]) > 0
		}, "the second watcher has a share")
		testkit.Eventually(b, 20*time.Second, func() bool { // all of that is through
			look(first, "first", true)
			look(second, "second", true)
			return len(heard["first"])+len(heard["second"]) >= round*len(users)
		}, "all is heard")
		heard["first"], heard["second"] = map[string]bool{}, map[string]bool{}
		tell("a")
		testkit.Eventually(b, 20*time.Second, func() bool {
			look(first, "first", false) // it acknowledges nothing, and is not heard of again
			look(second, "second", true)
			return len(heard["first"])+len(heard["second"]) == len(users)
		}, "all is heard once")
		if len(heard["first"]) < 5 || len(heard["second"]) < 5 {
			b.Fatalf("the first had %d, the second %d", len(heard["first"]), len(heard["second"]))
		}
		tell("b")
		testkit.Eventually(b, 20*time.Second, func() bool {
			look(second, "second", true)
			return len(heard["second"]) == 2*len(users)
		}, "the second has all of both rounds")
	})
}

// A watcher that leaves gives its partitions to the others at once, and they wait for what it had.
func TestAWatcherThatLeavesHandsOver(t *testing.T) {
	slow := quick
	slow.Lease, slow.Again = time.Hour, time.Hour // nothing comes about by waiting
	onEach(t, store.Options{Events: slow}, func(b *bench) {
		first := b.watch("g", all)
		b.event(ann, notify.EventSeen, "n1")
		had := first.wantNews("seen:ann:n1")
		if err := first.Close(b.ctx); err != nil {
			b.Fatal(err)
		}
		second := b.watch("g", all)
		b.event(ann, notify.EventSeen, "n2")
		second.wantQuiet()
		second.ack(had...)
		second.wantNews("seen:ann:n2")
	})
}

// A group that is over makes room for another.
func TestThereIsRoomForNewGroupsWhereOldOnesAreOver(t *testing.T) {
	brief := quick
	brief.Age = 2 * time.Second
	onEach(t, store.Options{Events: brief}, func(b *bench) {
		for i := range 64 {
			b.watch(fmt.Sprint("g", i), all)
		}
		testkit.Eventually(b, 20*time.Second, func() bool {
			_, created, err := b.publisher.Watch(b.ctx, notify.DefaultTenant, "one-more", all)
			return err == nil && created
		}, "there is room")
	})
}

func TestWhoWatchesWrongIsTold(t *testing.T) {
	b := realBench(t, store.Options{Events: quick})
	if _, _, err := b.publisher.Watch(b.ctx, notify.DefaultTenant, "A", all); err == nil {
		t.Error("a group A")
	}
	if err := b.publisher.AckEvents(b.ctx, notify.DefaultTenant, "g", make([]string, 1001)); err == nil {
		t.Error("1,001 ids")
	}
	if err := b.publisher.AckEvents(b.ctx, notify.DefaultTenant, "never-seen", []string{"1-2-3"}); err != nil {
		t.Error(err)
	}
	before := b.dbsize()
	if before != 1 {
		t.Errorf("an ack for nobody left %d keys", before)
	}
	for i := range 64 {
		b.watch(fmt.Sprint("g", i), all)
	}
	if _, _, err := b.publisher.Watch(b.ctx, notify.DefaultTenant, "one-more", all); err == nil || !strings.Contains(err.Error(), "64 at most") {
		t.Errorf("a 65th group: %v", err)
	}
}

// What the former watcher was given again lately holds up what is behind it: the next one gets all of it in its order.
func TestAWatcherThatTakesOverKeepsTheOrder(t *testing.T) {
	slow := quick
	slow.Lease, slow.Again = time.Hour, time.Hour // nothing comes about by waiting
	onEach(t, store.Options{Events: slow}, func(b *bench) {
		first := b.watch("g", all)
		for _, id := range []string{"n1", "n2", "n3"} {
			b.event(ann, notify.EventSeen, id)
		}
		had := first.wantNews("seen:ann:n1 seen:ann:n2 seen:ann:n3")
		if err := first.Close(b.ctx); err != nil {
			b.Fatal(err)
		}
		givenOut := func(ago time.Duration, events ...notify.Event) {
			for _, e := range events {
				part, entry, _ := b.keys.ParseEventID(e.ID)
				if err := b.rdb.Do(b.ctx, "XCLAIM", b.keys.Backend(part, notify.DefaultTenant).Events, "g", "w", 0, entry, "IDLE", ago.Milliseconds()).Err(); err != nil {
					b.Fatal(err)
				}
			}
		}
		givenOut(0, had[0])
		givenOut(2*time.Hour, had[1:]...)
		second := b.watch("g", all)
		second.wantQuiet()
		givenOut(2*time.Hour, had[0])
		second.wantNews("seen:ann:n1 seen:ann:n2 seen:ann:n3")
		b.event(ann, notify.EventSeen, "n4")
		second.wantNews("seen:ann:n4")
	})
}
