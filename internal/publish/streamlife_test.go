package publish

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"allim/internal/keyspace"
	"allim/internal/testkit"
	"allim/pkg/auth"
	"allim/pkg/notify"
	pb "allim/proto/allim/v1"
)

func msOf(r *pb.StreamReply) time.Duration { return time.Duration(r.RetryAfterMs) * time.Millisecond }

// events are messages m<from>, … for a topic.
func events(from, n int, topic string) (all []*pb.PublishStreamRequest, ids []string) {
	for i := range n {
		id := fmt.Sprint("m", from+i)
		all, ids = append(all, event(id, topic)), append(ids, id)
	}
	return all, ids
}

func TestAStreamThatIsStoppedAnswersWhatItHasReadAndNothingElse(t *testing.T) {
	t.Parallel()
	s, redis := idle(t)
	keys, err := keyspace.NewMap(0)
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{T: t, srv: s, redis: redis, rdb: redis.Client(), keys: keys}
	ctx, cancel := context.WithCancel(context.Background())
	rpc, web := listen(t), listen(t)
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx, rpc, web) }()
	b.conn = dial(t, rpc.Addr().String())
	f := b.flow(b.asWithin("all", 30*time.Second))
	first, ids := events(0, 50, "a")
	f.send(first...)
	f.want(code.Code_OK, ids...)
	redis.Pause()
	second, ids := events(50, 40, "a")
	f.send(second...)
	testkit.Eventually(t, 5*time.Second, func() bool { calls, _ := s.gate.counts(); return calls == 40 }, "have all at work")
	cancel()
	testkit.Eventually(t, 5*time.Second, func() bool { return s.closing.Err() != nil }, "stop")
	_ = f.out.Send(event("late", "a")) // it is not read
	select {
	case err := <-ended:
		t.Fatalf("it ended with messages at work: %v", err)
	default:
	}
	redis.Resume()
	f.want(code.Code_OK, ids...)
	if err := f.wantEnd(codes.Unavailable); detail[*errdetails.ErrorInfo](err).GetReason() != "STREAM_ENDS" {
		t.Errorf("got %v", err)
	}
	if err := testkit.Receive(t, 10*time.Second, ended, "the server's end"); err != nil {
		t.Errorf("run: %v", err)
	}
	if got := b.ids("a"); len(got) != 90 || got[89] != "m89" {
		t.Errorf("written: %v", got)
	}
}

func TestMessagesThatCannotBeWaitedForAnyMoreAreUnknown(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	f := b.flow(b.asWithin("all", 30*time.Second))
	f.send(event("m", "a"))
	f.want(code.Code_OK, "m")
	b.redis.Pause()
	all, ids := events(0, 20, "a")
	f.send(all...)
	testkit.Eventually(t, 5*time.Second, func() bool { calls, _ := b.srv.gate.counts(); return calls == 20 }, "have all at work")
	b.srv.close()
	b.srv.cut() // what RunGRPC does later
	for _, r := range f.want(code.Code_UNAVAILABLE, ids...) {
		if msOf(r) < 100*time.Millisecond || r.GetReason() != "UNAVAILABLE" {
			t.Errorf("got %v", r)
		}
	}
	_ = f.wantEnd(codes.Unavailable)
	b.redis.Resume()
}

func TestAFrozenRedisIsUnavailableMessageByMessage(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(o *Options) { o.Deadline = 500 * time.Millisecond })
	f := b.flow(b.asWithin("all", 30*time.Second))
	before, ids := events(0, 20, "a")
	f.send(before...)
	f.want(code.Code_OK, ids...)
	b.redis.Pause()
	frozen, ids := events(20, 30, "a")
	f.send(frozen...)
	for _, r := range f.want(code.Code_UNAVAILABLE, ids...) {
		if msOf(r) < 100*time.Millisecond {
			t.Errorf("got %v", r)
		}
	}
	b.redis.Resume()
	testkit.EventuallyNil(t, 10*time.Second, func() error { return b.rdb.Ping(b.as("all")).Err() }, "have Redis back")
	f.send(frozen...) // again, on the same stream, with the same ids
	f.want(code.Code_OK, ids...)
	want := ""
	for i := range 50 {
		want += fmt.Sprint(" m", i)
	}
	if got := fmt.Sprint(b.ids("a")); got != "["+want[1:]+"]" {
		t.Errorf("written: %s", got)
	}
}

func TestWhoDoesNotReadHisRepliesWaitsAndNobodyElse(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	b := newBench(t, func(o *Options) { o.InFlight = 8; o.Metrics = NewMetrics(registry) })
	other := &bench{T: t, srv: b.srv, conn: dial(t, b.conn.Target())}
	f := b.flow(b.asWithin("all", 60*time.Second))
	var sent atomic.Int64
	const most = 40_000
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		for i := range most {
			m := event(fmt.Sprint("m", i), "silent")
			m.GetPublish().Mode = pb.PublishRequest_EPHEMERAL
			if f.out.Send(m) != nil {
				return
			}
			sent.Store(int64(i + 1))
		}
	}()
	// Replies fill the windows, then the stream is not read any more.
	testkit.Eventually(t, 20*time.Second, func() bool {
		return metric(t, registry, "allim_publisher_stream_waits_total", "answers") >= 1 && f.held(sent.Load)
	}, "stand still")
	if n := sent.Load(); n == most {
		t.Fatalf("all %d messages were taken without a reply being read", n)
	}
	testkit.Eventually(t, 5*time.Second, func() bool { calls, bytes := b.srv.gate.counts(); return calls == 0 && bytes == 0 }, "have nothing at work")
	for i := range 3 {
		if _, err := other.publisher().Publish(other.as("all"), &pb.PublishRequest{Topics: []string{"a"}, Data: []byte("1")}); err != nil {
			t.Errorf("another call: %v", err)
		}
		g := other.flow(other.as("all"))
		g.send(event(fmt.Sprint("o", i), "a"))
		g.want(code.Code_OK, fmt.Sprint("o", i))
	}
	for i := range most { // all of them, in order
		f.want(code.Code_OK, fmt.Sprint("m", i))
	}
	testkit.Closed(t, 5*time.Second, stopped, "the sender")
}

// held tells whether a number stands still for a while.
func (f *flow) held(n func() int64) bool {
	before := n()
	select {
	case <-time.After(200 * time.Millisecond):
	case <-f.out.Context().Done():
	}
	return n() == before
}

func TestWhoNeverReadsHisRepliesIsLetGo(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	b := newBench(t, func(o *Options) { o.Metrics = NewMetrics(registry) })
	b.srv.times.send = 300 * time.Millisecond
	f := b.flow(b.asWithin("all", 60*time.Second))
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		for i := 0; ; i++ {
			m := event(fmt.Sprint("m", i), "silent")
			m.GetPublish().Mode = pb.PublishRequest_EPHEMERAL
			if f.out.Send(m) != nil {
				return
			}
		}
	}()
	testkit.Eventually(t, 20*time.Second, func() bool {
		return metric(t, registry, "allim_publisher_streams_ended_total", "sending") == 1 && gaugeOf(t, registry, "allim_publisher_streams") == 0
	}, "end")
	for i := 0; ; i++ { // what gRPC had taken, and then the end
		r, err := f.next()
		if err != nil {
			if status.Code(err) != codes.Canceled {
				t.Errorf("got %v", err)
			}
			break
		}
		if r.Id != fmt.Sprint("m", i) || r.Code != code.Code_OK {
			t.Fatalf("reply %d: %v", i, r)
		}
	}
	testkit.Closed(t, 5*time.Second, stopped, "the sender")
}

func TestMessagesOfStreamsWaitForAPlaceAndLeaveSomeToCalls(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	b := newBench(t, func(o *Options) { o.InFlight = 4; o.Metrics = NewMetrics(registry) })
	f, g := b.flow(b.asWithin("all", 30*time.Second)), b.flow(b.asWithin("acme", 30*time.Second))
	b.redis.Pause()
	all, ids := events(0, 30, "a")
	f.send(all...)
	testkit.Eventually(t, 5*time.Second, func() bool { return metric(t, registry, "allim_publisher_stream_waits_total", "gate") == 1 }, "wait")
	g.send(all...)
	testkit.Eventually(t, 5*time.Second, func() bool { calls, _ := b.srv.gate.counts(); return calls == 2 }, "have half of the places")
	call := make(chan error, 1)
	go func() {
		_, err := b.publisher().Publish(b.asWithin("all", 20*time.Second), &pb.PublishRequest{Id: "call", Topics: []string{"b"}, Data: []byte("1")})
		call <- err
	}()
	testkit.Eventually(t, 5*time.Second, func() bool { calls, _ := b.srv.gate.counts(); return calls == 3 }, "have the call at work")
	b.redis.Resume()
	if err := testkit.Receive(t, 10*time.Second, call, "the call"); err != nil {
		t.Errorf("a call beside them: %v", err)
	}
	f.want(code.Code_OK, ids...)
	g.want(code.Code_OK, ids...)
	if got := metric(t, registry, "allim_publisher_refused_total", "calls"); got != 0 {
		t.Errorf("refused: %v", got)
	}
}

func TestACredentialThatIsNoneAnyMoreEndsTheStreamWithAllReplies(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.srv.times.check = 50 * time.Millisecond
	token, err := auth.Sign(auth.SigningKey{Algorithm: "HS256", Secret: tokenSecret}, map[string]any{"sub": "shop", "aud": auth.PublisherAudience,
		"exp": time.Now().Add(2*time.Second - auth.DefaultLeeway).Unix(), "allim": map[string]any{"allow": []string{"publish:a"}}})
	if err != nil {
		t.Fatal(err)
	}
	f := b.flow(metadata.AppendToOutgoingContext(testkit.Context(t, 90*time.Second), "authorization", "Bearer "+token))
	f.send(event("m", "a"))
	f.want(code.Code_OK, "m")
	_ = f.wantEnd(codes.Unauthenticated)
}

// changing is an Authenticator whose answer tests change.
type changing struct{ atomic.Pointer[auth.Principal] }

func (c *changing) Authenticate(string) (*auth.Principal, error) {
	if p := c.Load(); p != nil {
		return p, nil
	}
	return nil, fmt.Errorf("gone: %w", notify.ErrUnauthorized)
}

func TestRightsThatChangeHoldForTheNextMessages(t *testing.T) {
	t.Parallel()
	right := func(s string) []auth.Right {
		r, err := auth.ParseRight(s)
		if err != nil {
			t.Fatal(err)
		}
		return []auth.Right{r}
	}
	who := &changing{}
	who.Store(&auth.Principal{Name: "shop", Tenant: "default", Allow: right("publish:a")})
	b := newBench(t, func(o *Options) { o.Services = who })
	b.srv.times.check = 20 * time.Millisecond
	f := b.flow(b.asWithin("all", 30*time.Second))
	f.send(event("1", "a"))
	f.want(code.Code_OK, "1")
	who.Store(&auth.Principal{Name: "shop", Tenant: "default", Allow: right("publish:b")})
	n := 1
	testkit.Eventually(t, 10*time.Second, func() bool {
		n++
		f.send(event(fmt.Sprint(n), "a"))
		r, err := f.next()
		return err == nil && r.Code == code.Code_PERMISSION_DENIED
	}, "be forbidden")
	f.send(event("b", "b"))
	f.want(code.Code_OK, "b")
	b.redis.Pause()
	f.send(event("c", "b"))
	testkit.Eventually(t, 5*time.Second, func() bool { calls, _ := b.srv.gate.counts(); return calls == 1 }, "have it at work")
	who.Store(&auth.Principal{Name: "shop", Tenant: "acme", Allow: right("publish:b")}) // the key is another tenant's now
	testkit.Eventually(t, 5*time.Second, func() bool { return len(b.log.String()) > 0 }, "say so")
	b.redis.Resume()
	f.want(code.Code_OK, "c")
	_ = f.wantEnd(codes.Unauthenticated)
}

func TestAStreamEndsAfterAWhileWithAllReplies(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.srv.times.life = 200 * time.Millisecond
	f := b.flow(b.asWithin("all", 30*time.Second))
	b.redis.Pause()
	all, ids := events(0, 10, "a")
	f.send(all...)
	testkit.Eventually(t, 5*time.Second, func() bool { calls, _ := b.srv.gate.counts(); return calls == 10 }, "have them at work")
	b.redis.Resume()
	f.want(code.Code_OK, ids...)
	if err := f.wantEnd(codes.Unavailable); detail[*errdetails.ErrorInfo](err).GetReason() != "STREAM_ENDS" {
		t.Errorf("got %v", err)
	}
}

func TestAStreamWithADeadlineEndsALittleBeforeIt(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.redis.Pause()
	f := b.flow(b.asWithin("all", time.Second))
	f.send(event("m", "a"))
	f.want(code.Code_UNAVAILABLE, "m")
	_ = f.wantEnd(codes.DeadlineExceeded)
	b.redis.Resume()
}

func TestStreamsBeyondTheBoundAreRefused(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	b := newBench(t, func(o *Options) { o.Streams = 4; o.Metrics = NewMetrics(registry) })
	open := func(name string) *flow {
		f := b.flow(b.as(name))
		f.send(event("m", "a"))
		return f
	}
	first, second := open("all"), open("all")
	first.want(code.Code_OK, "m")
	second.want(code.Code_OK, "m")
	if err := open("all").wantEnd(codes.ResourceExhausted); detail[*errdetails.RetryInfo](err).GetRetryDelay().AsDuration() < 100*time.Millisecond {
		t.Errorf("got %v", err)
	}
	open("acme").want(code.Code_OK, "m")
	if err := first.out.CloseSend(); err != nil {
		t.Fatal(err)
	}
	_ = first.wantEnd(codes.OK)
	testkit.Eventually(t, 5*time.Second, func() bool { return gaugeOf(t, registry, "allim_publisher_streams") == 2 }, "have one less")
	open("all").want(code.Code_OK, "m")
	if got := metric(t, registry, "allim_publisher_refused_total", "streams"); got != 1 {
		t.Errorf("refused: %v", got)
	}
}

// gaugeOf is the value of a metric without labels.
func gaugeOf(t *testing.T, r *prometheus.Registry, name string) (sum float64) {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			sum = f.Metric[0].GetGauge().GetValue()
		}
	}
	return sum
}

func TestALargeMessageWaitsForItsTurnAndASilentStreamHoldsNone(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(o *Options) { o.Limits.Data = 1 << 20; o.Receiving = 1 })
	silent := b.flow(b.as("all"))
	silent.send(event("s", "a"))
	silent.want(code.Code_OK, "s")
	wantCounts(t, b.srv.intake, 0, 0)
	half := b.half(b.asWithin("all", 20*time.Second), pb.Publisher_Publish_FullMethodName, good("Publish"))
	wantCounts(t, b.srv.intake, 1, 0)
	f := b.flow(b.asWithin("all", 20*time.Second))
	large := func(id string) *pb.PublishStreamRequest {
		m := event(id, "a")
		m.GetPublish().Data = text(900 << 10)
		return m
	}
	f.send(large("l1"))
	wantCounts(t, b.srv.intake, 1, 1)
	silent.send(event("small", "a")) // needs none
	silent.want(code.Code_OK, "small")
	if err := half.CloseSend(); err != nil {
		t.Fatal(err)
	}
	f.want(code.Code_OK, "l1")
	f.send(large("l2"), large("l3"), event("m", "a"))
	f.want(code.Code_OK, "l2", "l3", "m")
	wantCounts(t, b.srv.intake, 0, 0)
}

func TestALargeMessageThatDoesNotComeEndsTheStreamWithAllReplies(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.srv.intake.within = 200 * time.Millisecond
	never, end := io.Pipe()
	defer end.Close()
	if got := b.frame(io.MultiReader(bytes.NewReader(append(header(0, 1<<20), make([]byte, 100)...)), never)); got != codes.ResourceExhausted {
		t.Errorf("got %v", got)
	}
	wantCounts(t, b.srv.intake, 0, 0)
}

func TestAPanicIsAnsweredAndEndsNothing(t *testing.T) {
	t.Parallel()
	var n atomic.Int64
	b := newBench(t, func(o *Options) {
		o.Now = func() time.Time {
			if n.Add(1) == 2 {
				panic("secret detail")
			}
			return time.Now()
		}
	})
	f := b.flow(b.as("all"))
	f.send(event("1", "a"), event("2", "a"), event("3", "a"))
	f.want(code.Code_OK, "1")
	f.want(code.Code_INTERNAL, "2")
	f.want(code.Code_OK, "3")
	if calls, bytes := b.srv.gate.counts(); calls != 0 || bytes != 0 {
		t.Errorf("the gate still counts %d calls, %d bytes", calls, bytes)
	}
}

func TestACallerThatLeavesFreesEverything(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	b := newBench(t, func(o *Options) { o.InFlight = 4; o.Metrics = NewMetrics(registry) })
	ctx, cancel := context.WithCancel(b.asWithin("all", 20*time.Second))
	f := b.flow(ctx)
	b.redis.Pause()
	all, _ := events(0, 30, "a")
	f.send(all...)
	f.send(item("n", names(1000, "u%d")...))
	testkit.Eventually(t, 5*time.Second, func() bool { return metric(t, registry, "allim_publisher_stream_waits_total", "gate") == 1 }, "wait")
	cancel()
	testkit.Eventually(t, 5*time.Second, func() bool {
		calls, bytes := b.srv.gate.counts()
		b.srv.gate.mu.Lock()
		defer b.srv.gate.mu.Unlock()
		return calls+bytes+len(b.srv.gate.queue)+b.srv.gate.streamBytes+len(b.srv.gate.streamed.of) == 0 && gaugeOf(t, registry, "allim_publisher_streams") == 0
	}, "hold nothing")
	if got := metric(t, registry, "allim_publisher_streams_ended_total", "gone"); got != 1 {
		t.Errorf("ended: %v", got)
	}
	b.redis.Resume()
}

func TestALargeAudienceIsDoneBeforeTheNextMessageIsRead(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	f := b.flow(b.as("all"))
	f.send(item("n1", names(500, "u%d")...), item("n2", names(500, "u%d")...), item("n3", "u7"), event("e", "user:u7"))
	for i, r := range f.want(code.Code_OK, "n1", "n2", "n3") {
		if n := []int{500, 500, 1}[i]; len(r.Notified) != n || len(r.Results) != 0 || r.Notified[n-1].Code != code.Code_OK || r.Notified[n-1].Unread != int32(i+1) {
			t.Errorf("notification %d: got %d results, %v", i, len(r.Notified), r.Notified[len(r.Notified)-1])
		}
	}
	f.want(code.Code_OK, "e")
}

func TestAStreamNeedsACredential(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for _, name := range []string{"none", "wrong"} {
		if _, err := b.flow(b.as(name)).next(); status.Code(err) != codes.Unauthenticated {
			t.Errorf("%s: got %v", name, err)
		}
	}
}
