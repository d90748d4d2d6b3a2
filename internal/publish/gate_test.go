package publish

import (
	"context"
	"fmt"
	"testing"
	"time"

	"allim/internal/testkit"
)

// A gated is a gate with those who wait at it.
type gated struct {
	*testing.T
	*gate
}

// wish has a sender wait for a place, and returns when it stands in the line, or has it.
func (g gated) wish(ctx context.Context, sender string, size int) chan error {
	g.Helper()
	came := make(chan error, 1)
	waiting, calls := g.standing()
	go func() { came <- g.wait(ctx, sender, size) }()
	testkit.Eventually(g, 5*time.Second, func() bool { w, c := g.standing(); return w+c > waiting+calls }, "wait")
	return came
}

func (g gated) standing() (waiting, calls int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, l := range g.lines {
		waiting += len(l.wishes)
	}
	return waiting, g.calls
}

func (g gated) take(sender string, size int) {
	g.Helper()
	if err := g.wait(testkit.Context(g, 5*time.Second), sender, size); err != nil {
		g.Fatalf("%s: %v", sender, err)
	}
}

func (g gated) wantNone(came ...chan error) {
	g.Helper()
	for i, c := range came {
		if len(c) > 0 {
			g.Errorf("wish %d has a place", i)
		}
	}
}

func TestStreamsShareHalfOfTheGateInOrder(t *testing.T) {
	t.Parallel()
	g := gated{t, newGate(8, 200, NewMetrics(nil))} // 4 places and 100 bytes for streams
	ctx := testkit.Context(t, 10*time.Second)
	g.take("a", 1)
	g.take("a", 1)
	a := g.wish(ctx, "a", 1)      // has half
	g.take("b", 49)               // past a, who may have no more
	large := g.wish(ctx, "c", 70) // counts for 50
	small := g.wish(ctx, "d", 1)  // not past one who has nothing: that would wait for ever
	impatient, cancel := context.WithCancel(ctx)
	gone := g.wish(impatient, "e", 1)
	if met := g.enter(148); met != "" {
		t.Errorf("a call beside them: %s", met)
	}
	if met := g.enter(2); met != "calls_bytes" {
		t.Errorf("a call too many: %q", met)
	}
	cancel()
	if err := testkit.Receive(t, 5*time.Second, gone, "the impatient"); err == nil {
		t.Error("who left has a place")
	}
	g.leave(148)
	g.wantNone(a, large, small)
	g.done("b", 49)
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
	g.done("c", 70)
	g.done("d", 1)
	g.take("b", 1)
	g.take("a", 900) // more than all that streams have: neither waits for all, nor takes all
	g.take("c", 49)
	g.done("a", 900)
	g.done("b", 1)
	g.done("c", 49)
	if g.calls+g.bytes+g.places.used+g.room.used+len(g.places.of)+len(g.room.of)+len(g.lines)+len(g.of) != 0 {
		t.Errorf("left: %+v", g.gate)
	}
}

func TestBytesOfStreamsAreSharedBySenderAndEachSendersOrderStays(t *testing.T) {
	t.Parallel()
	g := gated{t, newGate(1000, 200, NewMetrics(nil))} // 100 bytes for streams
	ctx := testkit.Context(t, 10*time.Second)
	for range 5 {
		g.take("a", 10)
	}
	more := g.wish(ctx, "a", 10) // has half of the bytes
	small := g.wish(ctx, "a", 1) // would fit, and comes after it
	g.take("b", 25)
	g.wantNone(more, small)
	g.done("b", 25)
	g.wantNone(more, small)
	g.done("a", 10)
	for _, c := range []chan error{more} {
		if err := testkit.Receive(t, 5*time.Second, c, "a place"); err != nil {
			t.Error(err)
		}
	}
	g.wantNone(small)
}

func TestStreamsTakeHalfOfTheStoresRoomAtTheMost(t *testing.T) {
	t.Parallel()
	g := gated{t, newGate(1<<20, 1<<30, NewMetrics(nil))}
	n := 0
	for sender := 0; ; sender++ {
		for g.takes(fmt.Sprint(sender), writeCost+10) {
			n++
		}
		if !g.takes(fmt.Sprint(sender+1), writeCost+10) {
			break
		}
		n++
	}
	if n < 7000 || n > 16_384/2 {
		t.Errorf("%d writes", n)
	}
}

func (g gated) takes(sender string, size int) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.takeLocked(sender, size)
}

// BenchmarkGate is what a message costs while others wait for a place, of one sender who has all that he may.
func BenchmarkGate(b *testing.B) {
	for _, waiting := range []int{0, 255} {
		b.Run(fmt.Sprint("waiting=", waiting), func(b *testing.B) {
			g := newGate(1024, 64<<20, NewMetrics(nil))
			ctx, cancel := context.WithCancel(b.Context())
			ended := make(chan struct{})
			for g.places.may("many", 1) {
				if err := g.wait(ctx, "many", 100); err != nil {
					b.Fatal(err)
				}
			}
			for range waiting {
				go func() { _ = g.wait(ctx, "many", 100); ended <- struct{}{} }()
			}
			testkit.Eventually(b, 5*time.Second, func() bool {
				g.mu.Lock()
				defer g.mu.Unlock()
				return waiting == 0 || len(g.lines) > 0 && len(g.lines[0].wishes) == waiting
			}, "wait")
			b.ReportAllocs()
			b.ResetTimer()
			for range b.N {
				_ = g.wait(ctx, "other", 100)
				g.done("other", 100)
			}
			b.StopTimer()
			cancel()
			for range waiting {
				<-ended
			}
		})
	}
}
