package fanout

import (
	"testing"
	"time"

	"allim/pkg/notify"
)

// hear gives the shard's only topic messages with offsets from first to last and that many bytes.
func hear(w *world, first, last uint64, bytes int) {
	for o := first; o <= last; o++ {
		w.shard.heard(w.shard.topics[w.channel], &notify.Message{Change: notify.ChangeMessage,
			Position: notify.Position{Epoch: "abcdef", Offset: o}, Data: make([]byte, bytes)})
	}
}

// oneTopic is a world of one empty live topic that somebody hears; change alters its options.
func oneTopic(t *testing.T, change func(*Options)) (*world, *topic, *countSink) {
	t.Helper()
	w := newWorld(1)
	w.quiet, w.clients = true, nil
	change(w.shard.opt)
	s := &countSink{}
	sub := &Subscription{stream: w.stream, channel: w.channel, sink: s}
	sub.loop = &loop{wake: make(chan struct{}, 1)}
	w.called(sub, opAttach, From{Live: true})
	w.called(sub, opGo, From{})
	for w.step() {
	}
	top := w.shard.topics[w.channel]
	if top == nil || top.mode != live {
		t.Fatalf("the topic is not live: %+v", top)
	}
	return w, top, s
}

func TestARingIsBoundedInMessagesAndBytes(t *testing.T) {
	w, top, s := oneTopic(t, func(o *Options) { o.RingSize, o.RingBytes = 4, 1<<20 })
	hear(w, 1, 10, 10)
	if got := len(top.ring.items); got != 4 || top.ring.items[0].Message.Position.Offset != 7 {
		t.Fatalf("got %d messages from %v on", got, top.ring.items[0].Message.Position)
	}
	for from, want := range map[uint64]bool{5: false, 6: true, 9: true, 10: true, 11: false} {
		p := notify.Position{Epoch: "abcdef", Offset: from}
		if got := top.ring.covers(p, top.pos); got != want {
			t.Errorf("covers after %d: got %v, want %v", from, got, want)
		}
	}
	if top.ring.covers(notify.Position{Epoch: "zzzzzz", Offset: 9}, top.pos) {
		t.Error("covers a position of another epoch")
	}
	w.shard.opt.RingBytes = 3 * weight(&notify.Message{Data: make([]byte, 100)})
	hear(w, 11, 20, 100)
	if got := len(top.ring.items); got != 3 || w.rings.Load() != int64(w.shard.opt.RingBytes) {
		t.Fatalf("got %d messages, %d bytes in all rings", got, w.rings.Load())
	}
	hear(w, 21, 21, 1<<20) // more than a ring may hold at all
	if got := len(top.ring.items); got != 0 || w.rings.Load() != 0 {
		t.Fatalf("got %d messages, %d bytes in all rings", got, w.rings.Load())
	}
	hear(w, 22, 22, 10)
	if s.got != 22 || !top.ring.covers(notify.Position{Epoch: "abcdef", Offset: 21}, top.pos) {
		t.Fatalf("%d delivered, want 22", s.got)
	}
}

func TestRingsShareABoundAndAreFreedWhenIdle(t *testing.T) {
	w, top, s := oneTopic(t, func(o *Options) { o.AllRings = int64(3 * weight(&notify.Message{})); o.RingIdle = time.Minute })
	hear(w, 1, 3, 0)
	if top.ring == nil {
		t.Fatal("no ring within the bound")
	}
	hear(w, 4, 4, 0)
	if top.ring != nil || w.rings.Load() != 0 || w.shard.count.dropped[dropRing].Load() != 1 {
		t.Fatalf("ring %v with %d bytes in all beyond the bound", top.ring, w.rings.Load())
	}
	hear(w, 5, 6, 0)
	w.clock += time.Minute - time.Second
	w.shard.sweep()
	if top.ring == nil {
		t.Fatal("freed before it was idle long enough")
	}
	w.clock += time.Second
	w.shard.sweep()
	if top.ring != nil || w.rings.Load() != 0 || s.got != 6 {
		t.Fatalf("ring %v with %d bytes in all, %d delivered", top.ring, w.rings.Load(), s.got)
	}
}

func TestWhatATopicKeepsWhileItSyncsIsBounded(t *testing.T) {
	for name, change := range map[string]func(*Options){
		"messages": func(o *Options) { o.SyncBuffer = 3 },
		"bytes":    func(o *Options) { o.SyncBytes = 3 * weight(&notify.Message{}) },
	} {
		w, top, _ := oneTopic(t, change)
		w.shard.startSync(top, byGap)
		hear(w, 2, 4, 0)
		if got := len(top.sync.buf); got != 3 || top.sync.over {
			t.Fatalf("%s: kept %d, over %v", name, got, top.sync.over)
		}
		hear(w, 5, 9, 0)
		if len(top.sync.buf) != 0 || !top.sync.over || w.shard.count.dropped[dropBuffer].Load() != 8 {
			t.Fatalf("%s: kept %d, over %v, %d dropped", name, len(top.sync.buf), top.sync.over, w.shard.count.dropped[dropBuffer].Load())
		}
		for w.step() {
		}
		if got := w.shard.count.resyncs[byBuffer].Load(); got != 1 || top.mode != live {
			t.Fatalf("%s: %d syncs for the buffer, mode %d", name, got, top.mode)
		}
	}
}

func TestACompactBadgeIsTheSameBadge(t *testing.T) {
	b := &notify.Badge{Unread: 3, Unseen: 2, By: []notify.CategoryCount{{Category: "a", Unread: 1}}, Revision: notify.Position{Epoch: "abcdef", Offset: 9}}
	got := compact(b, &topic{pos: b.Revision})
	if got.Unread != 3 || got.Unseen != 2 || len(got.By) != 1 || got.By[0] != b.By[0] || got.Revision != b.Revision {
		t.Fatalf("got %+v, want %+v", got, b)
	}
}
