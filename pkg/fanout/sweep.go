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
	x.swept = now
	x.cure(now)
	x.reconsider()
	x.hurry(now)
	x.chores()
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

// forget unsubscribes the topics of q whose time is over, a turn's worth of them. True: there are more.
func (x *shard) forget(q *fifo[leaver], now time.Duration) (more bool) {
	var left map[uint16][]string // channels by lane
	for n := 0; q.len() > 0 && q.first().due <= now; n++ {
		if n == chore {
			more = true
			break
		}
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
	return more
}

func (x *shard) remove(t *topic) {
	x.tellPresent(t, false)
	x.free(t)
	x.enter(t, gone)
	t.seq++
	t.sync, t.dirty = nil, false
	list := x.parts[t.part]
	n := len(list) - 1
	last := list[n]
	list[t.slot], last.slot = last, t.slot
	list[n] = nil
	if x.parts[t.part] = list[:n]; n == 0 {
		x.parts[t.part] = nil
	}
	delete(x.topics, t.channel)
	delete(x.cured, t)
	x.count.held[t.part].Add(-1)
	x.total.Add(-1)
}

// tend looks at a part of the topics: frees idle rings, and renews what is listened to.
func (x *shard) tend(now time.Duration) {
	var renew []mark
	for range min(len(x.topics)/sweepParts+1, len(x.topics)) {
		t := x.nextTended()
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

// nextTended goes round all topics, of which there is at least one.
func (x *shard) nextTended() *topic {
	c := &x.tended
	for c.at >= len(x.parts[c.part]) {
		c.part, c.at = (c.part+1)%len(x.parts), 0
	}
	c.at++
	return x.parts[c.part][c.at-1]
}
