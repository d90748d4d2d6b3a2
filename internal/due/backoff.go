package due

import "time"

// pauses are what follows the first, second, … attempt that failed; after the one behind the last it is given up.
var pauses = [...]time.Duration{5 * time.Second, 30 * time.Second, 2 * time.Minute, 10 * time.Minute, 30 * time.Minute, 2 * time.Hour}

// backoff is how long after a failed attempt the next one comes, ± 20 %, but not before whoever failed asked for. ok is false when there is none.
func backoff(attempt int, asked time.Duration) (pause time.Duration, ok bool) {
	if attempt < 1 || attempt > len(pauses) {
		return 0, false
	}
	return max(jitter(pauses[attempt-1]), asked), true
}
