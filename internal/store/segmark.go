package store

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"allim/internal/audience"
	"allim/internal/keyspace"
	"allim/pkg/notify"
)

// Marks of a segment's items change nothing of the segment: what a member did there stands in the user's partition (audience.Record). What it comes to is worked out
// here, from a board and what Redis has of the member; Redis takes it where that is still what it has, and tells every device by an event of the user's stream.

// A memberOf says of a mark whose items it is of, and where the member joined of whom Redis may know nothing.
type memberOf struct {
	segment  string
	joined   notify.Position
	issuedAt int64 // of the token, in seconds of Unix time
}

// movedMost is how often a mark is worked out anew since another one came between.
const movedMost = 32

// Mark is MarkFor of the own stream alone.
func (s *Store) Mark(ctx context.Context, st notify.Stream, m Mark) (Marked, error) {
	return s.MarkFor(ctx, alone(st), m)
}

// MarkFor changes the state of items that a reader has, of the own stream and of segments, and tells every device of the user. It is idempotent, and tried again until
// ctx ends. Errors: ErrInvalid, ErrStalePosition where Upto or Within is of another epoch.
func (s *Store) MarkFor(ctx context.Context, r Reader, m Mark) (Marked, error) {
	if len(m.IDs) > maxMarkIDs {
		return Marked{}, &notify.FieldError{Field: "ids", Want: fmt.Sprintf("at most %d", maxMarkIDs)}
	}
	a, err := s.audienceUntil(ctx, r)
	if err != nil {
		return Marked{}, fmt.Errorf("mark: %w", err)
	}
	if _, err := m.within(a.parts); err != nil {
		return Marked{}, err
	}
	out, err := s.markOwn(ctx, r.Stream, m)
	if err != nil || len(a.parts) == 0 {
		return out, err
	}
	turn := s.marking[s.keys.Partition(r.Stream)]
	select { // marks of one user's that begin at once would only make one another work again
	case turn <- struct{}{}:
		defer func() { <-turn }()
	case <-ctx.Done():
		return Marked{}, fmt.Errorf("mark: %w", classify(ctx.Err()))
	}
	unknown := map[string]bool{} // ids of the own stream's and the segments'
	for _, id := range out.Unknown {
		unknown[id] = true
	}
	for tries := 0; ; tries++ {
		moved, err := s.markParts(ctx, r, m, &a, &out, unknown)
		if err != nil {
			return Marked{}, fmt.Errorf("mark: %w", err)
		}
		if !moved {
			break
		}
		if tries == movedMost {
			return Marked{}, fmt.Errorf("mark: many at once: %w", notify.ErrUnavailable)
		}
		if a, err = s.audienceUntil(ctx, r); err != nil {
			return Marked{}, fmt.Errorf("mark: %w", err)
		}
	}
	out.Unknown = slices.DeleteFunc(out.Unknown, func(id string) bool { return !unknown[id] })
	return out, nil
}

// audienceUntil is audience, tried again until ctx ends.
func (s *Store) audienceUntil(ctx context.Context, r Reader) (audienceOf, error) {
	for pause := retryFirst; ; pause = min(2*pause, retryMost) {
		a, err := s.audience(ctx, r)
		if !errors.Is(err, notify.ErrUnavailable) || ctx.Err() != nil {
			return a, err
		}
		select {
		case <-time.After(rand.N(pause)):
		case <-ctx.Done():
			return a, err
		}
	}
}

// within are the offsets up to which the mark goes in each part; -1: nothing of it is meant.
func (m *Mark) within(parts []part) ([]int64, error) {
	out := make([]int64, len(parts))
	for i, p := range parts {
		switch out[i] = -1; {
		case m.All:
			out[i] = int64(p.board.Top)
		default:
			for _, at := range m.Within {
				if at.Segment != p.Topic.Name() || at.At.Offset == 0 {
					continue
				}
				upto, known := p.board.Reach(at.At)
				if !known {
					return nil, fmt.Errorf("mark up to %s of %s: %w", at.At, p.Topic, notify.ErrStalePosition)
				}
				out[i] = int64(upto)
			}
		}
	}
	return out, nil
}

// markParts does a mark in each segment. moved: of some of them another one came between.
func (s *Store) markParts(ctx context.Context, r Reader, m Mark, a *audienceOf, out *Marked, unknown map[string]bool) (moved bool, err error) {
	upto, err := m.within(a.parts)
	if err != nil {
		return false, err
	}
	body, err := keyspace.EncodeBody(&notify.Message{Origin: m.Origin, Segments: true})
	if err != nil {
		return false, err
	}
	named := make(map[string]bool, len(m.IDs))
	for _, id := range m.IDs {
		named[id] = true
	}
	var ops []*op
	for i, p := range a.parts {
		marking := audience.Marking{Change: m.Change, Epoch: a.members.At.Epoch}
		as := map[string][]string{} // by id, the names it has in the mark
		switch {
		case len(named) > 0:
			marking.IDs = map[string]bool{}
			for _, ref := range p.board.Named(named, time.Now()) {
				marking.IDs[ref.ID] = true
				as[ref.ID] = append(as[ref.ID], ref.Named)
			}
		case upto[i] >= 0:
			marking.Upto = uint64(upto[i])
		default:
			continue
		}
		w := &write{change: m.Change, body: body, of: &memberOf{segment: p.Topic.Name(), joined: p.member.Joined, issuedAt: p.member.IssuedAt}}
		effect, c, err := s.segmarkCall(r.Stream, w, &p, marking, ackedAs{})
		if err != nil {
			return false, err
		}
		for _, id := range effect.Meant {
			for _, name := range as[id] {
				delete(unknown, name)
			}
		}
		if c.script == nil { // it is all as it shall be, and known to be so
			continue
		}
		w.ids = effect.Meant
		ops = append(ops, &op{stream: r.Stream, write: w, call: c, share: 1})
	}
	if len(ops) == 0 {
		return false, nil
	}
	if s.ring.full() {
		return false, busyFor("replicas are behind")
	}
	s.writer.do(ctx, ops)
	for _, o := range ops {
		switch {
		case o.err != nil:
			return false, o.err
		case o.reply.code == codeMovedMark:
			moved = true
		case o.reply.code == codeLateMark:
			return false, fmt.Errorf("too late: %w", notify.ErrUnavailable)
		case o.reply.code > 0:
			out.Changed += o.reply.code
			out.Position = o.reply.at
		}
	}
	return moved, nil
}

// segmarkCall works a mark out. The call has no script where there is nothing to write.
func (s *Store) segmarkCall(st notify.Stream, w *write, p *part, m audience.Marking, was ackedAs) (e audience.Effect, c call, err error) {
	rec := audience.NewRecord(*p.member)
	if p.g != "" {
		if rec, err = audience.ParseRecord(w.of.segment, p.g, p.q); err != nil {
			return e, c, err
		}
	}
	before, _ := rec.Lines()
	e = rec.Mark(p.board, m, time.Now())
	g, q := rec.Lines()
	if len(e.Changed)+len(e.Seen) == 0 && g == before && !strings.Contains(q, "?") && m.First == (audience.Stamp{}) {
		return e, c, nil
	}
	c = s.single(segmarkScript, st, []any{string(rune(w.change)), strings.Join(e.Changed, ","), strings.Join(e.Seen, ","), w.of.segment, w.body}, was)
	k, told := s.keys.Audience(st), s.keys.Backend(s.keys.Partition(st), st.Tenant)
	c.keys = append(c.keys, k.Members, k.Exceptions, told.Events, told.Meta)
	c.args = append(c.args, p.g, p.q, g, q, s.memberLife().Milliseconds(), strings.Join(e.New, ","))
	return e, c, nil
}

// remarkWait is for how long marks of segments' items are made again before others have their turn.
const remarkWait = time.Second

// remarkSegments makes marks of segments' items again: those of one user one after the other.
func (s *Store) remarkSegments(due []remark) {
	ctx, cancel := context.WithTimeout(context.Background(), remarkWait)
	defer cancel()
	for len(due) > 0 {
		var rest []remark
		var ops []*op
		of := map[*op]remark{}
		for _, m := range due {
			if slices.ContainsFunc(ops, func(o *op) bool { return o.stream == m.stream }) || len(ops) == batchWrites {
				rest = append(rest, m)
			} else if o, left, err := s.remarkSegment(ctx, m); err != nil {
				s.remark(m) // it is no try
			} else if o != nil {
				m.ids = left
				ops = append(ops, o)
				of[o] = m
			} else if m.ids = left; len(left) > 0 {
				m.tries++
				s.remark(m)
			}
		}
		did := slices.Clone(ops)
		s.writer.do(ctx, did)
		for i, o := range did {
			m := of[ops[i]]
			switch {
			case o.err != nil || o.reply.code == codeMovedMark:
				m.ids = ops[i].write.ids
				s.remark(m)
				continue
			case o.reply.code > 0:
				s.metrics.replayed(opMark)
			}
			if len(m.ids) > 0 {
				m.tries++
				s.remark(m)
			}
		}
		due = rest
	}
}

// remarkSegment is a mark that is made again, of the items that are there now; left are the ids of those that are not. Nil: it changes nothing.
func (s *Store) remarkSegment(ctx context.Context, m remark) (o *op, left []string, err error) {
	p, at, err := s.partOf(ctx, m.stream, m.of.of)
	if err != nil {
		return nil, nil, err
	}
	marking := audience.Marking{Change: m.change, IDs: map[string]bool{}, First: audience.Stamp{At: m.first, US: m.firstUS}, Epoch: at.Epoch}
	for _, id := range m.ids {
		marking.IDs[id] = true
	}
	there := map[string]bool{}
	for _, ref := range p.board.Named(marking.IDs, time.Now()) {
		there[ref.Named] = true
	}
	left = slices.DeleteFunc(slices.Clone(m.ids), func(id string) bool { return there[id] })
	w := m.write
	w.body = keyspace.ReplayedBody(w.body)
	effect, c, err := s.segmarkCall(m.stream, &w, &p, marking, m.ackedAs)
	if err != nil || len(effect.Meant)+len(effect.Seen) == 0 { // overtaken, or not there
		return nil, left, err
	}
	return &op{stream: m.stream, write: &w, call: c, was: m.ackedAs, share: 1}, left, nil
}

// partOf is a segment as a user has it, and the position of the user's stream.
func (s *Store) partOf(ctx context.Context, st notify.Stream, of *memberOf) (p part, at notify.Position, err error) {
	m, raw, err := s.members(ctx, s.memberCall(st, "", nil))
	if err != nil {
		return p, at, err
	}
	p = part{Stream: segmentsOf(st.Tenant, []string{of.segment})[0], g: raw.g[of.segment], q: raw.q[of.segment], member: audience.Of(m.Of, of.segment)}
	if p.member == nil {
		p.member = &audience.Member{Segment: of.segment, Joined: of.joined, IssuedAt: of.issuedAt}
	}
	boards, err := s.Boards(ctx, []notify.Stream{p.Stream})
	if err != nil {
		return p, at, err
	}
	p.board = boards[0]
	return p, m.At, nil
}
