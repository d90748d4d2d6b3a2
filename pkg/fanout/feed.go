package fanout

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"
)

// Pauses between a link that ended and the next: full jitter.
const (
	relinkFirst   = 100 * time.Millisecond
	relinkLongest = 2 * time.Second
	settled       = 10 * time.Second // a link that lived so long ended for a new reason
)

// firstLinks is the time over which the first links of a cluster are made, for each lane: 1 s for 128. They do not wait for one another, since those to
// a frozen node would be in the way of the others.
const firstLinks = 8 * time.Millisecond

// A feed makes links to Redis for one lane, one after the other, and knows when they were last proven to deliver. Everything that a link receives is
// tagged with its generation; once a link is gone, what it still had in flight is ignored everywhere.
type feed struct {
	hub     *Hub
	opt     *Options
	lane    uint16
	channel string        // of our probes
	wake    chan struct{} // buffered 1, never closed: there is something to subscribe

	mu       sync.Mutex // a leaf; guards the fields below
	gen      uint32
	up       bool
	orders   []order   // for the link that is up. Each topic makes at most two in its life, which lasts as long as it lingers
	sent     time.Time // when Redis accepted the oldest probe that did not come back; zero: none is out
	returned time.Time // when the last probe came back on this link; zero: none did
	last     time.Time // when one last did on any
	proven   time.Time // the same of links on which every topic was subscribed
	full     uint32    // the last generation in which every topic was
	missed   uint64    // probes that Redis did not take, or that did not come back in time
	ends     [numEndings]uint64
}

// An order says what the link's writer is to subscribe or leave.
type order struct {
	subscribe bool
	channels  []string
}

// takes tells whether an order can be given with o: a thousand topics of a storm are two commands, and what waits for the link's writer grows by whole
// commands, so that no loop waits for a lock under which very much is copied.
func (o *order) takes(subscribe bool, channels int) bool {
	return o.subscribe == subscribe && len(o.channels)+channels <= mostChannels
}

func newFeed(h *Hub, lane int) *feed {
	f := &feed{hub: h, opt: &h.opt, lane: uint16(lane), wake: make(chan struct{}, 1)}
	if h.opt.Keys != nil {
		f.channel = h.opt.Keys.Probe(lane, h.opt.Gateway)
	}
	return f
}

// run keeps a link alive until ctx ends.
func (f *feed) run(ctx context.Context) {
	if n := len(f.hub.feeds); n > 1 {
		pause(ctx, rand.N(time.Duration(n)*firstLinks))
	}
	for attempt := 0; ctx.Err() == nil; attempt++ {
		gen := f.down()
		start := time.Now()
		err := (&link{feed: f, gen: gen, heard: beat{begun: start}, room: make(chan struct{}, 1)}).run(ctx)
		if ctx.Err() != nil {
			break
		}
		life, level := time.Since(start), slog.LevelWarn
		if up := f.ended(err); !up && attempt > 0 && len(f.hub.feeds) > 1 { // a node that is away would be told of fifty times a second
			level = slog.LevelDebug
		}
		f.opt.Log.Log(ctx, level, "redis_link_ended", "partition", f.lane, "generation", gen, "after", life.Round(time.Millisecond).String(), "error", err)
		relocate(f.opt.Redis) // and it has the pause to find out where the next one goes
		if life >= settled {
			attempt = 0
		}
		pause(ctx, backoff(attempt, relinkFirst, relinkLongest))
	}
	f.down()
}

// pause waits, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// ended counts a link's end; it tells whether the link was up.
func (f *feed) ended(err error) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ends[endingOf(err)]++
	return f.up
}

// down ends a generation: nothing that any topic knows can be trusted until the next link says so.
func (f *feed) down() uint32 {
	f.prove()
	f.mu.Lock()
	f.gen++
	gen := f.gen
	f.up, f.orders, f.sent, f.returned = false, nil, time.Time{}, time.Time{}
	f.mu.Unlock()
	for _, l := range f.hub.loops {
		l.setLink(f.lane, gen, false)
	}
	f.hub.recover.lose(f.lane)
	return gen
}

// raise opens a generation: every loop orders its channels.
func (f *feed) raise(gen uint32) {
	f.hub.recover.trust(f.lane, gen)
	f.mu.Lock()
	f.up = true
	f.mu.Unlock()
	for _, l := range f.hub.loops {
		l.setLink(f.lane, gen, true)
	}
	f.opt.Log.Info("redis_link_up", "partition", f.lane, "generation", gen)
	select {
	case f.hub.proof <- struct{}{}:
	default:
	}
}

// wire takes an order of a loop. One for a link that is no more, or not yet, counts for nothing: when a link comes up loops order anew.
func (f *feed) wire(subscribe bool, gen uint32, channels []string) {
	f.mu.Lock()
	if gen == f.gen && f.up && len(channels) > 0 {
		if n := len(f.orders); n > 0 && f.orders[n-1].takes(subscribe, len(channels)) {
			f.orders[n-1].channels = append(f.orders[n-1].channels, channels...)
		} else {
			f.orders = append(f.orders, order{subscribe, channels})
		}
	}
	f.mu.Unlock()
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

func (f *feed) take() []order {
	f.mu.Lock()
	defer f.mu.Unlock()
	o := f.orders
	f.orders = nil
	return o
}

// prove is when messages were last proven to flow: a probe came back on a link on which every topic was subscribed. Topics that begin later do
// not count against it, nor does a link that ended since. Zero: never.
func (f *feed) prove() time.Time {
	f.mu.Lock()
	gen, full, returned := f.gen, f.full == f.gen, f.returned
	f.mu.Unlock()
	full = full || !returned.IsZero() && f.hub.listed(f.lane, gen)
	f.mu.Lock()
	defer f.mu.Unlock()
	if full && gen == f.gen && !f.returned.IsZero() {
		f.full, f.proven = gen, f.returned
	}
	return f.proven
}
