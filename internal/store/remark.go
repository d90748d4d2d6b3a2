package store

import (
	"cmp"
	"errors"
	"slices"
	"time"

	"allim/internal/keyspace"
	"allim/pkg/notify"
)

// remarkAfter are the pauses after which a mark is made again whose items are not there: another program's ring may bring them.
var remarkAfter = []time.Duration{time.Second, 2 * time.Second, 5 * time.Second, 15 * time.Second, 30 * time.Second}

// A remark is a mark, an update or a retraction that was lost, and made again where its items were not.
type remark struct {
	of     *entry // what the ring holds of it
	stream notify.Stream
	write  // of a mark: of the ids that were not there
	ackedAs
	tries int // that Redis answered
	due   time.Time
}

// remark has Run make a mark again after a pause, or not any more: its items are gone for good. One that is filed again, by
// a replay that was not complete or the next one, takes the place of the former.
func (s *Store) remark(m remark) {
	s.remarksMu.Lock()
	defer s.remarksMu.Unlock()
	if m.tries == len(remarkAfter) {
		s.remarksGone++
		s.metrics.replayGivenUp(m.kind())
		return
	}
	m.due = time.Now().Add(remarkAfter[m.tries])
	s.remarks[m.of] = m
}

// remarksLeft is the number of marks that wait for their items: those that Redis never answered, and those whose items it did not have when it did.
func (s *Store) remarksLeft() (unanswered, missing int) {
	s.remarksMu.Lock()
	defer s.remarksMu.Unlock()
	for _, m := range s.remarks {
		if m.tries == 0 {
			unanswered++
		} else {
			missing++
		}
	}
	return unanswered, missing
}

// remarkDue makes the marks again whose pause is over.
func (s *Store) remarkDue(now time.Time) {
	s.remarksMu.Lock()
	var due []remark
	for e, m := range s.remarks {
		if !m.due.After(now) {
			due = append(due, m)
			delete(s.remarks, e)
		}
	}
	gone := s.remarksGone
	s.remarksGone = 0
	s.remarksMu.Unlock()
	if gone > 0 {
		s.log.Warn("items_missing", "marks", gone)
	}
	slices.SortFunc(due, func(a, b remark) int { return cmp.Compare(a.firstUS, b.firstUS) }) // or what is deleted has nothing left to be read
	var segments []remark
	for _, m := range due {
		if m.of.of != nil {
			segments = append(segments, m)
			continue
		}
		w := m.write
		w.body = keyspace.ReplayedBody(w.body)
		o := &op{stream: m.stream, write: &m.write, call: s.singleCall(m.stream, &w, m.ackedAs), was: m.ackedAs, share: 1}
		o.then = func(got reply, err error) { s.remarked(m, got, err) }
		if !s.writer.enqueue([]*op{o}) {
			s.remark(m)
		}
	}
	s.remarkSegments(segments)
}

// remarked takes what became of a remark. What passes by itself is no try.
func (s *Store) remarked(m remark, got reply, err error) {
	switch {
	case err == nil && m.kind() != opMark:
		if got.code == codeWritten {
			s.metrics.replayed(m.kind())
		}
		if got.code != codeMissing {
			return
		}
		m.tries++
	case err == nil:
		m.ids, _ = got.ids()
		if got.code > 0 {
			s.metrics.replayed(opMark)
		}
		if len(m.ids) == 0 || got.code < 0 {
			return
		}
		m.tries++
	case !errors.Is(err, notify.ErrUnavailable) && !errors.Is(err, notify.ErrBusy):
		m.tries++
	}
	s.remark(m)
}
