//go:build fault

package fault

import (
	"maps"
	"slices"
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
	replication := w.watched.HoldBack(w.watched.Servers[1])
	w.begin(load{})
	var lost loss
	w.fault("failover that loses", func() {
		back := make(chan struct{})
		defer close(back)
		for _, r := range w.readers {
			if r.user == "user-1" { // who sees nothing of what is lost, and must not be reset
				r.goAway(back)
			}
		}
		w.pause(time.Second)
		replication.Blackhole(true)
		w.acknowledges(40, w.publishers...)
		lost = w.failOver(replication)
	})
	w.pause(most(6*time.Second, 3*time.Second))
	w.finish(allowed{resets: lossResets, late: time.Second})
	w.proves("messages lost", lost.messages)
	w.proves("marks lost", lost.marks)
	w.wroteAgain(lost)
	w.proves("resets", w.row.sum.resets)
	w.proves("frames of what came again", w.row.sum.replays)
}

// holderKilled is failoverLoses, after one of those who have to write again was killed: what it alone held is unknown, and nothing else. That it
// was started again helps nobody.
func holderKilled(start start) {
	w := start(options{sentinel: true})
	replication := w.watched.HoldBack(w.watched.Servers[1])
	w.begin(load{})
	var lost loss
	w.fault("holder killed, and a failover that loses", func() {
		replication.Blackhole(true)
		holder := w.publishers[0]
		w.acknowledges(20, w.publishers...)
		w.kill(holder)
		w.writing.Lock() // who waits for an answer of the dead has had it, or one from elsewhere
		w.log.add(Event{What: killed, Pod: holder.name})
		w.writing.Unlock()
		w.again(holder)
		w.acknowledges(20, w.publishers[1])
		lost = w.failOver(replication)
	})
	w.pause(most(6*time.Second, 3*time.Second))
	w.finish(allowed{resets: lossResets, late: time.Second})
	w.proves("operations whose only holder was killed", lost.unknown)
	w.proves("of these unknown", w.row.sum.unknown)
	w.proves("messages lost and written again", lost.messages)
	w.wroteAgain(lost)
}

// acknowledges waits until each of these publishers has acknowledged n operations more.
func (w *world) acknowledges(n int, publishers ...*node) {
	w.tb.Helper()
	since := w.log.now()
	for _, p := range publishers {
		w.eventually(failoverWithin, p.name+" acknowledges", func() bool {
			return w.log.count(func(e *Event) bool { return e.What == acked && e.Pod == p.name && e.At > since }) >= n
		})
	}
}

// failOver kills the primary, whose replica hears nothing any more, and is what is lost when that is promoted.
func (w *world) failOver(replication *testkit.Proxy) loss {
	w.tb.Helper()
	old, heir := w.watched.Servers[0], w.watched.Servers[1]
	streams := w.streamsOn(old)
	old.Stop()
	replication.Cut()
	lost := w.keeps(heir, streams)
	if w.watched.Promoted(old, failoverWithin) != heir {
		w.tb.Fatal("another server was promoted")
	}
	return lost
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
	w.pause(most(6*time.Second, 3*time.Second))
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
		for _, slot := range slices.Sorted(maps.Keys(slots)) {
			if moved < most(20, 5) {
				moved++
				w.cluster.MoveSlots(to, slot)
			}
		}
	})
	if moved < most(20, 5) {
		w.tb.Errorf("only %d slots of ours could be moved", moved)
	}
	w.eventually(time.Minute, "links were made anew", func() bool {
		links = w.metric(w.gateways, "allim_feed_link_generations_total") - before
		return links >= moved*len(w.gateways)
	})
	w.pause(3 * time.Second)
	var lost loss
	w.fault("a master killed", func() {
		streams := w.streamsOn(old)
		w.dead = old
		old.Stop()
		lost = w.keeps(w.cluster.Nodes[5], streams)
		var slot int
		for _, st := range streams {
			slot = int(w.redis.Client().ClusterKeySlot(w.ctx, st.key).Val())
		}
		w.cluster.Promoted(old, slot, failoverWithin)
	})
	w.pause(most(6*time.Second, 3*time.Second))
	w.finish(allowed{resets: lossResets, late: time.Second})
	w.proves("slots moved", moved)
	w.proves("links that moved", w.metric(w.gateways, "allim_feed_link_ends_total", "cause", "moved"))
	w.proves("links begun", links)
	w.proves("writes tried again", w.metric(w.nodes(), "allim_redis_retries_total"))
	w.wroteAgain(lost)
}
