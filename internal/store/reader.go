package store

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"allim/internal/audience"
	"allim/pkg/notify"
)

var memberScript = script("member")

// A Reader is a user with the segments that its token names.
type Reader struct {
	notify.Stream          // the user's own
	Segments      []string // notify.All among them where it hears that; nil: who asks has no token, and means those that the user did not leave
	IssuedAt      time.Time
}

// A Joined says where a segment begins for who may be there for the first time, or up to where something is of it.
type Joined struct {
	Segment string
	At      notify.Position
}

// Members is what a user is or was a member of.
type Members struct {
	At    notify.Position   // of the own stream, when it was read
	Muted []string          // categories, sorted
	Of    []audience.Member // by segment; those that were left, too
}

// A Visit is a Reader who comes, and where the segments begin for it.
type Visit struct {
	Reader
	Joined []Joined
}

// ofAll are the newest items of the segment notify.All that are for a user who was never seen there.
const ofAll = 20

// Members reads what a user is a member of. It writes nothing.
func (s *Store) Members(ctx context.Context, user notify.Stream) (Members, error) {
	m, _, err := s.members(ctx, s.memberCall(user, "", nil))
	return m, err
}

// Touch reads what a user is a member of, and says to it which segments a token names: what is seen for the first time and stands in joined is remembered, and what the
// token does not name is left, unless a newer one named it. Who comes with the same token again writes nothing. Of tokens that do not say when they were issued nobody knows
// which is newer: they end nothing.
func (s *Store) Touch(ctx context.Context, r Reader, joined []Joined) (Members, error) {
	m, _, err := s.members(ctx, s.touchCall(Visit{r, joined}))
	return m, err
}

// TouchAll is Touch of many, a few hundred at most, in one pipeline.
func (s *Store) TouchAll(ctx context.Context, all []Visit) ([]Members, []error) {
	calls := make([]call, len(all))
	for i, v := range all {
		calls[i] = s.touchCall(v)
	}
	got, errs := make([]Members, len(all)), make([]error, len(all))
	for i, c := range s.run(ctx, opMembers, calls) {
		v, err := replyOf(c, 5)
		if err == nil {
			got[i], _, err = readMembers(v)
		}
		errs[i] = err
	}
	return got, errs
}

func (s *Store) touchCall(v Visit) call {
	iat := int64(0)
	if !v.IssuedAt.IsZero() {
		iat = max(v.IssuedAt.Unix(), 0)
	}
	at := make(map[string]notify.Position, len(v.Joined))
	for _, j := range v.Joined {
		if j.Segment != notify.All || exists(j.At) { // else everybody who ever came would be remembered for nothing
			at[j.Segment] = j.At
		}
	}
	args := make([]any, 0, 2*len(v.Segments))
	for _, segment := range v.Segments {
		line := ""
		if pos, known := at[segment]; known {
			line, _ = (&audience.Member{Joined: pos, IssuedAt: iat}).Lines()
		}
		args = append(args, segment, line)
	}
	return s.memberCall(v.Stream, strconv.FormatInt(iat, 10), args)
}

// exists tells whether a position is one of a stream that is there.
func exists(p notify.Position) bool {
	_, empty := p.Empty()
	return p.Epoch != "" && !empty
}

// memberLife is how long is remembered what a user is a member of.
func (s *Store) memberLife() time.Duration { return max(s.inbox.Retention, s.segments.Retention) }

func (s *Store) memberCall(user notify.Stream, iat string, named []any) call {
	args := append([]any{iat, s.memberLife().Milliseconds(), s.segments.Retention.Milliseconds()}, named...)
	return call{script: memberScript, keys: s.keys.Audience(user).All(), args: args}
}

// lines are Members as Redis has them, by segment.
type lines struct{ g, q map[string]string }

func (s *Store) members(ctx context.Context, c call) (m Members, raw lines, err error) {
	v, err := s.one(ctx, opMembers, c, 5)
	if err == nil {
		m, raw, err = readMembers(v)
	}
	if err != nil {
		return Members{}, raw, fmt.Errorf("read members: %w", err)
	}
	return m, raw, nil
}

func readMembers(v []any) (m Members, raw lines, err error) {
	if epoch := text(v[0]); epoch != "" {
		if m.At, err = placeOf(strings.Clone(epoch), text(v[1]), ""); err != nil {
			return Members{}, raw, err
		}
	}
	g, _ := v[3].([]any)
	q, _ := v[4].([]any)
	members, exceptions := texts(g), texts(q)
	if m.Of, err = audience.ParseMembers(members, exceptions); err != nil {
		return Members{}, raw, err
	}
	m.Muted = strings.FieldsFunc(strings.Clone(text(v[2])), func(r rune) bool { return r == ',' })
	return m, lines{byName(members), byName(exceptions)}, nil
}

func byName(pairs []string) map[string]string {
	out := make(map[string]string, len(pairs)/2)
	for i := 0; i+1 < len(pairs); i += 2 {
		out[pairs[i]] = pairs[i+1]
	}
	return out
}

// A part is a segment as a reader has it.
type part struct {
	notify.Stream
	board  *audience.Board
	member *audience.Member
	g, q   string // the member, as Redis has it; "": it does not
}

// An audienceOf is all that a reader has besides its own stream.
type audienceOf struct {
	members *Members // nil: nobody looked
	parts   []part   // of segments that there are
	now     time.Time
}

// audience reads which segments a reader has, and then what they hold: so that boards have whatever those who marked last knew. Who comes with a token is remembered
// where it is seen for the first time.
func (s *Store) audience(ctx context.Context, r Reader) (a audienceOf, err error) {
	a.now = time.Now()
	c := s.memberCall(r.Stream, "", nil)
	if r.Segments != nil {
		if len(r.Segments) == 0 && r.IssuedAt.IsZero() {
			return a, nil
		}
		c = s.touchCall(Visit{Reader: r})
	}
	m, raw, err := s.members(ctx, c)
	if err != nil {
		return a, err
	}
	names := r.Segments
	if names == nil {
		names = s.namesOf(&m)
	}
	boards, err := s.Boards(ctx, segmentsOf(r.Tenant, names))
	if err != nil {
		return a, err
	}
	var fresh []Joined
	for i, name := range names {
		if r.Segments != nil && audience.Of(m.Of, name) == nil && (name != notify.All || boards[i].Epoch != "") {
			fresh = append(fresh, Joined{name, s.Start(name, boards[i], a.now)})
		}
	}
	if len(fresh) > 0 {
		if m, raw, err = s.members(ctx, s.touchCall(Visit{r, fresh})); err != nil {
			return a, err
		}
	}
	a.members = &m
	for i, st := range segmentsOf(r.Tenant, names) {
		if boards[i].Epoch == "" {
			continue
		}
		p := part{Stream: st, board: boards[i], member: audience.Of(m.Of, names[i]), g: raw.g[names[i]], q: raw.q[names[i]]}
		if p.member == nil {
			p.member = &audience.Member{Segment: names[i], Joined: s.Start(names[i], boards[i], a.now)}
		}
		a.parts = append(a.parts, p)
	}
	return a, nil
}

// namesOf are the segments that a user did not leave, and notify.All.
func (s *Store) namesOf(m *Members) (names []string) {
	for _, of := range m.Of {
		if of.Left == 0 {
			names = append(names, of.Segment)
		}
	}
	if audience.Of(m.Of, notify.All) == nil && !s.segments.OnlyMine {
		names = append(names, notify.All)
	}
	return names
}

func segmentsOf(tenant string, names []string) []notify.Stream {
	out := make([]notify.Stream, len(names))
	for i, name := range names {
		out[i] = notify.Stream{Tenant: tenant, Topic: notify.TopicOf(notify.KindSegment, name)}
	}
	return out
}

// Start is where who is seen for the first time joins a segment that holds this. Where a connection begins later than that it is the connection's to say.
func (s *Store) Start(segment string, b *audience.Board, now time.Time) notify.Position {
	n := s.segments.Start
	if segment == notify.All {
		n = max(n, ofAll)
	}
	return b.Start(n, now)
}

// reader is who looks, and when.
func (a *audienceOf) reader() audience.Reader {
	r := audience.Reader{Now: a.now}
	if a.members != nil {
		r.Muted = a.members.Muted
	}
	return r
}

// badge is what a bell shows whose own stream counts that.
func (a *audienceOf) badge(own *notify.Badge) notify.Badge {
	var sum audience.Tally
	for _, p := range a.parts {
		sum.Add(p.board, p.member, a.reader())
	}
	return *sum.Badge(own)
}
