// Package embedded is the Redis of a machine that has none: an in-process server
// for the demo and for trying things out. It keeps nothing on disk, has one lock
// for everything, and knows no sharded pub/sub, so it never serves production.
//
// Two things make it a better stand-in than the bare library. Its clock runs, so
// keys expire; and commands that the library has but Redis 7.0 lacks are unknown,
// also inside scripts, so nothing can work here that fails there.
package embedded

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/alicebob/miniredis/v2/server"
)

// The library's TTLs pass only by FastForward, which visits every key under the
// lock: 24 ms at 50,000 keys with a TTL. A key can expire early by up to the
// time since the tick before it was written, so ticks are frequent while they
// are cheap and rarer as the keys grow, at most a twentieth of one core.
const (
	tickEvery = 100 * time.Millisecond // shortest time between ticks
	tickShare = 20                     // a tick is followed by at least this many times its own cost
)

// newerThan70 are the library's commands that redis-server 7.0 does not know.
// A test compares them with a real server and the library's source.
var newerThan70 = []string{"DELEX", "HEXPIRE", "HPERSIST", "HPTTL", "HSETEX", "HTTL"}

// Options says where to listen.
type Options struct {
	Addr string // host:port with a loopback host; empty: a free port of 127.0.0.1
}

// A Server answers as soon as Listen returns; Run makes its clock pass and is
// how it ends.
type Server struct {
	redis *miniredis.Miniredis
	addr  string
	since time.Time // of the last tick; Run's alone
}

// Listen starts a server. Its caller calls Run, or Close if it never gets so far.
func Listen(o Options) (*Server, error) {
	if o.Addr == "" {
		o.Addr = "127.0.0.1:0"
	}
	if err := checkLoopback(o.Addr); err != nil {
		return nil, fmt.Errorf("listen at %q: %w", o.Addr, err)
	}
	r := miniredis.NewMiniRedis()
	if err := r.StartAddr(o.Addr); err != nil {
		return nil, fmt.Errorf("listen at %q: %w", o.Addr, err)
	}
	r.Server().SetPreHook(refuseNewer)
	return &Server{redis: r, addr: r.Addr(), since: wallNow()}, nil
}

// Addr is host:port with the port that was really taken.
func (s *Server) Addr() string { return s.addr }

// URL is Addr in the form that our settings and redis.ParseURL take.
func (s *Server) URL() string { return "redis://" + s.addr + "/0" }

// Run lets the TTLs pass until ctx ends, then closes the server and every
// connection. It is called once.
func (s *Server) Run(ctx context.Context) error {
	defer s.Close()
	timer := time.NewTimer(tickEvery)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
			timer.Reset(max(tickEvery, tickShare*s.tick()))
		}
	}
}

// Close ends the server and waits for its connections' goroutines. Only for a
// server whose Run is not called; a second call does nothing.
func (s *Server) Close() { s.redis.Close() }

// tick takes the time since the last tick off every TTL and returns what that cost.
func (s *Server) tick() (cost time.Duration) {
	now := wallNow()
	passed := now.Sub(s.since)
	s.since = now
	if passed <= 0 { // the clock was set back: nothing expires from that
		return 0
	}
	start := time.Now()
	s.redis.FastForward(passed)
	return time.Since(start)
}

// FastForward takes d off every TTL at once. For tests of what is left when all has ended.
func (s *Server) FastForward(d time.Duration) { s.redis.FastForward(d) }

// wallNow is the time without the monotonic reading, which stands still while a
// laptop sleeps: as in Redis, keys expire over that.
func wallNow() time.Time { return time.Now().Round(0) }

// refuseNewer runs before each command, those of scripts included; true means
// that it is answered.
func refuseNewer(c *server.Peer, cmd string, _ ...string) bool {
	if _, newer := slices.BinarySearch(newerThan70, cmd); !newer {
		return false
	}
	c.WriteError(fmt.Sprintf("ERR unknown command '%s': Redis 7.0 does not have it", strings.ToLower(cmd)))
	return true
}

// checkLoopback refuses what other machines could reach: the server asks for no
// password.
func checkLoopback(addr string) error {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return err
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return fmt.Errorf("host %q is not loopback", host)
	}
	return nil
}
