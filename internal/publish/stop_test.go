package publish

import (
	"context"
	"testing"
	"time"

	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"allim/internal/store"
	"allim/internal/testkit"
	pb "allim/proto/allim/v1"
)

// idle is a server on a Redis of its own that does not run yet.
func idle(t *testing.T) (*Server, *testkit.RedisServer) {
	t.Helper()
	b := newBench(t)
	st, err := New(Options{Store: b.srv.Store, Services: b.srv.Services})
	if err != nil {
		t.Fatal(err)
	}
	return st, b.redis
}

func TestStoppingLetsCallsFinishAndEndsWatches(t *testing.T) {
	t.Parallel()
	s, redis := idle(t)
	b := &bench{T: t, srv: s}
	ctx, cancel := context.WithCancel(context.Background())
	rpc, web := listen(t), listen(t)
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx, rpc, web) }()
	b.conn, b.url = dial(t, rpc.Addr().String()), "http://"+web.Addr().String()
	watch, err := healthpb.NewHealthClient(b.conn).Watch(b.as("none"), &healthpb.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := watch.Recv(); err != nil || got.Status != healthpb.HealthCheckResponse_SERVING {
		t.Fatalf("got %v, %v", got, err)
	}
	redis.Pause()
	calls := make(chan error, 1)
	go func() {
		_, err := b.publisher().Publish(b.asWithin("all", 20*time.Second), &pb.PublishRequest{Id: "a", Topics: []string{"a"}, Data: []byte("1")})
		calls <- err
	}()
	testkit.Eventually(t, 5*time.Second, func() bool { s.gate.mu.Lock(); defer s.gate.mu.Unlock(); return s.gate.calls == 1 }, "have a call at work")
	cancel()
	for err = error(nil); err == nil; { // NOT_SERVING, then its end: a watcher does not hold the server
		_, err = watch.Recv()
	}
	select {
	case err := <-ended:
		t.Fatalf("it ended with a call at work: %v", err)
	default:
	}
	redis.Resume()
	if err := testkit.Receive(t, 10*time.Second, calls, "the call's end"); err != nil {
		t.Errorf("the call at work: %v", err)
	}
	if err := testkit.Receive(t, 10*time.Second, ended, "the server's end"); err != nil {
		t.Errorf("run: %v", err)
	}
}

func TestAnEndBeforeTheBeginningIsNoError(t *testing.T) {
	t.Parallel()
	for range 50 { // gRPC is told to stop before, while or after it is told to serve
		s, err := New(Options{Store: &store.Store{}, Services: services(t)})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if err := s.Run(ctx, listen(t), listen(t)); err != nil {
			t.Errorf("run: %v", err)
		}
	}
}

func TestATakenListenerEndsBoth(t *testing.T) {
	t.Parallel()
	s, _ := idle(t)
	rpc, web := listen(t), listen(t)
	_ = web.Close()
	ended := make(chan error, 1)
	go func() { ended <- s.Run(t.Context(), rpc, web) }()
	if err := testkit.Receive(t, 10*time.Second, ended, "the end"); err == nil {
		t.Error("no error from a closed listener")
	}
}

func TestANewServerNeedsItsParts(t *testing.T) {
	if _, err := New(Options{Store: &store.Store{}}); err == nil {
		t.Error("a server without anybody who may call")
	}
}
