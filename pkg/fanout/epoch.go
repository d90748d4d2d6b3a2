package fanout

import (
	"strings"

	"allim/pkg/notify"
)

// translate takes t into a new epoch in which its position is still valid (the base list says so). Those who are where t is go with it;
// the others ask for themselves.
func (x *shard) translate(t *topic, epoch string) {
	for _, c := range t.subs {
		if c.at != joined {
			continue
		}
		if c.pos == t.pos || empty(c.pos.Epoch) && empty(t.pos.Epoch) {
			c.pos.Epoch = epoch
		} else {
			x.stage(c, pending)
		}
	}
	x.free(t)
	if !empty(t.pos.Epoch) {
		x.count.epochs[turnContinued].Add(1)
	}
	t.pos.Epoch = strings.Clone(epoch)
}

// vanished: the stream does not exist.
func (x *shard) vanished(t *topic, r *notify.Recovery) {
	x.free(t)
	if t.known && !empty(t.pos.Epoch) {
		x.count.epochs[turnWiped].Add(1)
		x.place(t, r.Position, r.Badge)
		x.resetJoined(t, t.pos, notify.WhyLost) // it was renewed as long as it was heard
		return
	}
	x.place(t, r.Position, r.Badge)
}

// reset: what t had is no longer what Redis has. Only those who had all of it are told; who is behind asks for its own place.
func (x *shard) reset(t *topic, r *notify.Recovery) {
	x.free(t)
	switch {
	case t.pos.Epoch == r.Top.Epoch:
		x.regressed(t.pos, r.Top)
	case empty(t.pos.Epoch):
	case whyOf(r) == notify.WhyUnknown:
		x.count.epochs[turnWiped].Add(1)
	default:
		x.count.epochs[turnLost].Add(1)
	}
	x.place(t, r.Top, r.Badge)
	x.resetJoined(t, notify.Position{Epoch: t.intern(r.Position.Epoch), Offset: r.Position.Offset}, whyOf(r))
}

// regressed counts it if a stream's top is below a place of the same epoch that was heard: an epoch ends before that may happen.
func (x *shard) regressed(heard, top notify.Position) {
	if heard.Epoch == top.Epoch && top.Offset < heard.Offset {
		x.count.regressions.Add(1)
	}
}

// whyOf is why r is not a continuation of what was asked for.
func whyOf(r *notify.Recovery) notify.Why {
	switch {
	case r.Outcome == notify.Empty:
		return notify.WhyUnknown
	case r.Why == "":
		return notify.WhyGone
	}
	return r.Why
}

func (x *shard) resetJoined(t *topic, pos notify.Position, why notify.Why) {
	for _, c := range t.subs {
		if c.at == joined {
			x.resetOne(t, c, pos, why, t.badge)
		}
	}
}

func (x *shard) resetOne(t *topic, c *Subscription, pos notify.Position, why notify.Why, badge *notify.Badge) {
	c.pos = pos
	x.stage(c, pending)
	if !c.gone.Load() {
		c.sink.Reset(c, pos, why, badge)
	}
}
