package fanout_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"allim/internal/testkit"
	"allim/pkg/fanout"
	"allim/pkg/notify"
)

func TestTwoHubsHearTheSameInOrder(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	var sinks []*sink
	for _, name := range []string{"g1", "g2"} {
		h := b.hub(t, name, "", nil)
		for range 2 {
			s := newSink()
			sinks = append(sinks, s)
			h.Attach(topic("orders"), fromNow, s)
		}
	}
	for _, s := range sinks {
		if got := wantBegin(t, s, 1); got.Err != nil || got.Recovered || got.Reset {
			t.Fatalf("begin: got %+v", got)
		}
	}
	const n = 300
	var publishers sync.WaitGroup
	for p := range 3 {
		publishers.Go(func() {
			for i := range n / 3 {
				b.history.append(t, topic("orders"), fmt.Sprintf("p%d-%d", p, i), false)
			}
		})
	}
	publishers.Wait()
	for _, s := range sinks {
		wantInOrder(t, s, 1, n)
		for i, m := range s.got {
			if m.ID != sinks[0].got[i].ID {
				t.Fatalf("message %d: got %s, another sink got %s", i, m.ID, sinks[0].got[i].ID)
			}
		}
	}
}

func TestBeginSaysWhereFramesBegin(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	h := b.hub(t, "g1", "", nil)
	at := func(o uint64) notify.Position { return notify.Position{Epoch: "abcdef", Offset: o} }
	for i := range 5 {
		b.history.append(t, topic("orders"), fmt.Sprint(i), false)
		b.history.append(t, topic("user:42"), fmt.Sprint(i), false)
	}
	for _, c := range []struct {
		name, topic string
		from        fanout.From
		want        fanout.Begin
		follow      int
	}{
		{"live", "orders", fromNow, fanout.Begin{Position: at(5)}, 0},
		{"at the top", "orders", fanout.From{Position: at(5)}, fanout.Begin{Position: at(5), Recovered: true}, 0},
		{"behind", "orders", fanout.From{Position: at(2)}, fanout.Begin{Position: at(2), Recovered: true}, 3},
		{"everything", "orders", fanout.From{}, fanout.Begin{Position: at(0)}, 5},
		{"from before it was made", "orders", fanout.From{Position: notify.EmptyAt(0)}, fanout.Begin{Position: at(0), Recovered: true}, 5},
		{"beyond the top", "orders", fanout.From{Position: at(9)}, fanout.Begin{Position: at(0), Reset: true, Why: notify.WhyGone}, 5},
		{"of another epoch", "orders", fanout.From{Position: notify.Position{Epoch: "zzzzzz", Offset: 3}}, fanout.Begin{Position: at(0), Reset: true, Why: notify.WhyGone}, 5},
		{"user, live", "user:42", fromNow, fanout.Begin{Position: at(5), Badge: &notify.Badge{Unread: 5, Revision: at(5)}}, 0},
		{"user, behind", "user:42", fanout.From{Position: at(4)}, fanout.Begin{Position: at(4), Recovered: true, Badge: &notify.Badge{Unread: 5, Revision: at(5)}}, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSink()
			sub := h.Attach(topic(c.topic), c.from, s)
			defer sub.Detach()
			got := wantBegin(t, s, 1)
			if fmt.Sprint(got.Badge) != fmt.Sprint(c.want.Badge) {
				t.Errorf("badge: got %v, want %v", got.Badge, c.want.Badge)
			}
			got.Badge, c.want.Badge = nil, nil
			if got != c.want {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
			wantInOrder(t, s, got.Position.Offset+1, c.follow)
			if sub.Topic() != notify.Topic(c.topic) || sub.Stream() != topic(c.topic) {
				t.Errorf("got topic %q of %v", sub.Topic(), sub.Stream())
			}
		})
	}
	t.Run("nothing there", func(t *testing.T) {
		s, back := newSink(), newSink()
		h.Attach(topic("empty"), fromNow, s)
		first := wantBegin(t, s, 1).Position
		if _, ok := first.Empty(); !ok {
			t.Fatalf("got %v, want a position of a stream that does not exist", first)
		}
		h.Attach(topic("empty"), fanout.From{Position: first}, back)
		if got := wantBegin(t, back, 1); got.Position != first || !got.Recovered {
			t.Fatalf("got %+v, want recovered at %v", got, first)
		}
		lost := newSink()
		h.Attach(topic("empty"), fanout.From{Position: at(7)}, lost)
		if got := wantBegin(t, lost, 1); !got.Reset {
			t.Fatalf("got %+v, want a reset", got)
		}
		before := b.history.recovers.Load()
		b.history.append(t, topic("empty"), "first", false)
		for _, s := range []*sink{s, back, lost} {
			wantInOrder(t, s, 1, 1)
			if s.live != 1 {
				t.Error("the first message ever was recovered, not live")
			}
		}
		if got := b.history.recovers.Load(); got != before {
			t.Errorf("history was asked %d times for a message that follows", got-before)
		}
	})
}

func TestASlowSinkLagsAndCatchesUpWhileAFastOneIsNotDelayed(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	h := b.hub(t, "g1", "", func(o *fanout.Options) { o.RingSize = 8 })
	slow, fast := newSink(), newSink()
	slow.room = 10
	sub := h.Attach(topic("orders"), fromNow, slow)
	h.Attach(topic("orders"), fromNow, fast)
	wantBegin(t, slow, 1)
	wantBegin(t, fast, 1)
	const n = 200
	for i := range n {
		b.history.append(t, topic("orders"), fmt.Sprint(i), false)
	}
	wantInOrder(t, fast, 1, n)
	wantInOrder(t, slow, 1, 10)
	if got := h.Stats(); got.Lagging != 1 || got.Dropped["refused"] == 0 {
		t.Fatalf("got %d lagging, %d refused", got.Lagging, got.Dropped["refused"])
	}
	for _, want := range []int{17, 130, n} { // in the middle of a page, over a page's end, at the end
		slow.mu.Lock()
		slow.room = want - len(slow.got)
		slow.mu.Unlock()
		sub.Resume()
		wantInOrder(t, slow, 1, want)
	}
	slow.mu.Lock()
	slow.room = -1
	slow.mu.Unlock()
	sub.Resume() // the last offer may have been refused
	b.history.append(t, topic("orders"), "last", false)
	wantInOrder(t, slow, 1, n+1)
	testkit.Eventually(t, soon, func() bool { slow.mu.Lock(); defer slow.mu.Unlock(); return len(slow.caught) > 0 }, "caught up")
	if got := h.Stats().Lagging; got != 0 {
		t.Fatalf("%d lag at the end", got)
	}
}

func TestWhoTakesNothingIsSentAwayAndComesBackWhereItWas(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	h := b.hub(t, "g1", "", func(o *fanout.Options) { o.LagTimeout = 100 * time.Millisecond })
	stuck, fast := newSink(), newSink()
	stuck.room = 3
	sub := h.Attach(topic("orders"), fromNow, stuck)
	h.Attach(topic("orders"), fromNow, fast)
	wantBegin(t, stuck, 1)
	wantBegin(t, fast, 1)
	for i := range 10 {
		b.history.append(t, topic("orders"), fmt.Sprint(i), false)
	}
	testkit.Eventually(t, soon, func() bool {
		stuck.mu.Lock()
		defer stuck.mu.Unlock()
		return len(stuck.slow) == 1 && stuck.slow[0] == 0
	}, "too slow")
	testkit.EventuallyNil(t, soon, func() error {
		if got := h.Stats(); got.Lagging != 0 || got.Lag != 0 || got.Subscriptions != 1 {
			return fmt.Errorf("got %d lagging by %d, %d subscriptions", got.Lagging, got.Lag, got.Subscriptions)
		}
		return nil
	}, "the other one is left")
	wantInOrder(t, fast, 1, 10)
	wantInOrder(t, stuck, 1, 3)
	stuck.mu.Lock()
	stuck.room = -1
	stuck.mu.Unlock()
	sub.Move(fanout.From{Position: stuck.last()})
	if got := wantBegin(t, stuck, 2); !got.Recovered {
		t.Fatalf("got %+v, want what it lacks", got)
	}
	wantInOrder(t, stuck, 1, 10)
}

func TestAStalledLoopDropsAndResyncsAndTheLinkGoesOn(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	h := b.hub(t, "g1", "", func(o *fanout.Options) { o.Shards, o.Mailbox = 1, 16 })
	ready(t, h)
	s := newSink()
	s.gate = make(chan struct{})
	h.Attach(topic("orders"), fromNow, s)
	wantBegin(t, s, 1)
	for i := range 200 {
		b.history.append(t, topic("orders"), fmt.Sprint(i), false)
	}
	testkit.Eventually(t, soon, func() bool { return h.Stats().Dropped["mailbox"] > 100 }, "a full mailbox")
	probed := time.Now()
	testkit.Eventually(t, soon, func() bool { a := h.Stats().ProbeAge; return a >= 0 && a < time.Since(probed) }, "probes while a loop stands still")
	close(s.gate)
	wantInOrder(t, s, 1, 200)
	if got := h.Stats(); got.Generation != 1 || got.Resyncs["queue"] == 0 {
		t.Fatalf("got generation %d and resyncs %v", got.Generation, got.Resyncs)
	}
}

func TestWhatCannotBeReadMakesTheTopicResync(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	h := b.hub(t, "g1", "", nil)
	s := newSink()
	h.Attach(topic("orders"), fromNow, s)
	wantBegin(t, s, 1)
	b.history.append(t, topic("orders"), "a", true) // its own message is lost, what comes instead is of the next version
	ctx := testkit.Context(t, soon)
	for _, payload := range []string{"3\nwhatever", "2\nabcdef\n"} {
		if err := b.client.Publish(ctx, b.keys.Channel(topic("orders")), payload).Err(); err != nil {
			t.Fatal(err)
		}
	}
	wantInOrder(t, s, 1, 1)
	testkit.EventuallyNil(t, soon, func() error {
		if d := h.Stats().Dropped; d["version"] != 1 || d["corrupt"] != 1 {
			return fmt.Errorf("dropped %v", d)
		}
		return nil
	}, "counted by reason")
}

func TestAMessageThatIsLostWithoutAGapIsFoundByTheCheck(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	h := b.hub(t, "g1", "", func(o *fanout.Options) { o.CheckEvery = 20 * time.Millisecond })
	idle, s := newSink(), newSink()
	for i := range 20 {
		h.Attach(topic(fmt.Sprint("idle/", i)), fromNow, idle)
	}
	h.Attach(topic("orders"), fromNow, s)
	wantBegin(t, s, 1)
	wantBegin(t, idle, 20)
	b.history.append(t, topic("orders"), "a", false)
	wantInOrder(t, s, 1, 1)
	b.history.append(t, topic("orders"), "b", true)
	wantInOrder(t, s, 1, 2)
	if got := h.Stats().Resyncs["check"]; got != 1 {
		t.Fatalf("%d resyncs by the check, want 1: idle topics have not moved", got)
	}
}

func TestEphemeralMessagesReachThoseWhoHearWhatIsLive(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	h := b.hub(t, "g1", "", nil)
	s, full := newSink(), newSink()
	full.room = 0
	h.Attach(topic("chat"), fromNow, s)
	h.Attach(topic("chat"), fromNow, full)
	wantBegin(t, s, 1)
	wantBegin(t, full, 1)
	send := func(id string) {
		t.Helper()
		if err := b.client.Publish(testkit.Context(t, soon), b.keys.Channel(topic("chat")), b.ephemeral(t, id)).Err(); err != nil {
			t.Fatal(err)
		}
	}
	testkit.Eventually(t, soon, func() bool { send("typing"); return s.count() > 0 }, "an ephemeral message")
	testkit.Eventually(t, soon, func() bool { return h.Stats().Dropped["ephemeral_refused"] > 0 }, "the refused one is counted")
	if got := h.Stats(); got.Lagging != 0 || got.Resyncs["gap"] != 0 {
		t.Fatalf("got %d lagging and resyncs %v: an ephemeral message has no place", got.Lagging, got.Resyncs)
	}
	if m := s.first(); m.Change != notify.ChangeEphemeral || m.ID != "typing" {
		t.Fatalf("got %+v", m)
	}
}

func TestMoveGoesWhereItIsTold(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	h := b.hub(t, "g1", "", nil)
	s := newSink()
	sub := h.Attach(topic("orders"), fromNow, s)
	wantBegin(t, s, 1)
	for i := range 5 {
		b.history.append(t, topic("orders"), fmt.Sprint(i), false)
	}
	wantInOrder(t, s, 1, 5)
	s.mu.Lock()
	s.got = nil
	s.mu.Unlock()
	sub.Move(fanout.From{Position: notify.Position{Epoch: "abcdef", Offset: 3}})
	if got := wantBegin(t, s, 2); !got.Recovered || got.Position.Offset != 3 {
		t.Fatalf("got %+v", got)
	}
	wantInOrder(t, s, 4, 2)
}

func TestAfterDetachNothingIsStarted(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	h := b.hub(t, "g1", "", nil)
	witness := newSink()
	h.Attach(topic("orders"), fromNow, witness)
	wantBegin(t, witness, 1)
	for round := range 20 {
		s := newSink()
		sub := h.Attach(topic("orders"), fromNow, s)
		wantBegin(t, s, 1)
		b.history.append(t, topic("orders"), fmt.Sprint(round, "a"), false)
		sub.Detach()
		sub.Detach()
		sub.Go()
		sub.Resume()
		before := s.count()
		for i := range 3 {
			b.history.append(t, topic("orders"), fmt.Sprint(round, i), false)
		}
		wantInOrder(t, witness, 1, 4*(round+1))
		if got := s.count(); got > before+1 {
			t.Fatalf("%d messages after Detach, want at most the one under way", got-before)
		}
	}
	testkit.Eventually(t, soon, func() bool { return h.Stats().Subscriptions == 1 }, "one subscription is left")
}

func TestAFullHubSaysSo(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	h := b.hub(t, "g1", "", func(o *fanout.Options) { o.MaxTopics = 1 })
	first, second := newSink(), newSink()
	h.Attach(topic("a"), fromNow, first)
	wantBegin(t, first, 1)
	h.Attach(topic("b"), fromNow, second)
	if got := wantBegin(t, second, 1); got.Err != notify.ErrBusy {
		t.Fatalf("got %+v, want %v", got, notify.ErrBusy)
	}
}

func TestHeardTopicsAreRenewed(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	h := b.hub(t, "g1", "", func(o *fanout.Options) { o.RenewEvery = time.Hour })
	s := newSink()
	for i := range 100 {
		b.history.append(t, topic(fmt.Sprint("t/", i)), "x", false)
		h.Attach(topic(fmt.Sprint("t/", i)), fromNow, s)
	}
	h.Attach(topic("nothing there"), fromNow, s)
	wantBegin(t, s, 101)
	testkit.Eventually(t, soon, func() bool { return b.history.renewed.Load() >= 100 }, "each renewed")
	testkit.Never(t, 100*time.Millisecond, func() bool { return b.history.renewed.Load() > 100 }, "renewed again, or what does not exist")
}
