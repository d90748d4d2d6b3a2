package testkit

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// linkUp is how long a replica gets to have its primary's data: some ten milliseconds alone.
const linkUp = 20 * time.Second

var errStopped = errors.New("the server is stopped")

// replicates are the arguments of a server that is a replica or may become one: who it is to its primary, and no pause for further replicas
// before a primary sends its data.
func replicates(t testing.TB) []string {
	t.Helper()
	name, pass := User(t, "replica")
	return []string{"--masteruser", name, "--masterauth", pass, "--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1"}
}

// Replica starts a server that replicates of, and returns when it has its data and of knows. args are as with Redis.
func Replica(t testing.TB, of *RedisServer, args ...string) *RedisServer {
	t.Helper()
	if of.tls != nil {
		t.Fatal("Replica does not speak TLS: see SentinelOptions.TLS")
	}
	of.must("CONFIG", "SET", "repl-diskless-sync-delay", "0")
	s := startRedis(t, nil, "", append(replicates(t), args...))
	s.Follow(of.Addr)
	of.counts(1)
	return s
}

// counts waits until n replicas answer for something new. A primary sends to a replica only after it acknowledged all that was, which can take
// the second until it does so by itself.
func (s *RedisServer) counts(n int) {
	s.tb.Helper()
	c := s.Client()
	defer c.Close()
	pipe, ctx := c.Pipeline(), Context(s.tb, linkUp)
	pipe.Publish(ctx, "testkit", "new") // it changes nothing
	wait := pipe.Do(ctx, "WAIT", n, linkUp.Milliseconds())
	_, err := pipe.Exec(ctx)
	if got, _ := wait.Int(); err != nil || got < n {
		s.tb.Fatalf("%s counts %v replicas, want %d: %v", s.Addr, got, n, err)
	}
}

// Follow makes the server a replica of who listens at addr, and returns when it has its data. With the address of a Proxy in front of its own
// primary it goes on where it was, and the proxy can hold back what is acknowledged from then on: a Blackhole, then a Cut after the primary is
// gone, and those writes are lost to the replica.
func (s *RedisServer) Follow(addr string) {
	s.tb.Helper()
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		s.tb.Fatalf("follow %q: %v", addr, err)
	}
	s.must("REPLICAOF", host, port)
	c := s.Client()
	defer c.Close()
	EventuallyNil(s.tb, linkUp, func() error {
		info, err := section(s.tb, c, "replication")
		if err == nil && (info["master_link_status"] != "up" || info["master_port"] != port) {
			err = fmt.Errorf("link %s to port %s", info["master_link_status"], info["master_port"])
		}
		return err
	}, s.Addr+" replicates "+addr)
}

// Lead makes a replica a primary, as an operator or a Sentinel would: REPLICAOF NO ONE.
func (s *RedisServer) Lead() { s.tb.Helper(); s.must("REPLICAOF", "NO", "ONE") }

// Info is a section of INFO by field, such as Info("replication")["master_replid"].
func (s *RedisServer) Info(name string) map[string]string {
	s.tb.Helper()
	c := s.Client()
	defer c.Close()
	info, err := section(s.tb, c, name)
	if err != nil {
		s.tb.Fatalf("INFO %s at %s: %v", name, s.Addr, err)
	}
	return info
}

func section(t testing.TB, c *redis.Client, name string) (map[string]string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), redisStart)
	defer cancel()
	text, err := c.Info(ctx, name).Result()
	fields := map[string]string{}
	for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
		if k, v, ok := strings.Cut(lines.Text(), ":"); ok {
			fields[k] = v
		}
	}
	return fields, err
}

// must runs a command as admin.
func (s *RedisServer) must(args ...any) any {
	s.tb.Helper()
	c := s.Client()
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), redisStart)
	defer cancel()
	v, err := c.Do(ctx, args...).Result()
	if err != nil && err != redis.Nil {
		s.tb.Fatalf("%v at %s: %v", args, s.Addr, err)
	}
	return v
}
