package store_test

import (
	"errors"
	"testing"
	"time"

	"allim/internal/store"
	"allim/pkg/notify"
)

// A key that somebody made by hand: the other streams of the same question are answered, and kept.
func TestAStreamThatCannotBeReadKeepsNobodyFromItsTop(t *testing.T) {
	onEach(t, store.Options{}, func(b *bench) {
		all := []notify.Stream{stream("a"), stream("broken"), stream("odd"), stream("none")}
		for _, s := range []notify.Stream{all[0], all[2]} {
			if r := b.Publish(b.ctx, []notify.Stream{s}, message("1"))[0]; r.Err != nil {
				b.Fatal(r.Err)
			}
		}
		b.rdb.Set(b.ctx, b.keys.Event(all[1]).Meta, "x", time.Minute)
		b.rdb.HSet(b.ctx, b.keys.Event(all[2]).Meta, "s", "no number")
		tops, err := b.Tops(b.ctx, all)
		var each notify.EachError
		if !errors.As(err, &each) || each[0] != nil || each[1] == nil || each[2] == nil || each[3] != nil {
			b.Fatalf("got %v, want errors of the second and the third", err)
		}
		if tops[0].Offset != 1 || tops[3] != (notify.Position{}) {
			b.Errorf("got the tops %v, want offset 1 first and nothing last", tops)
		}
		b.rdb.PExpire(b.ctx, b.keys.Event(all[0]).Meta, time.Minute)
		_ = b.Renew(b.ctx, []notify.Stream{all[1], all[0]}) // of the broken one it may say what it likes
		if life := b.rdb.PTTL(b.ctx, b.keys.Event(all[0]).Meta).Val(); life < time.Hour {
			b.Errorf("the life of the first is %v", life)
		}
	})
}
