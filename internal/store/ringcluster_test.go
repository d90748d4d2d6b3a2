package store_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"allim/internal/store"
	"allim/internal/testkit"
	"allim/pkg/notify"
)

// Every master of a cluster has its own history, replicas and clock.
func TestTheRingOfAClusterKnowsEachMaster(t *testing.T) {
	c := testkit.Cluster(t, 3, 3)
	b := clusterBench(t, c, store.Options{})
	b.ctx = testkit.Context(t, 2*time.Minute)
	another := func() (*store.Store, *prometheus.Registry) {
		o, r := counted()
		o.Keys = b.keys
		return open(b, connect(t, c.As("publisher"), func(conn *store.Connection) { conn.Cluster = c.Addresses() }), o), r
	}
	first, r := another()
	b.publisher = first
	stop := run(b, first)
	to, slots := everywhere(b.keys)
	write := func(id string, level store.Level) {
		t.Helper()
		testkit.EventuallyNil(t, 2*soon, func() error { // replicas of a busy machine may take longer than a write waits: again, under the same id
			for i, got := range b.publisher.Write(b.ctx, to, message(id), level) {
				if got.Err != nil {
					return fmt.Errorf("%s on %s: %w", id, to[i].Topic, got.Err)
				}
			}
			return nil
		}, id+" is written")
	}
	write("m1", store.Replicated)
	testkit.Eventually(t, 2*soon, func() bool { return holds(t, r) == 0 }, "let go what the replicas of all masters have")
	wantReplayed(t, r, 0, 0, 0, 0) // no master's history is taken for another's
	froms, err := b.Tops(b.ctx, to)
	if err != nil {
		t.Fatal(err)
	}

	stop()
	b.publisher, r = another() // it does not run yet: all is held
	write("m2", store.Committed)
	moved := slots[:0:0]
	for _, slot := range slots {
		if len(moved) < 5 && c.Owner(slot) == c.Nodes[0] {
			moved = append(moved, slot)
		}
	}
	c.MoveSlots(c.Nodes[1], moved...)
	write("m3", store.Committed)
	got := replayed(t, r)
	if got["held"] == 0 || got["publish"] != 0 {
		t.Errorf("after slots have moved: %v", got)
	}
	for i, s := range to {
		page := b.recover(s, froms[i], 10)
		if all := ids(page.Messages); page.Outcome != notify.Delta || len(all) != 2 || all[0] != "m2" || all[1] != "m3" {
			t.Fatalf("%s: %+v", s.Topic, page)
		}
	}
	stop = run(b, b.publisher)
	start := time.Now()
	stop()
	if n := value(t, r, "allim_redis_not_replicated_total", "when=stop"); n != 0 || time.Since(start) > store.StopBudget {
		t.Errorf("at the end %v masters' replicas were behind, after %v", n, time.Since(start))
	}
}
