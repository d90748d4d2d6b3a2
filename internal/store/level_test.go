package store_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/redis/go-redis/v9"

	"allim/internal/store"
	"allim/internal/testkit"
	"allim/pkg/notify"
)

func TestAWriteWaitsForAReplicaOnItsOwnConnection(t *testing.T) {
	t.Parallel()
	srv := testkit.Redis(t)
	o, r := counted()
	b := newBench(t, srv.As, o)
	to := []notify.Stream{stream("a"), stream("b"), ann}
	for _, again := range []bool{false, true} {
		for i, got := range b.publisher.Write(b.ctx, to, message("alone"), store.Replicated) {
			if !errors.Is(got.Err, store.ErrNotReplicated) || !errors.Is(got.Err, notify.ErrUnavailable) || got.Position.Offset != 1 || got.Duplicate != again {
				t.Errorf("without replicas, %s: %+v", to[i].Topic, got)
			}
		}
	}
	if n := value(t, r, "allim_redis_not_replicated_total", "when=level"); n < 2 {
		t.Errorf("%v waits ended too early", n)
	}
	if n := holds(t, r); n != 6 {
		t.Errorf("what was committed is held, whatever its level: %v are", n)
	}
	replica := testkit.Replica(t, srv)
	flush := func() {
		t.Helper()
		if err := b.rdb.ScriptFlush(b.ctx).Err(); err != nil {
			t.Fatal(err)
		}
	}
	flush()
	first := true
	testkit.EventuallyNil(t, soon, func() (err error) { // a busy replica may take longer than a write waits
		for i, got := range b.publisher.Write(b.ctx, append(to, stream("c")), message("alone"), store.Replicated) {
			if got.Duplicate != (i < 3 || !first) {
				t.Errorf("with a replica, result %d: %+v", i, got)
			}
			err = errors.Join(err, got.Err)
		}
		first = false
		return err
	}, "it is replicated")
	testkit.Eventually(t, soon, func() bool {
		info := srv.Info("replication")
		return strings.Contains(info["slave0"], "offset="+info["master_repl_offset"]+",")
	}, "have the replica acknowledge all")
	replica.Pause()
	flush() // the first wait is for nothing: a script that is sent again has its own
	if got := b.publisher.Write(b.ctx, to[:1], message("frozen"), store.Replicated)[0]; !errors.Is(got.Err, store.ErrNotReplicated) {
		t.Errorf("with a frozen replica and forgotten scripts: %+v", got)
	}
}

// From Redis 7.2 on WAIT asks for what its own connection wrote; a duplicate writes nothing. It may be the only thing that another program does.
func TestADuplicateWaitsForItsLevelOnAnyConnection(t *testing.T) {
	t.Parallel()
	srv := testkit.Redis(t)
	replica := testkit.Replica(t, srv)
	b := newBench(t, srv.As, store.Options{})
	replica.Pause()
	for _, ticks := range []bool{true, false} {
		for i := range 2 {
			again := open(b, connect(t, b.as("publisher")), store.Options{Keys: b.keys}) // its connection wrote nothing
			got := again.Write(b.ctx, []notify.Stream{stream("a")}, message("m"), store.Replicated)[0]
			if !errors.Is(got.Err, store.ErrNotReplicated) || got.Duplicate != (i > 0 || !ticks) {
				t.Errorf("nobody has it: %+v", got)
			}
		}
		_, tick := b.keys.ChangeIndex(b.keys.Partition(stream("a")))
		if err := b.rdb.Del(b.ctx, tick).Err(); err != nil { // as after ten quiet minutes
			t.Fatal(err)
		}
	}
	replica.Resume()
	testkit.EventuallyNil(t, soon, func() error {
		return b.publisher.Write(b.ctx, []notify.Stream{stream("a")}, message("m"), store.Replicated)[0].Err
	}, "have it on the replica")
}

func TestDiskIsWhatWaitAOFSays(t *testing.T) {
	t.Parallel()
	testkit.NeedsRedis(t, 7, 2)
	write := func(args ...string) func() error {
		b := newBench(t, testkit.Redis(t, args...).As, store.Options{})
		return func() error { // each time by another connection, which wrote nothing
			again := open(b, connect(t, b.as("publisher")), store.Options{Keys: b.keys})
			return again.Write(b.ctx, []notify.Stream{stream("a")}, message("m"), store.Disk)[0].Err
		}
	}
	if err := write("--appendonly", "no")(); !errors.Is(err, store.ErrNoDisk) {
		t.Errorf("without an append file: %v", err)
	}
	never := write("--appendonly", "yes", "--appendfsync", "no")
	for range 2 {
		if err := never(); !errors.Is(err, store.ErrNotOnDisk) {
			t.Errorf("with one that is never synchronised: %v", err)
		}
	}
	if err := write("--appendonly", "yes", "--appendfsync", "always")(); err != nil {
		t.Errorf("with each write: %v", err)
	}
}

// One node of a cluster need not have what another has.
func TestDiskIsPromisedNodeByNode(t *testing.T) {
	t.Parallel()
	c := testkit.Cluster(t, 3, 0)
	b := clusterBench(t, c, store.Options{FsyncAlways: true})
	all, _ := everywhere(b.keys)
	with := c.Owner(slotOf(b.keys, all[0]))
	if err := errors.Join(with.Client().ConfigSet(b.ctx, "appendonly", "yes").Err(), with.Client().ConfigSet(b.ctx, "appendfsync", "always").Err()); err != nil {
		t.Fatal(err)
	}
	for _, st := range all[:20] {
		has := c.Owner(slotOf(b.keys, st)) == with
		if got := b.publisher.Write(b.ctx, []notify.Stream{st}, message("m"), store.Disk)[0]; has && got.Err != nil || !has && !errors.Is(got.Err, store.ErrNoDisk) {
			t.Errorf("%s: a node with an append file %v: %+v", st.Topic, has, got)
		}
	}
}

// slow holds up pipelines with a WAIT in them.
type slow struct {
	testkit.Passes
	until chan struct{}
}

func (s *slow) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		for _, c := range cmds {
			if c.Name() == "wait" {
				<-s.until
			}
		}
		return next(ctx, cmds)
	}
}

func TestAWriteThatWaitsForAReplicaHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	b := newBench(t, testkit.Redis(t).As, store.Options{})
	rdb, hook := connect(t, b.as("publisher")), &slow{until: make(chan struct{})}
	rdb.AddHook(hook)
	b.publisher = open(b, rdb, store.Options{Keys: b.keys})
	var ends []<-chan error
	for i := range 2 * store.Flushers { // each its pipeline, while there are any
		ends = append(ends, later(t, func() error {
			return b.publisher.Write(b.ctx, []notify.Stream{stream(fmt.Sprint("a/", i))}, message("m"), store.Replicated)[0].Err
		}))
		testkit.Eventually(t, soon, func() bool { return b.publisher.Waiting() == i+1 && b.publisher.Busy() > 0 }, "be at work")
	}
	b.publish(stream("b"), "m1", "m2")
	close(hook.until)
	for _, end := range ends {
		if err := testkit.Receive(t, soon, end, "the wait's end"); !errors.Is(err, store.ErrNotReplicated) {
			t.Errorf("got %v", err)
		}
	}
}

// The first of a stream that waits for a level leaves, and what is behind it waits for none.
func TestAStreamGoesOnAsItsNextWriteAsks(t *testing.T) {
	t.Parallel()
	srv := testkit.Redis(t)
	b := newBench(t, srv.As, store.Options{})
	srv.Stop()
	ctx, cancel := context.WithCancel(b.ctx)
	gone := later(t, func() error {
		return b.publisher.Write(ctx, []notify.Stream{stream("a")}, message("m1"), store.Replicated)[0].Err
	})
	testkit.Eventually(t, soon, func() bool { return b.publisher.Waiting() == 1 }, "have the first wait")
	second := later(t, func() error { return b.Publish(b.ctx, []notify.Stream{stream("a")}, message("m2"))[0].Err })
	testkit.Eventually(t, soon, func() bool { return b.publisher.Waiting() == 2 }, "have the second wait")
	third := later(t, func() error {
		return b.publisher.Write(b.ctx, []notify.Stream{stream("a")}, message("m3"), store.Replicated)[0].Err
	})
	testkit.Eventually(t, soon, func() bool { return b.publisher.Waiting() == 3 }, "have the third wait")
	cancel()
	if err := testkit.Receive(t, soon, gone, "the first one's end"); !errors.Is(err, notify.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	srv.Restart()
	if err := testkit.Receive(t, soon, second, "the second one's end"); err != nil {
		t.Errorf("got %v", err)
	}
	if err := testkit.Receive(t, soon, third, "the third one's end"); !errors.Is(err, store.ErrNotReplicated) {
		t.Errorf("got %v", err)
	}
}

// aof answers WAITAOF, which Redis 7.0 does not know, with the number of append files that have it, or as Redis 7.0 does.
type aof struct {
	testkit.Passes
	known  bool
	synced atomic.Int64
	asked  atomic.Int64
}

func (a *aof) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		var others []redis.Cmder
		for _, c := range cmds {
			if wait, ok := c.(*redis.Cmd); ok && c.Name() == "waitaof" {
				a.asked.Add(1)
				if wait.SetVal([]any{a.synced.Load(), int64(0)}); !a.known {
					wait.SetErr(redisError("ERR unknown command"))
				}
			} else {
				others = append(others, c)
			}
		}
		return next(ctx, others)
	}
}

func TestDiskIsPromisedByTheServerOrTheSettingOnly(t *testing.T) {
	t.Parallel()
	to, deployed := []notify.Stream{stream("a")}, []string{"--appendonly", "yes", "--appendfsync", "always"}
	for name, c := range map[string]struct {
		args    []string
		always  bool
		waitaof bool
		synced  int64
		want    error
	}{
		"nothing known":                          {args: deployed, want: store.ErrNoDisk},
		"appendfsync always, and we know":        {args: deployed, always: true},
		"we are told so, without an append file": {always: true, want: store.ErrNoDisk},
		"WAITAOF in time":                        {waitaof: true, synced: 1},
		"WAITAOF too late":                       {waitaof: true, want: store.ErrNotOnDisk},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, testkit.Redis(t, c.args...).As, store.Options{})
			rdb, hook := connect(t, b.as("publisher")), &aof{known: c.waitaof}
			hook.synced.Store(c.synced)
			rdb.AddHook(hook)
			b.publisher = open(b, rdb, store.Options{Keys: b.keys, FsyncAlways: c.always})
			for range 2 {
				got := b.publisher.Write(b.ctx, to, message("m"), store.Disk)[0]
				if !errors.Is(got.Err, c.want) || (got.Position.Offset == 1) != (c.want != store.ErrNoDisk) {
					t.Fatalf("got %+v, want %v", got, c.want)
				}
			}
			if n := hook.asked.Load(); c.waitaof && n < 3 { // once whether it is there, then for each write
				t.Errorf("asked %d times", n)
			}
			if top, err := b.Tops(b.ctx, to); err != nil || (top[0].Offset == 0) != (c.want == store.ErrNoDisk) {
				t.Errorf("written: %v, %v", top, err)
			}
		})
	}
}
