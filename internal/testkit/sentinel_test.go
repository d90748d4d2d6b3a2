package testkit

import (
	"testing"
	"time"
)

const failover = 30 * time.Second

func TestSentinelsPromoteTheReplicaOfAKilledOrFrozenPrimary(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*RedisServer){"killed": (*RedisServer).Stop, "frozen": (*RedisServer).Pause} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, ctx := Sentinel(t, SentinelOptions{}), Context(t, 2*failover)
			first := w.Primary()
			if first != w.Servers[0] {
				t.Fatalf("the primary is %v", first)
			}
			if err := first.Client().Set(ctx, "k", "v", 0).Err(); err != nil {
				t.Fatal(err)
			}
			if n := first.must("WAIT", 1, 5000); n != int64(1) {
				t.Fatalf("%v replicas have it", n)
			}
			end(first)
			second := w.Promoted(first, failover)
			c := second.Client()
			if got := c.Get(ctx, "k").Val(); second != w.Servers[1] || got != "v" {
				t.Fatalf("%v is the primary, with %q", second.Addr, got)
			}
			if err := c.Set(ctx, "k", "w", 0).Err(); err != nil {
				t.Fatal(err)
			}
			if name == "frozen" { // it is told that it is a replica now
				first.Resume()
				Eventually(t, failover, func() bool { return first.Info("replication")["master_link_status"] == "up" }, "the old primary follows the new one")
				if got := first.Client().Get(ctx, "k").Val(); got != "w" {
					t.Errorf("the old primary has %q", got)
				}
			}
		})
	}
}

func TestAFailoverLosesWhatWasHeldBackFromTheReplica(t *testing.T) {
	t.Parallel()
	w, ctx := Sentinel(t, SentinelOptions{}), Context(t, 2*failover)
	first := w.Servers[0]
	c := first.Client()
	proxy := w.HoldBack(w.Servers[1])
	for _, key := range []string{"before", "after"} {
		if key == "after" {
			proxy.Blackhole(true)
		}
		if err := c.Set(ctx, key, "v", 0).Err(); err != nil {
			t.Fatal(err)
		}
		if key == "before" {
			first.must("WAIT", 1, 5000)
		}
	}
	first.Stop()
	proxy.Cut()
	second := w.Promoted(first, failover).Client()
	if n := second.Exists(ctx, "before").Val(); n != 1 {
		t.Error("what was replicated is not there")
	}
	if n := second.Exists(ctx, "after").Val(); n != 0 {
		t.Error("what was held back is there")
	}
}

func TestSentinelsSpeakTLS(t *testing.T) {
	t.Parallel()
	w := Sentinel(t, SentinelOptions{TLS: NewAuthority(t)})
	w.Servers[0].Stop()
	w.Promoted(w.Servers[0], failover)
}

func TestAFrozenSentinelIsOutvoted(t *testing.T) {
	t.Parallel()
	w := Sentinel(t, SentinelOptions{})
	w.Sentinels[0].Pause()
	w.Servers[0].Stop()
	w.Promoted(w.Servers[0], failover)
	w.Sentinels[0].Resume()
	Eventually(t, failover, func() bool {
		m, err := w.ask(w.Sentinels[0], "MASTER")
		return err == nil && w.Servers[1].Addr == m[0]["ip"]+":"+m[0]["port"]
	}, "the Sentinel that was frozen learns of it")
}
