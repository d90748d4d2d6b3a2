package fanout

import "allim/pkg/notify"

// page is how many messages a subscriber that catches up, or a topic that resyncs, takes at once.
const page = 64

// deliver hands a message that was applied to t to one subscription. Who has not joined pulls it later.
func (x *shard) deliver(t *topic, c *Subscription, d *Delivery, recovered bool) {
	if c.at != joined {
		return
	}
	o := d.Message.Position.Offset
	if o == 1 && empty(c.pos.Epoch) { // the first message ever follows every place from before it
		c.pos.Epoch = t.pos.Epoch
	}
	switch {
	case c.pos.Epoch != t.pos.Epoch || o > c.pos.Offset+1:
		x.attach(t, c)
	case o == c.pos.Offset+1:
		x.offer(c, d, recovered)
	default: // it was ahead of this gateway
		x.catchUp(t, c)
	}
}

// offer gives c the next message. False: it did not take it, and lags.
func (x *shard) offer(c *Subscription, d *Delivery, recovered bool) bool {
	if !c.gone.Load() {
		x.count.offered.Add(1)
		if !c.sink.Deliver(c, d, recovered) {
			x.count.drop(dropRefused)
			x.stage(c, lagging)
			return false
		}
	}
	c.pos.Offset = d.Message.Position.Offset
	c.caught = c.caught || recovered
	return true
}

// catchUp ends a batch of recovered messages, when c and t are at the same place.
func (x *shard) catchUp(t *topic, c *Subscription) {
	if c.caught && c.at == joined && t.mode == live && same(c.pos, t.pos) {
		c.caught = false
		if !c.gone.Load() {
			c.sink.CaughtUp(c, t.badge)
		}
	}
}

// attach lets c hear what follows its position: joins it, after what it lacks from the ring, or pulls a page.
func (x *shard) attach(t *topic, c *Subscription) {
	switch {
	case t.mode != live:
		x.stage(c, pending)
		return
	case c.pos.Epoch == t.pos.Epoch && c.pos.Offset >= t.pos.Offset: // beyond: another gateway was faster, and deliver skips
	case empty(c.pos.Epoch) && empty(t.pos.Epoch):
	case t.ring.covers(c.pos, t.pos):
		for _, d := range t.ring.after(c.pos.Offset) {
			if !x.offer(c, d, true) {
				return
			}
		}
	default:
		x.pull(c, 0)
		return
	}
	x.stage(c, joined)
	if c.pos.Epoch == t.pos.Epoch {
		c.pos.Epoch = t.pos.Epoch // one string
	}
	x.catchUp(t, c)
}

func (x *shard) pull(c *Subscription, attempt int) {
	x.stage(c, catching)
	c.token++
	x.askFor(c, query{why: pulling, from: c.pos, limit: page, attempt: attempt})
}

func (x *shard) askFor(c *Subscription, q query) {
	if c.ticket == nil {
		c.ticket = &ticket{}
	}
	q.sub, q.lane, q.token, q.ticket = c, c.topic.lane, c.token, c.ticket
	x.env.ask(q)
}

// pulled takes a page for c.
func (x *shard) pulled(a answer) {
	c, r := a.sub, &a.recovery
	if c.topic == nil || c.at != catching || c.token != a.token || c.gone.Load() {
		return // stale
	}
	c.ticket = nil // nothing newer was asked since
	t := c.topic
	switch {
	case a.err != nil && t.mode != live: // it will go on when it is
		x.stage(c, pending)
		return
	case a.err != nil:
		x.pull(c, a.attempt+1)
		return
	case r.Outcome == notify.Delta:
		c.pos.Epoch = t.intern(r.Top.Epoch)
		before := c.pos.Offset
		for i := range r.Messages {
			m := &r.Messages[i]
			if m.Position.Offset > c.pos.Offset && !x.offer(c, &Delivery{Stream: c.stream, Message: m}, true) {
				return
			}
		}
		if c.pos.Offset == before && before < r.Top.Offset { // a page without the next message: not at once again
			x.pull(c, a.attempt+1)
			return
		}
	case r.Outcome == notify.Empty && empty(c.pos.Epoch):
		c.pos = later(r.Position, c.pos)
	default:
		x.regressed(c.pos, r.Top)
		why := whyOf(r)
		if x.resetAgain(c, why) {
			return
		}
		badge := r.Badge
		if badge == nil {
			badge = t.badge
		}
		x.resetOne(t, c, notify.Position{Epoch: t.intern(r.Position.Epoch), Offset: r.Position.Offset}, why, badge)
	}
	if t.mode == live && c.pos.Epoch != t.pos.Epoch && !(empty(c.pos.Epoch) && empty(t.pos.Epoch)) {
		x.startSync(t, byEpoch) // t itself is behind a change of epoch
	}
	x.attach(t, c)
}
