package publish

import (
	"context"
	"slices"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// What messages of streams may take, all together: half of the store's room, which is 32 MiB or 16,384 writes. At writeCost a write its bytes are
// met before its number is.
const (
	streamedBytes = 16 << 20
	writeCost     = 2 << 10 // of each topic or user that a message is written for at once, beside its bytes
)

// A gate bounds the calls at work, in number and in bytes of their requests. A call that finds no place is refused. A message of a stream waits for
// one: streams have half of the places and bytes among them, so that calls find some beside them, and no more than streamedBytes. Both are shared by
// sender (see share). Those of one sender come in their order, senders by turns.
type gate struct {
	maxCalls, maxBytes int
	metrics            *Metrics

	mu           sync.Mutex // guards the fields below; nothing is locked while it is held
	calls, bytes int
	places, room share            // of streams' messages: their number, and their bytes
	lines        []*line          // of who waits, in the order of their next turns
	of           map[string]*line // by sender
}

// A line is the wishes of one sender, at most one of each stream. There is one while it has a wish.
type line struct {
	sender string
	wishes []*wish
}

// A wish is a message that waits for a place.
type wish struct {
	size int
	come chan struct{} // closed when it has one
}

func newGate(calls, bytes int, m *Metrics) *gate {
	return &gate{maxCalls: calls, maxBytes: bytes, metrics: m, places: newShare(max(calls/2, 1)), room: newShare(min(bytes/2, streamedBytes)), of: map[string]*line{}}
}

// enter takes a place for a call, or names the limit that left none.
func (g *gate) enter(size int) (met string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if met = g.metLocked(size); met == "" {
		g.countLocked(1, size)
	}
	return met
}

func (g *gate) metLocked(size int) string {
	switch {
	case g.calls >= g.maxCalls:
		return "calls"
	case g.bytes+size > g.maxBytes:
		return "calls_bytes"
	}
	return ""
}

func (g *gate) countLocked(calls, size int) {
	g.calls += calls
	g.bytes += size
	g.metrics.inFlight.Set(float64(g.calls))
	g.metrics.inFlightBytes.Set(float64(g.bytes))
}

func (g *gate) leave(size int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.countLocked(-1, -size)
	g.nextLocked()
}

// wait takes a place for a message of a stream when there is one, unless ctx ends first. None counts for more than half of what streams may have: it
// would have to wait for all others, and they for it.
func (g *gate) wait(ctx context.Context, sender string, size int) error {
	size = min(size, g.room.most/2)
	g.mu.Lock()
	if len(g.lines) == 0 && g.takeLocked(sender, size) {
		g.mu.Unlock()
		return nil
	}
	w := &wish{size, make(chan struct{})}
	l := g.of[sender]
	if l == nil {
		l = &line{sender: sender}
		g.of[sender], g.lines = l, append(g.lines, l)
	}
	if l.wishes = append(l.wishes, w); len(l.wishes) == 1 {
		g.nextLocked() // other senders may wait for what this one does not need
	}
	g.mu.Unlock()
	select {
	case <-w.come:
		return nil
	default:
		g.metrics.waited("gate")
	}
	select {
	case <-w.come:
		return nil
	case <-ctx.Done():
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if i := slices.Index(l.wishes, w); i >= 0 {
		l.wishes = slices.Delete(l.wishes, i, i+1)
		if len(l.wishes) == 0 {
			g.lines = slices.DeleteFunc(g.lines, func(o *line) bool { return o == l })
			delete(g.of, sender)
		}
		g.nextLocked()
	} else { // the place came at the same time
		g.doneLocked(sender, size)
	}
	return ctx.Err()
}

func (g *gate) takeLocked(sender string, size int) bool {
	if g.metLocked(size) != "" || !g.places.may(sender, 1) || !g.room.may(sender, size) {
		return false
	}
	g.places.take(sender, 1)
	g.room.take(sender, size)
	g.countLocked(1, size)
	return true
}

// done gives back what wait took.
func (g *gate) done(sender string, size int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.doneLocked(sender, min(size, g.room.most/2))
}

func (g *gate) doneLocked(sender string, size int) {
	g.places.free(sender, 1)
	g.room.free(sender, size)
	g.countLocked(-1, -size)
	g.nextLocked()
}

// nextLocked gives places to those who wait. A sender who has some goes on when he gives them back, and holds up nobody; one who has none, and finds
// no room all the same, holds up those behind him, or he would wait for ever. It costs as much as there are senders who wait, not streams.
func (g *gate) nextLocked() {
	for i := 0; i < len(g.lines); {
		l := g.lines[i]
		switch w := l.wishes[0]; {
		case g.takeLocked(l.sender, w.size):
			close(w.come)
			l.wishes[0] = nil
			l.wishes = l.wishes[1:]
			g.lines = slices.Delete(g.lines, i, i+1)
			if len(l.wishes) == 0 {
				delete(g.of, l.sender)
			} else {
				g.lines = append(g.lines, l) // his next turn is after the others'
			}
			i = 0
		case g.places.of[l.sender] == 0:
			return
		default:
			i++
		}
	}
}

// A roster is the streams that are open.
type roster struct {
	gauge prometheus.Gauge

	mu    sync.Mutex // guards share; nothing is locked while it is held
	share share      // by sender
}

func (r *roster) enter(sender string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.share.take(sender, 1) {
		return false
	}
	r.gauge.Set(float64(r.share.used))
	return true
}

func (r *roster) leave(sender string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.share.free(sender, 1)
	r.gauge.Set(float64(r.share.used))
}
