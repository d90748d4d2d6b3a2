package fanout

import (
	"container/heap"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"allim/internal/keyspace"
	"allim/pkg/notify"
)

// Pauses before a question to history is asked again: uniform in [0, first·2^attempt], at most longest.
const (
	retryFirst   = 50 * time.Millisecond
	retryLongest = 5 * time.Second
)

// A recoverer asks history. Every topic and every subscription has one ticket and so at most one question that waits or runs; a newer
// question takes the place of one that waits, or follows one that runs (whose answer its token has made stale).
type recoverer struct {
	history  History
	keys     *keyspace.Map
	timeout  time.Duration
	workers  int
	doubtful int           // most questions in doubt that run
	gap      time.Duration // between two paced questions
	wake     chan struct{} // buffered 1; never closed

	mu      sync.Mutex // a leaf; guards the fields below and the tickets
	ready   fifo[*ticket]
	later   tickets
	lanes   []standing
	turn    int       // the lane in doubt that had the last turn
	slow    int       // tickets in the lanes' queues
	doubts  int       // questions in doubt that run
	paced   time.Time // when the next paced question has its turn
	pending int       // tickets that wait or run
}

// A ticket is one owner's place in the queue. The zero value is idle.
type ticket struct {
	query query
	state ticketState
	doubt bool // while it runs: it counts among the doubts
	void  bool // while it runs: it is answered without asking
	again bool // while it runs: next is to follow
	next  query
	due   time.Time // while it is later
	index int       // in the heap of those that are later
}

type ticketState uint8

const (
	idle ticketState = iota
	isReady
	isLater
	isRunning
)

func newRecoverer(o Options) *recoverer {
	return &recoverer{history: o.History, keys: o.Keys, timeout: o.CallTimeout, workers: o.Workers, doubtful: max(o.Workers/4, 1),
		gap: time.Second / time.Duration(o.RecoverRate), wake: make(chan struct{}, 1), lanes: make([]standing, o.lanes())}
}

// ask puts a question. The answer goes to the shard's loop.
func (r *recoverer) ask(q query) {
	k := q.ticket
	if k == nil {
		k = &ticket{}
	}
	r.mu.Lock()
	switch k.state {
	case isReady:
		k.query = q
	case isRunning:
		k.again, k.next = true, q
	case isLater:
		if k.query.paced && q.paced { // it keeps its turn: links that come and go must not put off everybody's
			k.query = q
			break
		}
		heap.Remove(&r.later, k.index)
		r.pending--
		fallthrough
	case idle:
		r.placeLocked(k, q)
	}
	r.mu.Unlock()
	r.rouse()
}

func (r *recoverer) placeLocked(k *ticket, q query) {
	r.pending++
	k.query = q
	var wait time.Duration
	if q.attempt > 0 {
		wait = backoff(q.attempt-1, retryFirst, retryLongest)
	}
	now := time.Now()
	if q.paced {
		if r.paced.Before(now) {
			r.paced = now.Add(rand.N(100 * time.Millisecond)) // gateways that lost the same Redis do not start together
		}
		r.paced = r.paced.Add(r.gap)
		wait = max(wait, r.paced.Sub(now))
	}
	if wait <= 0 {
		k.state = isReady
		r.ready.push(k)
		return
	}
	k.state, k.due = isLater, now.Add(wait)
	heap.Push(&r.later, k)
}

func (r *recoverer) waiting() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.pending
}

func (r *recoverer) rouse() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// run hands questions to workers when they are due, until ctx ends and every worker has returned. A question is taken only when a worker is
// free for it: until then a newer one takes its place.
func (r *recoverer) run(ctx context.Context) {
	jobs := make(chan *ticket)             // closed here, after the last job
	free := make(chan struct{}, r.workers) // one for each worker that has nothing to do; never closed
	var workers sync.WaitGroup
	for range r.workers {
		free <- struct{}{}
		workers.Go(func() {
			for k := range jobs {
				r.work(ctx, k)
				free <- struct{}{}
			}
		})
	}
	defer workers.Wait()
	defer close(jobs)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		select {
		case <-free:
		case <-ctx.Done():
			return
		}
		k := r.next(ctx, timer)
		if k == nil {
			return
		}
		jobs <- k // somebody is free
	}
}

// next waits for the next question that is due; nil when ctx ends.
func (r *recoverer) next(ctx context.Context, timer *time.Timer) *ticket {
	for {
		k, wait := r.take()
		if k != nil {
			return k
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
			return nil
		case <-r.wake:
		case <-timer.C:
		}
	}
}

// take is the next question that is due, now running, or how long to wait for one.
func (r *recoverer) take() (*ticket, time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	for n := 0; n < chore && len(r.later) > 0 && !r.later[0].due.After(now); n++ { // loops wait for the lock: the rest follows with the next
		k := heap.Pop(&r.later).(*ticket)
		k.state = isReady
		r.ready.push(k)
	}
	if k := r.pickLocked(); k != nil {
		return k, 0
	}
	if r.ready.len() > 0 || r.slow > 0 && r.doubts < r.doubtful { // there is more behind those that left
		return nil, 0
	}
	if len(r.later) > 0 {
		return nil, r.later[0].due.Sub(now)
	}
	return nil, time.Hour
}

func (r *recoverer) work(ctx context.Context, k *ticket) {
	q := k.query // while it runs, ask leaves it alone
	a := answer{query: q}
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	switch {
	case k.void:
		a.err = errOutdated
	case q.why == comparing, q.why == verifying:
		a.tops, a.err = r.history.Tops(ctx, r.streams(q.batch))
		if errors.As(a.err, &a.failed) && len(a.failed) == len(q.batch) && slices.Contains(a.failed, nil) {
			a.err = nil
		}
		if a.err == nil && len(a.tops) != len(q.batch) {
			a.err = notify.ErrUnavailable
		}
	case q.why == renewing:
		a.err = r.history.Renew(ctx, r.streams(q.batch))
	case q.why == resyncing:
		a.recovery, a.err = r.history.Recover(ctx, r.streamOf(q.topic), q.from, q.limit)
	default:
		a.recovery, a.err = r.history.Recover(ctx, q.sub.stream, q.from, q.limit)
	}
	r.mu.Lock()
	r.endedLocked(k, a.err == nil || ctx.Err() == nil)
	k.state = idle
	r.pending--
	if k.again {
		k.again = false
		r.placeLocked(k, k.next)
		k.next = query{}
	}
	r.mu.Unlock()
	r.rouse()
	q.shard.answer(a)
}

func (r *recoverer) streams(batch []mark) []notify.Stream {
	s := make([]notify.Stream, len(batch))
	for i, m := range batch {
		s[i] = r.streamOf(m.topic)
	}
	return s
}

// streamOf reads nothing of t but its channel, which does not change: the rest is the loop's.
func (r *recoverer) streamOf(t *topic) notify.Stream {
	s, _ := r.keys.ParseChannel(t.channel)
	return s
}

// backoff is full jitter: uniform in [0, first·2^attempt], at most longest.
func backoff(attempt int, first, longest time.Duration) time.Duration {
	d := longest
	if attempt < 16 {
		d = min(first<<attempt, longest)
	}
	return rand.N(d) + 1
}

// tickets is a heap by due time.
type tickets []*ticket

func (h tickets) Len() int           { return len(h) }
func (h tickets) Less(i, j int) bool { return h[i].due.Before(h[j].due) }
func (h tickets) Swap(i, j int)      { h[i], h[j] = h[j], h[i]; h[i].index, h[j].index = i, j }
func (h *tickets) Push(v any)        { k := v.(*ticket); k.index = len(*h); *h = append(*h, k) }
func (h *tickets) Pop() any {
	old := *h
	k := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return k
}
