package session

import "allim/internal/wire"

// tellDegraded tells the client of a change between good and degraded, once, and never before its welcome.
func (s *Session) tellDegraded() {
	is := s.shared.degraded.Load()
	if s.degraded == is || s.end != nil || !s.welcomed() {
		return
	}
	s.degraded = is
	if is {
		s.send(&wire.Degraded{What: wire.DegradedBroker}, item{})
	} else {
		s.send(&wire.Restored{}, item{})
	}
}
