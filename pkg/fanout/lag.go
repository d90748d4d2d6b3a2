package fanout

import (
	"math"
	"math/rand/v2"
	"time"

	"allim/pkg/notify"
)

// lagAgain is how long a subscriber stays away at least that history is trimmed faster than it reads; up to twice as long, so that those who
// were sent away together do not come back together.
const lagAgain = 10 * time.Second

// A lag is what a shard remembers of a subscription from the first message that it refused, or the first reset while it caught up, until it has
// joined or left. Nothing waits for it here: it has a position, and what follows is pulled when it has room.
type lag struct {
	best  uint64        // its shortest distance to the top of the topic, in messages
	stood time.Duration // how long it has taken nothing since it was there. Waiting for history is not its fault and does not count
	reset time.Duration // when it was last reset since history did not reach back to it
	slot  int32         // in shard.laggards
}

// lagOf is c's lag, which begins if need be.
func (x *shard) lagOf(c *Subscription) *lag {
	if c.lag == nil {
		c.lag = &lag{best: math.MaxUint64, reset: -x.opt.LagTimeout, slot: int32(len(x.laggards))}
		x.laggards = append(x.laggards, c)
	}
	return c.lag
}

// caughtUp ends c's lag.
func (x *shard) caughtUp(c *Subscription) {
	if c.lag == nil {
		return
	}
	n := len(x.laggards) - 1
	last := x.laggards[n]
	x.laggards[c.lag.slot], last.lag.slot = last, c.lag.slot
	x.laggards[n], c.lag = nil, nil
	if x.laggards = x.laggards[:n]; n == 0 {
		x.laggards = nil
	}
}

// hurry looks at all who lag: who stood for LagTimeout without getting nearer has to go.
func (x *shard) hurry(now time.Duration) {
	passed := min(now-x.hurried, 2*x.opt.Sweep) // a process that stood still itself says nothing of its readers
	x.hurried = now
	worst := uint64(0)
	for i := 0; i < len(x.laggards); {
		c := x.laggards[i]
		far, k := uint64(0), c.lag
		if top := c.topic.pos.Offset; top > c.pos.Offset {
			far = top - c.pos.Offset
		}
		switch {
		case far < k.best:
			k.best, k.stood = far, 0
		case c.at == lagging:
			k.stood += passed
		}
		if k.stood >= x.opt.LagTimeout {
			x.tooSlow(c, 0) // another one is at i now
			continue
		}
		worst = max(worst, far)
		i++
	}
	x.count.lag.Store(worst)
}

// resetAgain notes that c is reset while it catches up. True: it was only just before, history goes faster than it reads, and it has to go. What Redis
// lost or forgot says nothing of how it reads.
func (x *shard) resetAgain(c *Subscription, why notify.Why) bool {
	k, now := x.lagOf(c), x.env.now()
	if why == notify.WhyGone {
		if now-k.reset < x.opt.LagTimeout {
			x.tooSlow(c, lagAgain+rand.N(lagAgain))
			return true
		}
		k.reset = now
	}
	k.best, k.stood = math.MaxUint64, 0 // its way is another one from here
	return false
}

func (x *shard) tooSlow(c *Subscription, again time.Duration) {
	x.detach(c)
	if !c.gone.Load() {
		c.sink.TooSlow(c, again)
	}
}
