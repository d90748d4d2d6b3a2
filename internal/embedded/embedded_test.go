package embedded_test

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"allim/internal/embedded"
	"allim/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

func TestKeysExpireByThemselvesAndNotEarly(t *testing.T) {
	t.Parallel()
	c, ctx := client(t, run(t).Addr()), testkit.Context(t, 30*time.Second)
	const ttl = 700 * time.Millisecond
	start := time.Now()
	for _, err := range []error{
		c.Set(ctx, "short", "v", ttl).Err(),
		c.Set(ctx, "long", "v", time.Hour).Err(),
		c.Set(ctx, "forever", "v", 0).Err(),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	testkit.Eventually(t, 10*time.Second, func() bool { return exists(t, c, "short") == 0 }, "the key expires")
	if lived := time.Since(start); lived < ttl-300*time.Millisecond {
		t.Errorf("a key of %v lived %v", ttl, lived)
	}
	if exists(t, c, "long") != 1 || exists(t, c, "forever") != 1 {
		t.Error("a key that had time left is gone")
	}
	left, err := c.PTTL(ctx, "long").Result()
	if err != nil || left > time.Hour-ttl+300*time.Millisecond || left < time.Hour-30*time.Second {
		t.Errorf("time left of an hour: got %v, %v", left, err)
	}
}

func TestCommandsThatRedis70LacksAreUnknownAlsoInScripts(t *testing.T) {
	t.Parallel()
	c, ctx := client(t, run(t).Addr()), testkit.Context(t, 10*time.Second)
	if err := c.HSet(ctx, "h", "f", "v").Err(); err != nil {
		t.Fatal(err)
	}
	unknown := regexp.MustCompile(`(?i)unknown (redis )?command`) // as Redis says it plainly and to a script
	plain := c.Do(ctx, "hexpire", "h", "100", "FIELDS", "1", "f").Err()
	script := c.Eval(ctx, `return redis.call("HEXPIRE", KEYS[1], 100, "FIELDS", 1, "f")`, []string{"h"}).Err()
	for _, err := range []error{plain, script} {
		if err == nil || !unknown.MatchString(err.Error()) {
			t.Errorf("HEXPIRE: got %v, want unknown command", err)
		}
	}
	if got, err := c.HGet(ctx, "h", "f").Result(); got != "v" || err != nil {
		t.Errorf("a common command: got %q, %v, want v", got, err)
	}
}

// The library's source tells which commands it has, a real server which of them
// are known. A new version of either shows up here.
func TestRefusedCommandsAreExactlyThoseThatRealRedisLacks(t *testing.T) {
	t.Parallel()
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/alicebob/miniredis/v2").Output()
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(dir)), "cmd_*.go"))
	if err != nil {
		t.Fatal(err)
	}
	name, seen := regexp.MustCompile(`srv\.Register\(\s*"([A-Z_]+)"`), 0
	here, real := client(t, run(t).Addr()), testkit.Redis(t).Client()
	ctx := testkit.Context(t, 20*time.Second)
	for _, f := range files {
		src, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range name.FindAllStringSubmatch(string(src), -1) {
			seen++
			infos, err := real.Do(ctx, "COMMAND", "INFO", m[1]).Slice()
			if err != nil {
				t.Fatal(err)
			}
			known := infos[0] != nil
			if slices.Contains([]string{"QUIT", "SHUTDOWN", "BLPOP", "BRPOP", "BLMOVE", "BLMPOP"}, m[1]) {
				continue // would end or block our connection; Redis has them all
			}
			err = here.Do(ctx, m[1]).Err() // without arguments: an error either way, for most
			refused := err != nil && strings.Contains(err.Error(), "Redis 7.0 does not have it")
			if known == refused {
				t.Errorf("%s: known to Redis %t, refused here %t", m[1], known, refused)
			}
		}
	}
	if seen < 150 {
		t.Fatalf("found %d commands in the library, want all of its 190 or so", seen)
	}
}

func TestOnlyLoopbackIsServed(t *testing.T) {
	t.Parallel()
	for _, addr := range []string{"0.0.0.0:0", ":0", "[::]:0", "192.0.2.1:0", "example.org:0", "127.0.0.1"} {
		s, err := embedded.Listen(embedded.Options{Addr: addr})
		if err == nil {
			s.Close()
			t.Errorf("%q is accepted", addr)
		}
	}
	s, err := embedded.Listen(embedded.Options{Addr: "localhost:0"})
	if err != nil {
		t.Fatalf("localhost: %v", err)
	}
	s.Close()
}

func TestATakenPortIsAnError(t *testing.T) {
	t.Parallel()
	s, err := embedded.Listen(embedded.Options{Addr: run(t).Addr()})
	if err == nil {
		s.Close()
		t.Fatal("two servers share a port")
	}
}

func TestRunEndsConnectionsWithItsContext(t *testing.T) {
	t.Parallel()
	s, err := embedded.Listen(embedded.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	conn, err := net.Dial("tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	cancel()
	if err := testkit.Receive(t, 5*time.Second, done, "Run ends"); err != nil {
		t.Fatalf("Run: %v", err)
	}
	if err := conn.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("a connection after the end: got %v, want it closed", err)
	}
}

// run serves until the test ends.
func run(t *testing.T) *embedded.Server {
	t.Helper()
	s, err := embedded.Listen(embedded.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() { cancel(); testkit.Receive(t, 5*time.Second, done, "Run ends") })
	return s
}

func client(t *testing.T, addr string) *redis.Client {
	t.Helper()
	c := redis.NewClient(&redis.Options{Addr: addr, ContextTimeoutEnabled: true, MaxRetries: -1,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}})
	t.Cleanup(func() { c.Close() })
	return c
}

func exists(t *testing.T, c *redis.Client, key string) int64 {
	t.Helper()
	n, err := c.Exists(testkit.Context(t, 5*time.Second), key).Result()
	if err != nil {
		t.Fatal(err)
	}
	return n
}
