package fanout

import (
	"fmt"
	"testing"
	"time"

	"allim/pkg/notify"
)

// Two topics in different partitions have different links: what happens to one is nothing to the other.
func TestALaneTouchesItsTopicsAlone(t *testing.T) {
	h, _, l := stillHub(t, Options{Sharded: true, Linger: time.Second})
	if len(h.feeds) != h.opt.Keys.Partitions() {
		t.Fatalf("%d feeds for %d partitions", len(h.feeds), h.opt.Keys.Partitions())
	}
	s := &countSink{}
	a := notify.Stream{Tenant: "default", Topic: "t/0"}
	b := a
	for i := 1; h.opt.Keys.Partition(a) == h.opt.Keys.Partition(b); i++ {
		b.Topic = notify.Topic(fmt.Sprint("t/", i))
	}
	subA, subB := h.Attach(a, From{Live: true}, s), h.Attach(b, From{Live: true}, s)
	feedA, feedB := h.feeds[h.opt.Keys.Partition(a)], h.feeds[h.opt.Keys.Partition(b)]
	if feedA.channel == feedB.channel {
		t.Fatalf("both lanes probe %s", feedA.channel)
	}
	l.step()
	ordered := func(f *feed, want int, when string) {
		t.Helper()
		n := 0
		for _, o := range f.take() {
			n += len(o.channels)
		}
		if n != want {
			t.Fatalf("%s: %d channels ordered, want %d", when, n, want)
		}
	}
	up := func(f *feed) (gen uint32) {
		gen = f.down()
		f.raise(gen)
		l.step()
		return gen
	}
	lanes := h.recover.lanes
	lanes[feedA.lane].trust, lanes[feedB.lane].trust = doubted, tried
	genA := up(feedA)
	ordered(feedA, 1, "its own topic")
	if lanes[feedA.lane].trust != trusted || lanes[feedB.lane].trust == trusted {
		t.Error("a link that came up ends the doubt in its own lane alone")
	}
	ordered(feedB, 0, "a lane that is down")
	up(feedB)
	genB := up(feedB) // lanes count by themselves
	l.put(frame{gen: genA, ack: true, channel: subA.channel})
	l.put(frame{gen: genA, ack: true, channel: subB.channel}) // of an old link of the other lane
	l.step()
	if ma, mb := subA.topic.mode, subB.topic.mode; ma != syncs || mb != waits || l.count.dropped[dropOldLink].Load() != 1 {
		t.Fatalf("modes %d and %d, want the first to sync and the other to wait", ma, mb)
	}
	l.put(frame{gen: genB, ack: true, channel: subB.channel})
	l.step()
	if !h.listed(feedA.lane, genA) || !h.listed(feedB.lane, genB) || h.listed(feedB.lane, genA) {
		t.Fatal("not all topics are listed")
	}
	feedA.down()
	l.step()
	if subA.topic.mode != waits || subB.topic.mode != syncs || h.listed(feedA.lane, genA) || !h.listed(feedB.lane, genB) {
		t.Fatalf("modes %d and %d after one link ended", subA.topic.mode, subB.topic.mode)
	}
	feedB.take()
	for _, sub := range []*Subscription{subA, subB} {
		sub.Detach()
	}
	l.step()
	h.begun = h.begun.Add(-time.Minute)
	l.sweep()
	ordered(feedA, 0, "a link that is gone is told nothing")
	ordered(feedB, 1, "what nobody hears is left")
}
