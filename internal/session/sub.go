package session

import (
	"time"

	"allim/internal/wire"
	"allim/pkg/fanout"
	"allim/pkg/notify"
)

// A sub is one topic that a session hears. It is the Sink of its subscription: those methods run in the hub's loops.
// Everything is guarded by the session's lock.
type sub struct {
	s      *Session
	feed   *fanout.Subscription
	topic  notify.Topic
	queued notify.Position // after the last frame in the outbox
	sent   notify.Position // after the last frame that was pulled
	live   *live           // of a segment
	lags   bool            // refused a message: to be resumed
	waits  bool            // for its Begin, which the batch of the session wants
	gone   bool            // left: whatever still comes is dropped
}

// Begin is the first answer of the hub: it completes a batch.
func (c *sub) Begin(_ *fanout.Subscription, b fanout.Begin) {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	if c.gone || !c.waits {
		return
	}
	batch := c.s.batch
	c.waits = false
	if c.live != nil && b.Err == nil {
		c.live.begins(b.Position)
	}
	batch.begun(c, b)
}

// Deliver takes a message into the outbox, or refuses it when that is full. Ephemeral ones that have waited longer give it their place.
func (c *sub) Deliver(_ *fanout.Subscription, d *fanout.Delivery, recovered bool) bool {
	s, m := c.s, d.Message
	if c.live != nil {
		c.live.apply(m)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.gone || s.end != nil {
		return true // nobody is there to miss it
	}
	brief := m.Change == notify.ChangeEphemeral
	if !brief && c.held() || !s.room() {
		if !brief {
			c.lags, s.lagging = true, true
		}
		return false
	}
	if m.Change == notify.ChangeUnknown { // of a later build: its place moves with the next frame, and its counts are good
		c.queued = m.Position
		if m.Badge != nil && !recovered && newer(m.Badge, s.badge) {
			s.badge = m.Badge
			sum, _ := s.sum()
			s.tellCounts(sum)
		}
		return true
	}
	i := item{d: d, mine: m.Origin != "" && m.Origin == s.origin}
	if !brief {
		i.sub, c.queued = c, m.Position
	}
	if m.Badge != nil && !recovered && newer(m.Badge, s.badge) {
		s.withCounts(&i, c, m)
	}
	if c.live != nil && s.mutes(m) {
		i.own = wire.Muted(c.topic, m)
	}
	s.enqueue(i)
	if m.Segments || c == s.own && m.Change == notify.ChangePreferences {
		s.shared.audiences.ask(s)
	}
	return true
}

// held tells whether nothing may be sent now: an inbox is being listed, and a frame before it must be in it; or it is not known yet what of a segment the user does not want.
func (c *sub) held() bool { return c.s.listing && c.listed() || c.live != nil && c.s.members == nil }

// resume lets messages come again that were refused, if there is room now.
func (c *sub) resume() {
	if c.lags && !c.held() && c.s.low() {
		c.lags = false
		c.feed.Resume()
	}
}

// Reset tells the client that its topic begins anew; an inbox is listed again.
func (c *sub) Reset(_ *fanout.Subscription, pos notify.Position, why notify.Why, _ *notify.Badge) {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	if c.gone || c.s.end != nil {
		return
	}
	if c.live != nil {
		c.live.begins(pos)
	}
	c.reset(pos, why)
}

func (c *sub) reset(pos notify.Position, why notify.Why) {
	s := c.s
	c.queued = pos
	s.shared.metrics.reset(why)
	reason := wire.ResetGone
	if why == notify.WhyLost {
		reason = wire.ResetLost
	}
	s.send(&wire.Reset{Topic: string(c.topic), Pos: pos.String(), Reason: reason}, item{begins: &begins{[]begin{{c, pos}}}})
	if c.listed() {
		s.listAnew()
	}
}

// listed tells whether a list of the inbox shows what the topic holds.
func (c *sub) listed() bool { return c == c.s.own || c.topic.Kind() == notify.KindSegment }

// TooSlow ends a session that does not read what it asked for: it comes back and goes on where it was. So does who only waits for a list of its inbox,
// and so for Redis, but it is told that this is not its fault.
func (c *sub) TooSlow(_ *fanout.Subscription, again time.Duration) {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	switch {
	case c.gone || c.s.end != nil:
	case c.held():
		c.s.finish(wire.CloseOverload, "unavailable")
	default:
		c.s.tooSlow(again)
	}
}

// CaughtUp sends the counts that recovered messages did not carry.
func (c *sub) CaughtUp(_ *fanout.Subscription, badge *notify.Badge) {
	s := c.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.gone || s.end != nil || badge == nil || c != s.own || older(badge, s.badge) {
		return
	}
	s.badge = badge
	sum, _ := s.sum()
	s.tellCounts(sum)
}

// older tells whether counts must not follow others on one connection: those of the same epoch and a lower offset.
func older(b, than *notify.Badge) bool {
	return than != nil && b.Revision.Epoch == than.Revision.Epoch && b.Revision.Offset < than.Revision.Offset
}

// newer tells whether counts may follow others on one connection: those of another epoch, or of a higher offset.
func newer(b, than *notify.Badge) bool {
	return than == nil || b.Revision.Epoch != than.Revision.Epoch || b.Revision.Offset > than.Revision.Offset
}
