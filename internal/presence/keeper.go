// Package presence tells backends who is online: a gateway's Keeper says whose streams it hears, under a lease, and a publisher's Reaper has those leave whose gateway is
// gone. Who is online is what the gateways hear: no user has a heartbeat of his own. Nothing of it is done while nobody listens.
package presence

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"allim/internal/store"
	"allim/pkg/notify"
)

const (
	DefaultLease    = 15 * time.Second // of a gateway that says nothing
	DefaultDebounce = 10 * time.Second // that a user has to come back

	sayEvery     = 100 * time.Millisecond // what changed
	mostUnsaid   = 100_000                // users of whom something is to be said
	mostAtOnce   = 10_000                 // of them in one pipeline
	walkAtOnce   = 32                     // partitions that are gone through in a turn
	callTimeout  = 5 * time.Second
	leaveTimeout = time.Second
	complainsIn  = time.Minute // that Redis fails
)

// StopBudget is how long a Keeper's Run goes on after its context has ended.
const StopBudget = leaveTimeout + 100*time.Millisecond

// A Teller is what a Keeper says it to: *store.Store.
type Teller interface {
	Present(ctx context.Context, gateway string, lease time.Duration, begins bool, former string) (known bool, tenants []string, err error)
	SayPresence(ctx context.Context, gateway string, debounce time.Duration, all []store.Presence) error
	Absent(ctx context.Context, gateway string) error
}

// Options make a Keeper.
type Options struct {
	Store      Teller
	Users      func(ctx context.Context, part int) error // has Heard called for all users of a partition that are here: fanout.Hub's
	Partitions int
	Lease      time.Duration // 0: DefaultLease; said again three times in it
	Debounce   time.Duration // 0: DefaultDebounce
	Metrics    *Metrics      // nil: nothing is counted
	Log        *slog.Logger  // nil: nowhere
}

// A Keeper tells of the users of one gateway. Where it is in doubt whether what it told is still known (its lease was over, or more changed than it holds) it takes a new
// name and tells all of it again; whoever is still known under the former one leaves with that.
type Keeper struct {
	Options
	listened atomic.Pointer[map[string]bool] // tenants whose backends want to know; a map is not changed any more

	// Run's alone.
	name       string // "": nobody listens
	begun      bool   // name has a lease
	former     string // name that is kept alive until all is told under the new one; "": none
	walk       int    // the partition to go through next; Partitions: all is told
	complained time.Time

	mu      sync.Mutex // guards the fields below; nothing is locked while it is held
	unsaid  map[notify.Stream]bool
	tooMany bool
}

// NewKeeper makes a Keeper. Run is called once.
func NewKeeper(o Options) *Keeper {
	if o.Lease == 0 {
		o.Lease = DefaultLease
	}
	if o.Debounce == 0 {
		o.Debounce = DefaultDebounce
	}
	if o.Metrics == nil {
		o.Metrics = NewMetrics(nil)
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	k := &Keeper{Options: o, walk: o.Partitions, unsaid: map[notify.Stream]bool{}}
	k.listened.Store(&map[string]bool{})
	return k
}

// Heard says that a user's stream begins to be heard here, or ends to be. It does not block. What is heard of one stream is in order.
func (k *Keeper) Heard(s notify.Stream, here bool) {
	if !(*k.listened.Load())[s.Tenant] {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, known := k.unsaid[s]; !known && len(k.unsaid) >= mostUnsaid {
		k.tooMany = true
		return
	}
	k.unsaid[s] = here
}

// Run tells of users until ctx ends; then it says that the gateway is gone, so that nobody has to wait for its lease.
func (k *Keeper) Run(ctx context.Context) error {
	say, lease := time.NewTicker(sayEvery), time.NewTicker(k.Lease/3)
	defer say.Stop()
	defer lease.Stop()
	k.hold(ctx)
	for {
		select {
		case <-ctx.Done():
			k.leave()
			return nil
		case <-lease.C:
			k.hold(ctx)
		case <-say.C:
			k.say(ctx)
		}
	}
}

// hold renews the lease, and learns who listens.
func (k *Keeper) hold(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if k.overflowed() && k.begun {
		k.former = k.name
		k.rename("full")
	}
	for {
		if k.name == "" {
			k.name = rand.Text()
		}
		known, tenants, err := k.Store.Present(ctx, k.name, k.Lease, !k.begun, k.former)
		switch {
		case err != nil:
			k.complain(err)
		case len(tenants) == 0:
			k.listen(nil)
			k.name, k.begun, k.former, k.walk = "", false, "", k.Partitions
		case known:
			if !k.begun {
				k.forget() // what was heard before somebody listened, and may not be so any more: all is told anew
			}
			if k.listen(tenants) || !k.begun {
				k.walk = 0
			}
			k.begun = true
		default: // its lease was over: who was told under it leaves, and so does who was told after a reaper was through with it
			k.former = k.name
			k.rename("unknown")
			continue
		}
		return
	}
}

// rename has all users told again, under a new name.
func (k *Keeper) rename(why string) {
	k.name, k.begun, k.walk = rand.Text(), false, k.Partitions
	k.Metrics.renamed.WithLabelValues(why).Inc()
	k.forget()
}

// forget drops what is unsaid.
func (k *Keeper) forget() {
	k.mu.Lock()
	defer k.mu.Unlock()
	clear(k.unsaid)
	k.tooMany = false
}

func (k *Keeper) overflowed() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.tooMany
}

// listen keeps which tenants are told of, and tells whether one is new.
func (k *Keeper) listen(tenants []string) (more bool) {
	before, now := *k.listened.Load(), make(map[string]bool, len(tenants))
	for _, t := range tenants {
		now[t] = true
		more = more || !before[t]
	}
	if !maps.Equal(before, now) {
		k.listened.Store(&now)
	}
	return more
}

// say says what changed, and goes on through all users where that is to be done.
func (k *Keeper) say(ctx context.Context) {
	if !k.begun {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	for range walkAtOnce {
		if k.walk == k.Partitions || k.waiting() > mostUnsaid/2 {
			break
		}
		if k.Users(ctx, k.walk) != nil {
			return // ctx has ended
		}
		k.walk++
	}
	if !k.flush(ctx) || k.walk < k.Partitions || k.former == "" {
		return
	}
	if err := k.Store.Absent(ctx, k.former); err != nil {
		k.complain(err)
		return
	}
	k.former = ""
}

func (k *Keeper) waiting() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.unsaid)
}

// flush says all that is unsaid; true: it did. What could not be said is kept, unless something newer is known.
func (k *Keeper) flush(ctx context.Context) bool {
	var all map[notify.Stream]bool // nobody else's: an empty one stays what Heard writes to
	k.mu.Lock()
	if len(k.unsaid) > 0 {
		all, k.unsaid = k.unsaid, map[notify.Stream]bool{}
	}
	k.mu.Unlock()
	some := make([]store.Presence, 0, min(len(all), mostAtOnce))
	ok := true
	for s, here := range all {
		if some = append(some, store.Presence{Stream: s, Here: here}); len(some) == mostAtOnce {
			ok = k.tell(ctx, some) && ok
			some = some[:0]
		}
	}
	return (len(some) == 0 || k.tell(ctx, some)) && ok
}

func (k *Keeper) tell(ctx context.Context, some []store.Presence) bool {
	err := k.Store.SayPresence(ctx, k.name, k.Debounce, some)
	if err == nil {
		k.Metrics.told.Add(float64(len(some)))
		return true
	}
	k.complain(err)
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, one := range some {
		if _, newer := k.unsaid[one.Stream]; !newer {
			k.unsaid[one.Stream] = one.Here
		}
	}
	return false
}

// leave says that the gateway is gone.
func (k *Keeper) leave() {
	ctx, cancel := context.WithTimeout(context.Background(), leaveTimeout)
	defer cancel()
	for _, name := range []string{k.name, k.former} {
		if name == "" || !k.begun && name == k.name {
			continue
		}
		if err := k.Store.Absent(ctx, name); err != nil {
			k.complain(err)
		}
	}
}

// complain says that Redis fails, once a minute.
func (k *Keeper) complain(err error) {
	if now := time.Now(); !errors.Is(err, context.Canceled) && now.Sub(k.complained) >= complainsIn {
		k.complained = now
		k.Log.Warn("presence_failed", "error", err)
	}
}
