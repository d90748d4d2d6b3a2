package store_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"allim/internal/store"
	"allim/pkg/notify"
)

// A receiver stands still, and many wait for a place: they are looked at again one behind the other, not all of them each second.
func TestWhatFindsNoPlaceComesOneBehindTheOther(t *testing.T) {
	onEach(t, store.Options{}, func(b *bench) {
		const many = 40
		m := notification("n1", "mention")
		m.Terms = &notify.Terms{Escalate: &notify.Escalate{Unless: notify.ChangeSeen, After: time.Millisecond, Via: notify.ViaWebhook}}
		before := float64(b.now())
		for round := range 2 {
			var all []notify.Stream
			for n := range many {
				all = append(all, stream(fmt.Sprint("user:u", round, "-", n)))
			}
			for _, r := range b.Publish(b.ctx, all, m) {
				if r.Err != nil {
					b.Fatal(r.Err)
				}
			}
			b.tick()
			b.tick()
			wantClaims(b.T, b.look(b.publisher, 0), "")
			var at []float64
			for _, st := range all {
				at = append(at, b.rdb.ZScore(b.ctx, b.keys.Inbox(st).Deadlines, "w\x00n1").Val())
			}
			first, last := slices.Min(at), slices.Max(at) // those of a round take 1,250 ms, and the next round comes behind them
			if first-before < 600 || last-first < 600 {
				b.Errorf("round %d is due from %v to %v, and before it was %v", round, first, last, before)
			}
			before = first
		}
	})
}

// What a receiver is told of when it became due is the truth, however long it waited for a place.
func TestWhatWaitedForAPlaceIsDueSinceItsTime(t *testing.T) {
	onEach(t, store.Options{}, func(b *bench) {
		b.escalated("n1", notify.ChangeSeen, notify.ViaWebhook)
		due := b.rdb.ZScore(b.ctx, b.keys.Inbox(ann).Deadlines, "w\x00n1").Val()
		for range 2 {
			wantClaims(b.T, b.look(b.publisher, 0), "")
			b.passed("n1")
		}
		d := b.look(b.publisher, 1)
		if wantClaims(b.T, d, "n1/1"); d.Claims[0].Since.UnixMilli() != int64(due) {
			b.Errorf("due since %v, and it was at %v", d.Claims[0].Since.UnixMilli(), int64(due))
		}
	})
}
