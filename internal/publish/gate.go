package publish

import (
	"context"
	"slices"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// A gate bounds the calls at work, in number and in bytes of their requests. A call that finds no place is refused. A message of a
// stream waits for one: streams have half of the places and bytes among them, so that calls find some beside them, and a sender
// gets a place while it has fewer of the streams' than are free.
type gate struct {
	maxCalls, maxBytes int
	metrics            *Metrics

	mu           sync.Mutex // guards the fields below; nothing is locked while it is held
	calls, bytes int
	streamed     share // places of streams' messages, by sender
	streamBytes  int   // of those
	queue        []*wish
}

// A wish is a message that waits for a place. The queue has at most one of each stream.
type wish struct {
	turn
	size int
}

func newGate(calls, bytes int, m *Metrics) *gate {
	return &gate{maxCalls: calls, maxBytes: bytes, metrics: m, streamed: newShare(max(calls/2, 1))}
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

// wait takes a place for a message of a stream when there is one, unless ctx ends first.
func (g *gate) wait(ctx context.Context, sender string, size int) error {
	g.mu.Lock()
	if len(g.queue) == 0 && g.takeLocked(sender, size) {
		g.mu.Unlock()
		return nil
	}
	w := &wish{turn{sender, make(chan struct{})}, size}
	g.queue = append(g.queue, w)
	g.nextLocked() // those before it may wait for what it does not need
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
	if i := slices.Index(g.queue, w); i >= 0 {
		g.queue = slices.Delete(g.queue, i, i+1)
		g.nextLocked()
	} else { // the place came at the same time
		g.doneLocked(sender, size)
	}
	return ctx.Err()
}

// takeLocked takes a place for a message, if there is one. One that is larger than all that streams may have goes alone.
func (g *gate) takeLocked(sender string, size int) bool {
	if g.metLocked(size) != "" || g.streamBytes > 0 && g.streamBytes+size > g.maxBytes/2 || !g.streamed.take(sender) {
		return false
	}
	g.streamBytes += size
	g.countLocked(1, size)
	return true
}

// done gives back what wait took.
func (g *gate) done(sender string, size int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.doneLocked(sender, size)
}

func (g *gate) doneLocked(sender string, size int) {
	g.streamed.free(sender)
	g.streamBytes -= size
	g.countLocked(-1, -size)
	g.nextLocked()
}

// nextLocked gives places to those who wait, in their order. Who may have no more of them for now holds up nobody; who needs more bytes than
// are free holds up all behind him, or he would wait for ever.
func (g *gate) nextLocked() {
	kept := g.queue[:0]
	for i, w := range g.queue {
		switch {
		case g.takeLocked(w.sender, w.size):
			close(w.come)
		case g.streamed.may(w.sender):
			kept = append(kept, g.queue[i:]...)
			clear(g.queue[len(kept):])
			g.queue = kept
			return
		default:
			kept = append(kept, w)
		}
	}
	clear(g.queue[len(kept):])
	g.queue = kept
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
	if !r.share.take(sender) {
		return false
	}
	r.gauge.Set(float64(r.share.used))
	return true
}

func (r *roster) leave(sender string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.share.free(sender)
	r.gauge.Set(float64(r.share.used))
}
