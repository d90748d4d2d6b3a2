package presence

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"time"

	"allim/internal/store"
)

// A Reaper has the users of gateways that are gone leave, and tells who did not come back. Any number of them may run.
type Reaper struct {
	Store interface { // *store.Store
		Reap(ctx context.Context, debounce time.Duration) (store.Reaped, error)
	}
	Debounce time.Duration // 0: DefaultDebounce
	Every    time.Duration // between two looks, ± 20 %; 0: 500 ms
	Log      *slog.Logger  // nil: nowhere
}

// Run looks until ctx ends, and returns with the look that it is at, which ends with ctx, too.
func (r Reaper) Run(ctx context.Context) error {
	if r.Debounce == 0 {
		r.Debounce = DefaultDebounce
	}
	if r.Every == 0 {
		r.Every = 500 * time.Millisecond
	}
	if r.Log == nil {
		r.Log = slog.New(slog.DiscardHandler)
	}
	pause, complained := time.NewTimer(r.Every), time.Time{}
	defer pause.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-pause.C:
		}
		look, cancel := context.WithTimeout(ctx, callTimeout)
		gone, err := r.Store.Reap(look, r.Debounce)
		cancel()
		if now := time.Now(); err != nil && !errors.Is(ctx.Err(), context.Canceled) && now.Sub(complained) >= complainsIn {
			complained = now
			r.Log.Warn("presence_failed", "error", err)
		}
		if gone.Gateways > 0 {
			r.Log.Info("gateways_gone", "gateways", gone.Gateways)
		}
		pause.Reset(time.Duration(float64(r.Every) * (0.8 + 0.4*rand.Float64())))
	}
}
