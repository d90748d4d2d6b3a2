package fanout

import (
	"strings"
	"testing"
)

// Loops are many, and what waits in one is bounded by itself: together they may not hold what the machine does not have.
func TestAllMailboxesTogetherAreBounded(t *testing.T) {
	h, _, l := stillHub(t, Options{AllMailboxes: 100})
	other := newLoop(h)
	put := func(l *loop, bytes int, taken bool, when string) {
		t.Helper()
		dropped := l.count.dropped[dropMailbox].Load()
		l.put(frame{channel: "c", payload: strings.Repeat("x", bytes)})
		if got := l.count.dropped[dropMailbox].Load() == dropped; got != taken {
			t.Errorf("%s: taken %v, want %v", when, got, taken)
		}
	}
	put(l, 60, true, "the first")
	put(other, 41, false, "one byte too many, of another loop")
	put(other, 40, true, "what fits")
	put(l, 1, false, "full")
	for range 2*burst + 1 {
		put(l, 0, true, "without bytes")
	}
	l.step()
	put(other, 1, false, "full while the batch is handed on")
	for l.step() {
	}
	put(other, 60, true, "when it is")
	for other.step() {
	}
	if got := h.frames.Load(); got != 0 {
		t.Errorf("%d bytes are counted when all is empty", got)
	}
	put(l, 101, false, "more than there may be at all")
	if l.step(); h.frames.Load() != 0 {
		t.Errorf("%d bytes are counted for what was refused", h.frames.Load())
	}
}
