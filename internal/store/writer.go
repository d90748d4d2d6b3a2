package store

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"allim/pkg/notify"
)

const (
	batchWrites  = 128      // at most in one pipeline
	batchBytes   = 1 << 20  // of their bodies, or one write
	waitingMost  = 16_384   // writes that wait or are at work
	waitingBytes = 32 << 20 // that they hold
	opBytes      = 1 << 10  // of a write besides its body and ids: keys and arguments

	flushers      = 8  // pipelines at once on one Redis
	nodeFlushers  = 2  // in each group of a cluster's partitions
	clusterGroups = 16 // of neighbouring partitions, most of which one node has: a node that is away holds up no other's

	retryFirst = 20 * time.Millisecond // pauses between attempts: full jitter up to this, doubled each time
	retryMost  = time.Second
)

// A writer brings writes to Redis in order: those of a stream one after the other, each tried again until it is decided or nobody waits for it; many
// streams share a pipeline. A stream has a lane while something of it waits or is at work, and no goroutine: there are as many as pipelines
// at work, and none when there is nothing to do.
type writer struct {
	s      *Store
	groups int // of lanes; constant
	most   int // flushers of a group; constant

	mu         sync.Mutex // guards the fields below and those of lanes; nothing is locked while it is held
	lanes      map[notify.Stream]*lane
	ready      [][]*lane // by group, in order: those that no flusher has and that do not pause
	busy       []int     // flushers by group
	ops, bytes int
	empty      chan struct{} // closed when there are no lanes; nil: nobody waits for that
}

// A lane is what waits of one stream. The first of the queue is at work where a flusher has the lane.
type lane struct {
	stream notify.Stream
	group  int
	queue  []*op
	tries  int  // of the first
	look   bool // Run wants the ring to be looked at, too
}

// An op is one write on its way. Flushers own it until it is finished.
type op struct {
	stream notify.Stream
	write  *write
	call   call
	level  Level
	was    ackedAs            // zero: it is new
	share  int                // streams that share the body
	left   <-chan struct{}    // closed when its caller does not wait any more
	until  time.Time          // the caller's deadline; zero: none
	then   func(reply, error) // of an op that is tried once and has no caller; nil: it has one

	reply reply // where err is nil
	err   error
	short error // it was committed, and did not reach its level

	// guarded by writer.mu
	batch    *batch
	finished bool  // reply and err stand; or its caller has left, with why
	why      error // the last attempt's
}

// A turn is a lane that a flusher has, and what it works at.
type turn struct {
	lane *lane
	op   *op  // nil: it only looks
	look bool // at the ring, too
}

// A batch is the ops of one call.
type batch struct {
	waiting int           // guarded by writer.mu
	done    chan struct{} // closed when none waits
}

func newWriter(s *Store, cluster bool) *writer {
	w := &writer{s: s, groups: 1, most: flushers, lanes: map[notify.Stream]*lane{}}
	if cluster {
		w.groups, w.most = clusterGroups, nodeFlushers
	}
	w.ready, w.busy = make([][]*lane, w.groups), make([]int, w.groups)
	return w
}

func (o *op) size() int { return opBytes + len(o.write.body)/o.share + idsBytes(o.write.ids) }

// do has ops done and returns when each has its reply or its error, or ctx ends: those not decided by then have the last attempt's error.
func (w *writer) do(ctx context.Context, ops []*op) {
	b := &batch{waiting: len(ops), done: make(chan struct{})}
	until, _ := ctx.Deadline()
	for _, o := range ops {
		o.batch, o.left, o.until = b, ctx.Done(), until
	}
	if !w.enqueue(ops) {
		for _, o := range ops {
			o.err = busyFor("too many writes wait")
		}
		return
	}
	select {
	case <-b.done:
	case <-ctx.Done():
		w.leave(ctx, ops)
	}
}

// enqueue takes all ops, or none where that would be too many.
func (w *writer) enqueue(ops []*op) bool {
	size := 0
	for _, o := range ops {
		size += o.size()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ops+len(ops) > waitingMost || w.bytes+size > waitingBytes {
		return false
	}
	w.ops += len(ops)
	w.bytes += size
	for _, o := range ops {
		l := w.laneLocked(o.stream)
		l.queue = append(l.queue, o)
	}
	w.kickLocked()
	return true
}

// kick starts flushers for lanes that are ready.
func (w *writer) kick() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.kickLocked()
}

// look has the ring's writes of streams compared with what Redis has.
func (w *writer) look(streams []notify.Stream) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, st := range streams {
		w.laneLocked(st).look = true
	}
	w.kickLocked()
}

func (w *writer) laneLocked(st notify.Stream) *lane {
	l := w.lanes[st]
	if l == nil {
		l = &lane{stream: st, group: w.s.keys.Partition(st) * w.groups / w.s.keys.Partitions()}
		w.lanes[st] = l
		w.ready[l.group] = append(w.ready[l.group], l)
	}
	return l
}

// kickLocked starts a flusher in each group that has lanes ready and may have one more. They end by themselves.
func (w *writer) kickLocked() {
	for g, lanes := range w.ready {
		if len(lanes) > 0 && w.busy[g] < w.most {
			w.busy[g]++
			go w.flush(g)
		}
	}
}

func (w *writer) flush(g int) {
	for {
		turns := w.take(g)
		if len(turns) == 0 {
			return
		}
		w.s.attempt(turns)
	}
}

// take takes the lanes of the next pipeline; none ends the flusher. All first ops are of one level and, above Committed, of one server,
// on a cluster of one partition: they wait together for that level.
func (w *writer) take(g int) (turns []turn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var others []*lane
	queue, bytes := w.ready[g], 0
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
	w.ready[g] = queue
	if len(turns) == 0 {
		w.busy[g]--
	}
	return turns
}

func (w *writer) together(a, b turn) bool {
	return a.level() == b.level() && (a.level() == Committed || !w.s.cluster || w.s.keys.Partition(a.lane.stream) == w.s.keys.Partition(b.lane.stream))
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

func (o *op) gone() bool {
	select {
	case <-o.left:
		return true
	default:
		return false
	}
}

// finish says what became of the op and lets the next one go.
func (w *writer) finish(t turn) {
	l, o := t.lane, t.op
	w.mu.Lock()
	w.finishLocked(o)
	w.popLocked(l)
	w.releaseLocked(l)
	w.mu.Unlock()
	if o.then != nil {
		o.then(o.reply, o.err)
	}
}

func (w *writer) finishLocked(o *op) {
	if !o.finished && o.batch != nil {
		o.finished = true
		if o.batch.waiting--; o.batch.waiting == 0 {
			close(o.batch.done)
		}
	}
}

func (w *writer) popLocked(l *lane) {
	w.ops--
	w.bytes -= l.queue[0].size()
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
	w.ready[l.group] = append(w.ready[l.group], l)
}

func (w *writer) closeLocked(l *lane) {
	delete(w.lanes, l.stream)
	if len(w.lanes) == 0 && w.empty != nil {
		close(w.empty)
		w.empty = nil
	}
}

// again tries the op again after a pause.
func (w *writer) again(t turn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	l, o := t.lane, t.op
	o.why = o.err
	pause := min(retryFirst<<min(l.tries, 10), retryMost)
	l.tries++
	time.AfterFunc(rand.N(pause), func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.releaseLocked(l)
		w.kickLocked()
	})
}

// leave is how a caller goes whose time is over: what is not decided is unknown to him.
func (w *writer) leave(ctx context.Context, ops []*op) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, o := range ops {
		if o.finished {
			continue
		}
		o.finished = true
		left := &op{stream: o.stream, err: o.why} // a flusher may be at work with o
		if left.err == nil {
			left.err = classify(ctx.Err())
		}
		ops[i] = left
	}
}

// idle waits until nothing waits or is at work, or ctx ends.
func (w *writer) idle(ctx context.Context) {
	w.mu.Lock()
	if len(w.lanes) == 0 {
		w.mu.Unlock()
		return
	}
	if w.empty == nil {
		w.empty = make(chan struct{})
	}
	empty := w.empty
	w.mu.Unlock()
	select {
	case <-empty:
	case <-ctx.Done():
	}
}

// busyFor is ErrBusy with a pause that spreads those who come again.
func busyFor(why string) error {
	return &notify.RetryError{Err: fmt.Errorf("%s: %w", why, notify.ErrBusy), After: 100*time.Millisecond + rand.N(400*time.Millisecond)}
}
