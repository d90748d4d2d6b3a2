package fanout

import (
	"context"
	"sync"
	"testing"
	"time"

	"allim/internal/keyspace"
	"allim/internal/testkit"
	"allim/pkg/notify"
)

// gateHistory answers Recover when its gate lets it, and remembers what it was asked.
type gateHistory struct {
	quietHistory
	gate chan struct{}

	mu    sync.Mutex
	asked []uint64 // offsets
	most  int      // calls at once
	now   int
}

func (h *gateHistory) Recover(ctx context.Context, _ notify.Stream, from notify.Position, _ int) (notify.Recovery, error) {
	h.mu.Lock()
	h.asked = append(h.asked, from.Offset)
	h.now++
	h.most = max(h.most, h.now)
	h.mu.Unlock()
	defer func() { h.mu.Lock(); h.now--; h.mu.Unlock() }()
	select {
	case <-h.gate:
		return notify.Recovery{Outcome: notify.Delta}, nil
	case <-ctx.Done():
		return notify.Recovery{}, ctx.Err()
	}
}

func (h *gateHistory) offsets() []uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]uint64(nil), h.asked...)
}

func runRecoverer(t *testing.T, o Options) (*recoverer, *loop) {
	t.Helper()
	var err error
	if o.Keys, err = keyspace.NewMap(0); err != nil {
		t.Fatal(err)
	}
	h := New(o)
	ctx, stop := context.WithCancel(context.Background())
	var run sync.WaitGroup
	run.Go(func() { h.recover.run(ctx) })
	t.Cleanup(func() { stop(); run.Wait() })
	return h.recover, h.loops[0]
}

func answers(l *loop) int { l.mu.Lock(); defer l.mu.Unlock(); return len(l.answers) }

func TestOneTicketHasOneQuestionAtMost(t *testing.T) {
	t.Parallel()
	h := &gateHistory{gate: make(chan struct{})}
	r, l := runRecoverer(t, Options{History: h, Workers: 1, CallTimeout: time.Minute})
	a, b := &Subscription{}, &Subscription{}
	ka, kb := &ticket{}, &ticket{}
	ask := func(c *Subscription, k *ticket, offset uint64) {
		r.ask(query{why: pulling, shard: l, sub: c, ticket: k, from: notify.Position{Offset: offset}})
	}
	ask(a, ka, 1)
	testkit.Eventually(t, 5*time.Second, func() bool { return len(h.offsets()) == 1 }, "the first runs")
	for offset := uint64(2); offset < 100; offset++ {
		ask(a, ka, offset)      // follows the one that runs
		ask(b, kb, 1000+offset) // takes the place of the one that waits
	}
	if got := r.waiting(); got != 2 {
		t.Fatalf("%d questions wait or run, want 2", got)
	}
	close(h.gate)
	testkit.Eventually(t, 5*time.Second, func() bool { return answers(l) == 3 && r.waiting() == 0 }, "three answers")
	got := h.offsets()
	if len(got) != 3 || got[0] != 1 || got[1]+got[2] != 1099+99 {
		t.Fatalf("asked for %v, want 1, then the newest of each: 99 and 1099", got)
	}
}

func TestCallsOfHistoryAreBoundedAndEnd(t *testing.T) {
	t.Parallel()
	h := &gateHistory{gate: make(chan struct{})}
	r, l := runRecoverer(t, Options{History: h, Workers: 3, CallTimeout: 50 * time.Millisecond})
	for range 9 {
		r.ask(query{why: pulling, shard: l, sub: &Subscription{}, ticket: &ticket{}})
	}
	testkit.Eventually(t, 5*time.Second, func() bool { return answers(l) == 9 }, "nine answers in spite of a history that hangs")
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, a := range l.answers {
		if a.err == nil {
			t.Fatal("a call that hung has no error")
		}
	}
	if h.most != 3 {
		t.Fatalf("%d calls at once, want 3", h.most)
	}
}

func TestManyRecoversArePaced(t *testing.T) {
	t.Parallel()
	h := &gateHistory{gate: make(chan struct{})}
	close(h.gate)
	const rate, n = 1000, 300
	r, l := runRecoverer(t, Options{History: h, RecoverRate: rate})
	start := time.Now()
	for range n {
		r.ask(query{why: pulling, shard: l, sub: &Subscription{}, ticket: &ticket{}, paced: true})
	}
	quick := &ticket{}
	r.ask(query{why: beginning, shard: l, sub: &Subscription{}, ticket: quick, from: notify.Position{Offset: 7}})
	testkit.Eventually(t, 5*time.Second, func() bool { return answers(l) == n+1 }, "all answers")
	if took := time.Since(start); took < n*time.Second/rate {
		t.Fatalf("%d took %v, faster than %d a second", n, took, rate)
	}
	at := 0
	for i, o := range h.offsets() {
		if o == 7 {
			at = i
		}
	}
	if at > n/2 {
		t.Fatalf("who is waited for came %d-th: the paced are in the way", at)
	}
}

func TestBackoffIsBounded(t *testing.T) {
	for attempt := range 100 {
		if d := backoff(attempt, retryFirst, retryLongest); d <= 0 || d > retryLongest+1 || attempt == 0 && d > retryFirst+1 {
			t.Fatalf("attempt %d: %v", attempt, d)
		}
	}
}
