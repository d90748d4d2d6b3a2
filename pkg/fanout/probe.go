package fanout

import (
	"context"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

// probe publishes to our own channels through the command client, until ctx ends: what comes back proves that commands and link meet the
// same Redis, and that its messages reach us. go-redis' own check only writes (go-redis issue 3811), and never notices a dead path.
func (h *Hub) probe(ctx context.Context) {
	tick := time.NewTicker(h.opt.ProbeEvery)
	defer tick.Stop()
	for n := 0; ; n++ {
		all := true
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-h.proof:
			all = false
		}
		h.probeOnce(ctx, strconv.Itoa(n), all)
	}
}

// probeOnce probes all links that are up, or only those that no probe came back on.
func (h *Hub) probeOnce(ctx context.Context, payload string, all bool) {
	type sent struct {
		feed *feed
		gen  uint32
		cmd  *redis.IntCmd
	}
	var out []sent
	start := time.Now()
	ctx, cancel := context.WithTimeout(ctx, h.opt.ProbeTimeout)
	defer cancel()
	pipe := h.opt.Redis.Pipeline()
	for _, f := range h.feeds {
		gen, due := f.probeDue(all)
		switch {
		case !due:
		case h.opt.Sharded:
			out = append(out, sent{f, gen, pipe.SPublish(ctx, f.channel, payload)})
		default:
			out = append(out, sent{f, gen, pipe.Publish(ctx, f.channel, payload)})
		}
	}
	if len(out) == 0 {
		return
	}
	_, _ = pipe.Exec(ctx) // each command has its own error
	for _, s := range out {
		s.feed.probeSent(s.gen, start, s.cmd.Err())
	}
}

// probeDue tells whether the link is to be probed now, and its generation.
func (f *feed) probeDue(all bool) (gen uint32, due bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if all && !f.sent.IsZero() {
		f.missed++ // the one before is still out
	}
	return f.gen, f.up && (all || f.returned.IsZero())
}

func (f *feed) probeSent(gen uint32, start time.Time, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case err != nil:
		f.missed++
	case gen == f.gen && f.sent.IsZero() && f.returned.Before(start):
		f.sent = start
	}
}

// probed notes that a probe came back on the link of gen.
func (f *feed) probed(gen uint32) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if gen == f.gen {
		f.sent, f.returned = time.Time{}, time.Now()
		f.last = f.returned
	}
}

// overdue is how long a probe that Redis accepted has been out; 0 when none is.
func (f *feed) overdue() time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.sent.IsZero() {
		return 0
	}
	return time.Since(f.sent)
}
