package fanout

import (
	"context"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// Pauses between a link that ended and the next: full jitter.
const (
	relinkFirst   = 100 * time.Millisecond
	relinkLongest = 2 * time.Second
	settled       = 10 * time.Second // a link that lived so long ended for a new reason
)

// A feed makes links to Redis, one after the other, and proves again and again that they deliver. Everything that a link receives is tagged
// with its generation; once a link is gone, what it still had in flight is ignored everywhere.
type feed struct {
	hub     *Hub
	opt     *Options
	channel string        // of our probes
	wake    chan struct{} // buffered 1, never closed: there is something to subscribe
	proof   chan struct{} // buffered 1, never closed: a link came up, probe it now

	mu       sync.Mutex // a leaf; guards the fields below
	gen      uint32
	up       bool
	orders   []order   // for the link that is up. Each topic makes at most two in its life, which lasts as long as it lingers
	sent     time.Time // when Redis accepted the oldest probe that did not come back; zero: none is out
	returned time.Time // when the last probe came back on this link; zero: none did
}

// An order says what the link's writer is to subscribe or leave.
type order struct {
	subscribe bool
	channels  []string
}

func newFeed(h *Hub) *feed {
	f := &feed{hub: h, opt: &h.opt, wake: make(chan struct{}, 1), proof: make(chan struct{}, 1)}
	if h.opt.Keys != nil {
		f.channel = h.opt.Keys.Probe(0, h.opt.Gateway)
	}
	return f
}

// run keeps a link alive until ctx ends.
func (f *feed) run(ctx context.Context) {
	for attempt := 0; ctx.Err() == nil; attempt++ {
		gen := f.down()
		start := time.Now()
		err := (&link{feed: f, gen: gen, pubsub: f.opt.Link(ctx)}).run(ctx)
		if ctx.Err() != nil {
			break
		}
		life := time.Since(start)
		f.opt.Log.Warn("redis_link_ended", "generation", gen, "after", life.Round(time.Millisecond).String(), "error", err)
		if life >= settled {
			attempt = 0
		}
		pause := time.NewTimer(backoff(attempt, relinkFirst, relinkLongest))
		select {
		case <-ctx.Done():
		case <-pause.C:
		}
		pause.Stop()
	}
	f.down()
}

// down ends a generation: nothing that any topic knows can be trusted until the next link says so.
func (f *feed) down() uint32 {
	f.mu.Lock()
	f.gen++
	gen := f.gen
	f.up, f.orders, f.sent, f.returned = false, nil, time.Time{}, time.Time{}
	f.mu.Unlock()
	for _, l := range f.hub.loops {
		l.setLink(gen, false)
	}
	return gen
}

// raise opens a generation: every loop orders its channels.
func (f *feed) raise(gen uint32) {
	f.hub.recover.repace()
	f.mu.Lock()
	f.up = true
	f.mu.Unlock()
	for _, l := range f.hub.loops {
		l.setLink(gen, true)
	}
	f.opt.Log.Info("redis_link_up", "generation", gen)
	select {
	case f.proof <- struct{}{}:
	default:
	}
}

// wire takes an order of a loop. One for a link that is no more, or not yet, counts for nothing: when a link comes up loops order anew.
func (f *feed) wire(subscribe bool, gen uint32, channels []string) {
	f.mu.Lock()
	if gen == f.gen && f.up && len(channels) > 0 {
		f.orders = append(f.orders, order{subscribe, channels})
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

// state is the current generation, whether its link is up, and how long ago a probe came back on it (negative: none did).
func (f *feed) state() (gen uint32, up bool, age time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.returned.IsZero() {
		return f.gen, f.up, -1
	}
	return f.gen, f.up, time.Since(f.returned)
}

// probe publishes to our own channel through the command client, until ctx ends: what comes back proves that commands and link meet the
// same Redis, and that its messages reach us. go-redis' own check only writes (go-redis issue 3811), and never notices a dead path.
func (f *feed) probe(ctx context.Context) {
	tick := time.NewTicker(f.opt.ProbeEvery)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-f.proof:
		}
		gen, up, _ := f.state()
		if !up {
			continue
		}
		call, cancel := context.WithTimeout(ctx, f.opt.ProbeTimeout)
		start := time.Now()
		err := publish(call, f.opt.Redis, f.channel, strconv.Itoa(n))
		cancel()
		f.mu.Lock()
		if err == nil && gen == f.gen && f.sent.IsZero() && f.returned.Before(start) {
			f.sent = start
		}
		f.mu.Unlock()
	}
}

func publish(ctx context.Context, c redis.UniversalClient, channel, payload string) error {
	return c.Publish(ctx, channel, payload).Err()
}

// probed notes that a probe came back on the link of gen.
func (f *feed) probed(gen uint32) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if gen == f.gen {
		f.sent, f.returned = time.Time{}, time.Now()
	}
}

// overdue is how long a probe that Redis accepted has been out; 0 when none is.
func (f *feed) overdue() time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.sent.IsZero() {
		return 0
	}
	return time.Since(f.sent)
}
