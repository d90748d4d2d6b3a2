package fanout

import (
	"time"

	"allim/pkg/notify"
)

// A ring holds the last messages of a topic without a hole, the last of them being the topic's last, for those who come back or lag. A nil
// ring is empty.
type ring struct {
	items []*Delivery // oldest first
	bytes int
	used  time.Duration // when the last one came
}

// covers tells whether r holds all of (from, top].
func (r *ring) covers(from, top notify.Position) bool {
	return r != nil && len(r.items) > 0 && from.Epoch == top.Epoch && from.Offset <= top.Offset &&
		r.items[0].Message.Position.Offset <= from.Offset+1
}

// after is what follows an offset that r covers.
func (r *ring) after(offset uint64) []*Delivery {
	first := r.items[0].Message.Position.Offset
	return r.items[offset+1-first:]
}

// weight is what a message costs about in memory, its encodings for the wire included.
func weight(m *notify.Message) int { return 512 + 3*len(m.Data) }

// remember puts d, which follows all that is there, into t's ring.
func (x *shard) remember(t *topic, d *Delivery) {
	r := t.ring
	if r == nil {
		r = &ring{}
		t.ring = r
	}
	w := weight(d.Message)
	r.items = append(r.items, d)
	r.bytes += w
	r.used = x.env.now()
	drop := 0
	for len(r.items)-drop > x.opt.RingSize || r.bytes > x.opt.RingBytes {
		w -= weight(r.items[drop].Message)
		r.bytes -= weight(r.items[drop].Message)
		drop++
	}
	if drop > 0 {
		n := copy(r.items, r.items[drop:])
		clear(r.items[n:])
		r.items = r.items[:n]
	}
	if x.rings.Add(int64(w)) > x.opt.AllRings { // the gateway's bound: this topic does without
		x.count.drop(dropRing)
		x.free(t)
	}
}

// free takes t's ring away, and what the badge keeps of the payload it came in.
func (x *shard) free(t *topic) {
	if t.ring == nil {
		return
	}
	x.rings.Add(-int64(t.ring.bytes))
	t.ring = nil
	if b := t.badge; b != nil {
		t.badge = compact(b, t)
	}
}

func compact(b *notify.Badge, t *topic) *notify.Badge {
	c := &notify.Badge{Unread: b.Unread, Unseen: b.Unseen, Revision: b.Revision}
	c.Revision.Epoch = t.intern(b.Revision.Epoch)
	for _, n := range b.By {
		c.By = append(c.By, notify.CategoryCount{Category: string([]byte(n.Category)), Unread: n.Unread})
	}
	return c
}
