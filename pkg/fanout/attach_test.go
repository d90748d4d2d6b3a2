package fanout

import (
	"testing"
	"time"

	"allim/internal/keyspace"
	"allim/pkg/notify"
)

func TestOnceDetachReturnedTheLoopStartsNoCallOfTheSink(t *testing.T) {
	w, top, s := oneTopic(t, func(*Options) {})
	hear(w, 1, 2, 0)
	sub := top.subs[0]
	sub.gone.Store(true) // as Detach does, before the loop has seen the call
	hear(w, 3, 9, 0)
	w.shard.resetJoined(top, top.pos, notify.WhyLost)
	sub.caught = true
	w.shard.attach(top, sub)
	w.shard.heard(top, &notify.Message{Change: notify.ChangeEphemeral})
	w.shard.begun(top, sub, Begin{})
	if s.got != 2 || s.begins != 1 || s.others != 0 {
		t.Fatalf("got %d messages, %d begins, %d others; want 2, 1, 0", s.got, s.begins, s.others)
	}
	w.called(sub, opDetach, From{})
	if len(top.subs) != 0 || sub.topic != nil || w.shard.count.subs.Load() != 0 {
		t.Fatalf("%d subscriptions are left", len(top.subs))
	}
}

// Calls that come before the loop looks are folded into what they come to.
func TestCallsFold(t *testing.T) {
	at := func(o uint64) From { return From{Position: notify.Position{Epoch: "abcdef", Offset: o}} }
	for _, c := range []struct {
		name  string
		calls []op
		want  op
		from  uint64
	}{
		{"attach, go", []op{opAttach, opGo}, opAttach | opGo, 1},
		{"a move takes back the go before it", []op{opAttach, opGo, opMove}, opAttach | opMove, 3},
		{"and not the one after it", []op{opGo, opResume, opMove, opGo}, opMove | opGo, 3},
		{"go keeps resume", []op{opResume, opGo}, opResume | opGo, 0},
		{"detach is not forgotten", []op{opAttach, opDetach, opGo}, opAttach | opDetach | opGo, 1},
	} {
		l := &loop{wake: make(chan struct{}, 1)}
		s := &Subscription{loop: l}
		for i, o := range c.calls {
			l.call(s, o, at(uint64(i+1)))
		}
		if s.ops != c.want || s.from.Position.Offset != c.from || l.first != s || l.last != s || s.next != nil {
			t.Errorf("%s: got %b from %d, want %b from %d", c.name, s.ops, s.from.Position.Offset, c.want, c.from)
		}
	}
}

// A topic keeps the channel alone; keyspace gives its names back.
func TestAStreamIsReadFromItsChannel(t *testing.T) {
	keys, err := keyspace.NewMap(0)
	if err != nil {
		t.Fatal(err)
	}
	x := newShard(nil, &Options{Keys: keys}, nil, nil)
	for _, name := range []string{"orders", "a:b:c", "user:42", "user:~w6Q", "segment:org-7", "page:/orders/7"} {
		want := notify.Stream{Tenant: "acme", Topic: notify.Topic(name)}
		if got := x.streamOf(&topic{channel: keys.Channel(want)}); got != want {
			t.Errorf("got %v, want %v", got, want)
		}
	}
}

func TestAFifoKeepsItsOrderAndLetsGo(t *testing.T) {
	var f fifo[int]
	next := 0
	for i := range 1000 {
		f.push(i)
		if i%3 != 0 {
			if got := f.first(); got != next || f.pop() != next {
				t.Fatalf("got %d, want %d", got, next)
			}
			next++
		}
		if len(f.items) > 2*f.len()+64 {
			t.Fatalf("%d places for %d", len(f.items), f.len())
		}
	}
	for f.len() > 0 {
		if got := f.pop(); got != next {
			t.Fatalf("got %d, want %d", got, next)
		}
		next++
	}
	if next != 1000 || f.items != nil {
		t.Fatalf("popped %d, kept %d places", next, cap(f.items))
	}
}

func TestBeginsThatAreOverdueAreAnsweredInTime(t *testing.T) {
	w, top, s := oneTopic(t, func(o *Options) { o.AttachTimeout = 5 * time.Second })
	w.shard.startSync(top, byGap) // and history never answers
	w.calls = nil
	late := &Subscription{stream: w.stream, channel: w.channel, sink: s}
	late.loop = &loop{wake: make(chan struct{}, 1)}
	w.called(late, opAttach, From{})
	w.clock += 4 * time.Second
	w.called(late, opMove, From{}) // takes its place: five seconds from now
	w.clock += 4 * time.Second
	w.shard.sweep()
	if late.topic == nil || s.begins != 1 {
		t.Fatal("answered too early")
	}
	w.clock += time.Second
	w.shard.sweep()
	if late.topic != nil || s.begins != 2 || len(top.subs) != 1 || w.shard.starting.len() != 0 {
		t.Fatalf("%d begins, attached to %v", s.begins, late.topic)
	}
}
