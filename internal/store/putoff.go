package store

import (
	"slices"
	"sync"
	"time"
)

const (
	noPlace      = time.Second       // after which what found no place among the claims is due again, at the soonest
	whenMoving   = time.Second / 256 // between two of a tenant's that found none where others of it did: some 13 between two looks of a runner that has much to tell
	whenStanding = time.Second / 32  // where none did
)

// A putOff spaces out the escalations of each tenant that found no place among the claims. They come one behind the other: those of a receiver that stands still
// would else all be due each second, and Redis would do nothing but put them off. The zero value has none.
type putOff struct {
	mu   sync.Mutex           // guards last; a leaf
	last map[string]time.Time // by tenant: when the last of them is due again; those that are over are dropped
}

// between is how far apart those of a tenant are put off in a look that has claimed these so far.
func between(tenant string, claims []Claim) time.Duration {
	if slices.ContainsFunc(claims, func(c Claim) bool { return c.Stream.Tenant == tenant }) {
		return whenMoving
	}
	return whenStanding
}

// wait is how long the one waits that is put off n behind the next.
func (p *putOff) wait(tenant string, n int, between time.Duration) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return max(time.Until(p.last[tenant]), noPlace) + time.Duration(n)*between
}

// add takes n that were put off.
func (p *putOff) add(tenant string, n int, between time.Duration) {
	if n == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	for t, at := range p.last {
		if at.Before(now) {
			delete(p.last, t)
		}
	}
	if p.last == nil {
		p.last = map[string]time.Time{}
	}
	from := now.Add(noPlace)
	if at := p.last[tenant]; at.After(from) {
		from = at
	}
	p.last[tenant] = from.Add(time.Duration(n) * between)
}
