// Package due does what notifications are due for: every publisher looks at the deadlines in Redis, whose scripts end, deliver and claim. What is claimed
// is told to somebody outside, by a webhook or Web Push; one program does it, and where that one dies another does it again, with the same id.
package due

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"math/rand/v2"
	"sync"
	"time"

	"allim/internal/store"
	"allim/internal/webhook"
	"allim/internal/webpush"
	"allim/pkg/notify"
)

const (
	defaultEvery = 500 * time.Millisecond  // between two looks, ± 20 %
	often        = 10                      // times as often it looks while there is more to tell than there are places, and places become free
	goesOn       = 2 * time.Second         // for how long a look that shows that goes for the next ones: what is put off comes after a second
	lookTimeout  = 5 * time.Second         // of one
	workers      = 32                      // claims at once
	ofOneTenant  = workers / 2             // of these: one whose server stands still does not stop the others'
	finishWait   = 2500 * time.Millisecond // for what is on its way, at the end
	askTimeout   = time.Second             // of what is asked of Redis for a push
	writeTimeout = time.Second
	writeTries   = 3
	sayEvery     = time.Minute // that Redis fails

	// StopBudget is how long Run goes on after its context has ended.
	StopBudget = finishWait + askTimeout + writeTimeout + 500*time.Millisecond
)

// A Store is the deadlines in Redis.
type Store interface {
	// Due ends what has expired, delivers what was scheduled, and claims what is to be told.
	Due(ctx context.Context, slots store.Slots) (store.Due, error)
	// Escalated says what became of a claim. Nothing happens where its lease has ended.
	Escalated(ctx context.Context, c store.Claim, o store.Outcome) error
	// PushSubscriptions are those of a user's stream.
	PushSubscriptions(ctx context.Context, st notify.Stream) ([]store.Subscription, error)
	// PushForget drops one that has ended, by its key.
	PushForget(ctx context.Context, st notify.Stream, key string) error
	// PushRenew lets all of them live on.
	PushRenew(ctx context.Context, st notify.Stream) error
}

// Options of a Runner.
type Options struct {
	Store    Store
	Endpoint func(tenant string) (to webhook.Endpoint, ok bool) // where a tenant's webhooks go now; nil: nowhere
	Webhook  *webhook.Sender                                    // needed where there is Endpoint
	Push     *webpush.Sender                                    // nil: nothing is pushed
	Every    time.Duration                                      // between two looks; 0: 500 ms
	Metrics  *Metrics                                           // nil: nothing is counted
	Log      *slog.Logger                                       // nil: nowhere
}

// New makes a Runner.
func New(o Options) *Runner {
	if o.Every == 0 {
		o.Every = defaultEvery
	}
	if o.Endpoint == nil {
		o.Endpoint = func(string) (webhook.Endpoint, bool) { return webhook.Endpoint{}, false }
	}
	if o.Metrics == nil {
		o.Metrics = NewMetrics(nil)
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Runner{Options: o, slots: slots{tenants: map[string]int{}}, finish: finishWait}
}

// A Runner looks at the deadlines. Run is called once.
type Runner struct {
	Options
	slots  slots
	active sync.WaitGroup // the claims
	finish time.Duration  // finishWait

	busy time.Time // until then it looks often; Run's alone

	mu   sync.Mutex // guards said
	said time.Time  // when it was logged last that Redis fails
}

// Run looks every half second, and more often while many are to be told, until ctx ends. Then nothing is claimed any more; what is on its way has 2.5 s to come to its end, and what has not is given back,
// so that another program takes it at once. What a look had claimed that the end cut off waits for its lease. It returns within StopBudget, also where Redis answers
// nothing: a read that waits for it ends by its own deadline, not with ctx.
func (r *Runner) Run(ctx context.Context) error {
	sends, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	cut := time.AfterFunc(math.MaxInt64, stop)
	defer cut.Stop()
	defer context.AfterFunc(ctx, func() { cut.Reset(r.finish) })() // while the last look may still wait
	pause := time.NewTimer(jitter(r.Every))
	defer pause.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-pause.C:
			for r.look(ctx, sends) && ctx.Err() == nil { // there is more
			}
			pause.Reset(r.pause())
		}
	}
	r.active.Wait()
	return nil
}

// pause is how long it is until the next look.
func (r *Runner) pause() time.Duration {
	if time.Now().Before(r.busy) {
		return jitter(r.Every / often)
	}
	return jitter(r.Every)
}

// jitter is d ± 20 %: programs that were started together do not look together.
func jitter(d time.Duration) time.Duration {
	return time.Duration(float64(d) * (0.8 + 0.4*rand.Float64()))
}

// look takes what is due, and tells whether it is worth looking again at once.
func (r *Runner) look(ctx, sends context.Context) (more bool) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	got, err := r.Store.Due(ctx, &r.slots)
	for _, c := range got.Claims { // also where there is an error: it is of others
		r.active.Go(func() {
			defer r.slots.Free(c.Stream.Tenant, 1)
			r.escalate(sends, c)
		})
	}
	if now := time.Now(); len(got.Claims) > 0 && (got.PutOff > 0 || now.Before(r.busy)) {
		r.busy = now.Add(goesOn)
	}
	r.Metrics.looked(got)
	if err != nil && !errors.Is(ctx.Err(), context.Canceled) {
		r.failed(err)
	}
	return err == nil && got.More
}

// failed says once a minute that Redis fails.
func (r *Runner) failed(err error) {
	now := time.Now()
	r.mu.Lock()
	say := r.said.IsZero() || now.Sub(r.said) >= sayEvery
	if say {
		r.said = now
	}
	r.mu.Unlock()
	if say {
		r.Log.Warn("due_failed", "error", err)
	}
}

// slots are the places for claims. Safe for concurrent use.
type slots struct {
	mu      sync.Mutex     // guards what is below
	taken   int            // at most workers
	tenants map[string]int // at most ofOneTenant each; none is 0
}

// Take implements store.Slots.
func (s *slots) Take(tenant string, most int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := max(min(most, workers-s.taken, ofOneTenant-s.tenants[tenant]), 0)
	if n > 0 {
		s.taken += n
		s.tenants[tenant] += n
	}
	return n
}

// Free implements store.Slots.
func (s *slots) Free(tenant string, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taken -= n
	if s.tenants[tenant] -= n; s.tenants[tenant] <= 0 {
		delete(s.tenants, tenant)
	}
}
