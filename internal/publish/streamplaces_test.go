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
	"google.golang.org/grpc/codes"

	"allim/internal/testkit"
	"allim/pkg/auth"
	pb "allim/proto/allim/v1"
)

func TestAMessageThatIsWrittenHoldsNoPlaceForOneBeforeIt(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(o *Options) { o.Deadline = time.Minute })
	f := b.flow(b.asWithin("all", 30*time.Second))
	const heads, others = 20, 50
	var ids []string
	for i := range heads { // there is no replica: they are decided late, one after the other
		head := event(fmt.Sprint("h", i), "a")
		head.GetPublish().Level = pb.PublishRequest_REPLICATED
		ids = append(ids, head.GetPublish().Id)
		f.send(head)
	}
	for i := range others {
		f.send(event(fmt.Sprint("m", i), fmt.Sprint("b", i)))
	}
	testkit.Eventually(t, 10*time.Second, func() bool { return len(b.ids(fmt.Sprint("b", others-1))) == 1 }, "be written")
	testkit.Eventually(t, 10*time.Second, func() bool { calls, _ := b.srv.gate.counts(); return 0 < calls && calls <= heads }, "hold no place behind them")
	f.want(code.Code_UNAVAILABLE, ids...)
}

func TestStreamsLeaveRoomForOtherCalls(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	f := b.flow(b.asWithin("all", 30*time.Second))
	f.send(event("w", "w"))
	f.want(code.Code_OK, "w")
	b.redis.Pause()
	go func() {
		for i := range 1000 {
			if f.out.Send(item(fmt.Sprint("n", i), names(128, fmt.Sprintf("u%d-%%d", i))...)) != nil {
				return
			}
		}
	}()
	g := b.flow(b.asWithin("acme", 30*time.Second))
	go func() {
		for i := range 1000 {
			if g.out.Send(item(fmt.Sprint("n", i), names(128, fmt.Sprintf("u%d-%%d", i))...)) != nil {
				return
			}
		}
	}()
	call := make(chan error, 1)
	go func() {
		_, err := b.publisher().Publish(b.asWithin("all", 20*time.Second), &pb.PublishRequest{Id: "call", Topics: []string{"b"}, Data: []byte("1")})
		call <- err
	}()
	testkit.Eventually(t, 10*time.Second, func() bool { _, bytes := b.srv.gate.counts(); return bytes > 2<<20 }, "be at work")
	if _, bytes := b.srv.gate.counts(); bytes > streamedBytes+1<<20 {
		t.Errorf("%d bytes are at work", bytes)
	}
	b.redis.Resume()
	if err := testkit.Receive(t, 10*time.Second, call, "the call"); err != nil {
		t.Errorf("a call beside them: %v", err)
	}
}

// settling is a stream that has these tasks, and no caller.
func settling(b *bench, tasks ...*task) *stream {
	b.Helper()
	st := &stream{s: b.srv, sender: "default/all", tasks: make(chan *task, len(tasks)), ready: make(chan struct{}, 1), room: make(chan struct{}, 1), ending: endClosed}
	for _, q := range tasks {
		if err := b.srv.gate.wait(b.as("all"), st.sender, q.weight); err != nil {
			b.Fatal(err)
		}
		q.placed.Store(true)
		st.tasks <- q
		st.open++
	}
	close(st.tasks)
	return st
}

func TestALargeAudienceGivesItsPlaceBackWhenItIsWritten(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	p, err := b.srv.authenticate([]string{credentials["all"]})
	if err != nil {
		t.Fatal(err)
	}
	done := func(id string, users int) *task {
		q := &task{start: time.Now(), size: 1, weight: 1, notify: item(id, names(users, "u%d")...).GetNotify()}
		if q.plan, q.err = b.srv.planNotify(p, q.notify); q.err != nil {
			t.Fatal(q.err)
		}
		written := 0
		b.srv.begin(b.as("all"), q, func() { written++ })
		if users > notifyChunk && written != 1 {
			t.Errorf("%d users are written, and it was said %d times", users, written)
		}
		return q
	}
	st := settling(b, done("large", 6000), done("small", 1))
	st.settle()
	if calls, bytes := b.srv.gate.counts(); calls != 0 || bytes != 0 || st.bytes < 6000*resultCost+6000*10 {
		t.Errorf("before a reply is sent: %d calls, %d bytes at work; %d of the stream", calls, bytes, st.bytes)
	}
	batch, cost, _ := st.take()
	if len(batch) != 1 || cost < 6000*resultCost || len(st.replies) != 1 || st.replies[:2][1].reply != nil {
		t.Errorf("%d replies in a batch, which cost %d; %v are left", len(batch), cost, st.replies[:2])
	}
	all := st.bytes
	st.sent(len(batch), cost, false)
	if st.bytes != all-cost || st.open != 1 {
		t.Errorf("sent: %d of %d bytes, %d open", st.bytes, all, st.open)
	}
}

func TestAPanicWhileAReplyIsMadeIsAnswered(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	st := settling(b, &task{start: time.Now(), weight: 1, publish: event("p", "a").GetPublish()}, // it has no plan
		&task{start: time.Now(), weight: 1, err: errLater})
	st.settle()
	if len(st.replies) != 2 || st.replies[0].reply.Code != code.Code_INTERNAL || st.replies[0].reply.Id != "p" || st.replies[1].reply.Code != code.Code_UNIMPLEMENTED {
		t.Errorf("got %v", st.replies)
	}
	if calls, _ := b.srv.gate.counts(); calls != 0 {
		t.Errorf("%d are at work", calls)
	}
}

func TestWhyAStreamEndsDoesNotDependOnWhoSeesItFirst(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	b := newBench(t, func(o *Options) { o.InFlight = 4; o.Metrics = NewMetrics(registry) })
	b.redis.Pause()
	hold := b.flow(b.asWithin("all", 30*time.Second))
	hold.send(event("h", "a"))
	testkit.Eventually(t, 5*time.Second, func() bool { calls, _ := b.srv.gate.counts(); return calls == 1 }, "be at work")
	const n = 30
	for range n {
		b.flow(b.asWithin("all", time.Second)).send(event("m", "a")) // it waits at the gate until its time is over
	}
	ended := func(reason string) float64 {
		return metric(t, registry, "allim_publisher_streams_ended_total", reason)
	}
	testkit.Eventually(t, 10*time.Second, func() bool { return ended("deadline")+ended("gone") == n }, "end")
	if got := ended("gone"); got != 0 {
		t.Errorf("%v of %d have gone", got, n)
	}
	b.redis.Resume()
	hold.want(code.Code_OK, "h")
}

// panicking panics when it is asked again.
type panicking struct {
	changing
	asked atomic.Bool
}

func (p *panicking) Authenticate(c string) (*auth.Principal, error) {
	if p.asked.Swap(true) {
		panic("of a test")
	}
	return p.changing.Authenticate(c)
}

func TestAPanicOfTheCredentialCheckEndsTheStreamAlone(t *testing.T) {
	t.Parallel()
	who := &panicking{}
	who.Store(&auth.Principal{Name: "shop", Tenant: "default"})
	b := newBench(t, func(o *Options) { o.Services, o.times.check = who, 20*time.Millisecond })
	_ = b.flow(b.as("all")).wantEnd(codes.Internal)
	if log := b.log.String(); strings.Count(log, "msg=stream_panicked") != 1 {
		t.Errorf("logged %s", log)
	}
}

func TestACredentialIsLookedAtAlsoWhileNobodyReads(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	right, err := auth.ParseRight("publish:*")
	if err != nil {
		t.Fatal(err)
	}
	who := &changing{}
	who.Store(&auth.Principal{Name: "shop", Tenant: "default", Allow: []auth.Right{right}})
	b := newBench(t, func(o *Options) {
		o.Services, o.Metrics, o.times.check, o.times.send = who, NewMetrics(registry), 20*time.Millisecond, 2*time.Second
	})
	ctx, cancel := context.WithCancel(b.asWithin("all", 30*time.Second))
	defer cancel()
	f := b.flow(ctx)
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		for i := 0; f.out.Send(event(fmt.Sprint("m", i), "a", "a", "a", "a", "a", "a", "a", "a", "a", "a")) == nil; i++ {
		}
	}()
	testkit.Eventually(t, 20*time.Second, func() bool { return metric(t, registry, "allim_publisher_stream_waits_total", "answers") >= 1 }, "stand still")
	who.Store(nil)
	testkit.Eventually(t, 10*time.Second, func() bool { return metric(t, registry, "allim_publisher_streams_ended_total", "credential") == 1 }, "end for it")
	cancel()
	testkit.Closed(t, 5*time.Second, stopped, "the sender")
}

func TestAnEphemeralMessageThatWaitedLongForAPlaceIsNotSent(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	p, err := b.srv.authenticate([]string{credentials["all"]})
	if err != nil {
		t.Fatal(err)
	}
	for read, want := range map[time.Time]string{time.Now(): "", time.Now().Add(-2 * ephemeralWait): "NOT_SENT"} {
		q := &task{start: read, publish: event("typing", "a").GetPublish()}
		q.publish.Mode = pb.PublishRequest_EPHEMERAL
		if q.plan, q.err = b.srv.planPublish(p, q.publish); q.err != nil {
			t.Fatal(q.err)
		}
		b.srv.begin(b.as("all"), q, func() {})
		if a := b.srv.answer(q); a.reply.GetReason() != want || a.reply.Id != "typing" {
			t.Errorf("read %v ago: got %v, want %q", time.Since(read), a.reply, want)
		}
	}
}
