package testkit

import (
	"context"
	"sync"
	"testing"
	"time"
)

func TestRedisAnswersAndForgetsOnRestart(t *testing.T) {
	t.Parallel()
	s := Redis(t)
	c, ctx := s.Client(), Context(t, 20*time.Second)
	if err := c.Set(ctx, "k", "v", 0).Err(); err != nil {
		t.Fatalf("set: %v", err)
	}
	addr := s.Addr
	s.Restart()
	if s.Addr != addr {
		t.Fatalf("address after restart: got %s, want %s", s.Addr, addr)
	}
	var n int64
	EventuallyNil(t, 5*time.Second, func() (err error) { n, err = c.Exists(ctx, "k").Result(); return err }, "answer after restart")
	if n != 0 {
		t.Fatal("the key outlived a restart")
	}
}

func TestStoppedRedisRefuses(t *testing.T) {
	t.Parallel()
	s := Redis(t)
	s.Stop()
	s.Stop() // twice is fine
	if err := s.Client().Ping(Context(t, 5*time.Second)).Err(); err == nil {
		t.Fatal("a stopped server answers")
	}
}

func TestPausedRedisIsSilentUntilResumed(t *testing.T) {
	t.Parallel()
	s := Redis(t)
	c := s.Client()
	s.Pause()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := c.Ping(ctx).Err(); err == nil {
		t.Fatal("a paused server answers")
	}
	s.Resume()
	if err := c.Ping(Context(t, 5*time.Second)).Err(); err != nil {
		t.Fatalf("after resume: %v", err)
	}
}

func TestRedisTakesFurtherArguments(t *testing.T) {
	t.Parallel()
	s := Redis(t, "--maxmemory", "12345678", "--maxmemory-policy", "noeviction")
	got, err := s.Client().ConfigGet(Context(t, 5*time.Second), "maxmemory").Result()
	if err != nil || got["maxmemory"] != "12345678" {
		t.Fatalf("got %v, %v, want 12345678", got, err)
	}
}

func TestManyServersAtOnceHaveTheirOwnPorts(t *testing.T) {
	t.Parallel()
	servers := make([]*RedisServer, 8)
	var wg sync.WaitGroup
	for i := range servers {
		wg.Go(func() { servers[i] = Redis(t) }) // a failure ends this goroutine and leaves nil
	}
	wg.Wait()
	seen := map[string]bool{}
	for _, s := range servers {
		if s == nil || seen[s.Addr] {
			t.Fatalf("a server did not start or shares its address: %v", servers)
		}
		seen[s.Addr] = true
	}
}

func TestATakenPortIsNoticed(t *testing.T) {
	t.Parallel()
	first := Redis(t)
	second := &RedisServer{tb: t, Addr: first.Addr, bin: first.bin, dir: t.TempDir(), port: first.port, args: first.args}
	second.mu.Lock()
	defer second.mu.Unlock()
	if err := second.startLocked(); err != errPortTaken {
		t.Fatalf("got %v, want %v", err, errPortTaken)
	}
}

func BenchmarkRedisStart(b *testing.B) {
	for b.Loop() {
		Redis(b).Stop()
	}
}
