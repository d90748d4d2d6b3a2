package store_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"allim/internal/keyspace"
	"allim/internal/store"
	"allim/pkg/notify"
)

// neighbours are so many users whose streams are in Ann's partition.
func (b *bench) neighbours(many int) (all []notify.Stream) {
	for i := 0; len(all) < many; i++ {
		if st := stream(fmt.Sprint("user:u", i)); b.keys.Partition(st) == b.keys.Partition(ann) {
			all = append(all, st)
		}
	}
	return all
}

// Streams that fail whenever they are looked at do not stand in front of the others for ever, and come again.
func TestStreamsThatFailHideNoOthers(t *testing.T) {
	onEach(t, store.Options{}, func(b *bench) {
		due, broken := b.keys.Due(b.keys.Partition(ann)), b.neighbours(70)
		for _, st := range broken {
			b.rdb.Set(b.ctx, b.keys.Inbox(st).Meta, "no hash", 0)
			b.rdb.ZAdd(b.ctx, due, zOf(1, keyspace.Member(st)))
		}
		b.put(expiring("n1", "c", time.Hour))
		b.hurry("x", "n1")
		d, err := b.publisher.Due(b.ctx, &free{most: 100})
		if err == nil || d.Expired != 1 || d.Failed != len(broken) {
			b.Errorf("got %+v, %v", d, err)
		}
		for _, st := range broken {
			if left := int64(b.rdb.ZScore(b.ctx, due, keyspace.Member(st)).Val()) - b.now(); left < 30_000 || left > 60_000 {
				b.Fatalf("%s is due again in %d ms", st.Topic, left)
			}
		}
		b.rdb.Del(b.ctx, b.keys.Inbox(broken[0]).Meta)
		b.rdb.ZAdd(b.ctx, due, zOf(1, keyspace.Member(broken[0])))
		if d := b.due(); d.Failed != 0 || b.rdb.ZScore(b.ctx, due, keyspace.Member(broken[0])).Err() != redis.Nil {
			b.Errorf("mended: %+v", d)
		}
	})
}

// Nor do members that other builds wrote; where they hide nobody they are left alone (TestWhatIsNoStreamIsLeftAlone).
func TestMembersOfOtherBuildsHideNoOthers(t *testing.T) {
	onEach(t, store.Options{}, func(b *bench) {
		due := b.keys.Due(b.keys.Partition(ann))
		for i := range 130 {
			b.rdb.ZAdd(b.ctx, due, zOf(float64(i+1), fmt.Sprint("z\nlater", i)))
		}
		b.put(expiring("n1", "c", time.Hour))
		b.hurry("x", "n1")
		b.rdb.ZAdd(b.ctx, due, zOf(1000, keyspace.Member(ann)))
		if d := b.due(); d.Expired != 1 || d.Failed != 128 || d.More {
			b.Errorf("got %+v", d)
		}
		if n := b.rdb.ZCount(b.ctx, due, "-inf", fmt.Sprint(b.now()+30_000)).Val(); n != 2 {
			b.Errorf("%d are due, want those that hide nobody", n)
		}
		if n := b.rdb.ZCard(b.ctx, due).Val(); n != 130 {
			b.Errorf("%d are left", n)
		}
	})
}

// A Redis that refuses everything is nothing of the streams': they are done as soon as it takes something.
func TestWhatRedisRefusesToAllIsNotPutOff(t *testing.T) {
	b := realBench(t, store.Options{})
	b.put(scheduled("n1", "c", time.Hour))
	b.hurry("s", "n1")
	b.rdb.ConfigSet(b.ctx, "maxmemory", "1")
	if d, err := b.publisher.Due(b.ctx, &free{most: 100}); err == nil || d.Failed != 0 || d.Scheduled != 0 {
		t.Errorf("with full memory: %+v, %v", d, err)
	}
	b.rdb.ConfigSet(b.ctx, "maxmemory", "0")
	if d := b.due(); d.Scheduled != 1 {
		t.Errorf("with room: %+v", d)
	}
}
