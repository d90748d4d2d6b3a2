package fanout

import (
	"fmt"
	"testing"
	"time"

	"allim/pkg/notify"
)

// A slowSink takes as many messages as it has room for.
type slowSink struct {
	countSink
	room   int
	resets int
	slow   []time.Duration // the again of each TooSlow
}

func (s *slowSink) Deliver(*Subscription, *Delivery, bool) bool {
	if s.room == 0 {
		return false
	}
	s.room--
	s.got++
	return true
}
func (s *slowSink) Reset(*Subscription, notify.Position, notify.Why, *notify.Badge) { s.resets++ }
func (s *slowSink) TooSlow(_ *Subscription, again time.Duration)                    { s.slow = append(s.slow, again) }

// aLaggard is a topic at offset 2 whose second subscription refuses all; rings hold 100.
func aLaggard(t *testing.T) (*keptEnv, *Subscription, *slowSink) {
	t.Helper()
	w, _, _ := oneTopic(t, func(o *Options) { o.RingSize, o.LagTimeout, o.RingIdle = 100, 30*time.Second, time.Hour })
	e := &keptEnv{world: w}
	w.shard.env = e
	s := &slowSink{}
	sub := &Subscription{stream: w.stream, channel: w.channel, sink: s, loop: &loop{wake: make(chan struct{}, 1)}}
	w.called(sub, opAttach, From{Live: true})
	w.called(sub, opGo, From{})
	hear(w, 1, 2, 0)
	if sub.at != lagging {
		t.Fatalf("at stage %d, want lagging", sub.at)
	}
	return e, sub, s
}

func (e *keptEnv) seconds(n int) {
	for range n {
		e.tick()
	}
}

func wantSlow(t *testing.T, s *slowSink, n int, when string) {
	t.Helper()
	if len(s.slow) != n {
		t.Fatalf("%s: told %d times that it is too slow, want %d", when, len(s.slow), n)
	}
}

func TestAGatewayThatStoodStillItselfBlamesNobody(t *testing.T) {
	e, _, s := aLaggard(t)
	e.seconds(2)
	e.clock += time.Hour
	e.seconds(10)
	wantSlow(t, s, 0, "after an hour without a look and 10 s")
	e.seconds(30)
	wantSlow(t, s, 1, "30 s later")
}

func TestWhoTakesNothingFor30SecondsIsTooSlow(t *testing.T) {
	e, sub, s := aLaggard(t)
	e.seconds(30)
	wantSlow(t, s, 0, "after 29 s") // the first look sees how far it is
	if got := e.shard.count.lag.Load(); got != 2 {
		t.Errorf("the worst lag is %d, want 2", got)
	}
	e.seconds(1)
	wantSlow(t, s, 1, "after 30 s")
	if s.slow[0] != 0 || sub.topic != nil || sub.lag != nil || e.shard.laggards != nil || e.shard.count.lagging.Load() != 0 {
		t.Fatalf("again %v, topic %v, lag %v, %d laggards", s.slow[0], sub.topic, sub.lag, len(e.shard.laggards))
	}
	hear(e.world, 3, 9, 0)
	e.called(sub, opResume, From{})
	e.seconds(60)
	wantSlow(t, s, 1, "afterwards")
	if got := e.shard.count.lag.Load(); s.got != 0 || got != 0 {
		t.Errorf("got %d messages, and a lag of %d, after the end", s.got, got)
	}
}

func TestWhoGetsNearerHasTime(t *testing.T) {
	e, sub, s := aLaggard(t)
	hear(e.world, 3, 20, 0)
	for range 10 {
		e.seconds(20)
		s.room = 1
		e.called(sub, opResume, From{})
	}
	wantSlow(t, s, 0, "with a message each 20 s")
	s.room = 100
	e.called(sub, opResume, From{})
	if sub.at != joined || sub.lag != nil || e.shard.laggards != nil {
		t.Fatalf("at stage %d with lag %v", sub.at, sub.lag)
	}
}

func TestWhoTakesLessThanComesIsTooSlow(t *testing.T) {
	e, sub, s := aLaggard(t)
	next := uint64(3)
	for range 6 {
		e.seconds(5)
		hear(e.world, next, next+1, 0)
		next += 2
		s.room = 1
		e.called(sub, opResume, From{})
	}
	wantSlow(t, s, 0, "before its time")
	e.seconds(5)
	wantSlow(t, s, 1, "though it took 6 messages, 12 more came")
}

func TestWhoWaitsForHistoryIsNotSlow(t *testing.T) {
	e, sub, s := aLaggard(t)
	e.shard.free(sub.topic) // of its ring
	e.seconds(20)
	s.room = 1
	e.called(sub, opResume, From{})
	q := e.take(t, pulling)
	e.seconds(100)
	wantSlow(t, s, 0, "while history does not answer")
	at := func(o uint64) notify.Position { return notify.Position{Epoch: "abcdef", Offset: o} }
	e.shard.answered(answer{query: q, recovery: notify.Recovery{Outcome: notify.Delta, Position: at(2), Top: at(2), Messages: []notify.Message{
		{Change: notify.ChangeMessage, Position: at(1)}, {Change: notify.ChangeMessage, Position: at(2)}}}})
	if sub.at != lagging || s.got != 1 {
		t.Fatalf("at stage %d with %d messages", sub.at, s.got)
	}
	e.seconds(30)
	wantSlow(t, s, 0, "30 s after it got nearer")
	e.seconds(1)
	wantSlow(t, s, 1, "31 s after it got nearer")
}

// What Redis lost is not its fault, however often.
func TestWhoIsResetTwiceWhileItCatchesUpIsTooSlow(t *testing.T) {
	for _, c := range []struct {
		between       int // seconds
		first, second notify.Why
		slow          int
	}{{29, notify.WhyGone, notify.WhyGone, 1}, {30, notify.WhyGone, notify.WhyGone, 0}, {0, notify.WhyLost, notify.WhyLost, 0}, {0, notify.WhyLost, notify.WhyGone, 0},
		{0, notify.WhyGone, notify.WhyLost, 0}, {0, notify.WhyUnknown, notify.WhyUnknown, 0}} {
		e, sub, s := aLaggard(t)
		e.shard.free(sub.topic)
		hear(e.world, 3, 9, 0)
		e.shard.free(sub.topic)
		reset := func(from uint64) {
			t.Helper()
			e.called(sub, opResume, From{})
			q := e.take(t, pulling)
			at := notify.Position{Epoch: "abcdef", Offset: from}
			e.shard.answered(answer{query: q, recovery: notify.Recovery{Outcome: notify.Reset, Position: at, Top: notify.Position{Epoch: "abcdef", Offset: 9}, Why: c.first}})
		}
		reset(4)
		q := e.take(t, pulling)
		e.seconds(c.between)
		e.shard.answered(answer{query: q, recovery: notify.Recovery{Outcome: notify.Reset, Position: notify.Position{Epoch: "abcdef", Offset: 6},
			Top: notify.Position{Epoch: "abcdef", Offset: 9}, Why: c.second}})
		wantSlow(t, s, c.slow, fmt.Sprint("after resets for ", c.first, " and ", c.second))
		if c.slow == 1 && (s.slow[0] < lagAgain || s.slow[0] > 2*lagAgain || s.resets != 1 || sub.topic != nil) {
			t.Errorf("again after %v, %d resets", s.slow[0], s.resets)
		}
		if c.slow == 0 && (s.resets != 2 || sub.at != catching) {
			t.Errorf("%d resets, at stage %d", s.resets, sub.at)
		}
	}
}

// A reset may lead further back than the subscriber ever was.
func TestWhoWasResetHasTimeFromThere(t *testing.T) {
	e, sub, s := aLaggard(t)
	e.seconds(2) // two messages behind
	e.shard.free(sub.topic)
	hear(e.world, 3, 90, 0)
	e.called(sub, opResume, From{})
	q := e.take(t, pulling)
	e.shard.free(sub.topic)
	e.shard.answered(answer{query: q, recovery: notify.Recovery{Outcome: notify.Reset, Position: notify.Position{Epoch: "abcdef", Offset: 9}, Top: sub.topic.pos}})
	if s.room, q = 0, e.take(t, pulling); q.from.Offset != 9 {
		t.Fatalf("pulls from %d, want 9", q.from.Offset)
	}
	page := notify.Recovery{Outcome: notify.Delta, Top: sub.topic.pos}
	for o := uint64(10); o <= 73; o++ {
		page.Messages = append(page.Messages, notify.Message{Change: notify.ChangeMessage, Position: notify.Position{Epoch: "abcdef", Offset: o}})
	}
	page.Position = page.Messages[63].Position
	for range 4 {
		s.room = 1
		e.shard.answered(answer{query: q, recovery: page})
		e.seconds(20)
		wantSlow(t, s, 0, "with a message each 20 s")
		e.called(sub, opResume, From{})
		q = e.take(t, pulling)
	}
}

// Ephemeral messages never come later: who catches up gets none, and that can be seen. Who did not begin, or left, lost nothing.
func TestWhatIsOfItsMomentIsCountedForWhoCatchesUp(t *testing.T) {
	e, sub, s := aLaggard(t)
	drops := func() uint64 { return e.shard.count.dropped[dropEphemeralSlow].Load() }
	wave := func(want uint64, when string) {
		t.Helper()
		before := drops()
		e.shard.heard(e.shard.topics[e.channel], &notify.Message{Change: notify.ChangeEphemeral})
		if got := drops() - before; got != want {
			t.Errorf("%s: counted %d, want %d", when, got, want)
		}
	}
	wave(1, "while it lags")
	e.shard.free(sub.topic)
	s.room = 1
	e.called(sub, opResume, From{})
	e.take(t, pulling)
	wave(1, "while history is asked")
	s.room = 100
	e.called(sub, opMove, From{Live: true})
	wave(0, "before it goes on")
	e.called(sub, opGo, From{})
	if wave(0, "when it hears what is live"); s.got != 1 {
		t.Errorf("got %d messages, want 1", s.got)
	}
	sub.at = lagging
	sub.gone.Store(true)
	wave(0, "when it is gone")
}
