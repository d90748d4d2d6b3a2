//go:build !race

package ws

import (
	"io"
	"runtime"
	"testing"
)

// Under TLS one goroutine after the other drains what waits, with borrowed rooms. The race detector has pools forget on purpose: make test runs this room
// without it, too.
func TestAFlushUnderTLSCopiesNothing(t *testing.T) {
	const size, times = 6000, 200
	_, dial := serveLines(t, Options{}, true)
	l := dial()
	frame := make([]byte, size)
	turn := func() {
		for range 10 {
			l.peer.say(frame)
		}
		for range 10 {
			if _, err := io.CopyN(io.Discard, l.r, int64(len(appendHead(nil, opText, size))+size)); err != nil {
				t.Fatal(err)
			}
		}
	}
	turn()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range times {
		turn()
	}
	runtime.ReadMemStats(&after)
	if cost := (after.TotalAlloc - before.TotalAlloc) / (10 * times); cost > size/20 {
		t.Errorf("%d bytes for a frame of %d", cost, size)
	}
}
