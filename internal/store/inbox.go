package store

import (
	"context"
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

// markOwn marks items of the own stream.
func (s *Store) markOwn(ctx context.Context, st notify.Stream, m Mark) (Marked, error) {
	var of span
	switch {
	case m.All:
		of.how = "all"
	case m.Upto != nil:
		of.how, of.upto = "upto", *m.Upto
		if of.upto.Offset == 0 { // "0", and the position of an inbox that did not exist
			return Marked{}, nil
		}
	case len(m.Within) > 0:
		return Marked{}, nil
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

// own is what the own stream gives to a page; times are those of its items' first acknowledgements, in ms of Unix time. limit 0 counts only. below is the offset below
// which there is more, 0: there is none.
func (s *Store) own(ctx context.Context, op operation, st notify.Stream, q Query, limit int, from uint64) (p Page, times []int64, below uint64, err error) {
	v, err := s.one(ctx, op, call{script: listScript, keys: s.keys.Inbox(st).WithTerms(),
		args: []any{statuses[q.Status], q.Category, limit, from, pageBytes}}, 7)
	if err == nil {
		p, times, below, err = readPage(st, v)
	}
	if err != nil {
		return Page{}, nil, 0, fmt.Errorf("list: %w", err)
	}
	return p, times, below, nil
}

func readPage(st notify.Stream, v []any) (p Page, times []int64, below uint64, err error) {
	if p.At, err = placeOf(text(v[0]), text(v[1]), text(v[2])); err != nil {
		return p, nil, 0, err
	}
	badge, err := keyspace.DecodeBadge(p.At.Epoch, strconv.FormatUint(p.At.Offset, 10), text(v[3]), text(v[4]), text(v[5]))
	if err != nil {
		return p, nil, 0, err
	}
	p.Own = *badge
	if text(v[6]) != "" {
		if below, err = parseOffset(v[6]); err != nil {
			return p, nil, 0, err
		}
	}
	const fields = 8
	for rest := v[7:]; len(rest) >= fields; rest = rest[fields:] {
		item, since, err := itemOf(text(rest[0]), text(rest[5]), text(rest[6]), text(rest[7]))
		if err != nil {
			return p, nil, 0, err
		}
		item.Topic, item.Position.Epoch = st.Topic, p.At.Epoch
		if item.Position.Offset, err = parseOffset(rest[1]); err != nil {
			return p, nil, 0, err
		}
		item.Seen, item.Read, item.Archived = number(rest[2]) == 1, number(rest[3]) == 1, number(rest[4]) == 1
		p.Items, times = append(p.Items, *item), append(times, since)
	}
	return p, times, below, nil
}

// itemOf reads an item, and when it was acknowledged first, in ms of Unix time.
func itemOf(id, head, body, update string) (*notify.Item, int64, error) {
	item, err := keyspace.DecodeItem(id, head, []byte(body), []byte(update))
	if err != nil {
		return nil, 0, err
	}
	h, err := keyspace.ParseHead(head)
	if err != nil {
		return nil, 0, err
	}
	if h.Since.IsZero() { // of an earlier build
		h.Since = item.Time
	}
	return item, h.Since.UnixMilli(), nil
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
