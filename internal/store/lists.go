package store

import (
	"context"
	"fmt"
	"strings"

	"github.com/redis/go-redis/v9"

	"allim/internal/audience"
	"allim/pkg/notify"
)

// alone is a reader of its own stream alone.
func alone(st notify.Stream) Reader { return Reader{Stream: st, Segments: []string{}} }

// Counts is CountsFor of the own stream alone.
func (s *Store) Counts(ctx context.Context, st notify.Stream) (notify.Badge, error) {
	return s.CountsFor(ctx, alone(st))
}

// CountsFor is what a reader's bell shows.
func (s *Store) CountsFor(ctx context.Context, r Reader) (notify.Badge, error) {
	p, _, _, err := s.own(ctx, opCounts, r.Stream, Query{}, 0, audience.End)
	if err != nil {
		return notify.Badge{}, err
	}
	a, err := s.audience(ctx, r) // behind the own stream: a mark that comes between is in an event behind the revision, or counted
	if err != nil {
		return notify.Badge{}, err
	}
	return a.badge(&p.Own), nil
}

// List is ListFor of the own stream alone.
func (s *Store) List(ctx context.Context, st notify.Stream, q Query) (Page, error) {
	return s.ListFor(ctx, alone(st), q)
}

// ListFor is one page of what a reader has.
func (s *Store) ListFor(ctx context.Context, r Reader, q Query) (Page, error) {
	if q.Limit == 0 {
		q.Limit = defaultPage
	}
	filter, err := q.check()
	if err != nil {
		return Page{}, err
	}
	token, ok := audience.ParseToken(filter, q.Before)
	if !ok {
		return Page{}, &notify.FieldError{Field: "before", Want: "the `before` of the previous page, with the same filters"}
	}
	from, limit := token.Below(r.Topic), q.Limit
	if from == 0 { // it is at its end, and asked for its counts alone
		limit = 0
	}
	p, times, below, err := s.own(ctx, opList, r.Stream, q, limit, from)
	if err != nil {
		return Page{}, err
	}
	a, err := s.audience(ctx, r) // see CountsFor
	if err != nil {
		return Page{}, err
	}
	p.Badge, p.Audience = a.badge(&p.Own), a.members
	lists := []audience.List{{Topic: r.Topic, Below: below}}
	for i := range p.Items {
		lists[0].Entries = append(lists[0].Entries, audience.Entry{Offset: p.Items[i].Position.Offset, Time: times[i]})
	}
	for _, of := range a.parts {
		p.Within = append(p.Within, Joined{of.Topic.Name(), of.board.Position()})
		lists = append(lists, of.board.List(of.member, a.reader(), token.Below(of.Topic), q.Category, q.Status.wants, q.Limit))
	}
	picks := audience.Merge(lists, q.Limit)
	if p.Items, picks, err = s.fill(ctx, p.Items, a.parts, lists, picks); err != nil {
		return Page{}, err
	}
	p.Before = audience.After(filter, lists, picks)
	return p, nil
}

// check checks a query, and is what tells its tokens from those of others.
func (q *Query) check() (filter string, err error) {
	if q.Limit < 0 || q.Limit > maxPage {
		return "", &notify.FieldError{Field: "limit", Want: fmt.Sprintf("1 to %d", maxPage)}
	}
	if q.Status > All {
		return "", &notify.FieldError{Field: "status", Want: strings.Join(statuses[:], ", ")}
	}
	return fmt.Sprintf("%d/%s", q.Status, q.Category), notify.CheckCategory(q.Category)
}

// wants tells whether an item in a state is listed: as lua/list.lua has it.
func (s Status) wants(of audience.State) bool {
	switch s {
	case Active:
		return !of.Archived
	case Unread:
		return !of.Read && !of.Archived
	case Unseen:
		return !of.Seen && !of.Archived
	case Archived:
		return of.Archived
	}
	return true
}

// fill makes items of a page's picks: the own ones are there, those of segments are read. It returns the picks that it took: about pageBytes of them.
func (s *Store) fill(ctx context.Context, own []notify.Item, parts []part, lists []audience.List, picks []audience.Pick) ([]notify.Item, []audience.Pick, error) {
	pipe, cmds := s.redis.Pipeline(), make([]*redis.SliceCmd, len(picks))
	for i, p := range picks {
		if p.List > 0 {
			id := lists[p.List].Entries[p.Entry].ID
			cmds[i] = pipe.HMGet(ctx, s.keys.Segment(parts[p.List-1].Stream).Items, id, id+"\x00", id+"\x00u")
		}
	}
	if pipe.Len() > 0 {
		execute(ctx, pipe)
	}
	var items []notify.Item
	for i, bytes := 0, 0; i < len(picks); i++ {
		p := picks[i]
		one := &notify.Item{}
		if p.List == 0 {
			one = &own[p.Entry]
		} else if found, err := s.segmentItem(cmds[i], &parts[p.List-1], lists[p.List].Entries[p.Entry]); err != nil {
			return nil, nil, fmt.Errorf("list: %w", err)
		} else if one = found; one == nil { // it has gone since
			continue
		}
		if bytes += len(one.Data); len(items) > 0 && bytes > pageBytes {
			return items, picks[:i], nil
		}
		items = append(items, *one)
	}
	return items, picks, nil
}

func (s *Store) segmentItem(c *redis.SliceCmd, of *part, e audience.Entry) (*notify.Item, error) {
	v, err := c.Result()
	if err != nil {
		return nil, classify(err)
	}
	if text(v[0]) == "" || text(v[1]) == "" {
		return nil, nil
	}
	item, _, err := itemOf(e.ID, text(v[0]), text(v[1]), text(v[2]))
	if err != nil {
		return nil, err
	}
	item.Topic, item.Position = of.Topic, notify.Position{Epoch: of.board.Epoch, Offset: e.Offset}
	item.Seen, item.Read, item.Archived = e.State.Seen, e.State.Read, e.State.Archived
	return item, nil
}
