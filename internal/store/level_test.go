package store_test

import (
	"context"
	"errors"
	"net"
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

// slow holds up pipelines with a WAIT in them.
type slow struct{ until chan struct{} }

func (s *slow) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (s *slow) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

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
	end := later(t, func() error {
		return b.publisher.Write(b.ctx, []notify.Stream{stream("a")}, message("m"), store.Replicated)[0].Err
	})
	testkit.Eventually(t, soon, func() bool { return b.publisher.Busy() > 0 }, "be at work")
	b.publish(stream("b"), "m1", "m2")
	close(hook.until)
	if err := testkit.Receive(t, soon, end, "the wait's end"); !errors.Is(err, store.ErrNotReplicated) {
		t.Errorf("got %v", err)
	}
}

// aof answers WAITAOF, which Redis 7.0 does not know, with the number of append files that have it.
type aof struct {
	synced atomic.Int64
	asked  atomic.Int64
}

func (a *aof) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (a *aof) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (a *aof) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		var others []redis.Cmder
		for _, c := range cmds {
			if wait, ok := c.(*redis.Cmd); ok && c.Name() == "waitaof" {
				a.asked.Add(1)
				wait.SetVal([]any{a.synced.Load(), int64(0)})
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
			rdb, hook := connect(t, b.as("publisher")), &aof{}
			hook.synced.Store(c.synced)
			if c.waitaof {
				rdb.AddHook(hook)
			}
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
