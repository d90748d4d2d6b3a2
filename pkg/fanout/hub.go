// Package fanout is a gateway's share of delivery: it hears the channels of Redis that somebody here listens to, keeps each topic's place, and
// hands every message on in order, without a hole and without a repeat (docs/architecture.md, "The gateway"). Its API is experimental.
//
// # Who owns what
//
//	feed       one goroutine per lane that makes one link after the other (a generation each); link.receive reads, link.write subscribes
//	probe      one goroutine that probes all links
//	loop       one goroutine per shard; it alone touches the topics and subscriptions of the shard (type shard: a state machine without I/O)
//	recoverer  one pacing goroutine and a fixed number of workers: every call of History is made there
//	checker    one goroutine that reads the change index, and so notices a message that was lost without a gap
//
// Everything reaches a loop through its mailbox and leaves it through env: frames (bounded in number and bytes; what does not fit makes its topic
// resync), calls of sessions (a list through the subscriptions themselves, so as long as there are subscriptions), answers of history (one
// ticket per topic and subscription). Of each a loop does a bounded part in a turn, so that no message waits for all that happens to other
// topics. No topic has a goroutine, a timer or a channel; one sweep per loop does what takes time.
//
// # Lock order
//
// loop.mu, feed.mu and recoverer.mu are leaves: nothing is locked, called or sent while one is held. A loop holds no lock while it calls a
// Sink, so a Sink may hold its own lock and call any method of Subscription: sink's lock, then loop.mu.
package fanout

import (
	"context"
	"hash/maphash"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"allim/internal/keyspace"
	"allim/pkg/notify"
)

// Options make a Hub. Zero durations and bounds mean the default that is named.
type Options struct {
	Redis redis.UniversalClient // commands: probes and the change index. The caller closes it after Run
	// Link says how the channel's next link is connected; it is dialled once, and should be with TCP_USER_TIMEOUT. The options are read only. nil: as
	// Redis itself is, on a cluster the master of the channel's slot.
	Link    func(ctx context.Context, channel string) (*redis.Options, error)
	Sharded bool // a link per partition, with sharded pub/sub, as store publishes there; always so on a cluster
	Keys    *keyspace.Map
	History History
	Gateway string       // id of this gateway, unique among those alive; names the probe's channel
	Log     *slog.Logger // nil: none
	// Present hears that a user's stream begins to be heard here, or ends to be, UserLinger after the last one left. The calls for one stream are in order; loops make them,
	// so it must not block and must not call the hub. nil: nobody wants to know.
	Present func(s notify.Stream, here bool)

	Shards  int // loops; 0: 4 × GOMAXPROCS
	Workers int // calls of History at once; 0: 32

	Linger     time.Duration // a topic nobody listens to is kept so long; 30 s
	UserLinger time.Duration // the same of a user's stream; 5 s

	ProbeEvery    time.Duration // between two probes; 4 s: a silent link is noticed within 9.5 s
	ProbeTimeout  time.Duration // a link is rebuilt when it was silent for ProbeEvery + ProbeTimeout; 5 s
	CheckEvery    time.Duration // between two position checks, ± 30 %; 10 s. Negative: none
	RenewEvery    time.Duration // each heard topic's memory is renewed so often; 8 h, a third of its least life
	Sweep         time.Duration // step of everything that waits for time to pass; 1 s
	DirtyEvery    time.Duration // a topic that lost frames here resyncs at most so often; 1 s
	RingIdle      time.Duration // a ring without a message for so long is freed; 60 s
	AttachTimeout time.Duration // Attach and Move are answered with ErrUnavailable after this; 5 s
	CallTimeout   time.Duration // of one call of History; 2 s
	LagTimeout    time.Duration // a subscriber that lags so long without getting nearer, or is reset twice within it, is TooSlow; 30 s

	RecoverRate  int   // most recovers per second after a generation change; 2,000
	MaxTopics    int   // 1,048,576
	Mailbox      int   // frames that wait in one loop; 8,192
	MailboxBytes int   // the same in bytes, and again of those that are being handed on; 8 MiB
	AllMailboxes int64 // bytes of all that waits in loops; 64 MiB
	RingSize     int   // messages kept per topic for those who come back; 64
	RingBytes    int   // the same in bytes; 256 KiB
	AllRings     int64 // bytes of all rings; 64 MiB
	SyncBuffer   int   // live messages kept while a topic syncs; 1,024
	SyncBytes    int   // the same in bytes; 1 MiB
}

func (o Options) withDefaults() Options {
	num := func(p *int, n int) {
		if *p == 0 {
			*p = n
		}
	}
	dur := func(p *time.Duration, d time.Duration) {
		if *p == 0 {
			*p = d
		}
	}
	num(&o.Shards, 4*runtime.GOMAXPROCS(0))
	num(&o.Workers, 32)
	dur(&o.Linger, 30*time.Second)
	dur(&o.UserLinger, 5*time.Second)
	dur(&o.ProbeEvery, 4*time.Second)
	dur(&o.ProbeTimeout, 5*time.Second)
	dur(&o.CheckEvery, 10*time.Second)
	dur(&o.RenewEvery, 8*time.Hour)
	dur(&o.Sweep, time.Second)
	dur(&o.DirtyEvery, time.Second)
	dur(&o.RingIdle, time.Minute)
	dur(&o.AttachTimeout, 5*time.Second)
	dur(&o.CallTimeout, 2*time.Second)
	dur(&o.LagTimeout, 30*time.Second)
	num(&o.RecoverRate, 2000)
	num(&o.MaxTopics, 1<<20)
	num(&o.Mailbox, 8192)
	num(&o.MailboxBytes, 8<<20)
	num(&o.RingSize, 64)
	num(&o.RingBytes, 256<<10)
	num(&o.SyncBuffer, 1024)
	num(&o.SyncBytes, 1<<20)
	for _, p := range []*int64{&o.AllMailboxes, &o.AllRings} {
		if *p == 0 {
			*p = 64 << 20
		}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	o.Sharded = o.Sharded || sharded(o.Redis)
	if o.Link == nil {
		o.Link = func(ctx context.Context, channel string) (*redis.Options, error) {
			return nodeOf(ctx, o.Redis, channel)
		}
	}
	return o
}

// silence is after how long a link on which nothing comes is given up.
func (o *Options) silence() time.Duration { return o.ProbeEvery + o.ProbeTimeout }

// watch is how often a link is looked at.
func (o *Options) watch() time.Duration { return max(o.ProbeTimeout/10, time.Millisecond) }

// lanes is how many links there are.
func (o *Options) lanes() int {
	if o.Sharded {
		return o.Keys.Partitions()
	}
	return 1
}

// A Hub is the gateway's feed and the state of its topics. Make it with New and Run it once.
type Hub struct {
	opt     Options // constant
	begun   time.Time
	seed    maphash.Seed
	loops   []*loop
	feeds   []*feed       // by lane
	proof   chan struct{} // buffered 1, never closed: a link came up, probe it now
	recover *recoverer
	topics  atomic.Int64 // of all loops
	rings   atomic.Int64 // bytes of all rings
	frames  atomic.Int64 // bytes of all that waits in loops
}

// New makes a hub. It starts nothing.
func New(o Options) *Hub {
	o = o.withDefaults()
	h := &Hub{opt: o, begun: time.Now(), seed: maphash.MakeSeed(), proof: make(chan struct{}, 1)}
	h.recover = newRecoverer(o)
	for range o.Shards {
		h.loops = append(h.loops, newLoop(h))
	}
	for lane := range o.lanes() {
		h.feeds = append(h.feeds, newFeed(h, lane))
	}
	return h
}

// Run hears Redis and serves subscriptions until ctx ends, and returns when every goroutine of the hub has. After that nothing is answered.
func (h *Hub) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for _, l := range h.loops {
		wg.Go(func() { l.run(ctx) })
	}
	wg.Go(func() { h.recover.run(ctx) })
	for _, f := range h.feeds {
		wg.Go(func() { f.run(ctx) })
	}
	wg.Go(func() { h.probe(ctx) })
	if h.opt.CheckEvery > 0 {
		wg.Go(func() { newChecker(h).run(ctx) })
	}
	wg.Wait()
	return nil
}

// Ready tells whether messages really flow: on every lane a probe came back within ProbeEvery + ProbeTimeout, on a link on which every topic was
// subscribed. A link that is being replaced does not make a gateway unready before that, nor do topics that begin later.
func (h *Hub) Ready() bool {
	for _, f := range h.feeds {
		if p := f.prove(); p.IsZero() || time.Since(p) > h.opt.silence() {
			return false
		}
	}
	return true
}

// listed tells whether every topic of a lane is subscribed in that generation.
func (h *Hub) listed(lane uint16, gen uint32) bool {
	for _, l := range h.loops {
		if l.listed[lane].Load() != gen || l.count.waiting[lane].Load() != 0 {
			return false
		}
	}
	return true
}

// held is how many topics of a partition there are.
func (h *Hub) held(part int) (n int) {
	for _, l := range h.loops {
		n += int(l.count.held[part].Load())
	}
	return n
}

// Attach subscribes a sink to a stream. It never blocks; Sink.Begin answers. A sink that attaches twice has two subscriptions.
func (h *Hub) Attach(s notify.Stream, from From, sink Sink) *Subscription {
	channel := h.opt.Keys.Channel(s)
	sub := &Subscription{loop: h.loopOf(channel), stream: s, channel: channel, sink: sink}
	sub.loop.call(sub, opAttach, from)
	return sub
}

func (h *Hub) loopOf(channel string) *loop {
	return h.loops[maphash.String(h.seed, channel)%uint64(len(h.loops))]
}
