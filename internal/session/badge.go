package session

import (
	"slices"
	"time"

	"allim/internal/audience"
	"allim/internal/store"
	"allim/internal/wire"
	"allim/pkg/auth"
	"allim/pkg/notify"
)

// segmentsOf are the names of the segments that an identity hears.
func segmentsOf(id *auth.Identity) []string {
	names := []string{}
	for _, t := range id.Heard() {
		if t.Kind() == notify.KindSegment {
			names = append(names, t.Name())
		}
	}
	return names
}

// nothing is what users are members of who are of no segment.
var nothing store.Members

// visit is how the session comes to its segments: who is there for the first time joins where its connection begins, or where the newest begin that are for it.
func (s *Session) visit() (v store.Visit, ok bool) {
	if s.end != nil || s.own == nil {
		return v, false
	}
	v.Reader = store.Reader{Stream: s.stream(s.own.topic), Segments: segmentsOf(s.identity), IssuedAt: s.identity.IssuedAt}
	for _, c := range s.subs {
		if c.live == nil || c.waits {
			continue
		}
		if b := c.live.board.Load(); b != nil {
			at := s.shared.opt.Store.Start(c.topic.Name(), b, time.Now())
			at.Offset = min(at.Offset, b.Upto(c.queued))
			v.Joined = append(v.Joined, store.Joined{Segment: c.topic.Name(), At: at})
		}
	}
	return v, true
}

// told takes what the user is a member of, by the token that it was asked with. The welcome may wait for it, or what came of segments. Who has shown another token since
// asks again with the welcome of that.
func (s *Session) told(m *store.Members, by *auth.Identity) {
	if s.end != nil || s.identity != by {
		return
	}
	if has := s.members; has == nil || has.At.Epoch != m.At.Epoch || has.At.Offset <= m.At.Offset { // else a list was read since
		if s.members = m; len(m.Of)+len(m.Muted) == 0 { // as most: they share one
			s.members = &nothing
		}
	}
	if b := s.batch; b != nil && b.counting {
		b.counting = false
		b.wait--
		b.finish()
		return
	}
	for _, c := range slices.Clone(s.subs) {
		if c.live != nil {
			c.resume()
		}
	}
	s.recount()
}

// sum is what the bell shows: the newest counts of the own stream, and those of segments. known is false where Redis must be asked first what is the user's.
func (s *Session) sum() (sum *notify.Badge, known bool) {
	if s.badge == nil {
		return nil, true
	}
	var t audience.Tally
	known = true
	for _, c := range s.subs {
		if c.live == nil {
			continue
		}
		b := c.live.board.Load()
		if b == nil || b.Epoch == "" {
			continue
		}
		m := s.memberOf(c, b)
		if m == nil {
			known = false
			continue
		}
		t.Add(b, m, audience.Reader{Muted: s.members.Muted, Now: time.Now()})
	}
	return t.Badge(s.badge), known
}

// memberOf is the user's part in a segment; nil: Redis has not told it. Of all nobody is remembered before it is written to. What is everybody's then is known: the bells of
// a hundred thousand do not wait until Redis remembers them.
func (s *Session) memberOf(c *sub, b *audience.Board) *audience.Member {
	if s.members == nil {
		return nil
	}
	m := audience.Of(s.members.Of, c.topic.Name())
	if m == nil && c.topic.Name() == notify.All {
		s.shared.audiences.ask(s)
		m = &audience.Member{Joined: s.shared.opt.Store.Start(notify.All, b, time.Now())}
	}
	return m
}

// recount tells the counts if they are not those that were told last.
func (s *Session) recount() {
	if s.end != nil || s.own == nil {
		return
	}
	if s.listing || s.batch != nil && s.batch.welcome || s.out.full(&s.shared.opt.Limits) {
		s.untold = true
		return
	}
	s.untold = false
	sum, known := s.sum()
	switch {
	case !known:
		s.shared.audiences.ask(s)
	case sum == nil || s.shown != nil && sameCounts(sum, s.shown):
	default:
		s.tellCounts(sum)
	}
}

func (s *Session) tellCounts(sum *notify.Badge) {
	s.shown = sum
	s.send(&wire.BadgeNow{Topic: string(s.own.topic), Badge: wire.BadgeOf(sum)}, item{})
}

func sameCounts(a, b *notify.Badge) bool {
	return a.Unread == b.Unread && a.Unseen == b.Unseen && slices.Equal(a.By, b.By)
}

// withCounts puts the counts into an item of the own stream that has a message's. Those are shared by all who have nothing in segments; the others get bytes of their own.
func (s *Session) withCounts(i *item, c *sub, m *notify.Message) {
	s.badge = m.Badge
	if m.Segments { // they follow as soon as Redis has told what the mark did there
		return
	}
	sum, _ := s.sum()
	if i.counts, s.shown = true, sum; sum != m.Badge {
		own := *m
		own.Badge = sum
		i.own = wire.Message(c.topic, &own, true)
	}
}

// mutes tells whether a notification of a segment is not to be shown.
func (s *Session) mutes(m *notify.Message) bool {
	if m.Change != notify.ChangeNotification || m.Category == "" || s.members == nil || m.Terms != nil && m.Terms.Mandatory {
		return false
	}
	_, muted := slices.BinarySearch(s.members.Muted, m.Category)
	return muted
}
