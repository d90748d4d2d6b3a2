package fanout

import (
	"cmp"
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"allim/internal/keyspace"
	"allim/pkg/notify"
)

// A shard is the state of a part of the topics: a state machine without goroutine, lock or I/O. Its loop gives it what happened, one thing
// after the other, and it acts through env and the sinks. Tests drive it without a loop.
type shard struct {
	env   env
	opt   *Options
	count *counters
	total *atomic.Int64 // topics of the hub
	rings *atomic.Int64 // bytes of the hub's rings

	links     []linkState       // by lane
	topics    map[string]*topic // by channel
	parts     [][]*topic        // the same by partition: who is in no link that changed, and not to be compared, is not walked over
	tended    struct{ part, at int }
	swept     time.Duration            // when the last sweep was: what was due then is done, a turn's worth at a time
	scans     fifo[int]                // partitions of which all is to be compared
	unscanned []int                    // by partition: how many of its topics are still to be; 0: it is not in scans
	starting  fifo[overdue]            // in the order in which they are
	lingering [2]fifo[leaver]          // users' streams, others; in the order in which they were left
	cured     map[*topic]time.Duration // topics that resynced for frames lost here, and when they may again
	comparing []mark                   // topics whose tops are to be asked
	doubts    fifo[doubt]              // topics that were behind Redis
	unsure    []*topic                 // topics that are to be compared at the next sweep
	laggards  []*Subscription          // those with a lag
	hurried   time.Duration            // when they were last looked at
}

// A linkState is what a shard knows of a lane's link.
type linkState struct {
	gen uint32 // frames of older ones are ignored
	up  bool   // the link of gen can be told what to subscribe
}

// An env is what a shard acts on. Its methods never block.
type env interface {
	ask(query)                                                 // of history; the shard gets an answer, whatever happens, unless a newer question of the same ticket came
	wire(lane uint16, subscribe bool, gen uint32, ch []string) // joins channels on the lane's link of gen, or leaves them
	now() time.Duration                                        // since some fixed time
}

// A query is a question to history.
type query struct {
	why     purpose
	shard   *loop // where the answer goes; set by env
	topic   *topic
	sub     *Subscription
	token   uint32
	from    notify.Position
	limit   int
	attempt int    // calls that went wrong before
	paced   bool   // one of very many: in its turn
	lane    uint16 // of what is asked for; see oneLane
	gen     uint32 // of a resync: of its lane's link
	batch   []mark
	ticket  *ticket // nil: a question of its own
}

// oneLane tells whether lane is that of all that is asked for.
func (q *query) oneLane() bool { return q.batch == nil || q.attempt > 0 }

type purpose uint8

const (
	resyncing purpose = iota // a topic: what follows its position
	pulling                  // a subscription: the next page
	beginning                // a subscription: can its From be continued
	comparing                // topics: have they moved since the last generation
	verifying                // topics: are they where Redis is
	renewing                 // topics: keep their memory
)

// An answer is history's. Err means that it could not be asked.
type answer struct {
	query
	recovery notify.Recovery
	tops     []notify.Position
	failed   notify.EachError // which of the tops could not be read alone; nil: none
	err      error
}

// without tells whether the i-th top of a batch could not be read.
func (a *answer) without(i int) bool { return a.err != nil || a.failed != nil && a.failed[i] != nil }

// A mark is a topic in a batch, as it was then.
type mark struct {
	topic *topic
	seq   uint32
	pos   notify.Position
}

const batchSize = 256 // topics in one call of Tops or Renew, and most channels in half a SUBSCRIBE

// A frame is what a link received: an acknowledgement or a message of a channel.
type frame struct {
	gen     uint32
	ack     bool
	channel string
	payload string
}

func newShard(e env, o *Options, total, rings *atomic.Int64) shard {
	n, parts := o.lanes(), o.Keys.Partitions()
	return shard{env: e, opt: o, count: &counters{waiting: make([]atomic.Int64, n), held: make([]atomic.Int64, parts)}, total: total, rings: rings,
		links: make([]linkState, n), topics: map[string]*topic{}, parts: make([][]*topic, parts), unscanned: make([]int, parts), cured: map[*topic]time.Duration{}}
}

// link says that a lane's link is of another generation, or that it came up. Down, nothing that a topic of the lane knows can be trusted.
func (x *shard) link(lane uint16, gen uint32, up bool) {
	k := &x.links[lane]
	if gen != k.gen {
		k.gen, k.up = gen, false
		for _, part := range x.ofLane(lane) {
			for _, t := range part {
				x.enter(t, waits)
				t.seq++
				t.dirty = false
				if t.sync != nil { // its ticket keeps its turn
					*t.sync = syncing{ticket: t.sync.ticket}
				}
			}
		}
		x.comparing = slices.DeleteFunc(x.comparing, func(m mark) bool { return m.seq != m.topic.seq })
	}
	if !up || k.up {
		return
	}
	k.up = true
	var channels []string
	for _, part := range x.ofLane(lane) {
		for _, t := range part {
			channels = append(channels, t.channel)
		}
	}
	x.env.wire(lane, true, gen, channels)
}

// ofLane are the topics of a lane, by partition.
func (x *shard) ofLane(lane uint16) [][]*topic {
	if x.opt.Sharded {
		return x.parts[lane : lane+1]
	}
	return x.parts
}

func (x *shard) receive(f frame) {
	t := x.topics[f.channel]
	if t == nil {
		x.count.drop(dropNoTopic) // on its way when the channel was left
		return
	}
	if f.gen != x.links[t.lane].gen {
		x.count.drop(dropOldLink)
		return
	}
	if f.ack {
		x.acked(t)
		return
	}
	m, err := keyspace.DecodePayload(x.streamOf(t), f.payload)
	switch {
	case err == nil:
		x.heard(t, m)
	case errors.Is(err, keyspace.ErrVersion):
		x.count.drop(dropVersion)
		x.spoil(t, byPayload)
	default:
		x.count.drop(dropCorrupt)
		x.spoil(t, byPayload)
	}
	x.count.messages.Add(1) // now: whoever waits for this number finds the message handed on
}

// lost says that frames of a channel were dropped on their way here.
func (x *shard) lost(gen uint32, channel string) {
	if t := x.topics[channel]; t != nil && gen == x.links[t.lane].gen {
		x.spoil(t, byQueue)
	}
}

func (x *shard) answered(a answer) {
	if a.err != nil && a.err != errOutdated || a.failed != nil {
		x.count.historyErrors.Add(1)
	}
	switch a.why {
	case resyncing:
		x.synced(a)
	case pulling:
		x.pulled(a)
	case beginning:
		x.checked(a)
	case comparing:
		x.compared(a)
	case verifying:
		x.verified(a)
	case renewing:
		if a.err != nil && a.attempt < 5 { // then the sweep of the next period
			x.askBatch(renewing, a.batch, a.attempt+1)
		}
	}
}

func (x *shard) compared(a answer) {
	var again []mark
	for i, m := range a.batch {
		t := m.topic
		switch {
		case t.mode != syncs || t.seq != m.seq: // stale
		case a.err != nil:
			again = append(again, m)
		case a.without(i): // it alone: nobody is to wait for it
			x.askSync(t, 1, true)
		case same(t.pos, a.tops[i]) && !t.stale:
			x.finishSync(t)
		default:
			x.askSync(t, 0, true)
		}
	}
	if len(again) > 0 {
		x.askBatch(comparing, again, a.attempt+1)
	}
}

// same tells whether a topic at p has all that a stream with this top has. The zero top is of a stream that does not exist.
func same(p, top notify.Position) bool {
	return p == top || empty(p.Epoch) && empty(top.Epoch)
}

// flush asks for the tops that were collected.
func (x *shard) flush() {
	if len(x.comparing) > 0 {
		x.askBatch(comparing, x.comparing, 0)
		x.comparing = nil
	}
}

// askBatch asks for many topics at once, at the first time whatever their lanes are. What went wrong is asked lane by lane: the others are not to wait
// again for one that does not answer.
func (x *shard) askBatch(why purpose, batch []mark, attempt int) {
	if attempt > 0 {
		slices.SortStableFunc(batch, func(a, b mark) int { return cmp.Compare(a.topic.lane, b.topic.lane) })
	}
	for len(batch) > 0 {
		n, lane := min(len(batch), batchSize), batch[0].topic.lane
		if attempt > 0 {
			if i := slices.IndexFunc(batch[:n], func(m mark) bool { return m.topic.lane != lane }); i > 0 {
				n = i
			}
		}
		x.env.ask(query{why: why, lane: lane, batch: batch[:n:n], attempt: attempt})
		batch = batch[n:]
	}
}

// topicOf is the topic of c's channel, made if need be. Nil: the hub is full.
func (x *shard) topicOf(c *Subscription) *topic {
	if t := x.topics[c.channel]; t != nil {
		return t
	}
	if x.total.Add(1) > int64(x.opt.MaxTopics) {
		x.total.Add(-1)
		return nil
	}
	part := uint16(x.opt.Keys.Partition(c.stream))
	t := &topic{channel: c.channel, slot: int32(len(x.parts[part])), kind: c.stream.Topic.Kind(), part: part, mode: gone}
	if x.opt.Sharded {
		t.lane = t.part
	}
	x.count.held[t.part].Add(1)
	x.parts[part] = append(x.parts[part], t)
	x.topics[t.channel] = t
	if x.opt.Present != nil && t.kind == notify.KindUser {
		x.opt.Present(c.stream, true)
	}
	x.enter(t, waits)
	if k := x.links[t.lane]; k.up {
		x.env.wire(t.lane, true, k.gen, []string{t.channel})
	}
	return t
}

// streamOf is what t is the state of. It does not keep it: the channel says it, and whoever listens knows it.
func (x *shard) streamOf(t *topic) notify.Stream {
	if len(t.subs) > 0 {
		return t.subs[0].stream
	}
	s, _ := x.opt.Keys.ParseChannel(t.channel) // made by Channel
	return s
}

// enter changes t's mode; the number of topics that wait is what readiness looks at.
func (x *shard) enter(t *topic, m mode) {
	if t.mode == waits {
		x.count.waiting[t.lane].Add(-1)
	}
	if m == waits {
		x.count.waiting[t.lane].Add(1)
	}
	t.mode = m
}

// A fifo is a queue in one slice.
type fifo[T any] struct {
	items []T
	head  int
}

func (f *fifo[T]) len() int { return len(f.items) - f.head }
func (f *fifo[T]) first() T { return f.items[f.head] }
func (f *fifo[T]) push(v T) {
	if f.head > 32 && f.head > len(f.items)/2 {
		n := copy(f.items, f.items[f.head:])
		clear(f.items[n:])
		f.items, f.head = f.items[:n], 0
	}
	f.items = append(f.items, v)
}
func (f *fifo[T]) pop() T {
	var zero T
	v := f.items[f.head]
	f.items[f.head] = zero
	if f.head++; f.head == len(f.items) {
		f.items, f.head = nil, 0
	}
	return v
}
