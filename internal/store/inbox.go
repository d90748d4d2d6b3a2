package store

import (
	"context"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"

	"allim/internal/keyspace"
	"allim/pkg/notify"
)

const (
	defaultPage = 50
	maxPage     = 100
	pageBytes   = 128 << 10
	maxMarkIDs  = 500
)

// Mark changes the state of items and tells every device of the user. It is idempotent, and tried again until ctx ends. Errors: ErrInvalid, ErrStalePosition
// where Upto is of another epoch.
func (s *Store) Mark(ctx context.Context, st notify.Stream, m Mark) (Marked, error) {
	if len(m.IDs) > maxMarkIDs {
		return Marked{}, &notify.FieldError{Field: "ids", Want: fmt.Sprintf("at most %d", maxMarkIDs)}
	}
	var of span
	switch {
	case m.All:
		of.how = "all"
	case m.Upto != nil:
		of.how, of.upto = "upto", *m.Upto
		if of.upto.Offset == 0 { // "0", and the position of an inbox that did not exist
			return Marked{}, nil
		}
	}
	body, err := keyspace.EncodeBody(&notify.Message{Origin: m.Origin})
	if err != nil {
		return Marked{}, err
	}
	w := &write{change: m.Change, body: body}
	named := make(map[string]bool, len(m.IDs))
	for _, id := range m.IDs {
		if !named[id] { // an id named twice is one
			w.ids = append(w.ids, id)
		}
		named[id] = true
	}
	if s.ring.full() {
		return Marked{}, busyFor("replicas are behind")
	}
	ops := []*op{{stream: st, write: w, span: of, call: s.markCall(st, w, of, ackedAs{}), share: 1}}
	s.writer.do(ctx, ops)
	if err := ops[0].err; err != nil {
		return Marked{}, fmt.Errorf("mark: %w", err)
	}
	got := ops[0].reply
	switch got.code { // of the last part
	case codeStaleMark:
		if m.All { // it began so many epochs ago that nobody knows what it meant
			return Marked{}, fmt.Errorf("mark: %w", notify.ErrUnavailable)
		}
		return Marked{}, fmt.Errorf("mark up to %s: %w", of.upto, notify.ErrStalePosition)
	case codeLateMark:
		return Marked{}, fmt.Errorf("mark: too late: %w", notify.ErrUnavailable)
	}
	out := ops[0].marked
	out.Unknown, _ = got.ids()
	return out, nil
}

// Counts is the badge of a user's inbox.
func (s *Store) Counts(ctx context.Context, st notify.Stream) (notify.Badge, error) {
	p, err := s.list(ctx, opCounts, st, Query{}, 0, "+inf")
	return p.Badge, err
}

// List is one page of a user's inbox.
func (s *Store) List(ctx context.Context, st notify.Stream, q Query) (Page, error) {
	if q.Limit == 0 {
		q.Limit = defaultPage
	}
	if q.Limit < 0 || q.Limit > maxPage {
		return Page{}, &notify.FieldError{Field: "limit", Want: fmt.Sprintf("1 to %d", maxPage)}
	}
	if q.Status > All {
		return Page{}, &notify.FieldError{Field: "status", Want: strings.Join(statuses[:], ", ")}
	}
	if err := notify.CheckCategory(q.Category); err != nil {
		return Page{}, err
	}
	below := "+inf"
	if q.Before != "" {
		o, ok := parseBefore(q)
		if !ok {
			return Page{}, &notify.FieldError{Field: "before", Want: "the `before` of the previous page, with the same filters"}
		}
		below = o
	}
	return s.list(ctx, opList, st, q, q.Limit, below)
}

var statuses = [...]string{"active", "unread", "unseen", "archived", "all"}

// ParseStatus is the status that clients spell s; "" is Active.
func ParseStatus(s string) (Status, error) {
	if s == "" {
		return Active, nil
	}
	for i, name := range statuses {
		if s == name {
			return Status(i), nil
		}
	}
	return 0, &notify.FieldError{Field: "status", Want: "one of " + strings.Join(statuses[:], ", ")}
}

func (s *Store) list(ctx context.Context, op operation, st notify.Stream, q Query, limit int, below string) (Page, error) {
	v, err := s.one(ctx, op, call{script: listScript, keys: s.keys.Inbox(st).WithTerms(),
		args: []any{statuses[q.Status], q.Category, limit, below, pageBytes}}, 7)
	if err != nil {
		return Page{}, fmt.Errorf("list: %w", err)
	}
	at, err := placeOf(text(v[0]), text(v[1]), text(v[2]))
	if err != nil {
		return Page{}, fmt.Errorf("list: %w", err)
	}
	badge, err := keyspace.DecodeBadge(at.Epoch, strconv.FormatUint(at.Offset, 10), text(v[3]), text(v[4]), text(v[5]))
	if err != nil {
		return Page{}, fmt.Errorf("list: %w", err)
	}
	p := Page{At: at, Badge: *badge}
	const fields = 8
	for rest := v[7:]; len(rest) >= fields; rest = rest[fields:] {
		item, err := keyspace.DecodeItem(text(rest[0]), text(rest[5]), []byte(text(rest[6])), []byte(text(rest[7])))
		if err != nil {
			return Page{}, fmt.Errorf("list: %w", err)
		}
		o, err := strconv.ParseUint(text(rest[1]), 10, 53)
		if err != nil {
			return Page{}, fmt.Errorf("list: offset of an item: %w", err)
		}
		item.Topic, item.Position = st.Topic, notify.Position{Epoch: at.Epoch, Offset: o}
		item.Seen, item.Read, item.Archived = number(rest[2]) == 1, number(rest[3]) == 1, number(rest[4]) == 1
		p.Items = append(p.Items, *item)
	}
	if below := text(v[6]); below != "" {
		p.Before = formatBefore(q, below)
	}
	return p, nil
}

// placeOf is a position as the scripts answer it: of a stream, or of its absence at a time in Unix milliseconds.
func placeOf(epoch, offset, now string) (notify.Position, error) {
	if epoch == "" {
		ms, err := strconv.ParseInt(now, 10, 64)
		if err != nil {
			return notify.Position{}, fmt.Errorf("script answered time %q: %w", now, err)
		}
		return notify.EmptyAt(ms), nil
	}
	o, err := strconv.ParseUint(offset, 10, 53)
	if err != nil {
		return notify.Position{}, fmt.Errorf("script answered offset %q: %w", offset, err)
	}
	return notify.Position{Epoch: epoch, Offset: o}, nil
}

// The token of a page is "<status>/<category>/<offset>" in base64url: offsets go on above everything visible whatever happens to the epoch, so
// paging is stable under new arrivals.
func formatBefore(q Query, offset string) string {
	return base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, "%d/%s/%s", q.Status, q.Category, offset))
}

func parseBefore(q Query) (offset string, ok bool) {
	b, err := base64.RawURLEncoding.DecodeString(q.Before)
	offset, ok = strings.CutPrefix(string(b), fmt.Sprintf("%d/%s/", q.Status, q.Category))
	_, nerr := strconv.ParseUint(offset, 10, 53)
	return offset, ok && err == nil && nerr == nil
}
