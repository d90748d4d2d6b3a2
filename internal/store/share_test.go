package store_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"allim/internal/keyspace"
	"allim/internal/store"
	"allim/internal/testkit"
	"allim/pkg/notify"
)

func TestANodeThatIsAwayLeavesRoomForTheOthers(t *testing.T) {
	t.Parallel()
	c := testkit.Cluster(t, 3, 0)
	b := clusterBench(t, c, store.Options{})
	if !b.publisher.Divided() || realBench(t, store.Options{}).publisher.Divided() {
		t.Error("a cluster is divided, and one Redis is not")
	}
	away := c.Owner(slotOf(b.keys, stream("topic/0")))
	var gone, well []notify.Stream
	all, _ := everywhere(b.keys)
	shared := map[int]bool{} // groups of partitions of which the node has some: those share their room
	of := func(st notify.Stream) int { return b.keys.Partition(st) * store.ClusterGroups / b.keys.Partitions() }
	for _, st := range all {
		if c.Owner(slotOf(b.keys, st)) == away {
			gone, shared[of(st)] = append(gone, st), true
		}
	}
	for _, st := range all {
		if !shared[of(st)] {
			well = append(well, st)
		}
	}
	if len(well) < len(all)/2 {
		t.Fatalf("one of three nodes shares groups with all but %d of %d", len(well), len(all))
	}
	away.Stop()
	ctx, cancel := context.WithCancel(b.ctx)
	defer cancel()
	for i := range store.WaitingMost/len(gone) + 1 {
		later(t, func() []store.Result { return b.Publish(ctx, gone, message(fmt.Sprint("m", i))) })
	}
	testkit.Eventually(t, 2*soon, func() bool {
		one, end := context.WithTimeout(ctx, time.Millisecond)
		defer end()
		return errors.Is(b.Publish(one, gone[:1], message("more"))[0].Err, notify.ErrBusy)
	}, "have one too many wait")
	testkit.EventuallyNil(t, soon, func() (err error) {
		for _, r := range b.Publish(b.ctx, well, message("m")) {
			err = errors.Join(err, r.Err)
		}
		return err
	}, "write to the other nodes")
	if n := b.publisher.Waiting(); n < store.WaitingMost/8 {
		t.Errorf("only %d wait", n)
	}
	cancel()
	testkit.Eventually(t, 2*soon, func() bool { return b.publisher.Waiting() == 0 && b.publisher.Busy() == 0 }, "let go what nobody waits for")
}

func TestOneOfTwoNodesLeavesRoomForTheOther(t *testing.T) {
	t.Parallel()
	keys, err := keyspace.NewMap(0)
	if err != nil {
		t.Fatal(err)
	}
	s, err := store.New(store.Options{Keys: keys, Redis: connect(t, "redis://127.0.0.1:1", func(c *store.Connection) { c.Cluster = []string{"127.0.0.1:1"} })})
	if err != nil {
		t.Fatal(err)
	}
	all, _ := everywhere(keys)
	var first []notify.Stream // a node has half of the slots
	var other notify.Stream
	for _, st := range all {
		if slot := slotOf(keys, st); slot < 1<<13 {
			first = append(first, st)
		} else if slot >= 3<<12 {
			other = st
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var rounds []<-chan []store.Result
	for i := range store.WaitingMost/len(first) + 1 {
		rounds = append(rounds, later(t, func() []store.Result { return s.Write(ctx, first, message(fmt.Sprint("m", i)), store.Committed) }))
	}
	refused := func() bool {
		one, end := context.WithTimeout(ctx, time.Millisecond)
		defer end()
		return errors.Is(s.Write(one, first[:1], message("more"), store.Committed)[0].Err, notify.ErrBusy)
	}
	testkit.Eventually(t, 2*soon, refused, "have one too many wait")
	testkit.Eventually(t, 2*soon, func() bool { n := s.Waiting(); return n > store.WaitingMost/2 && n <= store.WaitingMost*3/4 }, "leave a quarter")
	one, end := context.WithTimeout(ctx, 100*time.Millisecond)
	defer end()
	if err := s.Write(one, []notify.Stream{other}, message("m"), store.Committed)[0].Err; errors.Is(err, notify.ErrBusy) {
		t.Errorf("the other node's: %v", err)
	}
	cancel()
	for _, round := range rounds {
		testkit.Receive(t, 2*soon, round, "nobody waits")
	}
	testkit.Eventually(t, 2*soon, func() bool { return s.Waiting() == 0 && s.Busy() == 0 }, "let go what nobody waits for")
}
