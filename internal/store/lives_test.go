package store_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"allim/internal/store"
	"allim/internal/testkit"
	"allim/pkg/notify"
)

// Sets that become empty are deleted and come back: none may come back for ever, or for another time than the rest.
func TestNoKeyOfAnInboxLacksItsLifetimeWhateverBecameEmpty(t *testing.T) {
	onEach(t, store.Options{Inbox: store.Inbox{Size: 3}}, func(b *bench) {
		n := 0
		add := func() { n++; b.notify(ann, []string{"", "c"}[n%2], fmt.Sprint("n", n)) }
		all := func(mark string) func() { return func() { b.mark(ann, mark, store.Mark{All: true}) } }
		last := func(mark string) func() {
			return func() { b.mark(ann, mark, store.Mark{IDs: []string{fmt.Sprint("n", n)}}) }
		}
		for i, step := range []func(){add, all("read"), add, all("seen"), add, all("archive"), add, all("delete"), add, last("read"), last("unread"), last("archive"),
			all("read"), last("unread"), last("unarchive"), last("delete"), add, add, add, add, all("archive"), all("unarchive"), all("delete"), add} {
			step()
			if b.real {
				b.wantLifetimes(ann)
			}
			for _, key := range b.keys.Inbox(ann).All() {
				if b.rdb.PTTL(b.ctx, key).Val() == -1 {
					b.Fatalf("step %d: %s lives for ever", i, key)
				}
			}
		}
	})
}

func TestAnInboxIsRenewedWhenItsTimeIsDueAndByWhoeverWantsItLonger(t *testing.T) {
	onEach(t, store.Options{Inbox: store.Inbox{Retention: 24 * time.Hour}}, func(b *bench) {
		b.notify(ann, "", "n1")
		k := b.keys.Inbox(ann)
		longer := open(b, b.rdb, store.Options{Keys: b.keys, Inbox: store.Inbox{Retention: 100 * 24 * time.Hour}})
		if r := longer.Write(b.ctx, []notify.Stream{ann}, notification("n2", ""), store.Committed)[0]; r.Err != nil {
			b.Fatal(r.Err)
		}
		for _, key := range k.All() {
			if left := b.rdb.PTTL(b.ctx, key).Val(); left != -2 && left < 100*24*time.Hour {
				b.Errorf("%s lives %s", key, left)
			}
		}
		for _, key := range k.All() { // as if that time had passed
			b.rdb.PExpire(b.ctx, key, time.Hour)
		}
		b.rdb.HSet(b.ctx, k.Meta, "l", time.Now().Add(time.Hour).UnixMilli())
		b.mark(ann, "seen", store.Mark{All: true})
		for _, key := range k.All() {
			if left := b.rdb.PTTL(b.ctx, key).Val(); left != -2 && left < 24*time.Hour {
				b.Errorf("after a mark %s lives %s", key, left)
			}
		}
	})
}

func TestEntriesThatExpiredComeBackWithALifetime(t *testing.T) {
	ttl := 200 * time.Millisecond
	onEach(t, store.Options{Classes: []store.Class{{History: store.History{TTL: ttl}}}}, func(b *bench) {
		s := stream("quiet")
		k := b.keys.Event(s)
		for i := range 3 {
			b.publish(s, fmt.Sprint("m", i))
			for _, key := range []string{k.Events, k.Dedupe} {
				if left := b.rdb.PTTL(b.ctx, key).Val(); left < ttl-50*time.Millisecond || left > 2*ttl {
					b.Fatalf("%s lives %s", key, left)
				}
			}
			testkit.Eventually(b.T, 5*time.Second, func() bool { return b.rdb.Exists(b.ctx, k.Events, k.Dedupe).Val() == 0 }, "entries expire")
		}
		if left := b.rdb.PTTL(b.ctx, k.Meta).Val(); left < 24*time.Hour {
			b.Fatalf("meta lives %s", left)
		}
	})
}

func TestTheChangeIndexNamesAMinuteAndItsTickNeverFalls(t *testing.T) {
	onEach(t, store.Options{}, func(b *bench) {
		s := stream("a")
		index, tick := b.keys.ChangeIndex(b.keys.Partition(s))
		read := func() (at int64, named float64) {
			b.Helper()
			at, err := b.rdb.Get(b.ctx, tick).Int64()
			if err != nil {
				b.Fatal(err)
			}
			for _, key := range []string{index, tick} {
				if left := b.rdb.PTTL(b.ctx, key).Val(); left < 9*time.Minute {
					b.Fatalf("%s lives %s", key, left)
				}
			}
			return at, b.rdb.ZScore(b.ctx, index, "default:h:a").Val()
		}
		b.publish(s, "m0")
		now := b.rdb.Time(b.ctx).Val().UnixMilli()
		at, named := read()
		if at > now || at < now-5000 || named != float64(at) {
			b.Fatalf("tick %d, named at %f, now %d", at, named, now)
		}
		var old []string
		for i := range 700 {
			old = append(old, fmt.Sprint("default:h:old", i))
			b.rdb.ZAdd(b.ctx, index, redis.Z{Score: float64(at - 60_001), Member: old[i]})
		}
		b.rdb.ZAdd(b.ctx, index, redis.Z{Score: float64(at - 50_000), Member: "default:h:recent"})
		testkit.Eventually(b.T, 10*time.Second, func() bool {
			b.publish(s, fmt.Sprint("m", time.Now().UnixNano()))
			return b.rdb.ZCard(b.ctx, index).Val() == 2
		}, "forget what is old, and that alone")

		ahead := time.Now().Add(time.Hour).UnixMilli() // the clock was set back
		b.rdb.Set(b.ctx, tick, ahead, time.Second)
		b.rdb.PExpire(b.ctx, index, time.Second)
		b.publish(s, "later")
		if at, named := read(); at != ahead || named != float64(ahead) {
			b.Fatalf("tick %d, named at %f, want %d", at, named, ahead)
		}
	})
}
