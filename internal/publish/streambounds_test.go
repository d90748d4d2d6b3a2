package publish

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"allim/internal/testkit"
	pb "allim/proto/allim/v1"
)

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
	b.redis.Pause() // what was answered leaves room for more than one
	f.send(event("x", "a"), event("y", "a"))
	testkit.Eventually(t, 5*time.Second, func() bool { calls, _ := b.srv.gate.counts(); return calls == 2 }, "have both at work")
	b.redis.Resume()
	f.want(code.Code_OK, "x", "y")
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
	b := newBench(t, func(o *Options) { o.Metrics = NewMetrics(registry); o.times.send = 300 * time.Millisecond })
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
		return metric(t, registry, "allim_publisher_streams_ended_total", "sending") == 1 && metric(t, registry, "allim_publisher_streams") == 0
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

func TestWhoClosesAndNeverReadsHisRepliesIsLetGoForThat(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	b := newBench(t, func(o *Options) { o.Metrics = NewMetrics(registry); o.times.send = 300 * time.Millisecond })
	f := b.flow(b.asWithin("all", 60*time.Second))
	f.send(item("n", names(3000, "%0100d")...), item("o", names(10, "u%d")...)) // the first reply fills the window
	if err := f.out.CloseSend(); err != nil {
		t.Fatal(err)
	}
	ended := func(reason string) float64 {
		return metric(t, registry, "allim_publisher_streams_ended_total", reason)
	}
	testkit.Eventually(t, 20*time.Second, func() bool { return ended("closed")+ended("sending")+ended("gone") == 1 }, "end")
	if ended("sending") != 1 {
		t.Error("it ended for another reason")
	}
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
	if err := open("all").wantEnd(codes.ResourceExhausted); !strings.Contains(err.Error(), "at most 4") || detail[*errdetails.RetryInfo](err).GetRetryDelay().AsDuration() < 100*time.Millisecond {
		t.Errorf("got %v", err)
	}
	open("acme").want(code.Code_OK, "m")
	if err := first.out.CloseSend(); err != nil {
		t.Fatal(err)
	}
	_ = first.wantEnd(codes.OK)
	testkit.Eventually(t, 5*time.Second, func() bool { return metric(t, registry, "allim_publisher_streams") == 2 }, "have one less")
	open("all").want(code.Code_OK, "m")
	if got := metric(t, registry, "allim_publisher_refused_total", "streams"); got != 1 {
		t.Errorf("refused: %v", got)
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
		return calls+bytes+len(b.srv.gate.lines)+b.srv.gate.room.used+len(b.srv.gate.places.of) == 0 && metric(t, registry, "allim_publisher_streams") == 0
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
