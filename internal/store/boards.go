package store

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"

	"allim/internal/audience"
	"allim/pkg/notify"
)

var headsScript = script("heads")

// maxBoards are the segments whose boards are kept. One of 200 items with short names holds about 20 KB.
const maxBoards = 4096

// boards are those that were read last. A board is good for its position alone, which is asked for each time: nothing has to be thrown away.
type boards struct {
	keep audience.Keep // constant

	mu    sync.Mutex // guards the rest; nothing is locked while it is held
	held  map[notify.Stream]*list.Element
	order list.List // of held, the one used last in front
	reads map[notify.Stream]*reading
}

// A held is a board with its segment.
type held struct {
	segment notify.Stream
	board   *audience.Board
}

// A reading is one board on its way from Redis, for all who ask meanwhile.
type reading struct {
	segment notify.Stream
	done    chan struct{} // closed by who reads; the rest is written before
	board   *audience.Board
	err     error
}

func newBoards(s Segments) *boards {
	return &boards{keep: audience.Keep{Items: s.Size, Age: s.Retention}, held: map[notify.Stream]*list.Element{}, reads: map[notify.Stream]*reading{}}
}

// Boards are what segments hold now, at most a few hundred a call. It asks Redis for their positions alone, and for the items of those that moved. Boards are shared, and
// never change.
func (s *Store) Boards(ctx context.Context, segments []notify.Stream) ([]*audience.Board, error) {
	boards, errs := s.BoardsEach(ctx, segments)
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	return boards, nil
}

// BoardsEach is Boards with an error for each segment, nil where its board was read: one that cannot be read is not the others' business.
func (s *Store) BoardsEach(ctx context.Context, segments []notify.Stream) ([]*audience.Board, []error) {
	tops, err := s.Tops(ctx, segments)
	errs := make([]error, len(segments))
	if each := (notify.EachError)(nil); errors.As(err, &each) {
		copy(errs, each)
	} else if err != nil {
		for i := range errs {
			errs[i] = err
		}
	}
	out, reads, mine := make([]*audience.Board, len(segments)), make([]*reading, len(segments)), []*reading(nil)
	for i, st := range segments {
		var first bool
		if errs[i] != nil {
			continue
		}
		if out[i], reads[i], first = s.boards.ask(st, tops[i]); first {
			mine = append(mine, reads[i])
		}
	}
	s.readBoards(ctx, mine)
	for i, r := range reads {
		if r == nil {
			continue
		}
		if out[i] = r.wait(ctx); out[i] == nil || !reaches(out[i], tops[i]) { // of another's call: it ended, or it had begun before we asked
			r = &reading{segment: segments[i], done: make(chan struct{})}
			s.readBoards(ctx, []*reading{r})
			out[i], errs[i] = r.board, r.err
		}
	}
	for i, err := range errs {
		if err != nil {
			out[i], errs[i] = nil, fmt.Errorf("read segment %s: %w", segments[i].Topic, err)
		}
	}
	return out, errs
}

// reaches tells whether a board has what stands up to a position.
func reaches(b *audience.Board, top notify.Position) bool {
	return b.Epoch == top.Epoch && b.Top >= top.Offset
}

// ask is the board of a segment that stands at top, or who reads it; first: that is the caller.
func (c *boards) ask(segment notify.Stream, top notify.Position) (b *audience.Board, r *reading, first bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.held[segment]; e != nil && e.Value.(*held).board.Position() == top { // one that has more may be of what Redis has lost since
		c.order.MoveToFront(e)
		return e.Value.(*held).board, nil, false
	}
	if r = c.reads[segment]; r != nil {
		return nil, r, false
	}
	r = &reading{segment: segment, done: make(chan struct{})}
	c.reads[segment] = r
	return nil, r, true
}

// wait is the board, nil where it was not read or ctx ended before.
func (r *reading) wait(ctx context.Context) *audience.Board {
	select {
	case <-r.done:
		return r.board
	case <-ctx.Done():
		return nil
	}
}

// readBoards reads boards in one pipeline, and says so to who waits.
func (s *Store) readBoards(ctx context.Context, reads []*reading) {
	calls := make([]call, len(reads))
	for i, r := range reads {
		k := s.keys.Segment(r.segment)
		calls[i] = call{script: headsScript, keys: []string{k.Meta, k.Index, k.Items, k.Collapse}, args: []any{strconv.Itoa(s.boards.keep.Items)}}
	}
	for i, c := range s.run(ctx, opSegments, calls) {
		r := reads[i]
		if v, err := replyOf(c, 5); err != nil {
			r.err = err
		} else {
			r.board, r.err = audience.ParseBoard(audience.Text{Epoch: text(v[0]), Top: text(v[1]), Bases: text(v[2]), Items: text(v[3]), Replaced: text(v[4])}, s.boards.keep)
		}
		s.boards.finish(r)
	}
}

// finish keeps what was read.
func (c *boards) finish(r *reading) {
	c.mu.Lock()
	if c.reads[r.segment] == r {
		delete(c.reads, r.segment)
	}
	switch e := c.held[r.segment]; {
	case r.board == nil:
	case e != nil: // an older one is read anew when it is asked for
		e.Value.(*held).board = r.board
		c.order.MoveToFront(e)
	default:
		c.held[r.segment] = c.order.PushFront(&held{r.segment, r.board})
		if last := c.order.Back(); c.order.Len() > maxBoards {
			delete(c.held, c.order.Remove(last).(*held).segment)
		}
	}
	c.mu.Unlock()
	close(r.done)
}
