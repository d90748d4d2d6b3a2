package fanout

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"
	"unsafe"

	"allim/internal/keyspace"
	"allim/internal/testkit"
	"allim/pkg/notify"
)

// quietHistory says of every stream that it exists and has not moved.
type quietHistory struct{}

func (quietHistory) Recover(_ context.Context, s notify.Stream, _ notify.Position, _ int) (notify.Recovery, error) {
	p := notify.Position{Epoch: string([]byte("abcdef")), Offset: 7}
	r := notify.Recovery{Outcome: notify.Delta, Position: p, Top: p}
	if s.Topic.Kind() == notify.KindUser {
		r.Badge = &notify.Badge{Unread: 3, Revision: p}
	}
	return r, nil
}

func (quietHistory) Tops(_ context.Context, s []notify.Stream) ([]notify.Position, error) {
	tops := make([]notify.Position, len(s))
	for i := range tops {
		tops[i] = notify.Position{Epoch: "abcdef", Offset: 7}
	}
	return tops, nil
}

func (quietHistory) Renew(context.Context, []notify.Stream) error { return nil }

// countSink counts and keeps nothing.
type countSink struct {
	mu     sync.Mutex
	begins int
	got    int
	others int
	whys   []notify.Why // of the resets
}

func (s *countSink) Begin(sub *Subscription, _ Begin) {
	s.mu.Lock()
	s.begins++
	s.mu.Unlock()
	sub.Go()
}
func (s *countSink) Deliver(*Subscription, *Delivery, bool) bool { s.got++; return true }
func (s *countSink) CaughtUp(*Subscription, *notify.Badge)       { s.others++ }
func (s *countSink) TooSlow(*Subscription, time.Duration)        { s.others++ }
func (s *countSink) Reset(_ *Subscription, _ notify.Position, why notify.Why, _ *notify.Badge) {
	s.others++
	s.whys = append(s.whys, why)
}

func (s *countSink) begun() int { s.mu.Lock(); defer s.mu.Unlock(); return s.begins }

func runHub(t testing.TB, shards int) *Hub {
	t.Helper()
	return runHubAt(t, testkit.Redis(t), Options{Shards: shards, Linger: time.Hour, UserLinger: time.Hour, AttachTimeout: 3 * time.Second, Sweep: 50 * time.Millisecond})
}

func runHubAt(t testing.TB, server *testkit.RedisServer, o Options) *Hub {
	t.Helper()
	keys, err := keyspace.NewMap(0)
	if err != nil {
		t.Fatal(err)
	}
	o.Redis, o.Keys, o.History, o.Gateway = server.ClientAs("gateway"), keys, quietHistory{}, "g1"
	h := New(o)
	ctx, stop := context.WithCancel(context.Background())
	var run sync.WaitGroup
	run.Go(func() { _ = h.Run(ctx) })
	t.Cleanup(func() { stop(); run.Wait() })
	testkit.Eventually(t, 10*time.Second, h.Ready, "ready")
	return h
}

func heapNow() uint64 {
	var m runtime.MemStats
	for range 3 {
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// Not parallel: it measures the heap. go-redis' own map of channels, the names and the map of the shard are in it.
func TestATopicCostsAtMost400BytesAndNoGoroutine(t *testing.T) {
	const n, budget = 30_000, 400
	for _, kind := range []string{"orders/region-%06d", "user:%06d-customer"} {
		t.Run(kind, func(t *testing.T) {
			h := runHub(t, 4)
			s := &countSink{}
			goroutines, before := runtime.NumGoroutine(), heapNow()
			subs := make([]*Subscription, n)
			for i := range subs {
				subs[i] = h.Attach(notify.Stream{Tenant: "default", Topic: notify.Topic(fmt.Sprintf(kind, i))}, From{Live: true}, s)
			}
			testkit.Eventually(t, time.Minute, func() bool { return s.begun() == n }, "begun")
			with := (heapNow() - before) / n
			for _, sub := range subs {
				sub.Detach()
			}
			testkit.Eventually(t, time.Minute, func() bool { return h.Stats().Subscriptions == 0 }, "detached")
			clear(subs)
			var got uint64 // subscriptions are remembered until their Begin would have been overdue
			testkit.EventuallyNil(t, 10*time.Second, func() error {
				if got = (heapNow() - before) / n; got > budget {
					return fmt.Errorf("got %d bytes a topic, want at most %d", got, budget)
				}
				return nil
			}, "the budget")
			t.Logf("%d bytes a topic; %d more with a subscription", got, with-got)
			if more := runtime.NumGoroutine() - goroutines; more > 0 {
				t.Errorf("%d goroutines more with %d topics", more, n)
			}
			if got := h.Stats().Topics; got != n {
				t.Errorf("got %d topics, want %d", got, n)
			}
		})
	}
}

// What a subscription once asked of history is nothing that it keeps for as long as it lives: a ticket is larger than itself.
func TestASubscriptionThatWasAnsweredKeepsNoTicket(t *testing.T) {
	h, s := runHub(t, 1), &countSink{}
	from := From{Position: notify.Position{Epoch: "abcdef", Offset: 9}} // beyond its topic: history must say
	sub := h.Attach(notify.Stream{Tenant: "default", Topic: "orders"}, from, s)
	testkit.Eventually(t, 10*time.Second, func() bool { return s.begun() == 1 }, "begun")
	testkit.EventuallyNil(t, 10*time.Second, func() error {
		var at stage
		var k *ticket
		var asked uint32
		<-sub.loop.do(func(*shard) { at, k, asked = sub.at, sub.ticket, sub.token })
		if at != joined || k != nil || asked == 0 {
			return fmt.Errorf("at stage %d with ticket %v after %d questions, want %d with none after some", at, k, asked, joined)
		}
		return nil
	}, "no ticket")
	t.Logf("a ticket is of %d bytes, a subscription of %d", unsafe.Sizeof(ticket{}), unsafe.Sizeof(Subscription{}))
}

// An aloneShard is a shard of one live topic with n sinks that have joined.
func aloneShard(t testing.TB, n int) (*shard, func(offset int) frame) {
	t.Helper()
	w := newWorld(1) // an event topic
	w.quiet = true
	for range n {
		sub := &Subscription{stream: w.stream, channel: w.channel, sink: &countSink{}}
		sub.loop = &loop{wake: make(chan struct{}, 1)}
		w.called(sub, opAttach, From{Live: true})
		w.called(sub, opGo, From{})
	}
	w.clients = nil
	for w.step() {
	}
	body, err := keyspace.EncodeBody(&notify.Message{Data: []byte(`{"id":7,"text":"something of a usual size, a hundred bytes or so, as they are in practice"}`)})
	if err != nil {
		t.Fatal(err)
	}
	return &w.shard, func(o int) frame {
		return frame{gen: w.gen, channel: w.channel, payload: fmt.Sprintf("2\nabcdef\n%d\n%d\n0\n0\n\nm\nid-%d\n%s", o, o, o, body)}
	}
}

// Of an ephemeral message, whose Delivery is all that is made beside the message itself, as of one that is kept.
func TestAMessageAllocatesTheSameForOneSinkAndForAThousand(t *testing.T) {
	for _, kind := range []string{"kept", "ephemeral"} {
		allocs := func(sinks int) float64 {
			x, message := aloneShard(t, sinks)
			if kind == "ephemeral" {
				message = func(o int) frame {
					return frame{gen: x.links[0].gen, channel: onlyChannel(x), payload: string(keyspace.Ephemeral(fmt.Sprint("id-", o), nil))}
				}
			}
			const runs = 200
			frames := make([]frame, 0, 2*runs)
			for o := range 2 * runs {
				frames = append(frames, message(o+1))
			}
			for _, f := range frames[:runs-1] {
				x.receive(f)
			}
			next := runs - 1
			n := testing.AllocsPerRun(runs, func() { x.receive(frames[next]); next++ })
			if got, want := x.count.offered.Load(), uint64(next*sinks); got != want {
				t.Fatalf("%s: offered %d, want %d", kind, got, want)
			}
			return n
		}
		one, thousand := allocs(1), allocs(1000)
		t.Logf("%s: %v allocations a message", kind, one)
		if thousand > one {
			t.Errorf("%s: %v allocations for a thousand sinks, %v for one", kind, thousand, one)
		}
	}
}

func onlyChannel(x *shard) string {
	for channel := range x.topics {
		return channel
	}
	return ""
}

// By the way through a mailbox, too: what a loop needs for its turns it has.
func TestALoopAllocatesNothingForAReceiver(t *testing.T) {
	allocs := func(sinks int) float64 {
		c := newCalm(t, Options{})
		for range sinks - 1 {
			c.others = append(c.others, c.h.Attach(c.sub.stream, From{Live: true}, c.crowd))
		}
		c.finish()
		const runs = 200
		frames := make([]frame, 2*runs)
		for i := range frames {
			frames[i] = c.message()
		}
		next := 0
		hand := func() { c.l.put(frames[next]); c.finish(); next++ }
		for range runs - 1 {
			hand()
		}
		n := testing.AllocsPerRun(runs, hand)
		if got := c.sink.got + c.crowd.got; got != next*sinks {
			t.Fatalf("%d were delivered, want %d", got, next*sinks)
		}
		return n
	}
	if one, thousand := allocs(1), allocs(1000); thousand > one {
		t.Errorf("%v allocations for a thousand sinks, %v for one", thousand, one)
	}
}

func BenchmarkFanOut(b *testing.B) {
	for _, sinks := range []int{1, 1_000, 10_000} {
		b.Run(fmt.Sprintf("1x%d", sinks), func(b *testing.B) {
			x, message := aloneShard(b, sinks)
			frames := make([]frame, 1024)
			o := 0
			for b.Loop() {
				if o%len(frames) == 0 {
					b.StopTimer()
					for i := range frames {
						frames[i] = message(o + i + 1)
					}
					b.StartTimer()
				}
				x.receive(frames[o%len(frames)])
				o++
			}
			if got := x.count.offered.Load(); got != uint64(o*sinks) {
				b.Fatalf("offered %d, want %d", got, o*sinks)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(o*sinks), "ns/delivery")
		})
	}
}

func BenchmarkSubscribe100kTopics(b *testing.B) {
	const n = 100_000
	for b.Loop() {
		b.StopTimer()
		h, s := runHub(b, 0), &countSink{}
		names := make([]notify.Stream, n)
		for i := range names {
			names[i] = notify.Stream{Tenant: "default", Topic: notify.Topic(fmt.Sprintf("orders/%06d", i))}
		}
		b.StartTimer()
		for _, name := range names {
			h.Attach(name, From{Live: true}, s)
		}
		testkit.Eventually(b, time.Minute, func() bool { return s.begun() == n }, "begun")
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/topic")
}
