package testkit

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// slotOf asks a node, since a copy of the table here would agree with nobody else.
func slotOf(s *RedisServer, key string) int { return int(s.must("CLUSTER", "KEYSLOT", key).(int64)) }

func TestAClusterKeepsItsKeysWhenSlotsMoveAndAMasterDies(t *testing.T) {
	t.Parallel()
	c, ctx := Cluster(t, 3, 3), Context(t, 2*time.Minute)
	all := c.Client()
	const keys = 2500 // in one slot: more than are moved at once
	pipe := all.Pipeline()
	for i := range keys {
		pipe.Set(ctx, fmt.Sprintf("{tag}:%d", i), i, 0)
	}
	if _, err := pipe.Exec(ctx); err != nil {
		t.Fatal(err)
	}
	slot := slotOf(c.Nodes[0], "{tag}")
	from := c.Owner(slot)
	to := c.Nodes[0]
	if to == from {
		to = c.Nodes[1]
	}
	sub := from.Client().SSubscribe(ctx, "{tag}")
	defer sub.Close()
	if _, err := sub.Receive(ctx); err != nil {
		t.Fatal(err)
	}
	c.MoveSlots(to, slot)
	if v, err := sub.Receive(ctx); err != nil || v.(*redis.Subscription).Kind != "sunsubscribe" {
		t.Errorf("a subscription of a slot that went: got %v, %v", v, err)
	}
	if now := c.Owner(slot); now != to || len(to.must("CLUSTER", "GETKEYSINSLOT", slot, keys).([]any)) != keys {
		t.Fatalf("the slot is at %v", now.Addr)
	}
	if err := from.Client().Get(ctx, "{tag}:1").Err(); err == nil || !strings.HasPrefix(err.Error(), "MOVED ") {
		t.Errorf("the old owner: got %v", err)
	}
	to.must("WAIT", 1, 5000)
	to.Stop()
	heir := c.Promoted(to, slot, clusterReady)
	if n := len(heir.must("CLUSTER", "GETKEYSINSLOT", slot, keys).([]any)); n != keys {
		t.Errorf("the replica has %d keys of %d", n, keys)
	}
	EventuallyNil(t, clusterReady, func() error { return all.Set(ctx, "{tag}:1", "x", 0).Err() }, "a client finds the new owner")
	to.Restart()
	Eventually(t, clusterReady, func() bool { return to.Info("replication")["master_link_status"] == "up" }, "who comes back is a replica")
}

func TestAClusterWithoutReplicasSpreadsItsSlots(t *testing.T) {
	t.Parallel()
	c := Cluster(t, 3, 0)
	for slot, want := range map[int]int{0: 0, 5460: 0, 5461: 1, 10921: 1, 10922: 2, 16383: 2} {
		if got := c.Owner(slot); got != c.Nodes[want] {
			t.Errorf("slot %d is at %v, want node %d", slot, got, want)
		}
	}
	c.Nodes[1].Pause()
	Eventually(t, clusterReady, func() bool { return !c.whole() }, "a frozen master is missed")
	c.Nodes[1].Resume()
	Eventually(t, clusterReady, c.whole, "and found again")
}
