package session

import (
	"math/rand/v2"
	"time"

	"allim/internal/wire"
)

// closeAtOnce is how many connections are closed at once: each that is closed dials again (delivery.md, Drain).
const closeAtOnce = 512

// Budget is the longest time from the end of Run's context to its return.
func (ss *Sessions) Budget() time.Duration {
	budget := ss.opt.Grace + 500*time.Millisecond
	if ss.opt.Window > 0 {
		budget += ss.opt.Window + ss.opt.MoveWait
	}
	return budget
}

// drain asks every client to connect elsewhere, each at its own time within Window, and returns when all have gone, at the latest MoveWait after
// Window. Until then a connection is as good as ever: it hears everything, and time passes for it.
func (ss *Sessions) drain() {
	if ss.opt.Window == 0 {
		return
	}
	tick := time.NewTicker(ss.opt.Tick)
	defer tick.Stop()
	began := time.Now()
	over := time.NewTimer(ss.opt.Window + ss.opt.MoveWait)
	defer over.Stop()
	for now := began; ss.Len() > 0; {
		ss.sweep(now)
		for _, s := range ss.snapshot() {
			s.askToMove(began.Add(ss.opt.Window).Sub(now))
		}
		select {
		case now = <-tick.C:
		case <-ss.left:
			now = time.Now()
		case <-over.C:
			return
		}
	}
}

// askToMove sends the one move of a session, to be made within left. Who has no welcome yet is asked later: never before the welcome.
func (s *Session) askToMove(left time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.moved || s.end != nil || !s.welcomed() {
		return
	}
	s.moved = true
	s.send(&wire.Move{AfterMS: int(rand.N(max(left, 0)+1) / time.Millisecond)}, item{})
}

// welcomed tells whether the newest welcome is in the outbox, so that any frame may follow.
func (s *Session) welcomed() bool {
	return s.identity != nil && (s.batch == nil || !s.batch.welcome)
}

// dismiss closes who is left with 1012, closeAtOnce at a time; who does not let go in two fifths of Grace is cut. That long before Grace is over all
// others are closed together.
func (ss *Sessions) dismiss() {
	over := time.Now().Add(ss.opt.Grace)
	patience := ss.opt.Grace * 2 / 5
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	waiting, leaving := ss.snapshot(), map[*Session]time.Time{}
	for now := time.Now(); len(waiting)+len(leaving) > 0 && now.Before(over); now = <-tick.C {
		for s, told := range leaving {
			switch {
			case !ss.has(s):
				delete(leaving, s)
			case now.Sub(told) >= patience:
				s.conn.Abort()
			}
		}
		most := closeAtOnce - len(leaving)
		if now.After(over.Add(-patience)) {
			most = len(waiting)
		}
		most = max(0, min(most, len(waiting)))
		for _, s := range waiting[:most] {
			s.End(wire.CloseRestart, "restart")
			leaving[s] = now
		}
		waiting = waiting[most:]
	}
	for _, s := range ss.snapshot() {
		s.conn.Abort()
	}
}
