package ops

import (
	"context"
	"errors"
	"sync/atomic"
	"time"
)

const (
	pingFirst   = 100 * time.Millisecond // between pings until one came back
	pingEvery   = 2 * time.Second        // after that
	pingTimeout = time.Second
	pingFresh   = 10 * time.Second // ready while a ping came back this recently: a short blip does not flap
)

// A Pulse is the readiness of a program that asks Redis and is answered.
type Pulse struct {
	Ping func(context.Context) error // asks Redis, and may fail as well for what else is not ready

	answered atomic.Pointer[time.Time] // when the last ping came back; nil: never
	stopping atomic.Bool
}

// Run pings until ctx ends.
func (p *Pulse) Run(ctx context.Context) error {
	pause := time.NewTimer(0)
	defer pause.Stop()
	for next := pingFirst; ; pause.Reset(next) {
		select {
		case <-ctx.Done():
			return nil
		case <-pause.C:
		}
		one, cancel := context.WithTimeout(ctx, pingTimeout)
		if p.Ping(one) == nil {
			now := time.Now()
			p.answered.Store(&now)
			next = pingEvery
		}
		cancel()
	}
}

// Stopping makes Ready fail from now on, so that no new calls are sent here.
func (p *Pulse) Stopping() { p.stopping.Store(true) }

// Ready says why no work should be sent here; nil: it may.
func (p *Pulse) Ready() error {
	if p.stopping.Load() {
		return errors.New("stopping")
	}
	if at := p.answered.Load(); at == nil || time.Since(*at) > pingFresh {
		return errors.New("no fresh answer from Redis")
	}
	return nil
}
