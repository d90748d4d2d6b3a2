package publish

import (
	"context"
	"testing"
	"time"

	"allim/internal/testkit"
)

func TestStreamsShareHalfOfTheGateInOrder(t *testing.T) {
	t.Parallel()
	g := newGate(8, 100, NewMetrics(nil)) // 4 places and 50 bytes for streams
	ctx := testkit.Context(t, 10*time.Second)
	take := func(sender string, size int) {
		t.Helper()
		if err := g.wait(ctx, sender, size); err != nil {
			t.Fatal(err)
		}
	}
	queued := func(n int) {
		t.Helper()
		testkit.Eventually(t, 5*time.Second, func() bool { g.mu.Lock(); defer g.mu.Unlock(); return len(g.queue) == n }, "wait")
	}
	wait := func(ctx context.Context, sender string, size int) chan error {
		came := make(chan error, 1)
		g.mu.Lock()
		n := len(g.queue) + 1
		g.mu.Unlock()
		go func() { came <- g.wait(ctx, sender, size) }()
		queued(n)
		return came
	}
	take("a", 1)
	take("a", 1)
	a := wait(ctx, "a", 1) // has half
	take("b", 40)          // past a, who may have no more
	large := wait(ctx, "c", 20)
	small := wait(ctx, "d", 1) // not past what is large: that would wait for ever
	impatient, cancel := context.WithCancel(ctx)
	gone := wait(impatient, "e", 1)
	if met := g.enter(57); met != "" {
		t.Errorf("a call beside them: %s", met)
	}
	if met := g.enter(2); met != "calls_bytes" {
		t.Errorf("a call too many: %q", met)
	}
	cancel()
	if err := testkit.Receive(t, 5*time.Second, gone, "the impatient"); err == nil {
		t.Error("who left has a place")
	}
	g.leave(57)
	queued(3)
	g.done("b", 40)
	if err := testkit.Receive(t, 5*time.Second, large, "the large one"); err != nil {
		t.Error(err)
	}
	g.done("a", 1)
	g.done("a", 1)
	for _, c := range []chan error{a, small} {
		if err := testkit.Receive(t, 5*time.Second, c, "a place"); err != nil {
			t.Error(err)
		}
	}
	g.done("a", 1)
	g.done("c", 20)
	g.done("d", 1)
	take("a", 90) // more than all that streams have, alone
	other := wait(ctx, "b", 1)
	g.done("a", 90)
	if err := testkit.Receive(t, 5*time.Second, other, "a place behind it"); err != nil {
		t.Error(err)
	}
	g.done("b", 1)
	if g.calls+g.bytes+g.streamBytes+g.streamed.used+len(g.streamed.of)+len(g.queue) != 0 {
		t.Errorf("left: %+v", g)
	}
}
