package fanout_test

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"allim/internal/keyspace"
	"allim/internal/testkit"
	"allim/pkg/fanout"
	"allim/pkg/notify"
)

const soon = 10 * time.Second // any wait of these tests; they fail, never hang

func TestMain(m *testing.M) {
	redis.SetLogger(silent{})
	testkit.Main(m)
}

// silent drops what go-redis would say of a Redis that a test took away.
type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}

// A history is a small fanout.History over a real Redis: one epoch, a stream per topic, the change index.
type history struct {
	redis redis.UniversalClient
	keys  *keyspace.Map

	recovers, tops, renewed atomic.Int64 // calls, calls, streams
	fail                    atomic.Bool  // answer nothing but errors
}

// KEYS stream, index, tick. ARGV id, body, channel (” publishes nothing: the message is lost on its way), member.
var appendScript = redis.NewScript(`
local off = redis.call('XLEN', KEYS[1]) + 1
redis.call('XADD', KEYS[1], off .. '-0', 'i', ARGV[1], 'd', ARGV[2])
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
redis.call('SET', KEYS[3], string.format('%d', now))
redis.call('ZADD', KEYS[2], now, ARGV[4])
if ARGV[3] ~= '' then
  redis.call('PUBLISH', ARGV[3], '2\nabcdef\n' .. off .. '\n' .. off .. '\n' .. off .. '\n' .. off .. '\n\nm\n' .. ARGV[1] .. '\n' .. ARGV[2])
end
return off`)

func (h *history) append(t testing.TB, s notify.Stream, id string, lost bool) {
	t.Helper()
	body, err := keyspace.EncodeBody(&notify.Message{Data: []byte(`{"id":"` + id + `"}`)})
	if err != nil {
		t.Fatal(err)
	}
	channel := h.keys.Channel(s)
	if lost {
		channel = ""
	}
	index, tick := h.keys.ChangeIndex(h.keys.Partition(s))
	member := s.Tenant + ":" + string(rune(s.Topic.Kind())) + ":" + s.Topic.Name()
	testkit.EventuallyNil(t, soon, func() error {
		return appendScript.Run(testkit.Context(t, soon), h.redis, []string{h.keys.Channel(s) + ":e", index, tick}, id, body, channel, member).Err()
	}, "append "+id)
}

func (h *history) Recover(ctx context.Context, s notify.Stream, from notify.Position, limit int) (r notify.Recovery, err error) {
	h.recovers.Add(1)
	if h.fail.Load() {
		return r, notify.ErrUnavailable
	}
	key := h.keys.Channel(s) + ":e"
	top, err := h.redis.XLen(ctx, key).Result()
	if err != nil {
		return r, err
	}
	if top == 0 {
		return notify.Recovery{Outcome: notify.Empty, Position: notify.EmptyAt(time.Now().UnixMilli())}, nil
	}
	if s.Topic.Kind() == notify.KindUser {
		r.Badge = &notify.Badge{Unread: int(top), Revision: notify.Position{Epoch: "abcdef", Offset: uint64(top)}}
	}
	r.Top = notify.Position{Epoch: "abcdef", Offset: uint64(top)}
	r.Outcome, r.Position = notify.Delta, notify.Position{Epoch: "abcdef", Offset: from.Offset}
	if from.Epoch != "abcdef" && from.Epoch != "" && from.Epoch[0] != '-' || from.Offset > uint64(top) {
		r.Outcome, r.Position.Offset = notify.Reset, 0
		return r, nil
	}
	if limit == 0 {
		return r, nil
	}
	entries, err := h.redis.XRangeN(ctx, key, strconv.FormatUint(from.Offset+1, 10)+"-0", "+", int64(limit)).Result()
	for _, e := range entries {
		var off uint64
		_, _ = fmt.Sscanf(e.ID, "%d-0", &off)
		m, err := keyspace.DecodeEntry("abcdef", strconv.FormatUint(off, 10), "m", e.Values["i"].(string), []byte(e.Values["d"].(string)))
		if err != nil {
			return r, err
		}
		r.Messages, r.Position.Offset = append(r.Messages, *m), off
	}
	return r, err
}

func (h *history) Tops(ctx context.Context, s []notify.Stream) ([]notify.Position, error) {
	h.tops.Add(1)
	if h.fail.Load() {
		return nil, notify.ErrUnavailable
	}
	pipe := h.redis.Pipeline()
	lens := make([]*redis.IntCmd, len(s))
	for i := range s {
		lens[i] = pipe.XLen(ctx, h.keys.Channel(s[i])+":e")
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, err
	}
	tops := make([]notify.Position, len(s))
	for i, n := range lens {
		if n.Val() > 0 {
			tops[i] = notify.Position{Epoch: "abcdef", Offset: uint64(n.Val())}
		}
	}
	return tops, nil
}

func (h *history) Renew(_ context.Context, s []notify.Stream) error {
	h.renewed.Add(int64(len(s)))
	return nil
}

// A bed is a Redis with a history.
type bed struct {
	*testkit.RedisServer
	keys    *keyspace.Map
	client  *redis.Client // may do all
	gateway *redis.Client // of the hubs
	history *history
}

func newBed(t testing.TB) *bed {
	t.Helper()
	keys, err := keyspace.NewMap(0)
	if err != nil {
		t.Fatal(err)
	}
	b := &bed{RedisServer: testkit.Redis(t), keys: keys}
	b.client, b.gateway = b.Client(), b.ClientAs("gateway")
	b.history = &history{redis: b.client, keys: keys}
	return b
}

// hub runs a hub until the test ends. Its link goes to addr, "" for the server itself.
func (b *bed) hub(t testing.TB, name, addr string, change func(*fanout.Options)) *fanout.Hub {
	t.Helper()
	o := fanout.Options{Redis: b.gateway, Keys: b.keys, History: b.history, Gateway: name, Shards: 4, ProbeEvery: 100 * time.Millisecond,
		ProbeTimeout: 400 * time.Millisecond, Sweep: 10 * time.Millisecond, DirtyEvery: 20 * time.Millisecond, CheckEvery: -1}
	if addr != "" {
		link := *b.gateway.Options()
		link.Addr = addr
		o.Link = func(context.Context, string) (*redis.Options, error) { return &link, nil }
	}
	if change != nil {
		change(&o)
	}
	h := fanout.New(o)
	ctx, stop := context.WithCancel(context.Background())
	var run sync.WaitGroup
	run.Go(func() { _ = h.Run(ctx) })
	t.Cleanup(func() { stop(); run.Wait() })
	return h
}

func ready(t testing.TB, h *fanout.Hub) {
	t.Helper()
	testkit.Eventually(t, soon, h.Ready, "ready")
}

// A sink collects what it is given. It goes on by itself after Begin.
type sink struct {
	mu     sync.Mutex
	begins []fanout.Begin
	got    []*notify.Message
	live   int // of got, how many were not recovered
	resets int
	whys   []notify.Why    // of the resets
	slow   []time.Duration // the again of each TooSlow
	caught []*notify.Badge
	room   int           // messages it takes before it refuses; negative: all
	gate   chan struct{} // not nil: Deliver waits for it to close, as no sink may
	mute   bool          // keeps no messages
}

func newSink() *sink { return &sink{room: -1} }

func (s *sink) Begin(sub *fanout.Subscription, b fanout.Begin) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.begins = append(s.begins, b)
	sub.Go()
}

func (s *sink) Deliver(_ *fanout.Subscription, d *fanout.Delivery, recovered bool) bool {
	if s.gate != nil {
		<-s.gate
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.room == 0 {
		return false
	}
	s.room--
	if !s.mute {
		s.got = append(s.got, d.Message)
	}
	if !recovered {
		s.live++
	}
	return true
}

func (s *sink) Reset(_ *fanout.Subscription, _ notify.Position, why notify.Why, _ *notify.Badge) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.resets++
	s.whys = append(s.whys, why)
}

func (s *sink) TooSlow(_ *fanout.Subscription, again time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.slow = append(s.slow, again)
}

func (s *sink) CaughtUp(_ *fanout.Subscription, b *notify.Badge) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.caught = append(s.caught, b)
}

func (s *sink) count() int { s.mu.Lock(); defer s.mu.Unlock(); return len(s.got) }

// first is the first message; it waits for none.
func (s *sink) first() *notify.Message { s.mu.Lock(); defer s.mu.Unlock(); return s.got[0] }

// last is the place of the last message; it waits for none.
func (s *sink) last() notify.Position {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.got[len(s.got)-1].Position
}

// wantBegin waits for the n-th Begin, from 1.
func wantBegin(t testing.TB, s *sink, n int) fanout.Begin {
	t.Helper()
	testkit.Eventually(t, soon, func() bool { s.mu.Lock(); defer s.mu.Unlock(); return len(s.begins) >= n }, "begin")
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.begins[n-1]
}

// wantInOrder waits for n messages and checks that their offsets go from first on without a hole or a repeat.
func wantInOrder(t testing.TB, s *sink, first uint64, n int) {
	t.Helper()
	testkit.EventuallyNil(t, soon, func() error {
		if got := s.count(); got < n {
			return fmt.Errorf("got %d of %d messages", got, n)
		}
		return nil
	}, "messages")
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, m := range s.got {
		if want := first + uint64(i); m.Position.Offset != want {
			t.Fatalf("message %d: got offset %d, want %d", i, m.Position.Offset, want)
		}
	}
	if len(s.got) != n || s.resets != 0 {
		t.Fatalf("got %d messages and %d resets, want %d and 0", len(s.got), s.resets, n)
	}
}

func topic(name string) notify.Stream {
	return notify.Stream{Tenant: "default", Topic: notify.Topic(name)}
}

var fromNow = fanout.From{Live: true}
