package fanout_test

import (
	"fmt"
	"strings"
	"testing"

	"allim/internal/keyspace"
	"allim/internal/store"
	"allim/internal/testkit"
	"allim/pkg/fanout"
	"allim/pkg/notify"
)

// A clusterBed is a cluster of 3 masters and 3 replicas with a publisher's Store.
type clusterBed struct {
	*testkit.RedisCluster
	*storeBed
}

func newClusterBed(t *testing.T) *clusterBed {
	t.Helper()
	c := testkit.Cluster(t, 3, 3)
	return &clusterBed{c, newStoreBed(t, func(role string) store.Connection { return store.Connection{URL: c.As(role), Cluster: c.Addresses()} })}
}

// slot is where a partition is.
func (b *clusterBed) slot(p int) int {
	tag := b.keys.Probe(p, "")
	return int(keyspace.Slot(tag[strings.Index(tag, "{")+1 : strings.Index(tag, "}")]))
}

// topics are names of one event topic in each of the partitions.
func (b *clusterBed) topics(partitions []int) []notify.Stream {
	found, all := map[int]notify.Stream{}, make([]notify.Stream, len(partitions))
	for i := 0; len(found) < b.keys.Partitions(); i++ {
		s := topic(fmt.Sprint("t/", i))
		if p := b.keys.Partition(s); found[p].Topic == "" {
			found[p] = s
		}
	}
	for i, p := range partitions {
		all[i] = found[p]
	}
	return all
}

func TestOnAClusterAGatewayReceivesWhatItSubscribedToAndNothingElse(t *testing.T) {
	t.Parallel()
	b := newClusterBed(t)
	all := make([]int, b.keys.Partitions())
	for i := range all {
		all[i] = i
	}
	topics := b.topics(all)
	h1, h2 := b.hub(t, "g1"), b.hub(t, "g2")
	if got := h1.Stats(); got.Links != len(all) || got.LinksUp != len(all) {
		t.Fatalf("%d of %d links are up, want one for each of %d partitions", got.LinksUp, got.Links, len(all))
	}
	var sinks []*sink
	attach := func(h *fanout.Hub, s notify.Stream) {
		sinks = append(sinks, newSink())
		h.Attach(s, fromNow, sinks[len(sinks)-1])
	}
	const few, each = 8, 5
	for i, s := range topics {
		attach(h1, s)
		if i%(len(all)/few) == 0 {
			attach(h2, s)
		}
	}
	for _, s := range sinks {
		wantBegin(t, s, 1)
	}
	for i := range each {
		for _, s := range topics {
			b.publish(t, s, fmt.Sprint(i))
		}
	}
	for _, s := range sinks {
		wantInOrder(t, s, 1, each)
		if s.live != each {
			t.Errorf("%d of %d messages were live", s.live, each)
		}
	}
	if one, two := h1.Stats().Messages, h2.Stats().Messages; one != uint64(each*len(all)) || two != each*few {
		t.Errorf("received %d and %d messages, want %d and %d", one, two, each*len(all), each*few)
	}
}

func TestOnAClusterMovedSlotsAndADeadMasterLoseNothingAndRepeatNothing(t *testing.T) {
	t.Parallel()
	b := newClusterBed(t)
	from := b.Owner(b.slot(0))
	var slots, partitions []int
	for p := range b.keys.Partitions() {
		if b.Owner(b.slot(p)) == from && len(slots) < 20 {
			slots, partitions = append(slots, b.slot(p)), append(partitions, p)
		}
	}
	for p := b.keys.Partitions() - 1; len(partitions) < 30; p -= 7 { // and some that stay where they are
		partitions = append(partitions, p)
	}
	topics := b.topics(partitions)
	hubs := []*fanout.Hub{b.hub(t, "g1"), b.hub(t, "g2")}
	sinks := map[notify.Topic][]*sink{}
	for _, s := range topics {
		for _, h := range hubs {
			k := newSink()
			sinks[s.Topic] = append(sinks[s.Topic], k)
			h.Attach(s, fromNow, k)
			wantBegin(t, k, 1)
		}
	}
	l := b.load(t, topics)
	l.more(t, 3)

	to := b.Nodes[1]
	if to == from {
		to = b.Nodes[2]
	}
	b.MoveSlots(to, slots...)
	l.more(t, 3)
	for _, h := range hubs {
		if got := h.Stats().LinkEnds["moved"]; got < uint64(len(slots)) {
			t.Errorf("%d links ended because their partition moved, want at least %d", got, len(slots))
		}
		testkit.Eventually(t, settled, h.Ready, "ready after the moves")
	}
	generations := hubs[0].Stats().Generation

	to.Stop() // with what it had before, and the 20
	b.Promoted(to, slots[0], settled)
	l.more(t, 3)
	l.stop()
	if got := hubs[0].Stats().Generation; got <= generations {
		t.Error("no link ended with its master")
	}
	for _, h := range hubs {
		testkit.Eventually(t, settled, h.Ready, "ready after the failover")
	}
	lost := 0
	for name, list := range sinks {
		for _, s := range list {
			lost += s.wantAll(t, string(name), int(l.sent[name].Load()))
		}
	}
	t.Logf("moved %d slots and lost a master with %d topics heard; %d resets for messages that the replica did not have; links ended %v", len(slots), len(topics), lost, hubs[0].Stats().LinkEnds)
}

// A frozen node answers nothing and closes nothing. Its partitions fail over; the others must not notice.
func TestOnAClusterAFrozenMasterHoldsUpNoOtherPartition(t *testing.T) {
	t.Parallel()
	b := newClusterBed(t)
	frozen := b.Nodes[0]
	var there, elsewhere []int
	for p := range b.keys.Partitions() {
		if b.Owner(b.slot(p)) == frozen {
			there = append(there, p)
		} else {
			elsewhere = append(elsewhere, p)
		}
	}
	topics := b.topics([]int{there[0], there[len(there)-1], elsewhere[0], elsewhere[len(elsewhere)-1]})
	h := b.hub(t, "g1")
	sinks := make([]*sink, len(topics))
	for i, s := range topics {
		sinks[i] = newSink()
		h.Attach(s, fromNow, sinks[i])
		wantBegin(t, sinks[i], 1)
	}
	l := b.load(t, topics)
	l.more(t, 3)
	frozen.Pause()
	strange := fanout.From{Position: notify.Position{Epoch: "zzzzzz", Offset: 1}} // history must say
	crowd, newcomer := newSink(), newSink()
	crowd.mute = true
	var waiting []*fanout.Subscription
	for range 400 {
		waiting = append(waiting, h.Attach(topics[0], strange, crowd))
	}
	for i := range 20 {
		h.Attach(topics[2+i%2], strange, newcomer)
		if got := wantBegin(t, newcomer, i+1); got.Err != nil {
			t.Fatalf("newcomer %d was told %v: its node is well, and 400 wait for another one", i, got.Err)
		}
	}
	for _, sub := range waiting { // as sessions that get no answer do
		sub.Detach()
	}
	b.Promoted(frozen, b.slot(there[0]), settled)
	l.more(t, 20)
	testkit.Eventually(t, settled, h.Ready, "ready with the heir")
	if got := h.Stats(); got.LinkEnds["silent"] == 0 || got.LinkEnds["silent"] > uint64(2*len(there)) {
		t.Errorf("links ended %v, want silent ones of %d partitions alone", got.LinkEnds, len(there))
	}
	frozen.Resume()
	l.more(t, 20)
	l.stop()
	resets := 0
	for i, s := range sinks {
		resets += s.wantAll(t, string(topics[i].Topic), int(l.sent[topics[i].Topic].Load()))
		if i >= 2 && s.live < len(s.got) {
			t.Errorf("%s: %d of %d messages were not live, though its node never failed", topics[i].Topic, len(s.got)-s.live, len(s.got))
		}
	}
	t.Logf("%d resets for messages that the replica did not have; links ended %v", resets, h.Stats().LinkEnds)
}
