package store

import (
	"sync"
	"time"
)

const clockLife = time.Minute // of what is known of a server's clock: the two may drift apart

// clocks know what time it is in Redis, in a cluster by partition, so that an attempt can say when it ends: a copy of it that is executed later, by a server that
// was frozen with the bytes in its socket, does nothing. No clock of ours is part of it, but for how long ago an answer came.
type clocks struct {
	began time.Time // what our moments count from; its monotonic reading is what matters

	mu sync.Mutex // guards of
	of []clock
}

// A clock is that of a server. The zero value knows nothing.
type clock struct {
	ahead int64 // Unix milliseconds there at our beginning, at the least
	since time.Time
}

func newClocks(n int) *clocks { return &clocks{began: time.Now(), of: make([]clock, n)} }

// learn takes the time that a reply tells, which came at a moment. Redis read its clock before that, so of many replies the one that took the least
// is the closest. A clock that was set forward tells it by that, too; of one that was set back we know after clockLife.
func (c *clocks) learn(part int, now int64, came time.Time) {
	if now == 0 {
		return
	}
	ahead := now - c.millis(came)
	c.mu.Lock()
	defer c.mu.Unlock()
	part %= len(c.of)
	if known := c.of[part]; known.since.IsZero() || ahead > known.ahead || came.Sub(known.since) > clockLife {
		c.of[part] = clock{ahead, came}
	}
}

// at is what time it is in Redis at a moment of ours, or a little earlier: whatever is executed after that moment finds it passed. What is executed
// shortly before may find it passed, too, and would hardly have been answered in time. noEnd where nothing is known.
func (c *clocks) at(part int, t time.Time) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	known := c.of[part%len(c.of)]
	if known.since.IsZero() {
		return noEnd
	}
	return known.ahead + c.millis(t) - 2 // all of these are cut to milliseconds
}

func (c *clocks) millis(t time.Time) int64 { return t.Sub(c.began).Milliseconds() }
