package store_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"allim/internal/store"
	"allim/internal/testkit"
	"allim/pkg/notify"
)

// counted is options whose metrics can be read.
func counted() (store.Options, *prometheus.Registry) {
	r := registry()
	return store.Options{Metrics: store.NewMetrics(r)}, r
}

// later runs do in a goroutine of its own; the test waits for it at its end at the latest.
func later[T any](t *testing.T, do func() T) <-chan T {
	out := make(chan T, 1)
	var all sync.WaitGroup
	all.Go(func() { out <- do() })
	t.Cleanup(all.Wait)
	return out
}

func TestWritesAreTriedAgainUntilRedisIsBack(t *testing.T) {
	t.Parallel()
	srv := testkit.Redis(t)
	o, r := counted()
	b := newBench(t, srv.As, o)
	srv.Stop()
	ends := later(t, func() error { return b.Publish(b.ctx, []notify.Stream{stream("a"), ann}, message("m"))[0].Err })
	notified := later(t, func() error { return b.Publish(b.ctx, []notify.Stream{ann}, notification("n1", ""))[0].Err })
	marked := later(t, func() error {
		_, err := b.Mark(b.ctx, ann, store.Mark{Change: notify.ChangeRead, All: true})
		return err
	})
	testkit.Eventually(t, 5*time.Second, func() bool { return value(t, r, "allim_redis_retries_total", "") > 6 }, "try again")
	srv.Restart()
	for _, end := range []<-chan error{ends, notified, marked} {
		if err := testkit.Receive(t, 10*time.Second, end, "a write's end"); err != nil {
			t.Error(err)
		}
	}
}

func TestWritesOfAStreamKeepTheirOrderThroughAnOutage(t *testing.T) {
	t.Parallel()
	srv := testkit.Redis(t)
	b := newBench(t, srv.As, store.Options{})
	srv.Stop()
	var want []string
	for i := range 50 {
		id := fmt.Sprint("m", i)
		want = append(want, id)
		later(t, func() error { return b.Publish(b.ctx, []notify.Stream{stream("a")}, message(id))[0].Err })
		testkit.Eventually(t, 5*time.Second, func() bool { return b.publisher.Waiting() == i+1 }, "have it wait")
	}
	srv.Restart()
	testkit.Eventually(t, 10*time.Second, func() bool { return b.publisher.Waiting() == 0 }, "write all")
	if diff := cmp.Diff(want, ids(b.recover(stream("a"), notify.Position{}, 100).Messages)); diff != "" {
		t.Fatalf("(-want +got):\n%s", diff)
	}
}

// sick makes calls for one stream fail with a passing error while it lasts.
type sick struct {
	testkit.Passes
	key  string
	over atomic.Bool
}

func (s *sick) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		var well []redis.Cmder
		for _, c := range cmds {
			if !s.over.Load() && strings.Contains(fmt.Sprint(c.Args()...), s.key) {
				c.SetErr(redisError("TRYAGAIN of a test"))
			} else {
				well = append(well, c)
			}
		}
		if len(well) == 0 {
			return nil
		}
		return next(ctx, well)
	}
}

type redisError string

func (e redisError) Error() string { return string(e) }
func (redisError) RedisError()     {}

func TestAStreamThatCannotBeWrittenHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	srv := testkit.Redis(t)
	b := newBench(t, srv.As, store.Options{})
	c := connect(t, srv.As("publisher"))
	hook := &sick{key: b.keys.Event(stream("sick")).Meta}
	c.AddHook(hook)
	b.publisher = open(b, c, store.Options{Keys: b.keys})
	var ends []<-chan error
	for i := range 3 {
		ends = append(ends, later(t, func() error {
			return b.Publish(b.ctx, []notify.Stream{stream("sick")}, message(fmt.Sprint("s", i)))[0].Err
		}))
		testkit.Eventually(t, 5*time.Second, func() bool { return b.publisher.Waiting() == i+1 }, "have it wait")
	}
	short := testkit.Context(t, 50*time.Millisecond)
	left := b.Publish(short, []notify.Stream{stream("sick"), stream("well")}, message("both"))
	if !errors.Is(left[0].Err, notify.ErrUnavailable) || left[1].Err != nil {
		t.Fatalf("a call to both: %+v", left)
	}
	for i := range 200 {
		b.publish(stream("well"), fmt.Sprint("w", i))
		b.publish(stream(fmt.Sprint("well/", i)), "w")
	}
	if n := b.publisher.Waiting(); n < 3 {
		t.Fatalf("the sick stream's writes are over: %d wait", n)
	}
	hook.over.Store(true)
	for _, end := range ends {
		if err := testkit.Receive(t, 10*time.Second, end, "a write's end"); err != nil {
			t.Error(err)
		}
	}
	if got := ids(b.recover(stream("sick"), notify.Position{}, 10).Messages); cmp.Diff([]string{"s0", "s1", "s2"}, got) != "" {
		t.Fatalf("got %v: the one whose caller left was never to be tried", got)
	}
}

func TestManyStreamsShareAPipeline(t *testing.T) {
	t.Parallel()
	srv := testkit.Redis(t)
	o, r := counted()
	b := newBench(t, srv.As, o)
	b.publish(stream("warm"), "x")
	srv.Pause()
	const streams = 200
	for i := range streams {
		later(t, func() error {
			return b.Publish(b.ctx, []notify.Stream{stream(fmt.Sprint("t/", i))}, message("m"))[0].Err
		})
	}
	testkit.Eventually(t, 10*time.Second, func() bool { return b.publisher.Waiting() == streams }, "have all wait")
	if n := b.publisher.Busy(); n > store.Flushers {
		t.Errorf("%d pipelines at once", n)
	}
	srv.Resume()
	testkit.Eventually(t, 10*time.Second, func() bool { return b.publisher.Waiting() == 0 && b.publisher.Busy() == 0 }, "write all")
	// each of the first found one write, the rest went together
	if got := value(t, r, "allim_redis_operation_seconds", "operation=publish"); got > 1+2*store.Flushers+streams/store.BatchWrites {
		t.Errorf("%v round trips for %d writes", got, streams)
	}
}

func TestMoreWritesThanMayWaitAreRefused(t *testing.T) {
	t.Parallel()
	srv := testkit.Redis(t)
	b := newBench(t, srv.As, store.Options{})
	srv.Stop()
	ctx, cancel := context.WithCancel(b.ctx)
	defer cancel()
	const each = 128
	var to []notify.Stream
	for i := range each {
		to = append(to, stream(fmt.Sprint("t/", i)))
	}
	for i := range store.WaitingMost / each {
		later(t, func() error { return b.Publish(ctx, to, message(fmt.Sprint("m", i)))[0].Err })
	}
	testkit.Eventually(t, 20*time.Second, func() bool { return b.publisher.Waiting() == store.WaitingMost }, "fill the queue")
	got := b.Publish(b.ctx, []notify.Stream{stream("more")}, message("m"))[0].Err
	var again *notify.RetryError
	if !errors.Is(got, notify.ErrBusy) || !errors.As(got, &again) || again.After == 0 {
		t.Fatalf("one more: %v", got)
	}
	cancel()
	testkit.Eventually(t, 20*time.Second, func() bool { return b.publisher.Waiting() == 0 && b.publisher.Busy() == 0 }, "let go what nobody waits for")
	srv.Restart()
	b.publish(stream("more"), "m")
}

func TestACallerThatLeavesIsAnsweredAtOnceAndHoldsUpNobody(t *testing.T) {
	t.Parallel()
	srv := testkit.Redis(t)
	b := newBench(t, srv.As, store.Options{})
	b.publish(stream("a"), "first")
	srv.Pause()
	ctx, cancel := context.WithCancel(b.ctx)
	end := later(t, func() error { return b.Publish(ctx, []notify.Stream{stream("a")}, message("unknown"))[0].Err })
	testkit.Eventually(t, 5*time.Second, func() bool { return b.publisher.Busy() == 1 }, "be at work")
	cancel()
	if err := testkit.Receive(t, 2*time.Second, end, "the caller's end"); !errors.Is(err, notify.ErrUnavailable) {
		t.Fatalf("got %v", err)
	}
	srv.Resume()
	if ack := b.publish(stream("a"), "next"); ack.Duplicate { // behind what was on its way when he left
		t.Fatalf("the next one: %+v", ack)
	}
}
