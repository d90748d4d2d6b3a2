package fanout

import (
	"time"

	"allim/pkg/notify"
)

// sweepParts is in how many sweeps every topic is looked at once for what takes minutes: its ring and its renewal.
const sweepParts = 60

// sweep does what waits for time to pass. It is called once per Options.Sweep; idle topics cost it next to nothing.
func (x *shard) sweep() {
	now := x.env.now()
	x.unanswered(now)
	x.cure(now)
	x.settle(now)
	x.hurry(now)
	for i := range x.lingering {
		x.forget(&x.lingering[i], now)
	}
	x.tend(now)
}

// cure resyncs the topics that waited for their turn.
func (x *shard) cure(now time.Duration) {
	for t, due := range x.cured {
		switch {
		case due > now:
		case t.dirty && t.mode == live:
			x.cured[t] = now + x.opt.DirtyEvery
			x.startSync(t, byQueue)
		default:
			delete(x.cured, t)
		}
	}
}

// A leaver is a topic without subscribers, and when it is looked at again.
type leaver struct {
	topic *topic
	due   time.Duration
}

// lingerOf is how long t is kept without subscribers, and in which queue it waits.
func (x *shard) lingerOf(t *topic) (time.Duration, *fifo[leaver]) {
	if t.kind == notify.KindUser {
		return x.opt.UserLinger, &x.lingering[0]
	}
	return x.opt.Linger, &x.lingering[1]
}

// linger begins t's time without subscribers.
func (x *shard) linger(t *topic) {
	if !t.lingers {
		t.lingers, t.heard = true, false
		keep, q := x.lingerOf(t)
		q.push(leaver{t, x.env.now() + keep})
	}
}

// forget unsubscribes the topics of q whose time is over.
func (x *shard) forget(q *fifo[leaver], now time.Duration) {
	var left map[uint16][]string // channels by lane
	for q.len() > 0 && q.first().due <= now {
		t := q.pop().topic
		t.lingers = false
		switch {
		case len(t.subs) > 0:
		case t.heard: // and left again, we do not know when
			x.linger(t)
		default:
			x.remove(t)
			if left == nil {
				left = map[uint16][]string{}
			}
			left[t.lane] = append(left[t.lane], t.channel)
		}
	}
	for lane, channels := range left {
		if k := x.links[lane]; k.up {
			x.env.wire(lane, false, k.gen, channels)
		}
	}
}

func (x *shard) remove(t *topic) {
	x.free(t)
	x.enter(t, gone)
	t.seq++
	t.sync, t.dirty = nil, false
	last := x.all[len(x.all)-1]
	x.all[t.slot], last.slot = last, t.slot
	x.all[len(x.all)-1] = nil
	x.all = x.all[:len(x.all)-1]
	delete(x.topics, t.channel)
	delete(x.cured, t)
	x.count.held[t.part].Add(-1)
	x.total.Add(-1)
}

// tend looks at a part of the topics: frees idle rings, and renews what is listened to.
func (x *shard) tend(now time.Duration) {
	var renew []mark
	for range min(len(x.all)/sweepParts+1, len(x.all)) {
		if x.cursor >= len(x.all) {
			x.cursor = 0
		}
		t := x.all[x.cursor]
		x.cursor++
		if t.ring != nil && now-t.ring.used >= x.opt.RingIdle {
			x.free(t)
		}
		if t.mode == live && len(t.subs) > 0 && !empty(t.pos.Epoch) && now >= time.Duration(t.renew)*time.Second {
			t.renew = uint32((now + x.opt.RenewEvery) / time.Second)
			renew = append(renew, mark{topic: t})
		}
	}
	x.askBatch(renewing, renew, 0)
}
