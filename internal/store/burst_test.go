package store_test

import (
	"fmt"
	"testing"
	"time"

	"allim/internal/keyspace"
	"allim/internal/store"
	"allim/pkg/notify"
)

// What expires at once is taken away in parts, so that no script walks all of it: 50 with a write, 100 where 500 are due, and all of it by looks.
func TestManyThatExpireAtOnceLeaveInParts(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ due, gone int }{{499, 50}, {500, 100}, {620, 100}} {
		b := realBench(t, store.Options{Inbox: store.Inbox{Size: 1000}})
		b.put(expiring("n", "c", time.Hour)) // the stream has terms
		b.fill(0, c.due, "c")
		pipe := b.rdb.Pipeline()
		for i := range c.due {
			pipe.ZAdd(b.ctx, b.keys.Inbox(ann).Deadlines, zOf(1, fmt.Sprint("x\x00n", i)))
		}
		pipe.ZAdd(b.ctx, b.keys.Due(b.keys.Partition(ann)), zOf(1, keyspace.Member(ann)))
		if _, err := pipe.Exec(b.ctx); err != nil {
			t.Fatal(err)
		}
		hidden := min(c.due, 500)
		if badge, err := b.Counts(b.ctx, ann); err != nil || badge.Unread != 1+c.due-hidden {
			t.Errorf("of %d: %+v, %v", c.due, badge, err)
		}
		if at := b.Publish(b.ctx, []notify.Stream{ann}, notification("new", "c"))[0].Position.Offset; at != uint64(1+c.due+c.gone+1) {
			t.Errorf("of %d: it came at %d", c.due, at)
		}
		expired := 0
		for more := true; more; {
			d := b.due()
			expired, more = expired+d.Expired, d.More && d.Expired > 0
		}
		if expired != c.due-c.gone {
			t.Errorf("of %d: looks took away %d", c.due, expired)
		}
		b.wantList(ann, store.Query{}, "new n")
	}
}
