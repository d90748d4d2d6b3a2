//go:build fault

package fault

import (
	"strconv"
	"testing"
	"time"

	"allim/internal/testkit"
)

const failoverWithin = 30 * time.Second // Sentinels agree after a second of silence, and need some more

// failoverLoses cuts a replica off, so that what is acknowledged from then on stands on the primary alone, and kills that. The replica is promoted. Whoever saw
// what it lacks is told so, and those who acknowledged it write it again.
func failoverLoses(start start) {
	w := start(options{sentinel: true})
	old, heir := w.watched.Servers[0], w.watched.Servers[1]
	replication := w.watched.HoldBack(heir)
	w.begin(load{})
	messages, marks := 0, 0
	w.fault("failover that loses", func() {
		back := make(chan struct{})
		for _, r := range w.readers {
			if r.user == "user-1" { // who sees nothing of what is lost, and must not be reset
				r.goAway(back)
			}
		}
		w.pause(time.Second)
		replication.Blackhole(true)
		w.pause(3 * time.Second)
		defer close(back)
		w.log.add(Event{What: lossy})
		streams := w.streamsOn(old)
		old.Stop()
		replication.Cut()
		messages, marks = w.keeps(heir, streams)
		if w.watched.Promoted(old, failoverWithin) != heir {
			w.tb.Fatal("another server was promoted")
		}
	})
	w.pause(6 * time.Second)
	w.finish(allowed{resets: lossResets, late: time.Second})
	w.proves("messages lost", messages)
	w.proves("marks lost", marks)
	w.wroteAgain(messages, marks)
	w.proves("resets", w.row.sum.resets)
	w.proves("frames of what came again", w.row.sum.replays)
}

// failoverKeeps kills a primary whose replica has everything. Nobody is reset, and nothing is written again.
func failoverKeeps(start start) {
	w := start(options{sentinel: true})
	old, heir := w.watched.Servers[0], w.watched.Servers[1]
	w.begin(load{})
	history := old.Info("replication")["master_replid"]
	w.fault("failover that loses nothing", func() {
		w.writing.Lock() // else what is acknowledged in the last microseconds is lost
		followed(w.tb, old, heir)
		old.Stop()
		w.writing.Unlock()
		if w.watched.Promoted(old, failoverWithin) != heir {
			w.tb.Fatal("another server was promoted")
		}
	})
	w.pause(6 * time.Second)
	w.finish(allowed{late: time.Second})
	if again := w.metric(w.nodes(), "allim_redis_replayed_total"); again != 0 || w.row.sum.replays != 0 {
		w.tb.Errorf("%d operations were written again, and %d frames said so, where nothing was lost", again, w.row.sum.replays)
	}
	if heir.Info("replication")["master_replid"] == history {
		w.tb.Error("the history has not changed")
	}
	w.proves("operations that Redis still held", w.metric(w.nodes(), "allim_redis_replay_held_total"))
}

// followed waits until a replica has all that its primary has.
func followed(tb testing.TB, primary, replica *testkit.RedisServer) {
	tb.Helper()
	testkit.Eventually(tb, failoverWithin, func() bool {
		at, err := strconv.Atoi(primary.Info("replication")["master_repl_offset"])
		has, err2 := strconv.Atoi(replica.Info("replication")["slave_repl_offset"])
		return err == nil && err2 == nil && has >= at
	}, "the replica has everything")
}

// slotsMoved moves slots of ours to another master while everybody writes, and then kills a master.
func slotsMoved(start start) {
	w := start(options{cluster: true})
	w.begin(load{users: 8, topics: 14, every: 500 * time.Millisecond})
	before := w.metric(w.gateways, "allim_feed_link_generations_total")
	from, to, old := []*testkit.RedisServer{w.cluster.Nodes[0], w.cluster.Nodes[2]}, w.cluster.Nodes[1], w.cluster.Nodes[2]
	moved, links := 0, 0
	w.fault("slots moved", func() {
		slots := map[int]bool{}
		for _, node := range from {
			for _, st := range w.streamsOn(node) {
				slots[int(w.redis.Client().ClusterKeySlot(w.ctx, st.key).Val())] = true
			}
		}
		for slot := range slots {
			if moved < most(20, 5) {
				moved++
				w.cluster.MoveSlots(to, slot)
			}
		}
	})
	if moved < most(20, 5) {
		w.tb.Errorf("only %d slots of ours could be moved", moved)
	}
	w.eventually(healedAfter, "links were made anew", func() bool {
		links = w.metric(w.gateways, "allim_feed_link_generations_total") - before
		return links >= moved*len(w.gateways)
	})
	w.pause(3 * time.Second)
	messages, marks := 0, 0
	w.fault("a master killed", func() {
		w.log.add(Event{What: lossy})
		streams := w.streamsOn(old)
		w.dead = old
		old.Stop()
		messages, marks = w.keeps(w.cluster.Nodes[5], streams)
		var slot int
		for _, st := range streams {
			slot = int(w.redis.Client().ClusterKeySlot(w.ctx, st.key).Val())
		}
		w.cluster.Promoted(old, slot, failoverWithin)
	})
	w.pause(6 * time.Second)
	w.finish(allowed{resets: lossResets, late: time.Second})
	w.proves("slots moved", moved)
	w.proves("links that moved", w.metric(w.gateways, "allim_feed_link_ends_total", "cause", "moved"))
	w.proves("links begun", links)
	w.proves("writes tried again", w.metric(w.nodes(), "allim_redis_retries_total"))
	w.wroteAgain(messages, marks)
}
