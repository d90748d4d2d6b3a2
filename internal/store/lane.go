package store

import (
	"fmt"
	"slices"

	"allim/pkg/notify"
)

// A group is of lanes of neighbouring partitions.
type group struct {
	ready      [2][]*lane // in order: those that no flusher has and that do not pause; those of writes that wait for a level are the second
	busy       [2]int     // flushers
	ops, bytes int

	passing ephemerals
}

// A lane is what waits of one stream. The first of the queue is at work where a flusher has the lane.
type lane struct {
	stream notify.Stream
	part   int
	group  *group
	queue  []*op
	tries  int  // of the first
	look   bool // Run wants the ring to be looked at, too
}

// A turn is a lane that a flusher has, and what it works at.
type turn struct {
	lane *lane
	op   *op  // nil: it only looks
	look bool // at the ring, too
}

func (w *writer) groupOf(part int) *group { return &w.groups[part*len(w.groups)/w.s.keys.Partitions()] }

// joinLocked gives the lane of a stream something to do.
func (w *writer) joinLocked(st notify.Stream, part int, give func(*lane)) {
	if l := w.lanes[st]; l != nil {
		give(l)
		return
	}
	l := &lane{stream: st, part: part, group: w.groupOf(part)}
	w.lanes[st] = l
	give(l)
	w.readyLocked(l)
}

// readyLocked has a flusher take the lane when its turn comes.
func (w *writer) readyLocked(l *lane) {
	q := &l.group.ready[l.kind()]
	*q = append(*q, l)
}

// kind is where the lane waits among its group's.
func (l *lane) kind() int {
	if len(l.queue) > 0 && l.queue[0].level > Committed {
		return 1
	}
	return 0
}

// take takes the lanes of the next pipeline; none ends the flusher. All first ops are of one level and, above Committed, of one server,
// on a cluster of one partition: they wait together for that level.
func (w *writer) take(g *group, kind int) (turns []turn) {
	w.mu.Lock()
	defer w.unlock()
	var others []*lane
	queue, bytes := g.ready[kind], 0
	for len(queue) > 0 && len(turns) < batchWrites && bytes < batchBytes {
		l := queue[0]
		queue = queue[1:]
		w.dropLeftLocked(l)
		t := turn{lane: l, look: l.look}
		switch {
		case len(l.queue) > 0:
			t.op = l.queue[0]
		case !l.look:
			w.closeLocked(l)
			continue
		}
		if l.kind() != kind { // the first of it had left
			w.readyLocked(l)
			continue
		}
		if len(turns) > 0 && !w.together(turns[0], t) {
			others = append(others, l)
			continue
		}
		l.look = false
		turns = append(turns, t)
		if t.op != nil {
			bytes += len(t.op.write.body)
		}
	}
	if len(others) > 0 {
		queue = slices.Concat(others, queue)
	}
	g.ready[kind] = queue
	if len(turns) == 0 {
		g.busy[kind]--
	}
	w.kickGroupLocked(g) // what was at work may go on as the other kind
	return turns
}

func (w *writer) together(a, b turn) bool {
	return a.level() == b.level() && (a.level() == Committed || !w.s.cluster || a.lane.part == b.lane.part)
}

func (t turn) level() Level {
	if t.op == nil {
		return Committed
	}
	return t.op.level
}

// dropLeftLocked takes ops away that nobody waits for.
func (w *writer) dropLeftLocked(l *lane) {
	for len(l.queue) > 0 && l.queue[0].gone() {
		o := l.queue[0]
		if o.err == nil {
			o.err = fmt.Errorf("redis: not tried in time: %w", notify.ErrUnavailable)
		}
		w.finishLocked(o)
		w.popLocked(l)
	}
}

func (w *writer) popLocked(l *lane) {
	w.ops--
	l.group.ops--
	w.bytes -= l.queue[0].size()
	l.group.bytes -= l.queue[0].size()
	l.queue[0] = nil
	l.queue, l.tries = l.queue[1:], 0
}

// release gives a lane back that has nothing finished.
func (w *writer) release(l *lane) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.releaseLocked(l)
}

func (w *writer) releaseLocked(l *lane) {
	if len(l.queue) == 0 && !l.look {
		w.closeLocked(l)
		return
	}
	w.readyLocked(l)
}

func (w *writer) closeLocked(l *lane) {
	delete(w.lanes, l.stream)
	if len(w.lanes) == 0 && w.empty != nil {
		close(w.empty)
		w.empty = nil
	}
}
