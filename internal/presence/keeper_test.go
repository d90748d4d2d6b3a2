package presence_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"allim/internal/keyspace"
	"allim/internal/presence"
	"allim/internal/store"
	"allim/internal/testkit"
	"allim/pkg/notify"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// A bed is a Redis, with a backend that watches and a reaper.
type bed struct {
	*testing.T
	srv       *testkit.RedisServer
	keys      *keyspace.Map
	publisher *store.Store
	watch     *store.Watch
	heard     []string // "online:ann"
}

func newBed(t *testing.T) *bed {
	t.Helper()
	keys, err := keyspace.NewMap(0)
	if err != nil {
		t.Fatal(err)
	}
	b := &bed{T: t, srv: testkit.Redis(t), keys: keys}
	b.publisher = b.store("publisher")
	return b
}

func (b *bed) store(role string) *store.Store {
	b.Helper()
	rdb, err := store.Connect(store.Connection{URL: b.srv.As(role)})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = rdb.Close() })
	s, err := store.New(store.Options{Redis: rdb, Keys: b.keys, Events: store.Events{Trim: time.Hour}})
	if err != nil {
		b.Fatal(err)
	}
	if err := s.Open(testkit.Context(b, 10*time.Second)); err != nil {
		b.Fatal(err)
	}
	return s
}

// listen has a backend listen from now on, and users who are gone be told.
func (b *bed) listen() {
	b.Helper()
	w, _, err := b.publisher.Watch(testkit.Context(b, 10*time.Second), notify.DefaultTenant, "g", func(notify.EventType) bool { return true })
	if err != nil {
		b.Fatal(err)
	}
	b.watch = w
	run(b, presence.Reaper{Store: b.publisher, Debounce: 50 * time.Millisecond, Every: 20 * time.Millisecond}.Run)
}

// run runs something until the test ends, or stop is called.
func run(b *bed, f func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := f(ctx); err != nil {
			b.Errorf("run: %v", err)
		}
	})
	stop = func() { cancel(); wg.Wait() }
	b.Cleanup(stop)
	return stop
}

// want waits until these were heard in all, in any order of users.
func (b *bed) want(want ...string) {
	b.Helper()
	slices.Sort(want)
	testkit.EventuallyNil(b, 20*time.Second, func() error {
		n, err := b.watch.Next(b.Context(), 20*time.Millisecond)
		if err != nil {
			return err
		}
		for _, e := range n.Events {
			user, _ := e.Topic.User()
			b.heard = append(b.heard, map[notify.EventType]string{notify.EventOnline: "online:", notify.EventOffline: "offline:"}[e.Type]+user)
		}
		if got := slices.Sorted(slices.Values(b.heard)); !slices.Equal(got, want) {
			return fmt.Errorf("heard %v, want %v", got, want)
		}
		return nil
	}, "events")
}

// A house is a gateway: a Keeper, and who is there.
type house struct {
	*presence.Keeper
	b    *bed
	stop func()

	mu   sync.Mutex
	here map[notify.Stream]bool
}

func (b *bed) house(lease time.Duration, teller presence.Teller) *house {
	h := &house{b: b, here: map[notify.Stream]bool{}}
	h.Keeper = presence.NewKeeper(presence.Options{Store: teller, Users: h.users, Partitions: b.keys.Partitions(), Lease: lease, Debounce: 50 * time.Millisecond})
	h.stop = run(b, h.Run)
	return h
}

// users does what a hub does.
func (h *house) users(_ context.Context, part int) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	for s := range maps.Keys(h.here) {
		if h.b.keys.Partition(s) == part {
			h.Heard(s, true)
		}
	}
	return nil
}

// say is "+ann -bob": who comes, and who leaves.
func (h *house) say(who string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, one := range strings.Fields(who) {
		s := notify.Stream{Tenant: notify.DefaultTenant, Topic: notify.Topic("user:" + one[1:])}
		if one[0] == '+' {
			h.here[s] = true
		} else {
			delete(h.here, s)
		}
		h.Heard(s, one[0] == '+')
	}
}

const quickLease = 300 * time.Millisecond

// Who was there before anybody listened is told, and so is who comes and leaves then.
func TestAKeeperTellsWhoIsThere(t *testing.T) {
	b := newBed(t)
	h := b.house(quickLease, b.store("gateway"))
	h.say("+ann +bob -bob")
	b.listen()
	b.want("online:ann")
	h.say("+carl -ann")
	b.want("online:ann", "online:carl", "offline:ann")
	h.say("-carl")
	h.say("+carl")
	h.say("+dora")
	b.want("online:ann", "online:carl", "offline:ann", "online:dora")
	h.stop() // nobody has to wait for its lease
	b.want("online:ann", "online:carl", "offline:ann", "online:dora", "offline:dora", "offline:carl")
}

// Who comes when nothing has been said for a while: what Heard writes to is nobody else's (the race detector sees it).
func TestWhoComesAfterAWhileIsTold(t *testing.T) {
	b := newBed(t)
	b.listen()
	h := b.house(presence.DefaultLease, b.store("gateway"))
	var want []string
	for i := range 3 {
		user, since := fmt.Sprint("user", i), time.Now()
		h.say("+" + user)
		want = append(want, "online:"+user)
		b.want(want...)
		testkit.Eventually(t, 10*time.Second, func() bool { return time.Since(since) > 400*time.Millisecond }, "a while passes")
	}
}

// A frozen one says nothing and then goes on.
type frozen struct {
	*store.Store
	mu      sync.RWMutex
	refused atomic.Int64 // times that it was told who is there
}

var errFrozen = errors.New("frozen")

func (f *frozen) Present(ctx context.Context, gateway string, lease time.Duration, begins bool, former string) (bool, []string, error) {
	if !f.mu.TryRLock() {
		return false, nil, errFrozen
	}
	defer f.mu.RUnlock()
	return f.Store.Present(ctx, gateway, lease, begins, former)
}

func (f *frozen) SayPresence(ctx context.Context, gateway string, debounce time.Duration, all []store.Presence) error {
	if !f.mu.TryRLock() {
		f.refused.Add(1)
		return errFrozen
	}
	defer f.mu.RUnlock()
	return f.Store.SayPresence(ctx, gateway, debounce, all)
}

// Its lease is over, and its users are gone. When it is back all of them are there again, and who left meanwhile is not.
func TestAGatewayThatWasGoneTellsAllAgain(t *testing.T) {
	b := newBed(t)
	f := &frozen{Store: b.store("gateway")}
	h := b.house(quickLease, f)
	b.listen()
	h.say("+ann +bob +carl")
	b.want("online:ann", "online:bob", "online:carl")
	f.mu.Lock()
	b.want("online:ann", "online:bob", "online:carl", "offline:ann", "offline:bob", "offline:carl")
	h.say("-bob +dora")
	f.mu.Unlock()
	b.want("online:ann", "online:bob", "online:carl", "offline:ann", "offline:bob", "offline:carl", "online:ann", "online:carl", "online:dora")
	h.say("-ann -carl")
	b.want("online:ann", "online:bob", "online:carl", "offline:ann", "offline:bob", "offline:carl", "online:ann", "online:carl", "online:dora", "offline:ann", "offline:carl")
}

// A gateway wakes when its users are long gone, and tells of one more before it knows of that: she is not online for ever.
func TestWhatIsToldUnderANameThatIsOverIsTakenBack(t *testing.T) {
	b := newBed(t)
	f := &late{Store: b.store("gateway")}
	h := b.house(quickLease, f)
	b.listen()
	h.say("+ann")
	b.want("online:ann")
	f.stopped.Store(true)
	b.want("online:ann", "offline:ann")
	testkit.Eventually(t, 10*time.Second, func() bool {
		_, gateways := b.keys.Listened()
		return b.srv.Client().ZCard(t.Context(), gateways).Val() == 0
	}, "the name is over")
	h.say("+dora")
	b.want("online:ann", "offline:ann", "online:dora")
	f.stopped.Store(false)
	b.want("online:ann", "offline:ann", "online:dora", "online:ann")
	h.say("-dora")
	b.want("online:ann", "offline:ann", "online:dora", "online:ann", "offline:dora")
}

// A late one says nothing of its lease, or not who is there.
type late struct {
	*store.Store
	stopped, silent, unheard atomic.Bool
}

func (l *late) SayPresence(ctx context.Context, gateway string, debounce time.Duration, all []store.Presence) error {
	if l.silent.Load() {
		return errFrozen
	}
	return l.Store.SayPresence(ctx, gateway, debounce, all)
}

// What could not be told until nobody listened any more is not told to who listens then: it was not heard since whether it is still so.
func TestWhatIsUnsaidEndsWithWhoListened(t *testing.T) {
	b := newBed(t)
	f := &late{Store: b.store("gateway")}
	b.listen()
	h := b.house(quickLease, f)
	h.say("+ann")
	b.want("online:ann")
	f.silent.Store(true)
	h.say("+bob")
	admin := redis.NewClient(b.srv.Client().Options())
	defer admin.Close()
	tenants, _ := b.keys.Listened()
	until := admin.ZScore(t.Context(), tenants, notify.DefaultTenant).Val()
	admin.Del(t.Context(), tenants)
	testkit.Eventually(t, 10*time.Second, f.unheard.Load, "nobody listens")
	h.say("-bob +carl -ann")
	f.silent.Store(false)
	admin.ZAdd(t.Context(), tenants, redis.Z{Score: until, Member: notify.DefaultTenant})
	b.want("online:ann", "online:carl", "offline:ann")
}

func (l *late) Present(ctx context.Context, gateway string, lease time.Duration, begins bool, former string) (bool, []string, error) {
	if l.stopped.Load() {
		return false, nil, errFrozen
	}
	known, tenants, err := l.Store.Present(ctx, gateway, lease, begins, former)
	l.unheard.Store(err == nil && len(tenants) == 0)
	return known, tenants, err
}

// Redis cannot be told for less than a lease: what changed meanwhile is told then, once.
func TestWhatCouldNotBeToldIsToldLater(t *testing.T) {
	b := newBed(t)
	f := &frozen{Store: b.store("gateway")}
	b.listen()
	h := b.house(time.Minute, f) // it hears at its beginning who listens
	h.say("+ann")
	b.want("online:ann")
	f.mu.Lock()
	h.say("+bob +carl")
	testkit.Eventually(t, 10*time.Second, func() bool { return f.refused.Load() > 0 }, "it was refused")
	h.say("-bob -ann")
	f.mu.Unlock()
	b.want("online:ann", "online:carl", "offline:ann")
}

// A Redis that lost everything knows nobody; the watcher begins anew, and hears of all who are there.
func TestPresenceComesBackAfterALossOfEverything(t *testing.T) {
	b := newBed(t)
	h := b.house(quickLease, b.store("gateway"))
	b.listen()
	h.say("+ann")
	b.want("online:ann")
	admin := redis.NewClient(b.srv.Client().Options())
	defer admin.Close()
	if err := admin.FlushDB(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	b.heard = nil
	testkit.Eventually(t, 30*time.Second, func() bool {
		n, err := b.watch.Next(t.Context(), 20*time.Millisecond)
		return err == nil && slices.ContainsFunc(n.Events, func(e notify.Event) bool { return e.Type == notify.EventOnline && e.Topic == "user:ann" })
	}, "ann is online again")
}
