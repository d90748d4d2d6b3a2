package store

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
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

	flushers      = 8  // pipelines at once on one Redis, and half as many that wait for a level
	nodeFlushers  = 2  // the same in each group of a cluster's partitions
	clusterGroups = 16 // of neighbouring partitions, most of which one node has: a node that is away holds up no other's
	clusterShare  = 12 // a group may have this part of what may wait: a node with eight or nine groups, one of two, leaves a quarter for the others

	retryFirst = 20 * time.Millisecond // pauses between attempts: full jitter up to this, doubled each time
	retryMost  = time.Second
)

// A writer brings writes to Redis in order: those of a stream one after the other, each tried again until it is decided or nobody waits for it; many
// streams share a pipeline. A stream has a lane while something of it waits or is at work, and no goroutine: there are as many as pipelines
// at work, and none when there is nothing to do.
type writer struct {
	s     *Store
	most  int // flushers of a group; constant
	share int // see clusterShare; constant

	mu         sync.Mutex // guards the fields below and those of lanes; nothing is locked while it is held
	lanes      map[notify.Stream]*lane
	groups     []group
	ops, bytes int
	passing    struct{ ops, bytes int } // of all groups
	empty      chan struct{}            // closed when there are no lanes; nil: nobody waits for that
	decided    []func()                 // of batches that came to their end since the lock was taken: unlock calls them
}

// An op is one write on its way. Flushers own it until it is finished.
type op struct {
	stream notify.Stream
	part   int // set by enqueue
	write  *write
	call   call // of a mark
	span   span // of a mark that names no ids
	level  Level
	was    ackedAs            // zero: it is new
	share  int                // streams that share the body
	left   <-chan struct{}    // closed when its caller does not wait any more
	until  time.Time          // the caller's deadline; zero: none
	then   func(reply, error) // of an op that is tried once and has no caller; nil: it has one
	since  time.Time          // when an ephemeral one came

	reply  reply  // where err is nil
	marked Marked // what the parts of a mark did that were made
	err    error
	short  error // it was committed, and did not reach its level

	// guarded by writer.mu
	batch    *batch
	finished bool  // reply and err stand; or its caller has left, with why
	why      error // the last attempt's
}

// A batch is the ops of one call.
type batch struct {
	waiting int           // guarded by writer.mu
	done    chan struct{} // closed when none waits
	then    func()        // called then, by whoever decided the last; nil: nothing
}

func newWriter(s *Store, cluster bool) *writer {
	w := &writer{s: s, groups: make([]group, 1), most: flushers, share: 1, lanes: map[notify.Stream]*lane{}}
	if cluster {
		w.groups, w.most, w.share = make([]group, clusterGroups), nodeFlushers, clusterShare
	}
	return w
}

func (o *op) size() int { return opBytes + len(o.write.body)/o.share + idsBytes(o.write.ids) }

// do has ops done and returns when each has its reply or its error, or ctx ends: those not decided by then have the last attempt's error.
func (w *writer) do(ctx context.Context, ops []*op) {
	b := w.batch(ctx, ops, nil)
	w.enqueue(ops)
	w.end(ctx, b, ops)
}

// batch makes ops one, whose caller leaves when ctx ends.
func (w *writer) batch(ctx context.Context, ops []*op, then func()) *batch {
	b := &batch{waiting: len(ops), done: make(chan struct{}), then: then}
	until, _ := ctx.Deadline()
	for _, o := range ops {
		o.batch, o.left, o.until = b, ctx.Done(), until
	}
	return b
}

// end waits for a batch.
func (w *writer) end(ctx context.Context, b *batch, ops []*op) {
	select {
	case <-b.done:
	case <-ctx.Done():
		w.leave(ctx, ops)
	}
}

// enqueue takes ops, and refuses those that would be too many.
func (w *writer) enqueue(ops []*op) (all bool) {
	for _, o := range ops {
		o.part = w.s.keys.Partition(o.stream)
	}
	all = true
	w.mu.Lock()
	defer w.unlock()
	for _, o := range ops {
		if !w.countLocked(o) {
			o.err, all = busyFor("too many writes wait"), false
			w.finishLocked(o)
			continue
		}
		w.joinLocked(o.stream, o.part, func(l *lane) { l.queue = append(l.queue, o) })
	}
	w.kickLocked()
	return all
}

// countLocked counts an op among those that wait, if there is room for it.
func (w *writer) countLocked(o *op) bool {
	g, size := w.groupOf(o.part), o.size()
	if w.ops >= waitingMost || w.bytes+size > waitingBytes || g.ops >= waitingMost/w.share || g.bytes+size > waitingBytes/w.share {
		return false
	}
	w.ops++
	g.ops++
	w.bytes += size
	g.bytes += size
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
		w.joinLocked(st, w.s.keys.Partition(st), func(l *lane) { l.look = true })
	}
	w.kickLocked()
}

func (w *writer) kickLocked() {
	for i := range w.groups {
		w.kickGroupLocked(&w.groups[i])
	}
}

// kickGroupLocked starts a flusher for lanes that are ready, where there may be one more. They end by themselves.
func (w *writer) kickGroupLocked(g *group) {
	for kind, ready := range g.ready {
		if len(ready) > 0 && g.busy[kind] < max(w.most>>kind, 1) {
			g.busy[kind]++
			go w.flush(g, kind)
		}
	}
}

func (w *writer) flush(g *group, kind int) {
	for {
		turns := w.take(g, kind)
		if len(turns) == 0 {
			return
		}
		w.s.attempt(turns)
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

// finish says what became of a turn's ops and lets the next go; again are those that are tried again, after a pause.
func (w *writer) finish(t turn, again []*op) {
	l := t.lane
	for _, o := range t.ops {
		if o.then != nil { // before idle knows of it; it is not tried again
			o.then(o.reply, o.err)
		}
	}
	w.mu.Lock()
	defer w.unlock()
	tried := again
	for _, o := range t.ops {
		if !errors.Is(o.err, notify.ErrUnavailable) {
			l.tries = 0
		}
		if len(tried) > 0 && tried[0] == o {
			o.why, tried = o.err, tried[1:]
			continue
		}
		w.finishLocked(o)
		w.uncountLocked(l, o)
	}
	done := len(t.ops) - len(again)
	copy(l.queue[done:], again)
	clear(l.queue[:done])
	l.queue = l.queue[done:]
	if len(again) == 0 || again[0].err == nil { // there is more of a mark: other lanes come first
		w.releaseLocked(l)
		return
	}
	pause := min(retryFirst<<min(l.tries, 10), retryMost)
	l.tries++
	time.AfterFunc(rand.N(pause), func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.releaseLocked(l)
		w.kickLocked()
	})
}

func (w *writer) finishLocked(o *op) {
	if !o.finished && o.batch != nil {
		o.finished = true
		if o.batch.waiting--; o.batch.waiting == 0 {
			close(o.batch.done)
			if o.batch.then != nil {
				w.decided = append(w.decided, o.batch.then)
			}
		}
	}
}

// unlock lets go of the lock that ops may have been finished under, and tells who waits for them.
func (w *writer) unlock() {
	decided := w.decided
	w.decided = nil
	w.mu.Unlock()
	for _, then := range decided {
		then()
	}
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
