package fanout

import (
	"fmt"
	"maps"
	"math/rand"
	"slices"

	"allim/pkg/notify"
)

// A modelRedis is one stream as the scripts keep it: epochs bound to the history id, base list, a bounded window of entries, an index (the
// inbox of a user's stream), dedupe by id.
type modelRedis struct {
	epoch         string // "" where the stream does not exist
	history, meta int    // the history id, and the one that the epoch belongs to
	top           uint64
	born          int64 // Redis' time in ms
	entries       []notify.Message
	box           []string // ids in order
	known         map[string]bool
	bases         []notify.Position
	tick, changed int64 // the change index: the partition's last tick, and that of this stream; 0: it is not in the index
}

func (r *modelRedis) clone() modelRedis {
	c := *r
	c.entries, c.box, c.known, c.bases = slices.Clone(r.entries), slices.Clone(r.box), maps.Clone(r.known), slices.Clone(r.bases)
	return c
}

// position is the script's function of that name.
func (w *world) position() {
	r := &w.redis
	if r.epoch != "" && r.meta == r.history {
		return
	}
	if r.epoch != "" {
		base := notify.Position{Epoch: r.epoch, Offset: r.top}
		w.bases = append(w.bases, base)
		r.bases = append([]notify.Position{base}, r.bases...)
		r.bases = r.bases[:min(len(r.bases), 4)]
	} else {
		r.born = w.millis()
	}
	w.epochs++
	r.epoch, r.meta = fmt.Sprintf("e%05d", w.epochs), r.history
}

func (w *world) millis() int64 { return notify.Y2026*1000 + w.clock.Milliseconds() }

func (w *world) badge() *notify.Badge {
	if !w.user {
		return nil
	}
	return &notify.Badge{Unread: int(w.redis.top), Revision: notify.Position{Epoch: w.redis.epoch, Offset: w.redis.top}}
}

// publish appends a message, once, and sends it to the link, unless something swallows it.
func (w *world) publish(id string) {
	w.position()
	r := &w.redis
	w.acked[id] = true
	if r.known[id] {
		return
	}
	r.known[id] = true
	r.index(w.millis())
	r.changed = r.tick
	r.top++
	m := notify.Message{Change: notify.ChangeMessage, ID: id, Position: notify.Position{Epoch: r.epoch, Offset: r.top}}
	r.entries = append(r.entries, m)
	if over := len(r.entries) - w.window; over > 0 {
		r.entries = r.entries[over:]
	}
	r.box = append(r.box, id)
	if !w.subscribed {
		return
	}
	m.Badge = w.badge()
	if !w.honest && w.rnd.Intn(40) == 0 {
		w.swallowed++
		return
	}
	gen := w.gen
	w.flow = append(w.flow, func() { w.frame(gen, &m) })
}

// index is what every write does to the change index of the partition.
func (r *modelRedis) index(millis int64) {
	r.tick = max(r.tick, millis)
	if r.changed < r.tick-60_000 {
		r.changed = 0
	}
}

// elsewhere writes another stream of the partition: from now on the index does not name ours for having been the last.
func (w *world) elsewhere() { w.redis.index(w.millis()) }

// check is what the checker does: it looks, and what it saw reaches the loop some time later. Each write is named once, if it is not the last.
func (w *world) check() {
	if w.honest || w.shard.count.held[w.shard.opt.Keys.Partition(w.stream)].Load() == 0 {
		return
	}
	r, channels := &w.redis, []string(nil)
	if r.changed > 0 && r.changed >= w.last.tick {
		channels = []string{w.channel}
	}
	now := glance{id: fmt.Sprint(r.history), tick: r.tick, at: w.clock}
	var all map[int]bool
	if w.last.misses(now) || channels != nil && w.rnd.Intn(4) == 0 { // or others wrote, and the list was full
		all = map[int]bool{w.shard.opt.Keys.Partition(w.stream): true}
	}
	w.last = now
	if all != nil || channels != nil {
		w.calls = append(w.calls, func() { w.shard.verify(channels, all) })
	}
}

// recover is the script of that name.
func (w *world) recover(from notify.Position, limit int) notify.Recovery {
	r := &w.redis
	if r.epoch == "" {
		p := notify.EmptyAt(w.millis())
		return notify.Recovery{Outcome: notify.Empty, Position: p, Top: p}
	}
	if !(from.Epoch == r.epoch && from.Offset == r.top) {
		w.position()
	}
	at, ok := uint64(0), false
	switch born, isEmpty := from.Empty(); {
	case from.Epoch == r.epoch:
		at, ok = from.Offset, from.Offset <= r.top
	case from.Epoch == "":
		ok = true
	case isEmpty:
		ok = r.born >= born
	default:
		for _, b := range r.bases {
			if b.Epoch == from.Epoch && from.Offset <= b.Offset {
				at, ok = from.Offset, true
			}
		}
	}
	if ok && at < r.top {
		ok = len(r.entries) > 0 && r.entries[0].Position.Offset <= at+1
	}
	top := notify.Position{Epoch: r.epoch, Offset: r.top}
	out := notify.Recovery{Outcome: notify.Delta, Top: top, Position: notify.Position{Epoch: r.epoch, Offset: at}, Badge: w.badge()}
	if !ok {
		out.Outcome, out.Position, out.Why = notify.Reset, top, w.why(from)
		if !w.user && len(r.entries) > 0 {
			out.Position.Offset = r.entries[0].Position.Offset - 1
		}
		return out
	}
	for _, m := range r.entries {
		if m.Position.Offset > at && len(out.Messages) < min(limit, 3) { // pages as small as the page's bytes may make them
			m.Position.Epoch = r.epoch
			out.Messages = append(out.Messages, m)
			out.Position.Offset = m.Position.Offset
		}
	}
	return out
}

// why says why from cannot be continued.
func (w *world) why(from notify.Position) notify.Why {
	switch {
	case empty(from.Epoch):
		return notify.WhyForgotten
	case from.Epoch == w.redis.epoch:
		return notify.WhyGone
	case slices.ContainsFunc(w.redis.bases, func(b notify.Position) bool { return b.Epoch == from.Epoch && b.Offset < from.Offset }):
		return notify.WhyLost
	}
	return notify.WhyUnknown
}

func (w *world) tops(n int) []notify.Position {
	t := make([]notify.Position, n)
	for i := range t {
		if w.redis.epoch != "" {
			t[i] = notify.Position{Epoch: w.redis.epoch, Offset: w.redis.top}
		}
	}
	return t
}

// failover promotes a replica that may be behind, or one that has nothing, or is the same server with older data; the publisher then replays what was lost.
func (w *world) failover() {
	if len(w.replicas) == 0 {
		return
	}
	r := w.replicas[len(w.replicas)-1].clone()
	if w.rnd.Intn(3) == 0 {
		r = modelRedis{known: map[string]bool{}}
	}
	w.failovers++
	w.histories++
	r.history = w.histories
	lost := slices.DeleteFunc(slices.Clone(w.redis.box), func(id string) bool { return r.known[id] })
	w.redis, w.replicas = r, nil
	if w.honest || w.rnd.Intn(3) > 0 { // else the link lives on: only messages and checks tell
		w.newLink()
	}
	if w.rnd.Intn(4) == 0 { // the publisher died, too: what was lost is lost
		for _, id := range lost {
			delete(w.acked, id)
		}
		return
	}
	for _, id := range lost {
		if r.epoch == "" { // nothing is there: the replay comes late, and new messages after it
			w.hold = 40
			w.held = append(w.held, func() { w.publish(id) })
		} else {
			w.calls = append(w.calls, func() { w.publish(id) })
		}
	}
}

// Gateway side of the model: the link.

func (w *world) newLink() {
	w.gen++
	w.flow, w.orders, w.subscribed = nil, nil, false
	w.shard.link(w.lane, w.gen, false)
	gen := w.gen
	w.calls = append(w.calls, func() {
		if gen == w.gen {
			w.shard.link(w.lane, gen, true)
		}
	})
}

// otherLink is a new link of another partition.
func (w *world) otherLink() {
	w.other++
	w.shard.link(w.lane+1, w.other, w.rnd.Intn(2) == 0)
}

func (w *world) frame(gen uint32, m *notify.Message) {
	if gen != w.shard.links[w.lane].gen {
		return
	}
	t := w.shard.topics[w.channel]
	switch {
	case t == nil:
	case m == nil:
		w.shard.acked(t)
	default:
		w.shard.heard(t, m)
	}
}

func pick(rnd *rand.Rand, acts []func()) { acts[rnd.Intn(len(acts))]() }
