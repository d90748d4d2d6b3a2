package gateway

import (
	"math/rand/v2"
	"runtime"
	"time"

	"allim/pkg/auth"
	"allim/pkg/notify"
)

// verifyWait is how long a token waits for its turn.
const verifyWait = time.Second

// Limited verifies as many tokens at once as the machine can, in upgrades and auth frames together; who has to wait too long is told to come
// back. A storm of reconnects must not starve those who are connected (delivery.md, Storm).
func Limited(verify func(string) (*auth.Identity, error)) func(string) (*auth.Identity, error) {
	places := make(chan struct{}, 2*runtime.GOMAXPROCS(0))
	return func(token string) (*auth.Identity, error) {
		select {
		case places <- struct{}{}:
		default:
			over := time.NewTimer(verifyWait)
			defer over.Stop()
			select {
			case places <- struct{}{}:
			case <-over.C:
				return nil, &notify.RetryError{Err: notify.ErrUnavailable, After: retryAfter()}
			}
		}
		defer func() { <-places }()
		return verify(token)
	}
}

// retryAfter spreads those who come back over ten seconds.
func retryAfter() time.Duration { return time.Second + rand.N(10*time.Second) }
