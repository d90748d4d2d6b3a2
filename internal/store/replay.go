package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"allim/pkg/notify"
)

const lookMost = 256 // streams in one call

// A standing is what Redis has of a stream.
type standing struct {
	history string
	tops    map[string]uint64 // by epoch, as far as it remembers them: up to where it has what was acknowledged there
}

// A rerun is a stream of which Redis lost something, on its way back.
type rerun struct {
	turn
	standing
	lost    []*entry                   // what is left of it
	ats     map[*entry]notify.Position // where those stand that were written
	err     error                      // it is not complete, and behind as before
	refused error                      // the last reason for which some of it were given up
	given   int                        // those
}

// A step is one entry of it.
type step struct {
	*rerun
	*entry
}

// replay writes again what the ring holds of the turns' streams and Redis has lost, in order; streams that lost little come first. A look, which
// writes nothing, finds what that is; the scripts decide again. done hears of each turn as soon as its stream is complete, or cannot be completed now.
func (s *Store) replay(turns []turn, done func(turn, error)) {
	ctx, cancel := context.WithTimeout(context.Background(), ioTimeout)
	defer cancel()
	left := s.standings(ctx, turns)
	for _, r := range left {
		if r.err != nil {
			continue
		}
		for _, e := range s.ring.of(s.keys.Partition(r.lane.stream), r.lane.stream) {
			if top, ok := r.tops[e.at.Epoch]; ok && e.at.Offset <= top {
				s.metrics.replayHeld()
			} else if e.of != nil { // it needs the segment, which another program's ring may bring
				s.remark(remark{of: e, stream: e.stream, write: e.write, ackedAs: e.ackedAs})
			} else if !e.gone {
				r.lost = append(r.lost, e)
			}
		}
	}
	slices.SortStableFunc(left, func(a, b *rerun) int { return cmp.Compare(len(a.lost), len(b.lost)) })
	for {
		left = slices.DeleteFunc(left, func(r *rerun) bool {
			if r.err == nil && len(r.lost) > 0 {
				return false
			}
			if r.err != nil {
				r.history = ""
			}
			s.ring.confirm(s.keys.Partition(r.lane.stream), r.lane.stream, r.history, r.ats, time.Now())
			if r.refused != nil {
				s.log.Error("replay_failed", "writes", r.given, "error", r.refused)
			}
			done(r.turn, r.err)
			return true
		})
		if len(left) == 0 {
			return
		}
		if err := s.rerun(nextSteps(left)); err != nil { // it stands still: not once more for each of them
			for _, r := range left {
				r.err = err
			}
		}
	}
}

// standings looks at the turns' streams, many of a partition at once.
func (s *Store) standings(ctx context.Context, turns []turn) []*rerun {
	found := make([]*rerun, len(turns))
	byPart := map[int][]*rerun{}
	for i, t := range turns {
		p := s.keys.Partition(t.lane.stream)
		found[i] = &rerun{turn: t, ats: map[*entry]notify.Position{}}
		byPart[p] = append(byPart[p], found[i])
	}
	var calls []call
	var of [][]*rerun
	for _, all := range byPart {
		for some := range slices.Chunk(all, lookMost) {
			c := call{script: lookScript}
			for _, r := range some {
				c.keys = append(c.keys, s.keys.Event(r.lane.stream).Meta)
			}
			calls, of = append(calls, c), append(of, some)
		}
	}
	for n, cmd := range s.run(ctx, opReplay, calls) {
		v, err := replyOf(cmd, 1+len(of[n]))
		for i, r := range of[n] {
			if r.err = unfinished(err); err != nil {
				continue
			}
			if unread, ok := v[1+i].(error); ok { // this one alone
				r.err = unfinished(unread)
				continue
			}
			r.standing = standingOf(v[0], v[1+i])
		}
	}
	return found
}

// unfinished is the error of a stream that is not complete: it passes, for those who write there.
func unfinished(err error) error {
	if err == nil || errors.Is(err, notify.ErrUnavailable) || errors.Is(err, notify.ErrBusy) {
		return err
	}
	return fmt.Errorf("redis: write again what was lost: %w: %w", notify.ErrUnavailable, err)
}

func standingOf(history, tops any) standing {
	p := standing{strings.Clone(text(history)), map[string]uint64{}}
	for _, top := range strings.Fields(text(tops)) {
		epoch, offset, _ := strings.Cut(top, ":")
		if n, err := strconv.ParseUint(offset, 10, 53); err == nil {
			p.tops[epoch] = n
		}
	}
	return p
}

// nextSteps are those of the next pipeline, one of each stream as with new writes: other clients' calls come about between those of a pipeline, so what
// Redis refuses one of a stream for (a script that it does not know, a full disk, a right) may be over when the next one comes, which then stood before it.
func nextSteps(left []*rerun) (steps []step) {
	size := 0
	for _, r := range left {
		if len(steps) == batchWrites || size >= batchBytes {
			break
		}
		e := r.lost[0]
		steps, size = append(steps, step{r, e}), size+len(e.body)
	}
	return steps
}

// rerun makes one pipeline. Its error is that Redis did not answer in time.
func (s *Store) rerun(steps []step) error {
	ctx, cancel := context.WithTimeout(context.Background(), ioTimeout)
	defer cancel()
	requests := make([]request, len(steps))
	gots, errs := make([]reply, len(steps)), make([]error, len(steps))
	for i, e := range steps {
		requests[i] = s.again(e.entry.stream, e.write, e.ackedAs, func(got reply, err error) { gots[i], errs[i] = got, err })
		e.lost = e.lost[1:]
	}
	start := time.Now()
	for i, cmd := range s.evaluate(ctx, s.redis, callsOf(requests), nil) {
		requests[i].read(cmd)
	}
	s.metrics.doneEach(opReplay, start, len(steps), func(i int) error { return errs[i] })
	for i, e := range steps {
		got, err := gots[i], errs[i]
		switch again := unfinished(err); {
		case again == nil:
		case again == err || time.Since(e.since) < ringLife: // Redis may take tomorrow what it refuses today: rights, a disk
			e.err = again
			continue
		default:
			e.refused, e.gone = err, true
			e.given++
			s.metrics.replayGivenUp(e.kind())
			continue
		}
		if got.history != e.history {
			e.history = "" // another server than the one that was looked at: again
		}
		if at, ok := s.rewritten(e.entry, got); ok {
			e.ats[e.entry] = at
		}
	}
	if ctx.Err() != nil {
		return classify(ctx.Err())
	}
	return nil
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
			s.remark(remark{of: e, stream: e.stream, write: w, ackedAs: e.ackedAs})
		}
		if got.code > 0 {
			s.metrics.replayed(opMark)
		}
	case got.code == codeMissing: // another program's ring may bring it
		s.remark(remark{of: e, stream: e.stream, write: e.write, ackedAs: e.ackedAs})
		return notify.Position{}, false
	case got.code == codeWritten, got.code == codeScheduled, got.code == codeCancelled:
		s.metrics.replayed(e.kind())
	}
	return got.proof(&e.write), got.at.Epoch != ""
}
