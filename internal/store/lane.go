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

// A lane is what waits of one stream. Where a flusher has the lane the first of the queue are at work.
type lane struct {
	stream notify.Stream
	part   int
	group  *group
	queue  []*op
	tries  int  // attempts since the last that had a write decided
	look   bool // Run wants the ring to be looked at, too
}

// A turn is a lane that a flusher has, and what it works at.
type turn struct {
	lane  *lane
	ops   []*op // of one kind and level, the first of the lane: of marks one; none: it only looks
	look  bool  // at the ring, too
	alone bool  // they failed before
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
	queue, writes, bytes := g.ready[kind], 0, 0
	for len(queue) > 0 && len(turns) < batchWrites && writes < batchWrites && bytes < batchBytes {
		l := queue[0]
		queue = queue[1:]
		n, size := w.headLocked(l, min(batchWrites-writes, w.s.seriesMost(l.stream)), batchBytes-bytes)
		if n == 0 && !l.look {
			w.closeLocked(l)
			continue
		}
		t := turn{lane: l, ops: slices.Clone(l.queue[:n]), look: l.look, alone: l.tries > 0}
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
		writes, bytes = writes+n, bytes+size
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
	if len(t.ops) == 0 {
		return Committed
	}
	return t.ops[0].level
}

// headLocked is how many of the first of a lane go together, no more than most and not beyond that many bytes but for the first, and how large their bodies are. It
// takes ops away that nobody waits for.
func (w *writer) headLocked(l *lane, most, bytes int) (n, size int) {
	at := 0
	for ; at < len(l.queue) && n < max(most, 1); at++ {
		o := l.queue[at]
		if o.gone() {
			if o.err == nil {
				o.err = fmt.Errorf("redis: not tried in time: %w", notify.ErrUnavailable)
			}
			w.finishLocked(o)
			w.uncountLocked(l, o)
			continue
		}
		if n > 0 && (!o.goesWith(l.queue[0]) || size+len(o.write.body) > bytes) {
			break
		}
		l.queue[n] = o
		n, size = n+1, size+len(o.write.body)
	}
	left := at - n
	copy(l.queue[left:at], l.queue[:n])
	clear(l.queue[:left])
	l.queue = l.queue[left:]
	return n, size
}

// goesWith tells whether two writes of a stream may have one turn. A mark, or another change of what is there, has its own: the next one must not be made where it fails. So have messages that are no
// items: what goes together counts together, and the first frame of it says the counts, which theirs has no place for.
func (o *op) goesWith(first *op) bool {
	return o.level == first.level && o.write.kind() == first.write.kind() && !o.write.single()
}

func (w *writer) uncountLocked(l *lane, o *op) {
	w.ops--
	l.group.ops--
	w.bytes -= o.size()
	l.group.bytes -= o.size()
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
