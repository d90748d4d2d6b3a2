package store

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"allim/internal/keyspace"
	"allim/pkg/notify"
)

// What the id of an update or a retraction is, as lua/change.lua reads it.
const (
	namedItem     = 'i' // an item's id, or that of one whose place it took
	namedCollapse = 'k' // a collapse key
	namedAlone    = 'x' // that item's, and no other's
)

// An UpdateOf gives an item other data. It is named by exactly one of ID and Collapse.
type UpdateOf struct {
	ID       string
	Collapse string
	Data     []byte
	Version  *int32 // nil: it has none, and comes in the order of the calls
	Origin   string
}

// A RetractOf takes an item back, or one that waits for its time: by Collapse all of its key. It is named by exactly one of ID and Collapse.
type RetractOf struct {
	ID       string
	Collapse string
	Origin   string
}

// Update changes the data of an item in each user's inbox; its state stays as it is. The same again changes nothing. Errors of a stream: ErrNotFound, also
// where the item still waits for its time, ErrConflict where the item is of a newer version, and those of Write.
func (s *Store) Update(ctx context.Context, to []notify.Stream, u UpdateOf, level Level) []Result {
	w := &write{change: notify.ChangeUpdate}
	if u.Version != nil {
		w.version = strconv.Itoa(int(*u.Version))
	}
	return s.change(ctx, to, w, u.ID, u.Collapse, &notify.Message{Data: u.Data, Origin: u.Origin}, level)
}

// Retract takes an item out of each user's inbox for good: where it is not there it does not come any more. That one is not there is no error, and not Changed.
func (s *Store) Retract(ctx context.Context, to []notify.Stream, r RetractOf, level Level) []Result {
	all := make([]Result, len(to))
	left := make([]int, len(to)) // whose turn it is
	for i := range left {
		left[i] = i
	}
	for len(left) > 0 {
		of := make([]notify.Stream, len(left))
		for i, at := range left {
			of[i] = to[at]
		}
		var again []int
		for i, got := range s.change(ctx, of, &write{change: notify.ChangeRetract}, r.ID, r.Collapse, &notify.Message{Origin: r.Origin}, level) {
			at := left[i]
			if r.Collapse != "" && got.Err == nil && got.Changed { // one goes in a call
				again = append(again, at)
			}
			was := all[at]
			if all[at] = got; got.Err == nil && was.Changed {
				all[at].Changed = true
				if was.Position != (notify.Position{}) {
					all[at].Position = was.Position
				}
			}
		}
		left = again
	}
	return all
}

func (s *Store) change(ctx context.Context, to []notify.Stream, w *write, id, collapse string, m *notify.Message, level Level) []Result {
	if (id == "") == (collapse == "") {
		return failAll(to, &notify.FieldError{Field: "id", Want: "exactly one of id and collapse_key"})
	}
	w.named, w.id = namedItem, id
	if collapse != "" {
		w.named, w.id = namedCollapse, collapse
	}
	var err error
	if w.body, err = keyspace.EncodeBody(m); err != nil { // without a time: the same again has the same bytes
		return failAll(to, err)
	}
	ops := make([]*op, len(to))
	for i, st := range to {
		if !listed(st) {
			return failAll(to, fmt.Errorf("change a topic of kind %c: %w", st.Topic.Kind(), notify.ErrInvalid))
		}
		ops[i] = &op{stream: st, write: w, level: level, call: s.changeCall(st, w, ackedAs{}), share: len(to)}
	}
	if s.ring.full() {
		return failAll(to, busyFor("replicas are behind"))
	}
	s.writer.do(ctx, ops)
	results := make([]Result, len(ops))
	for i, o := range ops {
		results[i] = o.changed()
	}
	return results
}

// changed is what the caller of an update or a retraction hears.
func (o *op) changed() Result {
	if o.err != nil {
		return Result{Err: o.err}
	}
	switch o.reply.code {
	case codeMissing:
		return Result{Err: notify.ErrNotFound}
	case codeOlder:
		return Result{Err: notify.ErrConflict}
	case codeLateMark:
		return Result{Err: fmt.Errorf("change: too late: %w", notify.ErrUnavailable)}
	}
	r := Result{Changed: o.reply.code == codeWritten || o.reply.code == codeCancelled, Err: o.short}
	if o.reply.code == codeWritten {
		r.Position = o.reply.at
	}
	return r
}

func (s *Store) changeCall(st notify.Stream, w *write, was ackedAs) call {
	return s.single(forKind(st, changeScript, changeSegmentScript), st, []any{string(rune(w.change)), string(rune(w.named)), w.id, w.version, w.body}, was)
}

func (s *Store) preferencesCall(st notify.Stream, w *write, was ackedAs) call {
	return s.single(preferencesScript, st, []any{strings.Join(w.ids, ","), "", "", "", w.body}, was)
}

// single is the call of a script whose arguments from the sixth on are those of lua/change.lua.
func (s *Store) single(script *redis.Script, st notify.Stream, first []any, was ackedAs) call {
	_, ids, retention := s.boundsOf(st)
	args := append(first, newEpoch(), inboxEvents, retention.Milliseconds(), s.publishCmd, keyspace.Member(st), was.at.Epoch, was.at.Offset,
		was.first.Epoch, was.first.Offset, was.firstUS, s.program, markUnnumbered, ids)
	return call{script: script, keys: s.termKeys(st), args: args, fence: markNumber}
}
