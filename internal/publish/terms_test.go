package publish

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	"allim/pkg/auth"
	"allim/pkg/notify"
	pb "allim/proto/allim/v1"
)

var noon = time.UnixMilli(1_795_406_706_789).UTC()

func at(d time.Duration) *timestamppb.Timestamp { return timestamppb.New(noon.Add(d)) }

func escalate(e *pb.NotifyRequest_Escalate) *pb.NotifyRequest { return &pb.NotifyRequest{Escalate: e} }

func TestTermsOfANotification(t *testing.T) {
	type E = pb.NotifyRequest_Escalate
	const day = 24 * time.Hour
	year1 := &timestamppb.Timestamp{Seconds: -62_135_596_800}
	for _, c := range []struct {
		name    string
		r       *pb.NotifyRequest
		expires time.Time
		want    *notify.Terms
		wrong   string // what is answered where it is a mistake
	}{
		{"none", &pb.NotifyRequest{}, time.Time{}, nil, ""},
		{"an end alone", &pb.NotifyRequest{ExpiresAt: at(time.Minute + 345*time.Microsecond)}, noon.Add(time.Minute), nil, ""},
		{"an end that was just now, which may be a call's second try", &pb.NotifyRequest{ExpiresAt: at(-59 * time.Minute)}, noon.Add(-59 * time.Minute), nil, ""},
		{"all", &pb.NotifyRequest{CollapseKey: "thread:7", Mandatory: true, NotBefore: at(time.Hour), ExpiresAt: at(90 * day), Escalate: &E{Unless: 1, AfterMs: 1000, Via: 1}}, noon.Add(90 * day),
			&notify.Terms{Collapse: "thread:7", Mandatory: true, NotBefore: noon.Add(time.Hour), Escalate: &notify.Escalate{Unless: notify.ChangeRead, After: time.Second, Via: notify.ViaWebPush}}, ""},
		{"the first of each list", escalate(&E{AfterMs: 604_800_000}), time.Time{}, &notify.Terms{Escalate: &notify.Escalate{Unless: notify.ChangeSeen, After: 7 * day, Via: notify.ViaWebhook}}, ""},
		{"a beginning that was", &pb.NotifyRequest{NotBefore: at(-400 * day)}, time.Time{}, &notify.Terms{NotBefore: noon.Add(-400 * day)}, ""},

		{"a key with a space", &pb.NotifyRequest{CollapseKey: "a b"}, time.Time{}, nil, "collapse_key: expected 1 to 64 printable ASCII characters without space and comma"},
		{"an end that was", &pb.NotifyRequest{ExpiresAt: at(-time.Hour)}, time.Time{}, nil, "expires_at: expected a time in the future"},
		{"the first end there is", &pb.NotifyRequest{ExpiresAt: year1}, time.Time{}, nil, "expires_at: expected a time in the future"},
		{"an end too far", &pb.NotifyRequest{ExpiresAt: at(90*day + time.Millisecond)}, time.Time{}, nil, "expires_at: expected a time within 90d, as long as an inbox is kept (setting inbox.retention)"},
		{"a beginning too far", &pb.NotifyRequest{NotBefore: at(90*day + time.Millisecond)}, time.Time{}, nil, "not_before: expected a time within 90d, as long as an inbox is kept (setting inbox.retention)"},
		{"an end before the beginning", &pb.NotifyRequest{NotBefore: at(time.Hour), ExpiresAt: at(time.Hour)}, time.Time{}, nil, "expires_at: expected a time after not_before"},
		{"no time", &pb.NotifyRequest{NotBefore: &timestamppb.Timestamp{Nanos: -1}}, time.Time{}, nil, "not_before: expected a time such as 2026-11-23T04:05:06Z"},
		{"no end", &pb.NotifyRequest{ExpiresAt: &timestamppb.Timestamp{Seconds: 1 << 50}}, time.Time{}, nil, "expires_at: expected a time such as 2026-11-23T04:05:06Z"},
		{"too soon", escalate(&E{AfterMs: 999}), time.Time{}, nil, "escalate.after_ms: expected 1000 to 604800000, not 999"},
		{"too late", escalate(&E{AfterMs: 604_800_001}), time.Time{}, nil, "escalate.after_ms: expected 1000 to 604800000, not 604800001"},
		{"unless what", escalate(&E{AfterMs: 1000, Unless: 2}), time.Time{}, nil, "escalate.unless: expected SEEN or READ"},
		{"by which way", escalate(&E{AfterMs: 1000, Via: 2}), time.Time{}, nil, "escalate.via: expected WEBHOOK or WEB_PUSH"},
		{"a segment that does not look", &pb.NotifyRequest{To: &pb.Audience{Segment: "all"}, Escalate: &E{AfterMs: 1000}}, time.Time{}, nil, "to.segment: expected none: escalate is for users"},
	} {
		var m mistakes
		got := notify.Message{Time: noon}
		m.terms(c.r, &got, noon, DefaultRetention)
		if err := m.err(); c.wrong != "" {
			if err == nil || err.Error() != c.wrong || !errors.Is(err, notify.ErrInvalid) {
				t.Errorf("%s: got %v, want %s", c.name, err, c.wrong)
			}
			continue
		}
		come := noon
		if c.want != nil && c.want.NotBefore.After(noon) {
			come = c.want.NotBefore
		}
		if diff := cmp.Diff(&notify.Message{Time: come, ExpiresAt: c.expires, Terms: c.want}, &got); m.err() != nil || diff != "" {
			t.Errorf("%s: %v (-want +got):\n%s", c.name, m.err(), diff)
		}
	}
}

// What its inbox does not outlive nobody would be told of.
func TestAnEscalationIsNoLaterThanAnInboxIsKept(t *testing.T) {
	for after, want := range map[int32]string{3_600_000: "", 3_600_001: "escalate.after_ms: expected 1000 to 3600000, not 3600001"} {
		var m mistakes
		m.terms(escalate(&pb.NotifyRequest_Escalate{AfterMs: after}), &notify.Message{}, noon, time.Hour)
		if err := m.err(); (err == nil) != (want == "") || err != nil && err.Error() != want {
			t.Errorf("after %d: got %v, want %q", after, err, want)
		}
	}
}

func TestAnAudienceIsUsersOrASegment(t *testing.T) {
	limits := Limits{Users: 2}.withDefaults()
	for _, c := range []struct {
		name  string
		to    *pb.Audience
		want  []notify.Topic
		wrong string
	}{
		{"users", &pb.Audience{Users: []string{"42", "é"}}, []notify.Topic{"user:42", "user:~w6k"}, ""},
		{"a segment", &pb.Audience{Segment: "org-7"}, []notify.Topic{"segment:org-7"}, ""},
		{"nobody", &pb.Audience{}, nil, "to.users: expected 1 to 2 users, not 0"},
		{"nothing", nil, nil, `to: expected an audience: {"users":[…]} or {"segment":…}`},
		{"both", &pb.Audience{Users: []string{"42"}, Segment: "org-7"}, nil, "to: expected exactly one of users and segment"},
		{"a name of none", &pb.Audience{Segment: "org/7"}, nil, "to.segment: expected 1 to 64 of A-Z a-z 0-9 . _ -"},
		{"too many", &pb.Audience{Users: []string{"1", "2", "3"}}, nil, "to.users: expected 1 to 2 users, not 3"},
		{"no user", &pb.Audience{Users: []string{"1", ""}}, nil, "to.users[1]: expected 1 to 180 bytes of UTF-8"},
	} {
		var m mistakes
		got := limits.audience(&m, c.to)
		if err := m.err(); c.wrong != "" {
			if err == nil || err.Error() != c.wrong {
				t.Errorf("%s: got %v, want %s", c.name, err, c.wrong)
			}
		} else if diff := cmp.Diff(c.want, got); err != nil || diff != "" {
			t.Errorf("%s: %v (-want +got):\n%s", c.name, err, diff)
		}
	}
}

func TestWhoeverCannotBeToldIsNotPromisedIt(t *testing.T) {
	s := &Server{Options: Options{Reaches: func(tenant string, via notify.Via) bool { return tenant == "acme" && via == notify.ViaWebhook }}}
	for _, c := range []struct {
		s      *Server
		tenant string
		e      *notify.Escalate
		want   string
	}{
		{s, "acme", nil, ""},
		{s, "acme", &notify.Escalate{Via: notify.ViaWebhook}, ""},
		{s, "acme", &notify.Escalate{Via: notify.ViaWebPush}, "escalate.via: WEB_PUSH needs the keys of Web Push (setting push)"},
		{s, "default", &notify.Escalate{Via: notify.ViaWebhook}, "escalate.via: WEBHOOK needs a webhook of this tenant (setting webhooks)"},
		{&Server{}, "acme", &notify.Escalate{Via: notify.ViaWebhook}, "escalate.via: WEBHOOK needs a webhook of this tenant (setting webhooks)"},
	} {
		err := c.s.reaches(&auth.Principal{Tenant: c.tenant}, &notify.Message{Terms: &notify.Terms{Escalate: c.e}})
		if c.want == "" || err == nil {
			if c.want != "" || err != nil {
				t.Errorf("%s, %+v: got %v, want %q", c.tenant, c.e, err, c.want)
			}
			continue
		}
		if f := faultOf(err); f.message != c.want || f.reason != "NOT_CONFIGURED" {
			t.Errorf("%s, %+v: got %v, want %s", c.tenant, c.e, err, c.want)
		}
	}
	if err := s.reaches(&auth.Principal{}, &notify.Message{}); err != nil {
		t.Errorf("nobody is to be told: %v", err)
	}
}
