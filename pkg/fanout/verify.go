package fanout

import (
	"time"

	"allim/pkg/notify"
)

// The change index names a stream once: who was named and could not be compared stays in question here until it was, or until it asked history
// anew, which covers more. All of it is bounded by the number of topics.

// A doubt is a topic that was not where Redis was. Messages may still be in the mailbox: it has until due to get there by itself.
type doubt struct {
	topic *topic
	seq   uint32
	top   notify.Position
	due   time.Duration
}

// verify compares topics with Redis: those of the channels, and all of some partitions.
func (x *shard) verify(channels []string, all map[int]bool) {
	var batch []mark
	for _, ch := range channels {
		batch = x.question(batch, x.topics[ch])
	}
	x.askBatch(verifying, batch, 0)
	for part := range all {
		if x.unscanned[part] == 0 && len(x.parts[part]) > 0 {
			x.scans.push(part)
		}
		x.unscanned[part] = len(x.parts[part])
	}
	x.scan()
}

// scan goes on with the partitions of which all is to be compared, for a turn. True: there is more. It goes from the last topic to the first: what is
// moved into the place of one that left is looked at twice, and never left out.
func (x *shard) scan() (more bool) {
	var batch []mark
	for x.scans.len() > 0 {
		part := x.scans.first()
		list, left := x.parts[part], &x.unscanned[part]
		for *left = min(*left, len(list)); *left > 0; {
			if len(batch) == chore {
				x.askBatch(verifying, batch, 0)
				return true
			}
			*left--
			batch = x.question(batch, list[*left])
		}
		x.scans.pop()
	}
	x.askBatch(verifying, batch, 0)
	return false
}

// question adds t to what is to be compared. One that waits will ask history later than now; one that syncs has asked, perhaps before what is
// looked for was written, and is compared when it is done.
func (x *shard) question(batch []mark, t *topic) []mark {
	switch {
	case t == nil:
	case t.mode == live:
		return append(batch, mark{topic: t, seq: t.seq, pos: t.pos})
	case t.mode == syncs:
		x.keepInQuestion(t)
	}
	return batch
}

// keepInQuestion has t compared at the next sweep.
func (x *shard) keepInQuestion(t *topic) {
	if !t.unsure {
		t.unsure = true
		x.unsure = append(x.unsure, t)
	}
}

func (x *shard) verified(a answer) {
	for i, m := range a.batch {
		t := m.topic
		if t.mode != live || t.seq != m.seq {
			continue // it asked history anew
		}
		if a.without(i) {
			x.keepInQuestion(t)
			continue
		}
		switch top := a.tops[i]; {
		case m.pos.Epoch == top.Epoch && m.pos.Offset > top.Offset: // Redis went back behind what t had when it was asked
			x.startSync(t, byCheck)
		case !t.reached(top):
			x.doubts.push(doubt{topic: t, seq: m.seq, top: top, due: x.env.now() + x.opt.Sweep})
		}
	}
}

// reached tells whether t has all of a stream that had this top.
func (t *topic) reached(top notify.Position) bool {
	return same(t.pos, top) || t.pos.Epoch == top.Epoch && t.pos.Offset > top.Offset
}

// settle syncs who is still behind Redis when its time is over, a turn's worth of them. True: there are more.
func (x *shard) settle(now time.Duration) (more bool) {
	for n := 0; x.doubts.len() > 0 && x.doubts.first().due <= now; n++ {
		if n == chore {
			return true
		}
		d := x.doubts.pop()
		if d.topic.mode == live && d.topic.seq == d.seq && !d.topic.reached(d.top) {
			x.startSync(d.topic, byCheck)
		}
	}
	return false
}

// reconsider compares again who could not be compared.
func (x *shard) reconsider() {
	unsure := x.unsure
	x.unsure = nil
	var batch []mark
	for _, t := range unsure {
		t.unsure = false
		batch = x.question(batch, t)
	}
	x.askBatch(verifying, batch, 1)
}
