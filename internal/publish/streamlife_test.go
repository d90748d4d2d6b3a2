package publish

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

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
	_ = f.out.Send(event("late", "a")) // it is not read, or was just before the end
	select {
	case err := <-ended:
		t.Fatalf("it ended with messages at work: %v", err)
	default:
	}
	redis.Resume()
	f.want(code.Code_OK, ids...)
	answered := 90
	_, err = f.next()
	if err == nil {
		answered = 91
		_, err = f.next()
	}
	if status.Code(err) != codes.Unavailable || detail[*errdetails.ErrorInfo](err).GetReason() != "STREAM_ENDS" {
		t.Errorf("got %v", err)
	}
	if err := testkit.Receive(t, 10*time.Second, ended, "the server's end"); err != nil {
		t.Errorf("run: %v", err)
	}
	if got := b.ids("a"); len(got) != answered || got[89] != "m89" {
		t.Errorf("written: %v", got)
	}
	if calls, bytes := s.gate.counts(); calls != 0 || bytes != 0 {
		t.Errorf("the gate still counts %d calls, %d bytes", calls, bytes)
	}
}

func TestMessagesThatCannotBeWaitedForAnyMoreAreUnknown(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(o *Options) { o.Deadline = time.Hour })
	ctx, cancel := context.WithCancel(b.asWithin("all", time.Hour)) // no deadline of ours ends them
	defer cancel()
	defer time.AfterFunc(20*time.Second, cancel).Stop()
	f := b.flow(ctx)
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

func TestACredentialThatIsNoneAnyMoreEndsTheStreamWithAllReplies(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(o *Options) { o.times.check = 50 * time.Millisecond })
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
	b := newBench(t, func(o *Options) { o.Services = who; o.times.check = 20 * time.Millisecond })
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
	b := newBench(t, func(o *Options) { o.times.life = 200 * time.Millisecond })
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

func TestAStreamEndsBeforeItsConnectionDoes(t *testing.T) {
	t.Parallel()
	s, _ := idle(t)
	s.times.age, s.times.old = 2*time.Second, 50*time.Millisecond
	ctx, cancel := context.WithCancel(context.Background())
	rpc := listen(t)
	ended := make(chan error, 1)
	go func() { ended <- s.RunGRPC(ctx, rpc) }()
	defer func() {
		cancel()
		if err := testkit.Receive(t, 10*time.Second, ended, "the server's end"); err != nil {
			t.Errorf("run: %v", err)
		}
	}()
	b := &bench{T: t, srv: s, conn: dial(t, rpc.Addr().String())}
	start, sent := time.Now(), 0
	for streams := 0; time.Since(start) < 3*time.Second; streams++ { // beyond the age: all ways to end
		f := b.flow(b.asWithin("all", 30*time.Second))
		for {
			_ = f.out.Send(event(fmt.Sprint("m", sent), "a")) // the reply says more
			r, err := f.next()
			if err != nil {
				took := time.Since(start)
				if detail[*errdetails.ErrorInfo](err).GetReason() != "STREAM_ENDS" || streams == 0 && (took < 1500*time.Millisecond || took > 1950*time.Millisecond) {
					t.Errorf("stream %d after %v: %v", streams, took, err)
				}
				break
			}
			if r.Id != fmt.Sprint("m", sent) {
				t.Fatalf("reply %d: %v", sent, r)
			}
			sent++
		}
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

func TestAStreamNeedsACredential(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for _, name := range []string{"none", "wrong"} {
		if _, err := b.flow(b.asWithin(name, 3*time.Second)).next(); status.Code(err) != codes.Unauthenticated {
			t.Errorf("%s: got %v", name, err)
		}
	}
}
