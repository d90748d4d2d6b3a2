package publish

import (
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"allim/pkg/auth"
	"allim/pkg/notify"
	pb "allim/proto/allim/v1"
)

const (
	minEscalate = time.Second
	maxEscalate = 7 * 24 * time.Hour

	// expiredFor is how long after its end a notification is still asked of Redis: what it acknowledged before is repeated with the same id, and is OK
	// then. One that is over for longer is a mistake at once.
	expiredFor = time.Hour
)

const aTime = "a time such as 2026-11-23T04:05:06Z"

var (
	unless = map[pb.NotifyRequest_Escalate_Unless]notify.Change{pb.NotifyRequest_Escalate_SEEN: notify.ChangeSeen, pb.NotifyRequest_Escalate_READ: notify.ChangeRead}
	vias   = map[pb.NotifyRequest_Escalate_Via]notify.Via{pb.NotifyRequest_Escalate_WEBHOOK: notify.ViaWebhook, pb.NotifyRequest_Escalate_WEB_PUSH: notify.ViaWebPush}
)

// terms puts what a good request wants to be done with its notification into it.
func (m *mistakes) terms(r *pb.NotifyRequest, into *notify.Message, now time.Time, retention time.Duration) {
	t := notify.Terms{Collapse: r.CollapseKey, Mandatory: r.Mandatory, Escalate: m.escalate(r, retention)}
	m.add("collapse_key", notify.CheckCollapse(r.CollapseKey))
	t.NotBefore = m.time("not_before", r.NotBefore)
	m.want(!t.NotBefore.After(now.Add(retention)), "not_before", "a time within %s, as long as an inbox is kept (setting inbox.retention)", days(retention))
	into.ExpiresAt = m.time("expires_at", r.ExpiresAt)
	if r.ExpiresAt.IsValid() {
		m.want(into.ExpiresAt.After(now.Add(-expiredFor)), "expires_at", "a time in the future")
		m.want(!into.ExpiresAt.After(now.Add(retention)), "expires_at", "a time within %s, as long as an inbox is kept (setting inbox.retention)", days(retention))
		m.want(r.NotBefore == nil || into.ExpiresAt.After(t.NotBefore), "expires_at", "a time after not_before")
	}
	if t.NotBefore.After(into.Time) { // what waits is as new as it looks when it comes
		into.Time = t.NotBefore
	}
	if t != (notify.Terms{}) {
		into.Terms = &t
	}
}

// days writes a duration as its setting does where it is whole days.
func days(d time.Duration) string {
	const day = 24 * time.Hour
	if d > 0 && d%day == 0 {
		return fmt.Sprintf("%dd", d/day)
	}
	return d.String()
}

// time reads a time of a request, in milliseconds; the zero one where there is none.
func (m *mistakes) time(field string, at *timestamppb.Timestamp) time.Time {
	if at == nil {
		return time.Time{}
	}
	m.want(at.IsValid(), field, aTime)
	return at.AsTime().Truncate(time.Millisecond)
}

func (m *mistakes) escalate(r *pb.NotifyRequest, retention time.Duration) *notify.Escalate {
	e := r.Escalate
	if e == nil {
		return nil
	}
	m.want(r.GetTo().GetSegment() == "", "to.segment", "none: escalate is for users")
	but, known := unless[e.Unless]
	m.want(known, "escalate.unless", "SEEN or READ")
	via, known := vias[e.Via]
	m.want(known, "escalate.via", "WEBHOOK or WEB_PUSH")
	after, most := time.Duration(e.AfterMs)*time.Millisecond, min(maxEscalate, retention) // an inbox that is gone has nothing to tell of
	m.want(after >= minEscalate && after <= most, "escalate.after_ms", "%d to %d, not %d", minEscalate.Milliseconds(), most.Milliseconds(), e.AfterMs)
	return &notify.Escalate{Unless: but, After: after, Via: via}
}

// A missing is what a good call needs and this publisher is not set up for.
type missing string

func (e missing) Error() string { return string(e) }
func (missing) Unwrap() error   { return notify.ErrNotConfigured }

// reaches tells whether the tenant has the way in which somebody shall be told.
func (s *Server) reaches(p *auth.Principal, m *notify.Message) error {
	if m.Terms == nil || m.Terms.Escalate == nil {
		return nil
	}
	via := m.Terms.Escalate.Via
	if s.Reaches != nil && s.Reaches(p.Tenant, via) {
		return nil
	}
	if via == notify.ViaWebhook {
		return missing("escalate.via: WEBHOOK needs a webhook of this tenant (setting webhooks)")
	}
	return missing("escalate.via: WEB_PUSH needs the keys of Web Push (setting push)")
}

// audience returns the topics of whom a call is for: users, or one segment.
func (l *Limits) audience(m *mistakes, to *pb.Audience) []notify.Topic {
	users, segment := to.GetUsers(), to.GetSegment()
	m.want(to != nil, "to", `an audience: {"users":[…]} or {"segment":…}`)
	if segment != "" {
		m.want(len(users) == 0, "to", "exactly one of users and segment")
		m.add("to.segment", notify.CheckSegment(segment))
		return []notify.Topic{notify.TopicOf(notify.KindSegment, segment)}
	}
	m.want(to == nil || len(users) > 0 && len(users) <= l.Users, "to.users", "1 to %d users, not %d", l.Users, len(users))
	if len(users) > l.Users {
		return nil
	}
	topics := make([]notify.Topic, len(users))
	for i, user := range users {
		var err error
		if topics[i], err = notify.UserTopic(user); err != nil {
			m.add(fmt.Sprintf("to.users[%d]", i), err)
		}
	}
	return topics
}

// mayNotify tells whether the credential may notify an audience.
func mayNotify(p *auth.Principal, to *pb.Audience) error {
	for i, user := range to.Users {
		if err := authorize(p, toNotify, user, fmt.Sprintf("to.users[%d]", i)); err != nil {
			return err
		}
	}
	if to.Segment != "" {
		return authorize(p, toNotifySegment, to.Segment, "to.segment")
	}
	return nil
}

// named is how a result says whose it is: by the user, or the segment.
func named(to *pb.Audience, i int) (user string, segment *string) {
	if to.Segment != "" {
		return "", &to.Segment
	}
	return to.Users[i], nil
}
