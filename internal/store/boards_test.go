package store_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"allim/internal/audience"
	"allim/internal/keyspace"
	"allim/internal/store"
	"allim/pkg/notify"
)

var org = stream("segment:org-7")

// plant makes a segment what it would be after some writes: each item is named after its offset.
func (b *bench) plant(segment notify.Stream, epoch string, top uint64, items map[uint64]keyspace.Head) {
	b.Helper()
	k := b.keys.Segment(segment)
	pipe := b.rdb.Pipeline()
	pipe.HSet(b.ctx, k.Meta, "v", "2", "e", epoch, "s", top, "p", "zzzzzz:4 yyyyyy:2")
	pipe.Del(b.ctx, k.Index, k.Items)
	for offset, head := range items {
		id := fmt.Sprint("n", offset)
		pipe.ZAdd(b.ctx, k.Index, redis.Z{Score: float64(offset), Member: id})
		pipe.HSet(b.ctx, k.Items, id, head.String(), id+"\x00", "body")
	}
	if _, err := pipe.Exec(b.ctx); err != nil {
		b.Fatal(err)
	}
}

func (b *bench) boards(segments ...notify.Stream) []*audience.Board {
	b.Helper()
	got, err := b.Boards(b.ctx, segments)
	if err != nil {
		b.Fatal(err)
	}
	return got
}

func TestABoardIsReadWhenItsSegmentMovedAndNotBefore(t *testing.T) {
	onEach(t, store.Options{Segments: store.Segments{Size: 3, Retention: time.Hour}}, func(b *bench) {
		b.plant(org, "k3abcd", 12, map[uint64]keyspace.Head{3: {}, 5: {}, 9: {Category: "mention", Mandatory: true, Since: time.UnixMilli(5000), Expires: time.UnixMilli(9000), Collapse: "key"},
			12: {Category: "order", Since: time.UnixMilli(1_800_000_000_123)}})
		size := b.dbsize()
		none := stream("segment:none")
		got := b.boards(org, none, org)
		want := []audience.Head{{Offset: 5, ID: "n5"}, {Offset: 9, ID: "n9", Category: "mention", Time: 5000, Until: 9000, Mandatory: true},
			{Offset: 12, ID: "n12", Category: "order", Time: 1_800_000_000_123, Until: 1_800_003_600_123}}
		if diff := cmp.Diff(want, got[0].Items); diff != "" || got[0].Position() != (notify.Position{Epoch: "k3abcd", Offset: 12}) {
			b.Fatalf("at %s (-want +got)\n%s", got[0].Position(), diff)
		}
		if len(got[0].Bases) != 2 || got[0].Upto(notify.Position{Epoch: "zzzzzz", Offset: 9}) != 4 {
			b.Errorf("bases are %v", got[0].Bases)
		}
		if got[1].Position() != (notify.Position{}) || len(got[1].Items) > 0 {
			b.Errorf("no segment is %+v", got[1])
		}
		if again := b.boards(org); again[0] != got[0] || got[2] != got[0] {
			b.Error("read again although nothing moved")
		}
		b.plant(org, "k3abcd", 13, map[uint64]keyspace.Head{12: {}})
		moved := b.boards(org)[0]
		if moved == got[0] || len(moved.Items) != 1 || moved.Top != 13 || len(got[0].Items) != 3 {
			b.Errorf("after a write: %+v", moved)
		}
		b.plant(org, "aaaaaa", 13, map[uint64]keyspace.Head{11: {}})
		if other := b.boards(org)[0]; other == moved || other.Epoch != "aaaaaa" || other.Items[0].ID != "n11" {
			b.Errorf("of another epoch: %+v", other)
		}
		if n := b.dbsize(); n != size {
			b.Errorf("%d keys more", n-size)
		}
	})
}

func TestABoardKnowsTheIDsOfReplacedItems(t *testing.T) {
	onEach(t, store.Options{}, func(b *bench) {
		b.plant(org, "k3abcd", 12, map[uint64]keyspace.Head{9: {Collapse: "a"}, 12: {}})
		k := b.keys.Segment(org)
		fields := []any{"k\x00a", "n9 k3abcd.9.1800000000000000 o0", "k\x00gone", "n5 k3abcd.5.1800000000000000 n4", "l\x00n4", "n4 gone", "l\x00n3", "n3 lost",
			"l\x00left", "left a", "s\x00later", "head\x00body"}
		named := map[string]bool{"n4": true, "n3": true, "later": true, "left": true} // left is of an earlier chain of the same key
		for i := range 1100 {                                                         // more than a call of HMGET takes
			id := fmt.Sprint("o", i)
			fields, named[id] = append(fields, "l\x00"+id, "o0 a"), true
		}
		if err := b.rdb.HSet(b.ctx, k.Collapse, fields...).Err(); err != nil {
			b.Fatal(err)
		}
		if refs := b.boards(org)[0].Named(named, time.Now()); len(refs) > 0 {
			b.Errorf("without terms: %v", refs)
		}
		b.rdb.HSet(b.ctx, k.Meta, "o", "1", "s", "13")
		refs := b.boards(org)[0].Named(named, time.Now())
		if len(refs) < 1000 || len(refs) > 1100 {
			b.Errorf("%d old ids", len(refs))
		}
		for _, r := range refs {
			if r.ID != "n9" || r.Offset != 9 || !strings.HasPrefix(r.Named, "o") {
				b.Errorf("got %+v", r)
			}
		}
	})
}

func TestManyWhoAskForABoardReadItOnce(t *testing.T) {
	b := realBench(t, store.Options{})
	b.plant(org, "k3abcd", 1, map[uint64]keyspace.Head{1: {}})
	b.boards(org) // its script is known
	b.plant(org, "k3abcd", 2, map[uint64]keyspace.Head{1: {}, 2: {}})
	before := scripts(b)
	var all sync.WaitGroup
	for range 64 {
		all.Go(func() {
			got, err := b.Boards(b.ctx, []notify.Stream{org})
			if err != nil || got[0].Top != 2 {
				b.Errorf("got %+v, %v", got, err)
			}
		})
	}
	all.Wait()
	if n := scripts(b) - before; n != 1 {
		b.Errorf("read %d times", n)
	}
}
