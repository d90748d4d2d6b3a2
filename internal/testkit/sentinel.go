package testkit

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// WatchedName is what the Sentinels of a Watched call its primary.
	WatchedName = "allim"

	helloFast   = "100"    // milliseconds between the words by which Sentinels find one another, while they do
	helloUsual  = "2000"   // Sentinel's own
	helloNever  = "600000" // four times that must pass before a Sentinel sets a replica right that follows another than it should
	watchReady  = 30 * time.Second
	defaultDown = time.Second
)

// SentinelOptions say what Sentinel starts.
type SentinelOptions struct {
	Replicas  int           // 0: 1
	Sentinels int           // 0: 3; more than half of them must agree
	DownAfter time.Duration // silence after which a server counts as down; 0: 1 s
	Args      []string      // further arguments of every server that holds data
	TLS       *Authority    // all speak TLS only, and ask for a certificate of it; nil: none does
}

// A Watched is a primary, its replicas and the Sentinels that watch over them. Each is a process of its own that can be frozen, killed and
// started again as any RedisServer can; a killed server that comes back believes to be a primary until the Sentinels tell it.
type Watched struct {
	Servers   []*RedisServer // the first primary, then its replicas
	Sentinels []*RedisServer

	tb testing.TB
}

// Sentinel starts a Watched that lives as long as the test, and returns when a failover could happen: all know one another and every replica
// has the data.
func Sentinel(t testing.TB, o SentinelOptions) *Watched {
	t.Helper()
	if o.Replicas == 0 {
		o.Replicas = 1
	}
	if o.Sentinels == 0 {
		o.Sentinels = 3
	}
	if o.DownAfter == 0 {
		o.DownAfter = defaultDown
	}
	w := &Watched{tb: t}
	for i := range 1 + o.Replicas {
		w.Servers = append(w.Servers, o.server(t))
		if i > 0 {
			w.Servers[i].Follow(w.Servers[0].Addr)
			w.Servers[0].counts(i)
		}
	}
	for range o.Sentinels {
		w.Sentinels = append(w.Sentinels, o.sentinel(t, w.Servers[0]))
	}
	w.hello(helloFast)
	EventuallyNil(t, watchReady, func() error { return w.ready(o.Replicas) }, "Sentinels know all")
	w.hello(helloUsual)
	return w
}

func (o *SentinelOptions) server(t testing.TB) *RedisServer {
	t.Helper()
	args := slices.Concat(replicates(t), o.Args)
	if o.TLS == nil {
		return Redis(t, args...)
	}
	return RedisTLS(t, o.TLS, append(args, "--tls-replication", "yes")...)
}

// sentinel starts one Sentinel with the settings that are deployed, but faster. It writes what it learns into its file, so that Restart is a return of the same one.
func (o *SentinelOptions) sentinel(t testing.TB, primary *RedisServer) *RedisServer {
	t.Helper()
	s := newRedis(t)
	host, port, _ := net.SplitHostPort(primary.Addr)
	_, pass := User(t, "sentinel")
	template, err := os.ReadFile(filepath.Join(deployed(t), "sentinel.conf"))
	if err != nil {
		t.Fatal(err)
	}
	lines := []string{strings.NewReplacer("/etc/redis/sentinel.acl", filled(t, "sentinel.acl", s.dir), "change-me", pass,
		"redis.example 6379 2", fmt.Sprintf("%s %s %d", host, port, o.Sentinels/2+1)).Replace(string(template)),
		fmt.Sprintf("sentinel down-after-milliseconds %s %d", WatchedName, o.DownAfter.Milliseconds()),
		fmt.Sprintf("sentinel failover-timeout %s 5000", WatchedName),
	}
	if o.TLS != nil {
		cert, key := o.TLS.Pair("redis-sentinel")
		s.tls = o.TLS.Config("admin")
		lines = append(lines, "tls-replication yes", "tls-cert-file "+cert, "tls-key-file "+key, "tls-ca-cert-file "+o.TLS.CAFile)
	}
	path := filepath.Join(s.dir, "sentinel.conf")
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.conf = []string{path, "--sentinel"}
	return s.launch()
}

// Addresses are the Sentinels', as host:port.
func (w *Watched) Addresses() (all []string) {
	for _, s := range w.Sentinels {
		all = append(all, s.Addr)
	}
	return all
}

// As is the URL of the data for a role. Its address is the first primary's and counts for nobody who asks Sentinels.
func (w *Watched) As(role string) string { w.tb.Helper(); return w.Servers[0].As(role) }

// Primary is the server that most Sentinels name; nil while they do not agree, or none answers.
func (w *Watched) Primary() *RedisServer {
	w.tb.Helper()
	votes := map[string]int{}
	for _, s := range w.Sentinels {
		if m, err := w.ask(s, "MASTER"); err == nil && len(m) == 1 {
			votes[net.JoinHostPort(m[0]["ip"], m[0]["port"])]++
		}
	}
	for _, s := range w.Servers {
		if votes[s.Addr] > len(w.Sentinels)/2 {
			return s
		}
	}
	return nil
}

// Promoted waits until the Sentinels name another primary than old, which takes writes, and returns it.
func (w *Watched) Promoted(old *RedisServer, within time.Duration) *RedisServer {
	w.tb.Helper()
	var now *RedisServer
	Eventually(w.tb, within, func() bool {
		now = w.Primary()
		return now != nil && now != old && now.Info("replication")["role"] == "master"
	}, "a failover from "+old.Addr)
	w.hello(helloUsual)
	return now
}

// HoldBack puts a proxy between a replica and the primary: after its Blackhole(true) the replica gets nothing more, though all believe their
// link to be up, and after the primary's end Cut throws away what was held. Without more ado the Sentinels would connect the two again directly,
// after 8 s; they do not until Promoted.
func (w *Watched) HoldBack(replica *RedisServer) *Proxy {
	w.tb.Helper()
	p := NewProxy(w.tb, w.Primary().Addr)
	w.hello(helloNever)
	replica.Follow(p.Addr)
	return p
}

// ready tells what is missing for a failover.
func (w *Watched) ready(replicas int) error {
	for _, s := range w.Sentinels {
		m, err := w.ask(s, "MASTER")
		if err != nil {
			return err
		}
		if m[0]["flags"] != "master" || m[0]["num-slaves"] != strconv.Itoa(replicas) || m[0]["num-other-sentinels"] != strconv.Itoa(len(w.Sentinels)-1) {
			return fmt.Errorf("%s: %s with %s replicas and %s other Sentinels", s.Addr, m[0]["flags"], m[0]["num-slaves"], m[0]["num-other-sentinels"])
		}
		for _, of := range []string{"REPLICAS", "SENTINELS"} {
			list, err := w.ask(s, of)
			if err != nil {
				return err
			}
			for _, r := range list {
				if r["flags"] != "slave" && r["flags"] != "sentinel" || r["master-link-status"] != "ok" && of == "REPLICAS" {
					return fmt.Errorf("%s: %s is %s, link %s", s.Addr, r["name"], r["flags"], r["master-link-status"])
				}
			}
		}
	}
	return nil
}

// hello sets how often the Sentinels that answer tell others what they know.
func (w *Watched) hello(every string) {
	w.tb.Helper()
	for _, s := range w.Sentinels {
		_ = w.do(s, redis.NewStatusCmd(w.tb.Context(), "SENTINEL", "DEBUG", "publish-period", every)) // one that is down or frozen does not
	}
}

// ask is SENTINEL MASTER, REPLICAS or SENTINELS.
func (w *Watched) ask(s *RedisServer, what string) ([]map[string]string, error) {
	if what == "MASTER" {
		cmd := redis.NewMapStringStringCmd(w.tb.Context(), "SENTINEL", what, WatchedName)
		err := w.do(s, cmd)
		return []map[string]string{cmd.Val()}, err
	}
	cmd := redis.NewMapStringStringSliceCmd(w.tb.Context(), "SENTINEL", what, WatchedName)
	err := w.do(s, cmd)
	return cmd.Val(), err
}

func (w *Watched) do(s *RedisServer, cmd redis.Cmder) error {
	w.tb.Helper()
	if s.stopped() {
		return errStopped
	}
	c := s.Client()
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	return c.Process(ctx, cmd)
}
