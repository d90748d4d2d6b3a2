package session

import (
	"sync"
	"time"

	"allim/internal/wire"
	"allim/pkg/auth"
	"allim/pkg/notify"
)

// rates bound what each user asks for over HTTP, where no connection holds a bucket of its own. They hold at most twice mostRates users.
type rates struct {
	perSecond float64 // constant
	begun     time.Time

	mu     sync.Mutex // guards the rest; a leaf
	now    map[rated]bucket
	before map[rated]bucket // those of the turn before: who is in neither has all it may have
	turned time.Duration    // when now began
}

type rated struct{ tenant, user string }

const (
	atOnce    = 4       // times what a second brings: what a bucket holds, as with frames
	mostRates = 100_000 // users of one turn; beyond it the next turn begins, and some get more than their due
)

func newRates(perSecond int) rates {
	return rates{perSecond: float64(perSecond), begun: time.Now(), now: map[rated]bucket{}}
}

// take takes n from a user's bucket, if there are as many.
func (r *rates) take(u rated, n float64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	at := time.Since(r.begun)
	if at-r.turned >= atOnce*time.Second || len(r.now) >= mostRates { // in that time a bucket fills
		r.before, r.now, r.turned = r.now, map[rated]bucket{}, at
	}
	b, ok := r.now[u]
	if !ok {
		b = r.before[u]
	}
	good := b.take(at, n, r.perSecond, atOnce*r.perSecond)
	r.now[u] = b
	return good
}

// Weights of what is asked for over HTTP and in frames.
const (
	Light = 1  // a frame, a mark by ids, the counts
	Heavy = 10 // what makes Redis read a whole inbox
)

// WeightOf is what a command takes from a bucket.
func WeightOf(c *wire.Command) int {
	if c.Type == "inbox" || c.All || c.Upto != nil || c.UptoAt != nil {
		return Heavy
	}
	return Light
}

// Allow takes from what a user may ask for over HTTP. Its error is ErrLimit with a pause, counted as `requests`.
func (c *Calls) Allow(id *auth.Identity, weight int) error {
	if c.rates.take(rated{id.Tenant, id.User}, float64(weight)) {
		return nil
	}
	c.metrics.limit("requests")
	return &notify.RetryError{Err: notify.ErrLimit, After: time.Second}
}
