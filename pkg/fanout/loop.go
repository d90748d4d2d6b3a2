package fanout

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// A loop is the goroutine of a shard and its mailbox. put, call, answer, setLink and verify may be called from any goroutine and never block.
type loop struct {
	shard  // owned by run
	hub    *Hub
	wake   chan struct{}   // buffered 1; never closed
	listed []atomic.Uint32 // by lane: the generation in which all topics were ordered

	// Taken from the mailbox and not yet done; owned by run.
	batch   []frame
	next    int // in batch
	taken   int // bytes of payloads in batch, until all of it is handed on
	replies []*answer
	heeded  int               // in replies
	missed  map[string]uint32 // as dropped

	mu      sync.Mutex // a leaf; guards the fields below and those of Subscription that say so
	frames  []frame
	bytes   int               // of payloads in frames
	dropped map[string]uint32 // channels of frames that did not fit, by generation; at most as many as channels are subscribed
	first   *Subscription     // the list of subscriptions with calls
	last    *Subscription
	answers []*answer            // at most one per ticket
	asked   []func(*shard)       // position checks; the checker waits until they are begun
	links   map[uint16]linkState // of the lanes whose link changed
}

func newLoop(h *Hub) *loop {
	l := &loop{hub: h, wake: make(chan struct{}, 1), listed: make([]atomic.Uint32, h.opt.lanes())}
	l.shard = newShard(l, &h.opt, &h.topics, &h.rings)
	return l
}

func (l *loop) run(ctx context.Context) {
	sweep := time.NewTicker(l.opt.Sweep)
	defer sweep.Stop()
	for {
		if l.step() {
			select {
			case <-ctx.Done():
				return
			case <-sweep.C:
				l.sweep()
			default:
			}
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-sweep.C:
			l.sweep()
			l.batch, l.next = nil, 0 // what a burst needed
		case <-l.wake:
		}
	}
}

// step is a turn: it does some of what is in the mailbox. True: there is more.
func (l *loop) step() bool {
	handed := l.next == len(l.batch)
	if handed {
		clear(l.batch)
	}
	l.mu.Lock()
	links, asked := l.links, l.asked
	l.links, l.asked = nil, nil
	if len(l.missed) == 0 {
		l.missed, l.dropped = l.dropped, nil
	}
	if l.heeded == len(l.replies) {
		l.replies, l.answers, l.heeded = l.answers, nil, 0
	}
	if handed {
		l.batch, l.frames, l.taken, l.bytes, l.next = l.frames, l.batch[:0], l.bytes, 0, 0
	}
	l.mu.Unlock()

	for lane, s := range links {
		l.link(lane, s.gen, s.up)
		if s.up {
			l.listed[lane].Store(s.gen)
		}
	}
	more := l.miss()
	more = l.heed() || more
	more = l.serve() || more
	for _, f := range asked {
		f(&l.shard)
	}
	more = l.chores() || more
	frames := l.handOn()
	if !frames || len(l.comparing) >= batchSize { // whatever else there is to do: a topic that waits for its answer hears nothing
		l.flush()
	}
	return frames || more
}

// put is a frame from the link. What does not fit makes its topic resync.
func (l *loop) put(f frame) {
	n := len(f.payload)
	l.mu.Lock()
	if len(l.frames) >= l.opt.Mailbox || l.bytes+n > l.opt.MailboxBytes || !l.hub.fits(n) {
		if l.dropped == nil {
			l.dropped = map[string]uint32{}
		}
		l.dropped[f.channel] = f.gen
		l.mu.Unlock()
		l.count.drop(dropMailbox)
	} else {
		l.frames = append(l.frames, f)
		l.bytes += n
		l.mu.Unlock()
	}
	l.rouse()
}

// fits takes room for n bytes in the mailboxes, if there is as much.
func (h *Hub) fits(n int) bool {
	if h.frames.Add(int64(n)) <= h.opt.AllMailboxes {
		return true
	}
	h.frames.Add(-int64(n))
	return false
}

// call leaves a call of a session for the loop. Calls of one subscription that the loop has not seen are folded into what they come to.
func (l *loop) call(s *Subscription, o op, from From) {
	l.mu.Lock()
	queued := s.ops != 0
	switch o {
	case opAttach, opMove:
		s.from = from
		s.ops &^= opGo | opResume // what was said about the old place
	}
	s.ops |= o
	if !queued {
		if l.last == nil {
			l.first = s
		} else {
			l.last.next = s
		}
		l.last = s
	}
	l.mu.Unlock()
	l.rouse()
}

func (l *loop) answer(a answer) {
	l.mu.Lock()
	l.answers = append(l.answers, &a)
	l.mu.Unlock()
	l.rouse()
}

func (l *loop) setLink(lane uint16, gen uint32, up bool) {
	l.mu.Lock()
	if l.links == nil {
		l.links = map[uint16]linkState{}
	}
	l.links[lane] = linkState{gen, up}
	l.mu.Unlock()
	l.rouse()
}

// do has the loop call f with its shard; done is closed after that.
func (l *loop) do(f func(*shard)) (done <-chan struct{}) {
	ch := make(chan struct{})
	l.mu.Lock()
	l.asked = append(l.asked, func(x *shard) { f(x); close(ch) })
	l.mu.Unlock()
	l.rouse()
	return ch
}

func (l *loop) rouse() {
	select {
	case l.wake <- struct{}{}:
	default: // it has been told
	}
}

// What its shard acts on.

func (l *loop) ask(q query) {
	q.shard = l
	l.hub.recover.ask(q)
}

func (l *loop) wire(lane uint16, subscribe bool, gen uint32, channels []string) {
	l.hub.feeds[lane].wire(subscribe, gen, channels)
}

func (l *loop) now() time.Duration { return time.Since(l.hub.begun) }
