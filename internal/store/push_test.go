package store_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"allim/internal/store"
	"allim/pkg/notify"
)

func browser(n int) store.Subscription {
	endpoint := fmt.Sprintf("https://push.example.com/%d", n)
	return store.Subscription{Key: store.SubscriptionKey(endpoint), Endpoint: endpoint, P256dh: slices.Repeat([]byte{byte(n)}, 65), Auth: slices.Repeat([]byte{0xff}, 16)}
}

// wantBrowsers wants the user's subscriptions to be those of numbers, in their order.
func (b *bench) wantBrowsers(st notify.Stream, want ...int) {
	b.Helper()
	for role, s := range map[string]*store.Store{"gateway": b.Store, "publisher": b.publisher} {
		all, err := s.PushSubscriptions(b.ctx, st)
		if err != nil {
			b.Fatalf("%s: %v", role, err)
		}
		var got []int
		for _, one := range all {
			n := int(one.P256dh[0])
			if fmt.Sprint(one) != fmt.Sprint(browser(n)) {
				b.Fatalf("%s: %+v, want %+v", role, one, browser(n))
			}
			got = append(got, n)
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			b.Fatalf("%s: got %v, want %v", role, got, want)
		}
	}
}

func (b *bench) subscribe(st notify.Stream, n int) {
	b.Helper()
	if err := b.PushSubscribe(b.ctx, st, browser(n)); err != nil {
		b.Fatal(err)
	}
}

func TestBrowsersOfAUserAreKept(t *testing.T) {
	onEach(t, store.Options{}, func(b *bench) {
		b.wantBrowsers(ann)
		b.subscribe(ann, 1)
		b.subscribe(ann, 2)
		b.subscribe(ann, 1)
		b.subscribe(stream("user:bob"), 3)
		b.wantBrowsers(ann, 1, 2)
		if err := b.publisher.PushForget(b.ctx, ann, store.SubscriptionKey(browser(1).Endpoint)); err != nil {
			b.Fatal(err)
		}
		b.wantBrowsers(ann, 2)
		if err := b.PushForget(b.ctx, ann, "nobody's"); err != nil {
			b.Fatal(err)
		}
		b.subscribe(ann, 4)
		if err := b.PushForgetAll(b.ctx, ann); err != nil {
			b.Fatal(err)
		}
		b.wantBrowsers(ann)
		b.wantBrowsers(stream("user:bob"), 3)
		if n := b.rdb.Exists(b.ctx, b.keys.Push(ann)).Val(); n != 0 {
			b.Error("something of them is left")
		}
	})
}

func TestOfMoreThanTenBrowsersTheOneStoredFirstLeaves(t *testing.T) {
	onEach(t, store.Options{}, func(b *bench) {
		for n := range 10 {
			b.subscribe(ann, n)
			b.tick()
		}
		b.subscribe(ann, 0) // it is not the oldest any more
		b.tick()
		b.subscribe(ann, 10)
		b.tick()
		b.subscribe(ann, 11)
		b.wantBrowsers(ann, 0, 3, 4, 5, 6, 7, 8, 9, 10, 11)
	})
}

// tick returns in a later millisecond of Redis' clock.
func (b *bench) tick() {
	b.Helper()
	from := b.now()
	for b.now() == from {
	}
}

func (b *bench) now() int64 {
	b.Helper()
	at, err := b.rdb.Time(b.ctx).Result()
	if err != nil {
		b.Fatal(err)
	}
	return at.UnixMilli()
}

// They live as long as an inbox, from the last time that a page or a push renewed them.
func TestBrowsersThatNobodyRenewsAreForgotten(t *testing.T) {
	onEach(t, store.Options{Inbox: store.Inbox{Retention: time.Hour}}, func(b *bench) {
		b.subscribe(ann, 1)
		key := b.keys.Push(ann)
		for _, renew := range []func() error{
			func() error { return b.PushSubscribe(b.ctx, ann, browser(2)) },
			func() error { return b.publisher.PushRenew(b.ctx, ann) },
		} {
			if left := b.rdb.PTTL(b.ctx, key).Val(); left > time.Hour || left < 59*time.Minute {
				b.Errorf("they live for %v", left)
			}
			if err := b.rdb.PExpire(b.ctx, key, time.Minute).Err(); err != nil {
				b.Fatal(err)
			}
			if err := renew(); err != nil {
				b.Fatal(err)
			}
		}
		if left := b.rdb.PTTL(b.ctx, key).Val(); left < 59*time.Minute {
			b.Errorf("renewed, they live for %v", left)
		}
		if err := b.PushRenew(b.ctx, stream("user:nobody")); err != nil {
			b.Error(err)
		}
		if n := b.rdb.Exists(b.ctx, b.keys.Push(stream("user:nobody"))).Val(); n != 0 {
			b.Error("renewing nothing makes something")
		}
	})
}

func TestABrowserThatIsNoneIsRefused(t *testing.T) {
	b := realBench(t, store.Options{})
	long := browser(1)
	long.Endpoint += strings.Repeat("x", 2048)
	if err := b.PushSubscribe(b.ctx, ann, long); !errors.Is(err, notify.ErrTooLarge) {
		t.Errorf("a long one: %v", err)
	}
	if err := b.PushSubscribe(b.ctx, stream("orders"), browser(1)); !errors.Is(err, notify.ErrInvalid) {
		t.Errorf("of a topic: %v", err)
	}
	if n := b.dbsize(); n != 1 {
		t.Errorf("%d keys", n)
	}
}

// What a later build stores differently does not hide the rest.
func TestABrowserThatCannotBeReadIsLeftOut(t *testing.T) {
	b := realBench(t, store.Options{})
	b.subscribe(ann, 1)
	if err := b.rdb.HSet(b.ctx, b.keys.Push(ann), "x", "v2\nsomething", "y", "", "z", "1\n{}").Err(); err != nil {
		t.Fatal(err)
	}
	b.wantBrowsers(ann, 1)
	b.subscribe(ann, 2)
	b.wantBrowsers(ann, 1, 2)
}
