package store_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"allim/internal/store"
	"allim/internal/testkit"
	"allim/pkg/notify"
)

const aLease = time.Minute

// present is a gateway that says that it is there.
func (b *bench) present(gateway string, lease time.Duration) {
	b.Helper()
	known, tenants, err := b.Present(b.ctx, gateway, lease, true, "")
	if err != nil || !known || len(tenants) != 1 || tenants[0] != notify.DefaultTenant {
		b.Fatalf("present: %v, %v, %v", known, tenants, err)
	}
}

// at says who is at a gateway now, or is not: "+ann -bob".
func (b *bench) at(gateway string, debounce time.Duration, who string) {
	b.Helper()
	var all []store.Presence
	for _, one := range strings.Fields(who) {
		all = append(all, store.Presence{Stream: stream("user:" + one[1:]), Here: one[0] == '+'})
	}
	if err := b.SayPresence(b.ctx, gateway, debounce, all); err != nil {
		b.Fatal(err)
	}
}

func (b *bench) reap() store.Reaped {
	b.Helper()
	r, err := b.publisher.Reap(b.ctx, time.Millisecond)
	if err != nil {
		b.Fatal(err)
	}
	return r
}

// reaped looks until so many users are gone.
func (b *bench) reaped(users int) {
	b.Helper()
	n := 0
	testkit.Eventually(b, 10*time.Second, func() bool { n += b.reap().Offline; return n >= users }, "users are gone")
	if n != users {
		b.Fatalf("%d users are gone, want %d", n, users)
	}
}

var long = store.Events{Again: time.Hour, Lease: time.Hour, Trim: time.Hour}

func TestPresenceIsToldOnceForEachUser(t *testing.T) {
	onEach(t, store.Options{Events: long}, func(b *bench) {
		w := b.watch("g", all)
		b.present("g1", aLease)
		b.present("g2", aLease)
		b.at("g1", 0, "+ann")
		b.at("g1", 0, "+ann")
		b.at("g2", 0, "+ann")
		w.wantNews("online:ann")
		b.at("g1", 0, "-ann")
		b.reap()
		w.wantQuiet() // she is at the other
		b.at("g2", 0, "-ann")
		b.at("g2", 0, "-ann")
		b.at("g1", 0, "-ann")
		b.reaped(1)
		b.reap()
		w.wantNews("offline:ann")
		b.at("g1", 0, "+ann")
		w.wantNews("online:ann")
	})
}

func TestWhoComesBackInTimeWasNeverGone(t *testing.T) {
	onEach(t, store.Options{Events: long}, func(b *bench) {
		w := b.watch("g", all)
		b.present("g1", aLease)
		b.present("g2", aLease)
		b.at("g1", time.Hour, "+ann +bob +carl")
		b.at("g1", time.Hour, "-carl")
		b.at("g1", 0, "-bob -ann")
		b.at("g2", time.Hour, "+ann") // before anybody looked
		b.reaped(1)
		if n := b.reap().Offline; n != 0 {
			b.Errorf("%d more are gone", n)
		}
		var got []notify.Event
		for len(got) < 4 {
			got = append(got, w.news()...)
		}
		w.wantQuiet()
		offline := ""
		for _, e := range got {
			if e.Type == notify.EventOffline {
				offline += string(e.Topic)
			}
		}
		if offline != "user:bob" {
			b.Errorf("gone: %s, of %s", offline, eventsText(got))
		}
	})
}

// A gateway is gone without a word: its users are, but for those who are at another.
func TestTheUsersOfAGatewayThatIsGoneLeave(t *testing.T) {
	onEach(t, store.Options{Events: long}, func(b *bench) {
		w := b.watch("g", func(t notify.EventType) bool { return t == notify.EventOffline })
		const users = 700 // more than a step goes through in one partition, if all are in one
		b.present("g1", 300*time.Millisecond)
		b.present("g2", aLease)
		var who []string
		for i := range users {
			who = append(who, fmt.Sprint("+u", i))
		}
		b.at("g1", time.Hour, strings.Join(who, " "))
		b.at("g2", time.Hour, "+u0 +u1")
		b.reaped(users - 2)
		gone := map[notify.Topic]bool{}
		for len(gone) < users-2 {
			for _, e := range w.news() {
				if gone[e.Topic] {
					b.Fatalf("%s is gone twice", e.Topic)
				}
				gone[e.Topic] = true
			}
		}
		if gone["user:u0"] || gone["user:u1"] {
			b.Error("who is at another gateway is gone")
		}
		if known, _, err := b.Present(b.ctx, "g1", aLease, false, ""); err != nil || known {
			b.Errorf("the gateway that was gone is known: %v, %v", known, err)
		}
		if known, _, err := b.Present(b.ctx, "g2", aLease, false, ""); err != nil || !known {
			b.Errorf("the other one is known: %v, %v", known, err)
		}
	})
}

// However many tenants have somebody who listens, the users of all of them leave.
func TestAGatewayThatIsGoneIsGoneForEveryTenant(t *testing.T) {
	onEach(t, store.Options{Events: long}, func(b *bench) {
		w := b.watch("g", all)
		b.present("g1", aLease)
		b.at("g1", 0, "+ann")
		w.wantNews("online:ann")
		listened, _ := b.keys.Listened()
		for i := range 300 {
			b.rdb.ZAdd(b.ctx, listened, redis.Z{Score: float64(time.Now().Add(time.Hour).UnixMilli()), Member: fmt.Sprint("t", i)})
		}
		if err := b.Absent(b.ctx, "g1"); err != nil {
			b.Fatal(err)
		}
		if n := b.reap().Gateways; n != 1 {
			b.Fatalf("%d gateways are gone", n)
		}
		b.reaped(1)
		w.wantNews("offline:ann")
	})
}

// A gateway that takes a new name keeps the former one alive until all is told: nobody hears of it.
func TestAGatewayWithANewNameIsTheSameForItsUsers(t *testing.T) {
	onEach(t, store.Options{Events: long}, func(b *bench) {
		w := b.watch("g", all)
		b.present("g1", aLease)
		b.at("g1", 0, "+ann")
		w.wantNews("online:ann")
		if known, _, err := b.Present(b.ctx, "g1-again", aLease, true, "g1"); err != nil || !known {
			b.Fatal(known, err)
		}
		b.at("g1-again", 0, "+ann")
		if err := b.Absent(b.ctx, "g1"); err != nil {
			b.Fatal(err)
		}
		testkit.Eventually(b, 10*time.Second, func() bool { return b.reap().Gateways == 1 }, "the former name is over")
		b.reap()
		w.wantQuiet()
		b.at("g1-again", 0, "-ann")
		b.reaped(1)
		w.wantNews("offline:ann")
	})
}

// Without a listener presence leaves nothing in Redis, and nothing of it outlives the last one.
func TestPresenceCostsNothingWhileNobodyListens(t *testing.T) {
	short := quick
	short.Age = 3 * time.Second
	onEach(t, store.Options{Events: short}, func(b *bench) {
		before := b.dbsize()
		for range 3 {
			if known, tenants, err := b.Present(b.ctx, "g1", aLease, true, ""); err != nil || !known || len(tenants) != 0 {
				b.Fatal(known, tenants, err)
			}
			b.at("g1", 0, "+ann")
			b.reap()
		}
		if n := b.dbsize(); n != before {
			b.Fatalf("%d keys were made", n-before)
		}
		if err := b.watch("g", all).Close(b.ctx); err != nil {
			b.Fatal(err)
		}
		b.present("g1", aLease)
		b.at("g1", time.Hour, "+ann +bob")
		b.at("g1", time.Hour, "-ann")
		online := b.keys.Backend(b.keys.Partition(ann), notify.DefaultTenant).Online
		if b.rdb.PTTL(b.ctx, online).Val() <= 0 || b.rdb.PTTL(b.ctx, b.keys.Offline(b.keys.Partition(ann))).Val() <= 0 {
			b.Error("a key without a lifetime")
		}
		testkit.Eventually(b, 20*time.Second, func() bool {
			b.reap()
			known, tenants, err := b.Present(b.ctx, "g1", aLease, false, "")
			if err != nil || !known {
				b.Fatal(known, err)
			}
			return len(tenants) == 0 && b.rdb.Exists(b.ctx, online).Val() == 0
		}, "nobody listens any more")
		b.at("g1", 0, "+ann") // what was on its way
		if n := b.rdb.Exists(b.ctx, online).Val(); n != 0 {
			b.Error("who is online is kept for nobody")
		}
	})
}
