package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/status"

	pb "allim/proto/allim/v1"
	"allim/test/pods"
)

// A victim is a user with two notifications, whom bad calls are about. Nothing of what they ask for may come about.
type victim struct {
	*testing.T
	stage   *pods.Stage
	backend *pods.Backend
	token   string
	own     string // the position of its stream
}

// state is all that a call could have changed: keys, entries of streams, the inbox with its counts and its place, and what is muted.
func (v *victim) state() string {
	v.Helper()
	rdb := v.stage.Redis.Client()
	defer rdb.Close()
	prefs, err := v.backend.Inbox.Preferences(v.backend.Call(), &pb.PreferencesRequest{User: "ann"})
	if err != nil {
		v.Fatal(err)
	}
	return fmt.Sprint(rdb.DBSize(v.Context()).Val(), " keys, ", written(v.T, rdb), " entries, ", v.backend.Counts("ann"), v.backend.List("ann", pb.ListRequest_ALL), prefs.Mute)
}

// A wrong is one bad call: try makes it and is what the caller is told, want a part of that.
type wrong struct {
	name string
	try  func() string
	want string
}

func (v *victim) check(all []wrong) {
	v.Helper()
	for _, c := range all {
		v.Run(c.name, func(t *testing.T) {
			before := v.state()
			if got := c.try(); !strings.Contains(got, c.want) {
				t.Errorf("told %.400q, want %q", got, c.want)
			}
			if now := v.state(); now != before {
				t.Errorf("it was\n%s\nand is\n%s", before, now)
			}
		})
	}
}

// rpc is what a gRPC call was told: its code and message, or its reply.
func rpc(reply any, err error) string {
	if err != nil {
		return status.Code(err).String() + " " + status.Convert(err).Message()
	}
	return fmt.Sprint(reply)
}

// post is the status and the body of a JSON call.
func (v *victim) post(url, token string, body []byte) string {
	v.Helper()
	r, err := http.NewRequestWithContext(v.backend.Call(), "POST", url, bytes.NewReader(body))
	if err != nil {
		v.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	r.Header.Set("Content-Type", "application/json")
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	w, err := client.Do(r)
	if err != nil {
		return err.Error()
	}
	defer w.Body.Close()
	text, err := io.ReadAll(w.Body)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprint(w.StatusCode, " ", string(text))
}

// frame is the answer to a frame on a connection of its own, or how that was closed.
func (v *victim) frame(text string) string {
	v.Helper()
	c := pods.Connect(v, v.stage.Gateways[0], pods.Hello{Token: v.token})
	defer c.Drop()
	c.Next("welcome")
	c.Send(text)
	if len(text) > 16<<10 {
		code, _ := c.Closed(pods.Within)
		return fmt.Sprint("closed with ", code)
	}
	return c.Answer(7).Raw
}

// many are so many ids as a JSON list.
func many(n int) string {
	text, _ := json.Marshal(names(n, "a-notification-that-nobody-ever-heard-of-%d"))
	return string(text)
}

func newVictim(t *testing.T) *victim {
	t.Helper()
	v := &victim{T: t, stage: pods.Start(t, pods.Options{}), token: pods.Token(t, "ann", pods.Grant{})}
	v.backend = pods.NewBackend(t, v.stage.Publishers[0], "default")
	v.backend.Notify("ann", "n1", "order", `{"title":"1"}`)
	if _, err := v.backend.Inbox.Preferences(v.backend.Call(), &pb.PreferencesRequest{User: "ann", Set: true, Mute: []string{"news"}}); err != nil {
		t.Fatal(err)
	}
	v.own = v.backend.Notify("ann", "n2", "order", `{"title":"2"}`)
	return v
}

const tenMB = 10_000_000

// Whoever calls the publisher with something that makes no sense is told which field it is and what was expected there, and nothing has changed.
func TestBadCallsAreToldWhatIsWrongAndChangeNothing(t *testing.T) {
	t.Parallel()
	v := newVictim(t)
	p, inbox := v.backend.Publisher, v.backend.Inbox
	to, hour := &pb.Audience{Users: []string{"ann"}}, time.Now().Add(time.Hour)
	notify := func(r *pb.NotifyRequest) func() string {
		return func() string {
			if r.Id, r.Data = "bad", []byte("1"); r.To == nil {
				r.To = to
			}
			return rpc(p.Notify(v.backend.Call(), r))
		}
	}
	update := func(r *pb.UpdateRequest) func() string {
		return func() string { r.To, r.Data = to, []byte("1"); return rpc(p.Update(v.backend.Call(), r)) }
	}
	retract := func(r *pb.RetractRequest) func() string {
		return func() string { r.To = to; return rpc(p.Retract(v.backend.Call(), r)) }
	}
	mark := func(r *pb.MarkRequest) func() string {
		return func() string { r.User = "ann"; return rpc(inbox.Mark(v.backend.Call(), r)) }
	}
	read := pb.MarkRequest_READ.Enum()
	v.check([]wrong{
		{"long past expiry", notify(&pb.NotifyRequest{ExpiresAt: at(time.Now().Add(-2 * time.Hour))}), "InvalidArgument expires_at: expected a time in the future"},
		{"just past expiry", notify(&pb.NotifyRequest{ExpiresAt: at(time.Now().Add(-time.Second))}), "FailedPrecondition expires_at: expected a time in the future"},
		{"it expires before it comes", notify(&pb.NotifyRequest{NotBefore: at(hour), ExpiresAt: at(hour.Add(-time.Second))}), "InvalidArgument expires_at: expected a time after not_before"},
		{"it comes when nothing is kept any more", notify(&pb.NotifyRequest{NotBefore: at(hour.Add(9999 * time.Hour))}), "InvalidArgument not_before: expected a time within"},
		{"an escalation of a segment", notify(&pb.NotifyRequest{To: &pb.Audience{Segment: "org-7"}, Escalate: unlessSeen(webhook)}), "InvalidArgument to.segment: expected none: escalate is for users"},
		{"an escalation at once", notify(&pb.NotifyRequest{Escalate: &pb.NotifyRequest_Escalate{}}), "InvalidArgument escalate.after_ms: expected 1000 to 604800000, not 0"},
		{"an unknown state", notify(&pb.NotifyRequest{Escalate: &pb.NotifyRequest_Escalate{AfterMs: 1000, Unless: 7}}), "InvalidArgument escalate.unless: expected SEEN or READ"},
		{"an unknown way", notify(&pb.NotifyRequest{Escalate: unlessSeen(7)}), "InvalidArgument escalate.via: expected WEBHOOK or WEB_PUSH"},
		{"no webhook", notify(&pb.NotifyRequest{Escalate: unlessSeen(webhook)}), "FailedPrecondition escalate.via: WEBHOOK needs a webhook of this tenant (setting webhooks)"},
		{"no keys of Web Push", notify(&pb.NotifyRequest{Escalate: unlessSeen(pb.NotifyRequest_Escalate_WEB_PUSH)}), "FailedPrecondition escalate.via: WEB_PUSH needs the keys of Web Push (setting push)"},
		{"update of both", update(&pb.UpdateRequest{Id: "n1", CollapseKey: "k"}), "InvalidArgument id: expected exactly one of id and collapse_key"},
		{"update of none", update(&pb.UpdateRequest{}), "InvalidArgument id: expected exactly one of id and collapse_key"},
		{"update of what is not there", update(&pb.UpdateRequest{Id: "n9"}), "NotFound no such notification"},
		{"retraction of both", retract(&pb.RetractRequest{Id: "n1", CollapseKey: "k"}), "InvalidArgument id: expected exactly one of id and collapse_key"},
		{"retraction of none", retract(&pb.RetractRequest{}), "InvalidArgument id: expected exactly one of id and collapse_key"},
		{"an unknown mark", mark(&pb.MarkRequest{Mark: pb.MarkRequest_Mark(9).Enum(), All: true}), "InvalidArgument mark: expected"},
		{"no mark", mark(&pb.MarkRequest{All: true}), "InvalidArgument mark: expected"},
		{"a stale position", mark(&pb.MarkRequest{Mark: read, Upto: "zzzzzz.3"}), "FailedPrecondition the position is of an older epoch"},
		{"501 ids", mark(&pb.MarkRequest{Mark: read, Ids: names(501, "i%d")}), "InvalidArgument ids: expected"},
		{"ids that are not there", mark(&pb.MarkRequest{Mark: read, Ids: []string{"n8", "n9"}}), `"n8"`},
		{"10 MB of ids", mark(&pb.MarkRequest{Mark: read, Ids: slices.Repeat([]string{strings.Repeat("x", 62)}, tenMB/64)}), "ResourceExhausted"},
		{"an unknown status", func() string {
			return rpc(inbox.List(v.backend.Call(), &pb.ListRequest{User: "ann", Status: 9}))
		}, "InvalidArgument status: expected ACTIVE, UNREAD, UNSEEN, ARCHIVED or ALL"},
		{"a category that is none", func() string {
			return rpc(inbox.Preferences(v.backend.Call(), &pb.PreferencesRequest{User: "ann", Set: true, Mute: []string{"a", "A B"}}))
		}, "InvalidArgument mute[1]: expected 1 to 32 of a-z 0-9 _ . -"},
	})

	http := func(call, body string) func() string {
		return func() string {
			return v.post("http://"+v.stage.Publishers[0].Addr("http")+"/v1/"+call, pods.APIKey("default"), []byte(body))
		}
	}
	v.check([]wrong{
		{"an unknown mark as JSON", http("inbox/mark", `{"user":"ann","mark":"SHOUT","all":true}`), `400 {"type":"about:blank"`},
		{"an unknown status as JSON", http("inbox/list", `{"user":"ann","status":"NEW"}`), "status"},
		{"a time that is none as JSON", http("notify", `{"id":"bad","to":{"users":["ann"]},"data":1,"expires_at":"tomorrow"}`), "expires_at"},
		{"an unknown way as JSON", http("notify", `{"id":"bad","to":{"users":["ann"]},"data":1,"escalate":{"after_ms":1000,"via":"PIGEON"}}`), "escalate.via: expected one of WEBHOOK, WEB_PUSH"},
		{"10 MB of ids as JSON", http("inbox/mark", `{"user":"ann","mark":"READ","ids":`+many(tenMB/48)+`}`), `413 {"type":"about:blank"`},
		{"ids that are not there as JSON", http("inbox/mark", `{"user":"ann","mark":"READ","ids":["n8","n9"]}`), `200 {"changed":0,"unknown":["n8","n9"]`},
	})
}

// The same of whoever comes to a gateway, by frames and by HTTP.
func TestBadFramesAreToldWhatIsWrongAndChangeNothing(t *testing.T) {
	t.Parallel()
	v := newVictim(t)
	frame := func(text string) func() string { return func() string { return v.frame(text) } }
	http := func(call, body string) func() string {
		return func() string {
			return v.post("http://"+v.stage.Gateways[0].Addr("public")+"/v1/inbox"+call, v.token, []byte(body))
		}
	}
	v.check([]wrong{
		{"an unknown mark", frame(`{"type":"shout","all":true,"ref":7}`), `"code":"bad_frame"`},
		{"an unknown status", frame(`{"type":"inbox","status":"new","ref":7}`), `"message":"status: expected one of active, unread, unseen, archived, all`},
		{"a stale position", frame(`{"type":"read","upto":"zzzzzz.3","ref":7}`), `"code":"stale_position"`},
		{"a stale position of one of two topics", frame(`{"type":"read","upto":{"user:ann":"zzzzzz.3"},"ref":7}`), `"code":"stale_position"`},
		{"both ids and all", frame(`{"type":"read","ids":["n1"],"all":true,"ref":7}`), `ids: expected exactly one of ids, upto and all`},
		{"neither", frame(`{"type":"read","ref":7}`), `ids: expected exactly one of ids, upto and all`},
		{"501 ids", frame(`{"type":"read","ref":7,"ids":` + strings.ReplaceAll(many(501), "a-notification-that-nobody-ever-heard-of-", "") + `}`), `"message":"ids: expected at most 500, not 501`},
		{"ids that are not there", frame(`{"type":"read","ids":["n8","n9"],"ref":7}`), `"changed":0,"unknown":["n8","n9"]`},
		{"a category that is none", frame(`{"type":"preferences","mute":["a","A B"],"ref":7}`), `"message":"mute[1]: expected 1 to 32 of`},
		{"10 MB of ids", frame(`{"type":"read","ref":7,"ids":` + many(tenMB/48) + `}`), "closed with 1009"},
		{"10 MB of ids by HTTP", http("/read", `{"ids":`+many(tenMB/48)+`}`), `413 {"type":"error","code":"too_large"`},
		{"a stale position by HTTP", http("/read", `{"upto":"zzzzzz.3"}`), `409 {"type":"error","code":"stale_position"`},
		{"an unknown mark by HTTP", http("/shout", `{"all":true}`), `404 {"type":"error"`},
	})
	if got, err := v.backend.Inbox.Mark(v.backend.Call(), &pb.MarkRequest{User: "ann", Mark: pb.MarkRequest_READ.Enum(), Upto: v.own}); err != nil || got.Changed != 2 {
		t.Errorf("a good mark: got %v, %v: the bad ones show less than they should", got, err)
	}
}
