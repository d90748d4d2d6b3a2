package store

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"allim/internal/keyspace"
	"allim/pkg/notify"
)

// remarkAfter are the pauses after which a mark is made again whose items are not there: another program's ring may bring them.
var remarkAfter = []time.Duration{time.Second, 2 * time.Second, 5 * time.Second, 15 * time.Second, 30 * time.Second}

const lookMost = 256 // streams in one call

// A standing is what Redis has of a stream.
type standing struct {
	history string
	epoch   string
	top     uint64
	bases   string // of older epochs, as the scripts keep them
}

// A rerun is an entry on its way to Redis again.
type rerun struct {
	turn int
	*entry
}

// replay writes again what the ring holds of the turns' streams and Redis has lost, in order. A look, which writes nothing, finds what that is;
// the scripts decide again. Its errors are by turn: such a stream was not finished, and is behind as before.
func (s *Store) replay(turns []turn) []error {
	ctx, cancel := context.WithTimeout(context.Background(), ioTimeout)
	defer cancel()
	found, errs := s.standings(ctx, turns)
	var lost []rerun
	for i, t := range turns {
		if errs[i] != nil {
			continue
		}
		for _, e := range s.ring.of(s.keys.Partition(t.lane.stream), t.lane.stream) {
			if found[i].holds(e.at) {
				s.metrics.replayHeld()
			} else {
				lost = append(lost, rerun{i, e})
			}
		}
	}
	ats := make(map[*entry]notify.Position, len(lost))
	for len(lost) > 0 {
		var batch []rerun
		size := 0
		for len(lost) > 0 && len(batch) < batchWrites && size < batchBytes {
			if one := lost[0]; errs[one.turn] == nil {
				batch, size = append(batch, one), size+len(one.body)
			}
			lost = lost[1:]
		}
		s.rerun(batch, found, errs, ats)
	}
	for i, t := range turns {
		if errs[i] == nil {
			s.ring.confirm(s.keys.Partition(t.lane.stream), t.lane.stream, found[i].history, ats, time.Now())
		}
	}
	return errs
}

// standings looks at the turns' streams, many of a partition at once.
func (s *Store) standings(ctx context.Context, turns []turn) ([]standing, []error) {
	found, errs := make([]standing, len(turns)), make([]error, len(turns))
	byPart := map[int][]int{}
	for i, t := range turns {
		p := s.keys.Partition(t.lane.stream)
		byPart[p] = append(byPart[p], i)
	}
	var calls []call
	var of [][]int
	for _, all := range byPart {
		for len(all) > 0 {
			some := all[:min(lookMost, len(all))]
			all = all[len(some):]
			c := call{script: lookScript}
			for _, i := range some {
				c.keys = append(c.keys, s.keys.Event(turns[i].lane.stream).Meta)
			}
			calls, of = append(calls, c), append(of, some)
		}
	}
	for n, cmd := range s.run(ctx, opReplay, calls) {
		v, err := slice(cmd)
		if err == nil && len(v) < 1+3*len(of[n]) {
			err = notify.ErrUnavailable
		}
		for at, i := range of[n] {
			if errs[i] = err; err == nil {
				found[i], errs[i] = standingOf(v[0], v[1+3*at:])
			}
		}
	}
	return found, errs
}

func standingOf(history any, v []any) (p standing, err error) {
	p = standing{history: strings.Clone(text(history)), epoch: text(v[0]), bases: text(v[2])}
	if p.epoch != "" {
		p.top, err = strconv.ParseUint(text(v[1]), 10, 53)
	}
	return p, err
}

// holds tells whether what was acknowledged at a position is still there (lua/lib.lua, held).
func (p standing) holds(at notify.Position) bool {
	if at.Epoch == p.epoch {
		return at.Offset <= p.top
	}
	for _, base := range strings.Fields(p.bases) {
		epoch, top, _ := strings.Cut(base, ":")
		if n, err := strconv.ParseUint(top, 10, 53); err == nil && epoch == at.Epoch && at.Offset <= n {
			return true
		}
	}
	return false
}

// rerun makes one pipeline of entries.
func (s *Store) rerun(batch []rerun, found []standing, errs []error, ats map[*entry]notify.Position) {
	ctx, cancel := context.WithTimeout(context.Background(), ioTimeout)
	defer cancel()
	calls := make([]call, len(batch))
	for i, e := range batch {
		calls[i] = s.againCall(e.stream, e.write, e.ackedAs)
	}
	for i, cmd := range s.run(ctx, opReplay, calls) {
		e := batch[i]
		v, err := slice(cmd)
		var got reply
		if err == nil {
			got, err = parseReply(v)
		}
		switch {
		case errors.Is(err, notify.ErrUnavailable), errors.Is(err, notify.ErrBusy):
			errs[e.turn] = err
			continue
		case err != nil: // what this Redis does not take now, it never will
			s.giveUp(e.kind(), err)
			continue
		}
		if got.history != found[e.turn].history {
			found[e.turn].history = "" // another server than the one that was looked at: again
		}
		if at, ok := s.rewritten(e.entry, got); ok {
			ats[e.entry] = at
		}
	}
}

// giveUp says that an acknowledged write is lost for good.
func (s *Store) giveUp(kind operation, why error) {
	s.metrics.replayGivenUp(kind)
	s.log.Error("replay_failed", "kind", operations[kind], "error", why)
}

func (s *Store) againCall(st notify.Stream, w write, was ackedAs) call {
	w.body = keyspace.ReplayedBody(w.body)
	return s.callOf(st, &w, was)
}

// rewritten says where an entry stands now, false where nothing changed.
func (s *Store) rewritten(e *entry, got reply) (notify.Position, bool) {
	switch {
	case got.code == codeHeldMark, got.code == codeHeld && e.kind() != opMark:
		s.metrics.replayHeld()
		return notify.Position{}, false
	case e.kind() == opMark:
		if unknown, _ := got.ids(); len(unknown) > 0 {
			w := e.write
			w.ids = unknown
			s.remark(remark{stream: e.stream, write: w, ackedAs: e.ackedAs})
		}
		if got.code > 0 {
			s.metrics.replayed(opMark)
		}
	case got.code == codeWritten:
		s.metrics.replayed(e.kind())
	}
	return got.proof(&e.write), got.at.Epoch != ""
}

// A remark is a mark that waits for its items.
type remark struct {
	stream notify.Stream
	write
	ackedAs
	tries int
	due   time.Time
}

// remark has Run make a mark again after the next pause; after the last one its items are taken to be gone for good.
func (s *Store) remark(m remark) {
	if m.tries == len(remarkAfter) {
		return
	}
	m.due = time.Now().Add(remarkAfter[m.tries])
	m.tries++
	s.remarksMu.Lock()
	defer s.remarksMu.Unlock()
	s.remarks = append(s.remarks, m)
}

// remarkDue makes the marks again whose pause is over.
func (s *Store) remarkDue(now time.Time) {
	s.remarksMu.Lock()
	var due, later []remark
	for _, m := range s.remarks {
		if m.due.After(now) {
			later = append(later, m)
		} else {
			due = append(due, m)
		}
	}
	s.remarks = later
	s.remarksMu.Unlock()
	for _, m := range due {
		o := &op{stream: m.stream, write: &m.write, call: s.againCall(m.stream, m.write, m.ackedAs), was: m.ackedAs, share: 1}
		o.then = func(got reply, err error) {
			if err == nil {
				m.ids, _ = got.ids()
				if got.code > 0 {
					s.metrics.replayed(opMark)
				}
			}
			if err != nil || len(m.ids) > 0 && got.code >= 0 {
				s.remark(m)
			}
		}
		if !s.writer.enqueue([]*op{o}) {
			s.remark(m)
		}
	}
}
