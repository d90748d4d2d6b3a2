package store_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

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
