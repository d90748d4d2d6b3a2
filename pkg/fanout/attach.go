package fanout

import (
	"sync/atomic"
	"time"

	"allim/pkg/notify"
)

// A Subscription is one sink's place in one topic. Its methods never block and may be called from any goroutine, from within the sink's
// own methods too. Calls of one goroutine take effect in their order.
type Subscription struct {
	loop   *loop
	stream notify.Stream // constant
	sink   Sink          // constant
	gone   atomic.Bool   // Detach was called

	// Guarded by loop.mu.
	next *Subscription // in the list of those with calls to be made
	ops  op            // the calls; 0: not in the list
	from From          // of the last opAttach or opMove

	// Owned by the loop.
	channel string
	topic   *topic          // nil: not attached
	pos     notify.Position // of the last message it was given; while it starts, where it wants to begin
	ticket  *ticket         // its call of history; nil: none is under way
	due     time.Duration   // of its Begin
	lag     *lag            // nil: it does not lag
	token   uint32          // of its last question to history: answers to older ones are stale
	slot    int32           // in topic.subs
	at      stage
	live    bool // From.Live
	goes    bool // Go came before Begin
	queued  bool // is in shard.starting
	caught  bool // was given recovered messages since its last CaughtUp, or was ahead of the topic: its counts are of the past
}

// An op is a set of calls of a session that its loop has not seen yet.
type op uint8

const (
	opAttach op = 1 << iota
	opMove
	opGo
	opResume
	opDetach
)

// A stage is how far a subscription is.
type stage uint8

const (
	starting stage = iota // waits until its topic is live, then for its Begin
	checking              // asked history about its From
	held                  // has its Begin, waits for Go
	pending               // waits until its topic is live
	catching              // asked history for a page
	lagging               // its sink took no more; waits for Resume
	joined                // is given what is live
)

// Stream is what the subscription is to.
func (s *Subscription) Stream() notify.Stream { return s.stream }

// Topic is the topic of Stream.
func (s *Subscription) Topic() notify.Topic { return s.stream.Topic }

// Go starts delivery: what follows Begin.Position. Before Begin it means that nothing is held back after it.
func (s *Subscription) Go() { s.loop.call(s, opGo, From{}) }

// Move begins again elsewhere: nothing more comes from the old place, then Begin, and after Go what follows it. After a Begin with an
// error it attaches anew. A Move that overtakes the Begin of the Attach or Move before it takes its place: one Begin answers both.
func (s *Subscription) Move(from From) { s.loop.call(s, opMove, from) }

// Resume says that the sink can take messages again after Deliver was false. At other times it does nothing.
func (s *Subscription) Resume() { s.loop.call(s, opResume, From{}) }

// Detach ends the subscription. At most one call of the sink, on which the loop had already decided, is still made or under way when
// Detach returns; none follows it. Attach makes a new one.
func (s *Subscription) Detach() {
	if s.gone.CompareAndSwap(false, true) {
		s.loop.call(s, opDetach, From{})
	}
}

// called makes the calls that a session left for its loop. They were folded: a Move takes back what was before it.
func (x *shard) called(c *Subscription, ops op, from From) {
	if ops&opDetach != 0 {
		x.detach(c)
		return
	}
	if ops&(opAttach|opMove) != 0 && !x.start(c, from) {
		return
	}
	if ops&opGo != 0 {
		switch c.at {
		case starting, checking:
			c.goes = true
		case held:
			x.attach(c.topic, c)
		}
	}
	if ops&opResume != 0 && c.at == lagging {
		x.attach(c.topic, c)
	}
}

// start puts c at the beginning of its life; false means that it could not be attached and was told so.
func (x *shard) start(c *Subscription, from From) bool {
	if c.topic == nil {
		t := x.topicOf(c)
		if t == nil {
			if !c.gone.Load() {
				c.sink.Begin(c, Begin{Err: notify.ErrBusy})
			}
			return false
		}
		t.join(c)
		x.count.subs.Add(1)
	}
	x.stage(c, starting)
	c.pos, c.live, c.goes, c.caught = from.Position, from.Live, false, false
	c.due = x.env.now() + x.opt.AttachTimeout
	if x.begin(c.topic, c); c.at <= checking && !c.queued {
		c.queued = true
		x.starting.push(overdue{c, c.due})
	}
	return true
}

// stage moves c on; it keeps count of those that lag, and forgets what a lag was once c is where the topic is.
func (x *shard) stage(c *Subscription, s stage) {
	if c.at == lagging && s != lagging {
		x.count.lagging.Add(-1)
	}
	if s == lagging && c.at != lagging {
		x.count.lagging.Add(1)
	}
	c.at = s
	switch s {
	case lagging:
		x.lagOf(c)
	case pending, catching:
	default:
		x.caughtUp(c)
	}
}

func (x *shard) detach(c *Subscription) {
	t := c.topic
	if t == nil {
		return
	}
	x.stage(c, starting)
	t.leave(c)
	x.count.subs.Add(-1)
	if len(t.subs) == 0 {
		x.linger(t)
	}
}

// begin answers c's Attach or Move, at once or after asking history, if its topic is live.
func (x *shard) begin(t *topic, c *Subscription) {
	if t.mode != live {
		x.stage(c, starting)
		return
	}
	want := c.pos
	switch {
	case c.live:
		x.begun(t, c, Begin{Position: t.pos})
	case empty(t.pos.Epoch) && empty(want.Epoch) && !forgotten(t.pos, want): // nothing was ever there
		x.begun(t, c, Begin{Position: later(t.pos, want), Recovered: want.Epoch != ""})
	case want.Epoch == t.pos.Epoch && (want.Offset == t.pos.Offset || t.ring.covers(want, t.pos)):
		x.begun(t, c, Begin{Position: want, Recovered: true})
	default:
		x.check(c, 0)
	}
}

func (x *shard) check(c *Subscription, attempt int) {
	x.stage(c, checking)
	c.token++
	x.askFor(c, query{why: beginning, from: c.pos, attempt: attempt})
}

func (x *shard) checked(a answer) {
	c := a.sub
	if c.topic == nil || c.at != checking || c.token != a.token {
		return
	}
	c.ticket = nil // nothing newer was asked since
	t, r := c.topic, &a.recovery
	switch {
	case t.mode != live: // it will begin again when it is
		x.stage(c, starting)
		return
	case a.err != nil:
		x.check(c, a.attempt+1)
		return
	}
	continued := a.from.Epoch != "" // "0" asks for all there is: nothing is continued, nothing can be lost
	switch {
	case r.Outcome == notify.Delta:
		x.begun(t, c, Begin{Position: notify.Position{Epoch: r.Top.Epoch, Offset: a.from.Offset}, Recovered: continued})
	case r.Outcome == notify.Empty && empty(a.from.Epoch):
		x.begun(t, c, Begin{Position: r.Position, Recovered: continued})
	default:
		b := Begin{Position: r.Position, Reset: continued}
		if continued {
			b.Why = whyOf(r)
		}
		x.begun(t, c, b)
	}
}

func (x *shard) begun(t *topic, c *Subscription, b Begin) {
	x.stage(c, held)
	c.pos = b.Position
	c.pos.Epoch = t.intern(c.pos.Epoch)
	b.Badge = t.badge
	c.caught = t.kind == notify.KindUser && !same(c.pos, t.pos) // those are not the counts of its place: it may be ahead of this gateway
	if !c.gone.Load() {
		c.sink.Begin(c, b)
	}
	if c.goes {
		c.goes = false
		x.attach(t, c)
	}
}

// An overdue is a subscription that waits for its Begin, and when it was last known to be overdue: a Move since then puts that off for it alone.
type overdue struct {
	sub *Subscription
	due time.Duration
}

// unanswered tells those whose Begin is overdue that nothing can be said, a turn's worth of them. True: there are more.
func (x *shard) unanswered(now time.Duration) (more bool) {
	for n := 0; x.starting.len() > 0 && x.starting.first().due <= now; n++ {
		if n == chore {
			return true
		}
		c := x.starting.pop().sub
		c.queued = false
		switch {
		case c.topic == nil || c.at > checking: // answered meanwhile, or gone
		case c.due > now: // moved meanwhile
			c.queued = true
			x.starting.push(overdue{c, c.due})
		default:
			x.count.unanswered.Add(1)
			x.detach(c)
			if !c.gone.Load() {
				c.sink.Begin(c, Begin{Err: notify.ErrUnavailable})
			}
		}
	}
	return false
}

// empty tells whether an epoch is that of a stream that did not exist: "" or EmptyAt.
func empty(epoch string) bool { return epoch == "" || epoch[0] == '-' }

// leastLife is how long the memory of every stream lives at least: one that came and went within it left a trace.
const leastLife = 24 * time.Hour

// forgotten tells whether a stream that does not exist at pos may have come and gone since want, so that history must say.
func forgotten(pos, want notify.Position) bool {
	now, _ := pos.Empty()
	then, ok := want.Empty()
	return ok && now-then >= leastLife.Milliseconds()
}

// later is that of two positions of a stream without messages that is of the later time.
func later(a, b notify.Position) notify.Position {
	ta, _ := a.Empty()
	tb, _ := b.Empty()
	if tb > ta {
		return b
	}
	return a
}
