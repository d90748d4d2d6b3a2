package store_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"allim/internal/keyspace"
	"allim/internal/store"
	"allim/internal/testkit"
	"allim/pkg/notify"
)

// A safeBuffer is a log that is read while it is written.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func holds(t *testing.T, r *prometheus.Registry) float64 {
	t.Helper()
	return value(t, r, "allim_redis_ring_operations", "")
}

func left(t *testing.T, r *prometheus.Registry, why string) float64 {
	t.Helper()
	return value(t, r, "allim_redis_ring_left_total", "why="+why)
}

func polls(t *testing.T, r *prometheus.Registry) float64 {
	t.Helper()
	return value(t, r, "allim_redis_operations_total", "operation=replication result=ok")
}

func TestWhatEveryReplicaHasLeavesTheRing(t *testing.T) {
	t.Parallel()
	srv := testkit.Redis(t)
	near, far := testkit.Replica(t, srv), testkit.Replica(t, srv)
	o, r := counted()
	b := newBench(t, srv.As, o)
	run(b, b.publisher)
	far.Pause()
	for i := range 10 {
		b.publish(stream(fmt.Sprint("t/", i%3)), fmt.Sprint("m", i))
	}
	before := polls(t, r)
	testkit.Eventually(t, soon, func() bool { return polls(t, r) >= before+3 }, "ask three times")
	if holds(t, r) != 10 {
		t.Fatalf("one of two replicas has them: %v are held", holds(t, r))
	}
	far.Resume()
	testkit.Eventually(t, soon, func() bool { return holds(t, r) == 0 }, "let go what all have")
	if left(t, r, "replicated") != 10 || value(t, r, "allim_redis_ring_bytes", "") != 0 || value(t, r, "allim_redis_history_id_available", "") != 1 {
		t.Errorf("left %v, bytes %v", left(t, r, "replicated"), value(t, r, "allim_redis_ring_bytes", ""))
	}
	near.Stop()
	far.Stop()
	testkit.Eventually(t, soon, func() bool { return srv.Info("replication")["connected_slaves"] == "0" }, "see the replicas' end")
	before = polls(t, r)
	b.publish(stream("alone"), "m")
	testkit.Eventually(t, soon, func() bool { return polls(t, r) >= before+3 }, "ask three times")
	if holds(t, r) != 1 {
		t.Errorf("nobody has it besides Redis: %v are held", holds(t, r))
	}
}

func TestWithoutReplicasWritesLeaveByAgeOrForRoom(t *testing.T) {
	t.Parallel()
	o, r := counted()
	b := newBench(t, testkit.Redis(t).As, o)
	b.publish(stream("a"), "m1", "m2")
	b.publisher.Age(119 * time.Second)
	b.publish(stream("a"), "m3")
	if holds(t, r) != 3 {
		t.Fatalf("before their time: %v are held", holds(t, r))
	}
	b.publisher.Age(2 * time.Second)
	b.publish(stream("a"), "m4")
	if holds(t, r) != 2 || left(t, r, "age") != 2 {
		t.Fatalf("after it: %v are held, %v have left", holds(t, r), left(t, r, "age"))
	}
	const most = 20_000
	b.publisher.RingMost(most)
	for i := range 100 {
		b.publish(stream(fmt.Sprint("t/", i)), "m")
	}
	if n := value(t, r, "allim_redis_ring_bytes", ""); n > most || n < most/2 {
		t.Errorf("%v bytes are held of %d", n, most)
	}
	if holds(t, r)+left(t, r, "full")+left(t, r, "age") != 104 || left(t, r, "full") < 50 {
		t.Errorf("%v are held, %v have left for room", holds(t, r), left(t, r, "full"))
	}
}

func TestAFullRingIsBusyWhileReplicasAreBehind(t *testing.T) {
	t.Parallel()
	srv := testkit.Redis(t)
	replica := testkit.Replica(t, srv)
	o, r := counted()
	b := newBench(t, srv.As, o)
	b.publisher.RingMost(10_000)
	run(b, b.publisher)
	testkit.Eventually(t, soon, func() bool { return polls(t, r) > 0 }, "ask")
	replica.Pause()
	b.publish(stream("a"), "first")
	before := polls(t, r)
	testkit.Eventually(t, soon, func() bool { return polls(t, r) > before+1 }, "know of the replica")
	var refused error
	for i := 0; refused == nil && i < 1000; i++ {
		refused = b.Publish(b.ctx, []notify.Stream{stream("a")}, message(fmt.Sprint("m", i)))[0].Err
	}
	var again *notify.RetryError
	if !errors.Is(refused, notify.ErrBusy) || !errors.As(refused, &again) || again.After == 0 {
		t.Fatalf("got %v", refused)
	}
	if _, err := b.publisher.Mark(b.ctx, ann, store.Mark{Change: notify.ChangeRead, All: true}); !errors.Is(err, notify.ErrBusy) {
		t.Errorf("a mark: %v", err)
	}
	if left(t, r, "full") != 0 {
		t.Errorf("%v left for room", left(t, r, "full"))
	}
	replica.Resume()
	testkit.EventuallyNil(t, soon, func() error { return b.Publish(b.ctx, []notify.Stream{stream("a")}, message("last"))[0].Err }, "take writes again")
}

func TestABodyIsHeldAsLongAsAnyOfItsStreams(t *testing.T) {
	t.Parallel()
	o, r := counted()
	b := newBench(t, testkit.Redis(t).As, o)
	m := message("m")
	m.Data = bytes.Repeat([]byte("x"), 50_000)
	first := stream("t/0")
	to := []notify.Stream{first}
	for i := 1; i < 10; i++ {
		if st := stream(fmt.Sprint("t/", i)); b.keys.Partition(st) != b.keys.Partition(first) { // what leaves by age leaves partition by partition
			to = append(to, st)
		}
	}
	for _, got := range b.Publish(b.ctx, to, m) {
		if got.Err != nil {
			t.Fatal(got.Err)
		}
	}
	size := func() float64 { return value(t, r, "allim_redis_ring_bytes", "") }
	if n := size(); n < 50_000 || n > 50_000+10*1024 {
		t.Errorf("%d streams of one body of 50,000 bytes take %v", len(to), n)
	}
	b.publisher.Age(3 * time.Minute)
	for _, got := range b.Publish(b.ctx, to[1:], message("next")) {
		if got.Err != nil {
			t.Fatal(got.Err)
		}
	}
	if n := size(); n < 50_000 {
		t.Errorf("one of them still holds it, and %v bytes are counted", n)
	}
	b.publish(first, "next")
	if n := size(); n > 20*1024 {
		t.Errorf("nobody holds it any more, and %v bytes are counted", n)
	}
}

// One stream that cannot be written again keeps nothing that is behind it, and does not stay for ever: with replicas the ring would be full one day, and
// all writes refused.
func TestAStreamThatIsStuckLeavesTheRing(t *testing.T) {
	t.Parallel()
	b, _ := countedBench(t, store.Options{})
	rdb, hook := connect(t, b.as("publisher")), &sick{}
	hook.over.Store(true)
	rdb.AddHook(hook)
	o, r := counted()
	var said safeBuffer
	o.Keys, o.Log = b.keys, slog.New(slog.NewTextHandler(&said, nil))
	b.publisher = open(b, rdb, o)
	stuck, well := stream("a"), stream("b")
	for i := 0; b.keys.Partition(well) != b.keys.Partition(stuck); i++ {
		well = stream(fmt.Sprint("b/", i))
	}
	hook.key = b.keys.Event(stuck).Dedupe // it can be looked at, and not be written
	b.publish(stuck, "kept")
	behind := b.snapshot(b.keys.Event(stuck).All()...)
	b.publish(stuck, "lost")
	b.publish(well, "m")
	behind()
	b.newHistory()
	hook.over.Store(false)
	run(b, b.publisher)
	found := func() { // by a poll and what follows
		t.Helper()
		before := polls(t, r)
		testkit.Eventually(t, soon, func() bool { return polls(t, r) >= before+2 }, "ask twice")
	}
	found()
	b.publisher.Age(9 * time.Minute)
	found()
	if holds(t, r) != 2 || left(t, r, "age") != 1 {
		t.Errorf("%v are held, want the two that wait; %v were too old, want the one behind them", holds(t, r), left(t, r, "age"))
	}
	b.publisher.Age(2 * time.Minute)
	testkit.Eventually(t, soon, func() bool { return holds(t, r) == 0 }, "let all go")
	if left(t, r, "stuck") != 2 || left(t, r, "age") != 1 || !strings.Contains(said.String(), "ring_stuck writes=2") {
		t.Errorf("%v were stuck, %v too old; the log: %s", left(t, r, "stuck"), left(t, r, "age"), said.String())
	}
}

// While Redis is away nobody can compare anything with it, and nothing is stuck.
func TestAnOutageMakesNothingStuck(t *testing.T) {
	t.Parallel()
	b := realBench(t, store.Options{})
	s, at := stream("a"), time.Now()
	b.publish(s, "m1", "m2")
	if n := b.publisher.Polled(s, "another", at) + b.publisher.Polled(s, "another", at.Add(time.Hour)); n != 0 {
		t.Fatalf("%d were stuck at the second poll, after an hour in which there was none", n)
	}
	for i := 2; i < 300; i++ {
		if n := b.publisher.Polled(s, "another", at); n != 0 {
			t.Fatalf("%d were stuck after %d polls", n, i)
		}
	}
	if n := b.publisher.Polled(s, "another", at) + b.publisher.Polled(s, "another", at); n != 2 {
		t.Errorf("%d were stuck after ten minutes of polls, want 2", n)
	}
}

func TestTheEndWaitsForReplicas(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		away   func(primary, replica *testkit.RedisServer)
		before bool // it wrote
		said   string
	}{
		"well":                  {away: func(_, _ *testkit.RedisServer) {}},
		"frozen":                {away: func(_, replica *testkit.RedisServer) { replica.Pause() }, before: true, said: "replicas=1 reached=0"},
		"the primary is silent": {away: func(primary, _ *testkit.RedisServer) { primary.Pause() }, said: "partitions_silent=1"},
	} {
		t.Run(name, func(t *testing.T) {
			srv := testkit.Redis(t)
			replica := testkit.Replica(t, srv)
			o, r := counted()
			var said bytes.Buffer
			o.Log = slog.New(slog.NewTextHandler(&said, nil))
			b := newBench(t, srv.As, o)
			stop := run(b, b.publisher)
			if c.before {
				c.away(srv, replica)
			}
			b.publish(stream("a"), "m1", "m2")
			if err := b.rdb.ClientKillByFilter(b.ctx, "USER", "allim-publisher").Err(); err != nil { // another connection asks than the one that wrote
				t.Fatal(err)
			}
			if !c.before {
				c.away(srv, replica)
			}
			start := time.Now()
			stop()
			if took := time.Since(start); took > store.StopBudget {
				t.Errorf("took %v", took)
			}
			short := value(t, r, "allim_redis_not_replicated_total", "when=stop")
			if (short == 1) != (c.said != "") || strings.Contains(said.String(), "replicas_behind") != (c.said != "") || !strings.Contains(said.String(), c.said) {
				t.Errorf("not replicated %v; the log: %s", short, said.String())
			}
		})
	}
}

func TestTheEndSaysWhatItCouldNotWriteAgain(t *testing.T) {
	t.Parallel()
	b, _ := countedBench(t, store.Options{})
	rdb, hook := connect(t, b.as("publisher")), &sick{key: b.keys.Event(stream("a")).Dedupe}
	hook.over.Store(true)
	rdb.AddHook(hook)
	o, r := counted()
	var said safeBuffer
	o.Keys, o.Log = b.keys, slog.New(slog.NewTextHandler(&said, nil))
	b.publisher = open(b, rdb, o)
	stop := run(b, b.publisher)
	behind := b.snapshot(b.keys.Event(stream("a")).All()...)
	b.publish(stream("a"), "lost1", "lost2")
	b.publish(stream("b"), "m")
	testkit.Eventually(t, soon, func() bool { return polls(t, r) > 0 }, "be as it was")
	behind()
	b.newHistory()
	hook.over.Store(false)
	stop()
	if !strings.Contains(said.String(), "ring_unsettled writes=2") {
		t.Errorf("the log: %s", said.String())
	}
}

// What delivery.md calls split into "acknowledged" and "lost": a replica that got nothing for a while is promoted.
func TestAFailoverToAReplicaThatWasCutOffLosesNothing(t *testing.T) {
	t.Parallel()
	w := testkit.Sentinel(t, testkit.SentinelOptions{})
	o, r := counted()
	var err error
	if o.Keys, err = keyspace.NewMap(0); err != nil {
		t.Fatal(err)
	}
	b := &bench{T: t, ctx: testkit.Context(t, time.Minute), keys: o.Keys}
	b.publisher = open(b, connected(t, behind(t, w, "publisher")), o)
	b.Store = open(b, connected(t, behind(t, w, "gateway")), o)
	run(b, b.publisher)
	run(b, b.Store)
	hold := w.HoldBack(w.Servers[1])
	s := stream("orders/7")
	for _, m := range []*notify.Message{message("kept"), notification("n1", "c")} {
		to := map[notify.Change]notify.Stream{notify.ChangeMessage: s, notify.ChangeNotification: ann}[m.Change]
		testkit.EventuallyNil(t, soon, func() error { return b.publisher.Write(b.ctx, []notify.Stream{to}, m, store.Replicated)[0].Err }, "have it on the replica")
	}
	kept := b.recover(s, notify.Position{}, 0).Top
	hold.Blackhole(true)
	seen := b.publish(s, "lost1", "lost2").Position
	b.notify(ann, "c", "n2")
	b.mark(ann, "read", store.Mark{IDs: []string{"n1", "n2"}})
	w.Servers[0].Stop()
	hold.Cut()
	w.Promoted(w.Servers[0], 30*time.Second)
	testkit.Eventually(t, 2*soon, func() bool {
		got := replayed(t, r)
		return got["publish"] == 2 && got["notify"] == 1 && got["mark"] >= 1
	}, "write again what was lost")
	testkit.Eventually(t, soon, func() bool { badge, err := b.Counts(b.ctx, ann); return err == nil && badge.Unread == 0 }, "mark again")
	page := b.recover(s, kept, 10)
	if diff := cmp.Diff([]string{"lost1", "lost2"}, ids(page.Messages)); page.Outcome != notify.Delta || diff != "" {
		t.Errorf("who saw what was kept: %+v (-want +got):\n%s", page, diff)
	}
	if got := b.recover(s, seen, 10); got.Outcome != notify.Reset || got.Why != notify.WhyLost {
		t.Errorf("who saw what was lost: %+v", got)
	}
	b.wantList(ann, store.Query{}, "n2/sr n1/sr")
}
