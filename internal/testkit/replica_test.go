package testkit

import (
	"testing"
	"time"
)

func TestAReplicaHasWhatItsPrimaryHas(t *testing.T) {
	t.Parallel()
	ctx := Context(t, 30*time.Second)
	primary := Redis(t)
	before := primary.Client()
	if err := before.Set(ctx, "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	replica := Replica(t, primary)
	c := replica.Client()
	if got := c.Get(ctx, "k").Val(); got != "v" {
		t.Fatalf("got %q", got)
	}
	if err := c.Set(ctx, "k", "w", 0).Err(); err == nil {
		t.Fatal("a replica took a write")
	}
	history := primary.Info("replication")["master_replid"]
	primary.Stop()
	replica.Lead()
	if err := c.Set(ctx, "k", "w", 0).Err(); err != nil {
		t.Fatalf("promoted: %v", err)
	}
	if info := replica.Info("replication"); info["master_replid"] == history || info["master_replid2"] != history {
		t.Errorf("promoted: history %s after %s, before it %s", info["master_replid"], info["master_replid2"], history)
	}
}

func TestAReplicaBehindABlackHoleLacksWhatWasAcknowledged(t *testing.T) {
	t.Parallel()
	ctx := Context(t, 30*time.Second)
	primary := Redis(t)
	replica := Replica(t, primary)
	c := primary.Client()
	proxy := NewProxy(t, primary.Addr)
	replica.Follow(proxy.Addr)
	for _, key := range []string{"before", "after"} {
		if key == "after" {
			proxy.Blackhole(true)
		}
		if err := c.Set(ctx, key, "v", 0).Err(); err != nil {
			t.Fatal(err)
		}
		n, err := c.Do(ctx, "WAIT", 1, 300).Int()
		if want := map[string]int{"before": 1}[key]; err != nil || n != want {
			t.Fatalf("%s: %d replicas have it (%v), want %d", key, n, err, want)
		}
	}
	primary.Stop()
	proxy.Cut()
	replica.Lead()
	if n := replica.Client().Exists(ctx, "before").Val(); n != 1 {
		t.Error("what was replicated is not there")
	}
	if n := replica.Client().Exists(ctx, "after").Val(); n != 0 {
		t.Error("what was held back came through")
	}
}
