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

// Where some of a tenant's find a place the others come soon: its receiver may be a fast one.
func TestWhatFindsNoPlaceComesSoonWhereOthersFindOne(t *testing.T) {
	onEach(t, store.Options{}, func(b *bench) {
		const many, placesLeft = 40, 3
		for n := range many {
			m := notification(fmt.Sprint("n", n), "mention")
			m.Terms = &notify.Terms{Escalate: &notify.Escalate{Unless: notify.ChangeSeen, After: time.Millisecond, Via: notify.ViaWebhook}}
			if r := b.Publish(b.ctx, []notify.Stream{stream(fmt.Sprint("user:u", n))}, m)[0]; r.Err != nil {
				b.Fatal(r.Err)
			}
		}
		b.tick()
		b.tick()
		d := b.look(b.publisher, placesLeft)
		if len(d.Claims) != placesLeft || d.PutOff != many-placesLeft {
			b.Fatalf("%d are claimed and %d put off", len(d.Claims), d.PutOff)
		}
		var at []float64
		for n := range many {
			at = append(at, b.rdb.ZScore(b.ctx, b.keys.Inbox(stream(fmt.Sprint("user:u", n))).Deadlines, fmt.Sprint("w\x00n", n)).Val())
		}
		slices.Sort(at)
		at = at[:many-placesLeft] // the others are leases
		if took := at[len(at)-1] - at[0]; took > 600 {
			b.Errorf("they come within %v ms, want within %d", took, (many-placesLeft)*1000/256)
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
