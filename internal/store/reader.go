package store

import (
	"context"
	"fmt"
	"slices"
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
	Segments      []string // notify.All among them where it hears that
	IssuedAt      time.Time
}

// A Joined says where a segment begins for who may be there for the first time.
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

// Members reads what a user is a member of. It writes nothing.
func (s *Store) Members(ctx context.Context, user notify.Stream) (Members, error) {
	return s.members(ctx, user, "", nil)
}

// Touch reads what a user is a member of, and says to it which segments a token names: what is seen for the first time and stands in joined is remembered, and what the
// token does not name is left, unless a newer one named it. Who comes with the same token again writes nothing. Of tokens that do not say when they were issued nobody knows
// which is newer: they end nothing.
func (s *Store) Touch(ctx context.Context, r Reader, joined []Joined) (Members, error) {
	iat := int64(0)
	if !r.IssuedAt.IsZero() {
		iat = max(r.IssuedAt.Unix(), 0)
	}
	at := make(map[string]notify.Position, len(joined))
	for _, j := range joined {
		if j.Segment != notify.All || exists(j.At) { // else everybody who ever came would be remembered for nothing
			at[j.Segment] = j.At
		}
	}
	args := make([]any, 0, 2*len(r.Segments))
	for _, segment := range r.Segments {
		line := ""
		if pos, known := at[segment]; known {
			line, _ = (&audience.Member{Joined: pos, IssuedAt: iat}).Lines()
		}
		args = append(args, segment, line)
	}
	return s.members(ctx, r.Stream, strconv.FormatInt(iat, 10), args)
}

// exists tells whether a position is one of a stream that is there.
func exists(p notify.Position) bool {
	_, empty := p.Empty()
	return p.Epoch != "" && !empty
}

func (s *Store) members(ctx context.Context, user notify.Stream, iat string, named []any) (Members, error) {
	k := s.keys.Audience(user)
	life := max(s.inbox.Retention, s.segments.Retention)
	args := append([]any{iat, life.Milliseconds(), s.segments.Retention.Milliseconds()}, named...)
	v, err := s.one(ctx, opMembers, call{script: memberScript, keys: k.All(), args: args}, 5)
	if err != nil {
		return Members{}, fmt.Errorf("read members: %w", err)
	}
	var m Members
	if epoch := text(v[0]); epoch != "" {
		if m.At, err = placeOf(strings.Clone(epoch), text(v[1]), ""); err != nil {
			return Members{}, fmt.Errorf("read members: %w", err)
		}
	}
	lines, _ := v[3].([]any)
	exceptions, _ := v[4].([]any)
	if m.Of, err = audience.ParseMembers(texts(lines), texts(exceptions)); err != nil {
		return Members{}, fmt.Errorf("read members: %w", err)
	}
	m.Muted = strings.FieldsFunc(strings.Clone(text(v[2])), func(r rune) bool { return r == ',' })
	return m, nil
}

// ofAll are the newest items of the segment notify.All that are for a user who was never seen there.
const ofAll = 20

// Badge is what a user's bell shows: the counts of the own stream and of the segments that the user did not leave.
func (s *Store) Badge(ctx context.Context, user notify.Stream) (notify.Badge, error) {
	own, err := s.Counts(ctx, user)
	if err != nil {
		return notify.Badge{}, err
	}
	m, err := s.Members(ctx, user)
	if err != nil {
		return notify.Badge{}, err
	}
	if audience.Of(m.Of, notify.All) == nil && !s.segments.OnlyMine {
		m.Of = append(m.Of, audience.Member{Segment: notify.All, Joined: newest})
	}
	m.Of = slices.DeleteFunc(m.Of, func(of audience.Member) bool { return of.Left > 0 })
	segments := make([]notify.Stream, len(m.Of))
	for i, of := range m.Of {
		segments[i] = notify.Stream{Tenant: user.Tenant, Topic: notify.TopicOf(notify.KindSegment, of.Segment)}
	}
	boards, err := s.Boards(ctx, segments)
	if err != nil {
		return notify.Badge{}, err
	}
	var sum audience.Tally
	r := audience.Reader{Muted: m.Muted, Now: time.Now()}
	for i, b := range boards {
		if m.Of[i].Joined == newest {
			m.Of[i].Joined = b.Start(ofAll, r.Now)
		}
		sum.Add(b, &m.Of[i], r)
	}
	return *sum.Badge(&own), nil
}

// newest is a position that no stream has, of a member who starts with the newest items whenever somebody looks.
var newest = notify.Position{Epoch: "newest"}
