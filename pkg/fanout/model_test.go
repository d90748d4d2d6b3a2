package fanout

import (
	"cmp"
	"fmt"
	"math/rand"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"allim/internal/keyspace"
	"allim/pkg/notify"
)

// A world is the real shard with everything around it made up: a Redis with failovers, a link that loses messages, history that fails, pages
// that are slow, cut and moved. A seeded scheduler chooses what happens next, so that every order of events is possible and none is lost.
type world struct {
	rnd     *rand.Rand
	user    bool // a user's stream: a short window of entries, and an inbox that resets list
	honest  bool // no message is lost but with its link or a full mailbox: all must come without a position check
	window  int
	stream  notify.Stream
	channel string
	clock   time.Duration

	redis      modelRedis
	replicas   []modelRedis
	bases      []notify.Position // of all epochs that ever ended
	epochs     int
	histories  int
	acked      map[string]bool
	published  int
	hold       int // steps for which nothing new is published
	held       []func()
	swallowed  int
	failovers  int
	resets     int // told to sinks, as is too slow
	slow       int
	subscribed bool

	lane   uint16 // of the stream
	other  uint32 // generation of the next lane, which is nothing to the stream
	gen    uint32
	flow   []func() // frames of this link, in order
	orders []func() // what the link's writer was told, in order
	calls  []func() // calls of history and others: any order
	quiet  bool     // nothing goes wrong any more
	lull   bool     // nothing new is published, but all else goes on
	last   glance   // the checker's last look

	shard   shard
	total   atomic.Int64
	rings   atomic.Int64
	clients []*modelClient
}

func newWorld(seed int64) *world {
	w := &world{rnd: rand.New(rand.NewSource(seed)), acked: map[string]bool{}, user: seed%2 == 0, honest: seed%4 < 2, window: 1 << 20, clock: time.Second}
	w.stream = notify.Stream{Tenant: "default", Topic: "orders"}
	if w.user {
		w.stream.Topic, w.window = "user:42", 12
	}
	w.redis = modelRedis{known: map[string]bool{}}
	w.histories, w.redis.history = 1, 1
	w.replicas = append(w.replicas, w.redis.clone())
	keys, _ := keyspace.NewMap(0)
	w.channel = keys.Channel(w.stream)
	opt := Options{Keys: keys, Linger: 3 * time.Second, UserLinger: 2 * time.Second, RingSize: 6, SyncBuffer: 5, RingIdle: 4 * time.Second, LagTimeout: 3 * time.Second,
		Sharded: seed%3 == 0}.withDefaults()
	if opt.Sharded {
		w.lane = uint16(keys.Partition(w.stream))
	}
	w.shard = newShard(w, &opt, &w.total, &w.rings)
	for i := range 3 {
		w.clients = append(w.clients, &modelClient{w: w, name: fmt.Sprint("client ", i), ids: map[string]bool{}})
	}
	w.newLink()
	w.check()
	return w
}

// What the shard acts on.

func (w *world) now() time.Duration { return w.clock }

func (w *world) wire(lane uint16, subscribe bool, gen uint32, channels []string) {
	if lane != w.lane || len(channels) == 0 || gen != w.gen {
		return
	}
	w.orders = append(w.orders, func() {
		w.subscribed = subscribe
		if subscribe {
			w.flow = append(w.flow, func() { w.frame(gen, nil) })
		}
	})
}

// ask has history read at some moment and answer at another.
func (w *world) ask(q query) {
	w.calls = append(w.calls, func() {
		a := answer{query: q}
		switch {
		case !w.quiet && (w.rnd.Intn(20) == 0 || q.why == verifying && w.rnd.Intn(4) == 0):
			if a.err = notify.ErrUnavailable; (q.why == comparing || q.why == verifying) && w.rnd.Intn(2) == 0 { // of that stream alone
				a.err, a.tops, a.failed = nil, w.tops(len(q.batch)), slices.Repeat(notify.EachError{notify.ErrUnavailable}, len(q.batch))
			}
		case q.why == comparing || q.why == verifying:
			a.tops = w.tops(len(q.batch))
		case q.why != renewing:
			a.recovery = w.recover(q.from, q.limit)
		}
		w.calls = append(w.calls, func() { w.shard.answered(a) })
	})
}

func (w *world) called(c *Subscription, o op, from From) { w.shard.called(c, o, from) }

// follows tells whether p, of another epoch, may come after pos: the epoch of pos ended at or above it.
func (w *world) follows(pos, p notify.Position) bool {
	return empty(pos.Epoch) && p.Offset == 1 || slices.ContainsFunc(w.bases, func(b notify.Position) bool {
		return b.Epoch == pos.Epoch && pos.Offset <= b.Offset
	})
}

// isAt tells whether pos is the same place as top, perhaps in the words of an older epoch.
func (w *world) isAt(pos, top notify.Position) bool {
	return same(pos, top) || pos.Offset == top.Offset && w.follows(pos, top)
}

// step does one of the things that can happen now. False: nothing can.
func (w *world) step() bool {
	var acts []func()
	for i := range w.calls {
		acts = append(acts, func() {
			f := w.calls[i]
			w.calls = slices.Delete(w.calls, i, i+1)
			f()
		})
	}
	for _, q := range []*[]func(){&w.flow, &w.orders} {
		if len(*q) > 0 {
			next := func() { f := (*q)[0]; *q = (*q)[1:]; f() }
			acts = append(acts, next, next)
		}
	}
	for _, cl := range w.clients {
		switch c := cl.conn; {
		case c == nil:
			acts = append(acts, cl.open)
		default:
			if len(c.queue) > 0 {
				acts = append(acts, c.next)
			}
			if !c.going {
				acts = append(acts, c.goOn)
			}
		}
	}
	if !w.quiet {
		acts = append(acts, w.mischief()...)
	}
	if len(acts) == 0 {
		return false
	}
	pick(w.rnd, acts)
	w.shard.flush()
	return true
}

// mischief is what happens besides.
func (w *world) mischief() (acts []func()) {
	chance := func(n int, f ...func()) {
		if w.rnd.Intn(n) == 0 {
			acts = append(acts, f...)
		}
	}
	if w.hold > 0 {
		if w.hold--; w.hold == 0 {
			w.calls, w.held = append(w.calls, w.held...), nil
		}
	} else if !w.lull {
		fresh := func() { w.published++; w.publish(strconv.Itoa(w.published)) }
		acts = append(acts, fresh, fresh, fresh)
		chance(8, func() { w.publish(strconv.Itoa(1 + w.rnd.Intn(w.published+1))) }) // a retry
	}
	cl := w.clients[w.rnd.Intn(len(w.clients))]
	chance(8, func() { w.replicas = append(w.replicas, w.redis.clone()) }, w.check, w.tick, w.elsewhere)
	chance(12, w.newLink)
	if w.shard.opt.Sharded {
		chance(12, w.otherLink)
	}
	chance(40, func() { // a full mailbox
		if len(w.flow) > 0 {
			w.flow = w.flow[1:]
			w.shard.lost(w.gen, w.channel)
		}
	})
	if cl.conn != nil {
		chance(25, cl.conn.close)
		chance(30, cl.conn.move)
	}
	chance(60, w.failover)
	return acts
}

func (w *world) tick() {
	w.clock += time.Second
	w.shard.sweep()
}

// play runs one schedule, lets it come to rest now and then, and says what was wrong.
func (w *world) play() error {
	for range 12 {
		for range 1 + w.rnd.Intn(100) {
			w.step()
		}
		w.lull = true // what was lost just now is named by the index, once
		for range w.rnd.Intn(60) {
			w.step()
		}
		w.lull = false
		if err := w.rest(); err != nil {
			return err
		}
	}
	return nil
}

// rest stops all mischief until nothing moves any more. Then nothing may be missing.
func (w *world) rest() error {
	w.quiet = true
	defer func() { w.quiet = false }()
	w.calls, w.held, w.hold = append(w.calls, w.held...), nil, 0
	for range 6 {
		for n := 0; w.step(); n++ {
			if n > 20000 {
				return fmt.Errorf("livelock")
			}
		}
		w.tick()
		w.elsewhere()
		w.check()
	}
	for id := range w.acked {
		if !w.redis.known[id] {
			return fmt.Errorf("the model itself lost %s", id)
		}
	}
	for _, cl := range w.clients {
		if len(cl.mistakes) > 0 {
			return fmt.Errorf("%s: %s", cl.name, strings.Join(cl.mistakes, "; "))
		}
		top := notify.Position{Epoch: w.redis.epoch, Offset: w.redis.top}
		// A question of somebody else may have moved the stream to a new epoch since: where nothing was lost, nobody need know before the next message.
		if !w.isAt(cl.pos, top) {
			return fmt.Errorf("%s ended at %v, Redis at %v", cl.name, cl.pos, top)
		}
		if cl.conn.behind {
			return fmt.Errorf("%s was never told that it had caught up", cl.name)
		}
		if w.user && cl.pos.Offset > 0 && !w.isAt(cl.badge, cl.pos) && !w.isAt(cl.pos, cl.badge) {
			return fmt.Errorf("%s ended at %v with the badge of %v", cl.name, cl.pos, cl.badge)
		}
		if l := cl.lacks(); len(l) > 0 {
			t := w.shard.topics[w.channel]
			return fmt.Errorf("%s at %v lacks %v; Redis is at %v.%d, topic %+v", cl.name, cl.pos, l, w.redis.epoch, w.redis.top, t)
		}
	}
	return nil
}

// seeds is how many schedules are played: 2,000 (500 under -race, which makes them ten times as slow), or what ALLIM_SEEDS says. ALLIM_SEED plays one.
func seeds(t *testing.T) (first, end int64) {
	num := func(name string) int64 {
		n, err := strconv.ParseInt(os.Getenv(name), 10, 64)
		if os.Getenv(name) != "" && err != nil {
			t.Fatalf("read %s: %v", name, err)
		}
		return n
	}
	if os.Getenv("ALLIM_SEED") != "" {
		return num("ALLIM_SEED"), num("ALLIM_SEED") + 1
	}
	return 0, cmp.Or(num("ALLIM_SEEDS"), schedules)
}

func TestNoScheduleLosesRepeatsOrReorders(t *testing.T) {
	t.Parallel()
	var failovers, swallowed, resets, slow int
	var refused uint64
	var epochs [numTurns]uint64
	resyncs := map[string]uint64{}
	first, end := seeds(t)
	for seed := first; seed < end; seed++ {
		w := newWorld(seed)
		if err := w.play(); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		failovers, swallowed = failovers+w.failovers, swallowed+w.swallowed
		resets, slow = resets+w.resets, slow+w.slow
		for i := range epochs {
			epochs[i] += w.shard.count.epochs[i].Load()
		}
		if n := w.shard.count.regressions.Load(); n != 0 {
			t.Fatalf("seed %d: %d regressions", seed, n)
		}
		refused += w.shard.count.dropped[dropRefused].Load()
		for i := range w.shard.count.resyncs {
			resyncs[reasonNames[i]] += w.shard.count.resyncs[i].Load()
		}
	}
	t.Logf("%d schedules: %d failovers, %d messages swallowed, %d resets, %d refused, %d too slow, epochs %v, resyncs %v", end-first, failovers, swallowed, resets, refused, slow, epochs, resyncs)
	if end-first > 1 && slow == 0 {
		t.Error("nobody was too slow in any schedule: the model does not reach it")
	}
	for _, why := range []string{"ack", "gap", "queue", "buffer", "check", "epoch"} {
		if end-first > 1 && resyncs[why] == 0 {
			t.Errorf("no schedule resynced by %s: the model does not reach it", why)
		}
	}
}
