package ws

import (
	"runtime/debug"
	"sync/atomic"
)

// An afterStorm tells when many connections have come and few more do: a gateway that many use has no second in which nobody comes. A handshake leaves garbage
// behind that is larger than what stays of the connection, in the HTTP server's buffers foremost, and Go's heap would keep room for as much again: 3 of 14 KB for
// each connection at 10,000. Given back then, it costs one collection for a storm, and nothing on the way of a message. Where connections come and go at
// fewPerSecond all the time it is one for each quarter that was replaced: at 10,000 one in 50 s. The zero value has seen none come.
type afterStorm struct {
	seen, tidied uint64 // of all that ever came
}

// stormSize is how many are many, where they are more than a quarter of all there are, too.
const stormSize = 1000

// fewPerSecond is how many that come in a second are still few: an arrival rate of a gateway at rest, not that of a storm.
const fewPerSecond = stormSize / 20

// calm is asked about once a second, with how many ever came and how many there are.
func (a *afterStorm) calm(came uint64, all int) bool {
	few := came-a.seen <= fewPerSecond
	a.seen = came
	if !few || came-a.tidied < max(stormSize, uint64(all)/4) {
		return false
	}
	a.tidied = came
	return true
}

// A tidier gives memory back beside whoever asks for it, one time after the other.
type tidier struct {
	give func() // nil: debug.FreeOSMemory
	busy atomic.Bool
}

// tidy begins, in a goroutine of s, if it is not under way.
func (t *tidier) tidy(s *Server) {
	if t.busy.Swap(true) {
		return
	}
	s.wg.Go(func() {
		defer t.busy.Store(false)
		if t.give != nil {
			t.give()
			return
		}
		debug.FreeOSMemory()
	})
}
