package fanout_test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"allim/internal/keyspace"
	"allim/internal/testkit"
	"allim/pkg/fanout"
	"allim/pkg/notify"
)

func (b *bed) ephemeral(t testing.TB, id string) string {
	t.Helper()
	body, err := keyspace.EncodeBody(&notify.Message{Data: []byte("1")})
	if err != nil {
		t.Fatal(err)
	}
	return string(keyspace.Ephemeral(id, body))
}

func (b *bed) killLinks(t testing.TB) {
	t.Helper()
	if err := b.client.ClientKillByFilter(testkit.Context(t, soon), "TYPE", "pubsub").Err(); err != nil {
		t.Fatal(err)
	}
}

func TestAKilledLinkLosesNothing(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	h := b.hub(t, "g1", "", nil)
	ready(t, h)
	sinks := []*sink{newSink(), newSink(), newSink()}
	for i, s := range sinks {
		h.Attach(topic(fmt.Sprint("t/", i)), fromNow, s)
		wantBegin(t, s, 1)
	}
	const n, kills = 300, 3
	next := uint32(0) // generation to kill
	for i := range n {
		for k := range sinks {
			b.history.append(t, topic(fmt.Sprint("t/", k)), fmt.Sprint(i), false)
		}
		if i%(n/kills) == n/kills/2 {
			next++
			testkit.Eventually(t, soon, func() bool { got := h.Stats(); return got.LinkUp && got.Generation == next }, "the next link to kill")
			b.killLinks(t) // and messages go on
		}
	}
	for _, s := range sinks {
		wantInOrder(t, s, 1, n)
	}
	testkit.Eventually(t, soon, func() bool { return h.Stats().Generation == kills+1 }, "a generation for each kill")
}

// go-redis would connect again inside Receive, unseen and before it returns the error. A link must not.
func TestALinkConnectsOnce(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	var dialled atomic.Int64
	opt := *b.gateway.Options()
	opt.Dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
		if err == nil {
			dialled.Add(1)
		}
		return conn, err
	}
	h := b.hub(t, "g1", "", func(o *fanout.Options) {
		o.Link = func(context.Context, string) (*redis.Options, error) { return &opt, nil }
	})
	s := newSink()
	h.Attach(topic("orders"), fromNow, s)
	wantBegin(t, s, 1)
	ready(t, h)
	const kills = 5
	for i := range kills {
		gen := h.Stats().Generation
		b.killLinks(t)
		testkit.Eventually(t, soon, func() bool { return h.Stats().Generation > gen && h.Stats().LinkUp }, fmt.Sprint("rebuilt after kill ", i))
	}
	if got, want := dialled.Load(), int64(h.Stats().Generation); got != want || want != kills+1 {
		t.Fatalf("%d connections for %d generations after %d kills", got, want, kills)
	}
}

func TestALinkThatIsReplacedAgainAndAgainLeavesTheGatewayReady(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	h := b.hub(t, "g1", "", func(o *fanout.Options) { o.ProbeTimeout = soon })
	s := newSink()
	h.Attach(topic("orders"), fromNow, s)
	wantBegin(t, s, 1)
	ready(t, h)
	for range 5 {
		gen := h.Stats().Generation
		b.killLinks(t)
		testkit.Eventually(t, soon, func() bool {
			if !h.Ready() {
				t.Fatal("not ready while a link is replaced")
			}
			got := h.Stats()
			return got.Generation > gen && got.LinkUp
		}, "the next link")
	}
	if got := h.Stats().LinkEnds["error"]; got != 5 {
		t.Fatalf("%d links ended by an error, want 5", got)
	}
}

func TestASilentLinkIsRebuilt(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	p := testkit.NewProxy(t, b.Addr)
	h := b.hub(t, "g1", p.Addr, nil)
	s := newSink()
	h.Attach(topic("orders"), fromNow, s)
	wantBegin(t, s, 1)
	ready(t, h)
	p.Blackhole(true)
	for i := range 50 {
		b.history.append(t, topic("orders"), fmt.Sprint(i), false)
	}
	testkit.Eventually(t, soon, func() bool { return h.Stats().Generation > 1 }, "the watchdog gives the link up")
	if h.Ready() || s.count() != 0 {
		t.Fatalf("ready %v with %d messages through a black hole", h.Ready(), s.count())
	}
	p.Heal()
	wantInOrder(t, s, 1, 50)
	ready(t, h)
}

// However many topics begin at once, Redis is told of so many alone until it answers: what it hears is not answered through this proxy, so that the count of
// its subscriptions is that of the channels it was told of. What is live meanwhile waits behind so many answers.
func TestALinkNamesSoManyChannelsAtMostBeforeRedisAnswers(t *testing.T) {
	t.Parallel()
	const window, chunk, n = 2048, 512, 8 * 2048
	b := newBed(t)
	p := testkit.NewProxy(t, b.Addr)
	h := b.hub(t, "g1", p.Addr, func(o *fanout.Options) {
		o.ProbeEvery, o.ProbeTimeout, o.Linger = time.Minute, time.Minute, 50*time.Millisecond
	})
	ready(t, h)
	told := func() (n int) {
		list, err := b.client.Do(testkit.Context(t, soon), "CLIENT", "LIST", "TYPE", "pubsub").Text()
		if err != nil {
			t.Fatal(err)
		}
		if i := strings.Index(list, " sub="); i >= 0 {
			_, _ = fmt.Sscanf(list[i:], " sub=%d", &n)
		}
		return n - 1 // its probes
	}
	p.Deafen(true)
	subs := make([]*fanout.Subscription, n)
	for i := range subs {
		subs[i] = h.Attach(topic(fmt.Sprint("t/", i)), fromNow, newSink())
	}
	testkit.Eventually(t, soon, func() bool { return told() > window-chunk }, "as many as there may be")
	testkit.Never(t, 200*time.Millisecond, func() bool { return told() > window }, "more than there may be")
	p.Heal()
	testkit.Eventually(t, soon, func() bool { return told() == n && h.Stats().Waiting == 0 }, "all of them")
	p.Deafen(true)
	for _, s := range subs {
		s.Detach()
	}
	testkit.Eventually(t, soon, func() bool { return told() < n-window+chunk }, "as many left as may be")
	testkit.Never(t, 200*time.Millisecond, func() bool { return told() < n-window }, "more than may be")
	p.Heal()
	testkit.Eventually(t, soon, func() bool { return told() == 0 && h.Stats().Topics == 0 }, "all of them")
}

func TestALinkToAnotherRedisThanTheCommandsIsGivenUp(t *testing.T) {
	t.Parallel()
	b, other := newBed(t), testkit.Redis(t)
	h := b.hub(t, "g1", other.Addr, func(o *fanout.Options) { o.ProbeEvery, o.ProbeTimeout = 20*time.Millisecond, 50*time.Millisecond })
	c := other.Client()
	busy := func() { // the link is not silent: it hears something, but never our probes
		_ = c.Publish(testkit.Context(t, soon), b.keys.Channel(topic("orders")), b.ephemeral(t, "x")).Err()
	}
	h.Attach(topic("orders"), fromNow, newSink())
	testkit.Eventually(t, soon, func() bool { busy(); return h.Stats().Generation >= 2 }, "given up")
	if h.Ready() {
		t.Fatal("ready on a link that no probe came back on")
	}
}

func TestRedisMayComeLater(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.Stop()
	h := b.hub(t, "g1", "", func(o *fanout.Options) { o.AttachTimeout = 100 * time.Millisecond })
	s := newSink()
	sub := h.Attach(topic("orders"), fromNow, s)
	if got := wantBegin(t, s, 1); got.Err != notify.ErrUnavailable || got.Position != (notify.Position{}) {
		t.Fatalf("got %+v, want %v", got, notify.ErrUnavailable)
	}
	if h.Ready() {
		t.Fatal("ready without a Redis")
	}
	b.Restart()
	ready(t, h)
	testkit.Eventually(t, soon, func() bool { // the same subscription may try again
		s.mu.Lock()
		n := len(s.begins)
		s.mu.Unlock()
		sub.Move(fromNow)
		return wantBegin(t, s, n+1).Err == nil
	}, "attached")
	b.history.append(t, topic("orders"), "a", false)
	wantInOrder(t, s, 1, 1)
}

func TestAttachSaysUnavailableWhileHistoryIs(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.history.fail.Store(true)
	h := b.hub(t, "g1", "", func(o *fanout.Options) { o.AttachTimeout = 150 * time.Millisecond })
	ready(t, h)
	s := newSink()
	h.Attach(topic("orders"), fromNow, s)
	if got := wantBegin(t, s, 1); got.Err != notify.ErrUnavailable {
		t.Fatalf("got %+v", got)
	}
	if got := h.Stats(); got.Subscriptions != 0 || got.Unanswered != 1 {
		t.Fatalf("got %d subscriptions and %d unanswered", got.Subscriptions, got.Unanswered)
	}
	b.history.fail.Store(false)
	testkit.Eventually(t, soon, func() bool {
		again := newSink()
		h.Attach(topic("orders"), fromNow, again)
		return wantBegin(t, again, 1).Err == nil
	}, "attached once history answers")
}

func TestATopicThatNobodyHearsIsLeftAfterAWhile(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	h := b.hub(t, "g1", "", func(o *fanout.Options) { o.Linger, o.UserLinger = 300*time.Millisecond, 30*time.Millisecond })
	heard := func(name string) int64 {
		n, err := b.client.PubSubNumSub(testkit.Context(t, soon), b.keys.Channel(topic(name))).Result()
		if err != nil {
			t.Fatal(err)
		}
		return n[b.keys.Channel(topic(name))]
	}
	s, u := newSink(), newSink()
	sub, user := h.Attach(topic("orders"), fromNow, s), h.Attach(topic("user:42"), fromNow, u)
	wantBegin(t, s, 1)
	wantBegin(t, u, 1)
	if got, got2 := heard("orders"), heard("user:42"); got != 1 || got2 != 1 {
		t.Fatalf("got %d and %d subscriptions, want 1 and 1", got, got2)
	}
	sub.Detach()
	user.Detach()
	testkit.Eventually(t, soon, func() bool { return heard("user:42") == 0 }, "the user's stream is left")
	if heard("orders") != 1 {
		t.Fatal("the topic was left as soon as the user's stream")
	}
	back := newSink()
	sub = h.Attach(topic("orders"), fromNow, back)
	wantBegin(t, back, 1)
	testkit.Never(t, 900*time.Millisecond, func() bool { return heard("orders") == 0 }, "left while heard again")
	sub.Detach()
	testkit.Eventually(t, soon, func() bool { return heard("orders") == 0 && h.Stats().Topics == 0 }, "both are gone")
	again := newSink()
	h.Attach(topic("orders"), fromNow, again)
	wantBegin(t, again, 1)
	b.history.append(t, topic("orders"), "a", false)
	wantInOrder(t, again, 1, 1)
}

func TestTenThousandTopicsComeBackWithFewQuestions(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	h := b.hub(t, "g1", "", func(o *fanout.Options) { o.AttachTimeout = soon })
	const n = 10_000
	s := newSink()
	for i := range n {
		h.Attach(topic(fmt.Sprint("t/", i)), fromNow, s)
	}
	wantBegin(t, s, n)
	ready(t, h)
	b.history.recovers.Store(0)
	b.history.tops.Store(0)
	gen := h.Stats().Generation
	b.killLinks(t)
	testkit.Eventually(t, soon, func() bool { return h.Stats().Generation > gen }, "the kill is noticed")
	b.history.append(t, topic("t/7"), "a", false)
	ready(t, h)
	b.history.append(t, topic("t/8"), "a", false)
	testkit.Eventually(t, soon, func() bool { got := h.Stats(); return s.count() == 2 && got.HistoryQueued == 0 && got.Waiting == 0 }, "both messages, and all topics")
	if got := h.Stats(); got.Topics != n || got.Subscriptions != n {
		t.Fatalf("got %d topics, %d subscriptions", got.Topics, got.Subscriptions)
	}
	if tops, recovers := b.history.tops.Load(), b.history.recovers.Load(); tops > n/16 || recovers > 2 {
		t.Fatalf("asked for tops %d times and recovered %d times", tops, recovers)
	}
}
