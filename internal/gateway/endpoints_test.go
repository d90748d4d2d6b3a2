package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"allim/internal/session"
	"allim/internal/transport/rest"
	"allim/pkg/auth"
)

func TestTheInboxOverHTTPIsTheOneOfFrames(t *testing.T) {
	for _, backend := range []string{"redis", "embedded"} {
		t.Run(backend, func(t *testing.T) {
			b := newBed(t, session.Limits{}, 0, backend)
			b.notify("ann", "n1:order", "n2:mention", "n3:mention", "n4")
			b.wantBadge("ann", `{"unread":4,"unseen":4,"by":{"mention":2,"order":1},"rev":"`)
			b.wantBadge("ben", `{"unread":0,"unseen":0,"rev":"`)
			all := b.list("ann", "")
			if got := all.ids(); !slices.Equal(got, []string{"n4", "n3", "n2", "n1"}) || all.Items[1].Topic != "user:ann" || all.Items[1].Category != "mention" || all.Badge.Unread != 4 || all.Before != "" {
				t.Errorf("got %+v", all)
			}
			for _, c := range []struct{ mark, body, want, badge string }{
				{"seen", `{"all":true}`, `{"type":"ok","changed":4,"pos":"`, `{"unread":4,"unseen":0,`},
				{"read", `{"ids":["n1","n0","n1"],"ref":7}`, `{"type":"ok","ref":7,"changed":1,"unknown":["n0"],"pos":"`, `{"unread":3,"unseen":0,"by":{"mention":2},`},
				{"read", `{"ids":["n1"],"origin":"p9Xk3vQ0aLr7Tz1e"}`, `{"type":"ok","changed":0}`, `{"unread":3,`},
				{"read", `{"upto":"` + all.At["user:ann"] + `"}`, `{"type":"ok","changed":3,`, `{"unread":0,`},
				{"unread", `{"upto":{"user:ann":"` + all.At["user:ann"] + `"}}`, `{"type":"ok","changed":4,`, `{"unread":4,"unseen":0,`},
				{"archive", `{"ids":["n2"],"type":"delete"}`, `{"type":"ok","changed":1,`, `{"unread":3,`}, // the path alone names the mark
				{"unarchive", `{"ids":["n2"]}`, `{"type":"ok","changed":1,`, `{"unread":4,`},
				{"delete", `{"ids":["n3"]}`, `{"type":"ok","changed":1,`, `{"unread":3,"unseen":0,"by":{"mention":1,"order":1},`},
			} {
				if w := b.as("ann", "POST /v1/inbox/"+c.mark, c.body); w.Code != 200 || !strings.HasPrefix(w.Body.String(), c.want) {
					t.Errorf("%s %s: got %d %s, want %s", c.mark, c.body, w.Code, w.Body, c.want)
				}
				b.wantBadge("ann", c.badge)
			}
			b.as("ann", "POST /v1/inbox/read", `{"ids":["n1"]}`)
			b.as("ann", "POST /v1/inbox/archive", `{"ids":["n4"]}`)
			for query, want := range map[string][]string{"?status=active": {"n2", "n1"}, "?status=unread&limit=": {"n2"}, "?status=archived": {"n4"}, "?status=all&category=order": {"n1"}, "?status=unseen": nil} {
				if got := b.list("ann", query).ids(); !slices.Equal(got, want) {
					t.Errorf("%s: got %q, want %q", query, got, want)
				}
			}
		})
	}
}

func TestPagesStayTheSameUnderNewArrivals(t *testing.T) {
	b := newBed(t, session.Limits{}, 0, "redis")
	var want []string
	for i := range 7 {
		b.notify("ann", fmt.Sprintf("n%d:c", i))
		want = append([]string{fmt.Sprintf("n%d", i)}, want...)
	}
	for _, filter := range []string{"", "&status=unread", "&category=c"} {
		var got []string
		before := ""
		for page := 0; page == 0 || before != ""; page++ {
			l := b.list("ann", "?limit=3"+filter+"&before="+before)
			got, before = append(got, l.ids()...), l.Before
			b.notify("ann", fmt.Sprintf("x%s%d:c", strings.Trim(filter, "&="), page)) // comes between this page and the next
		}
		if !slices.Equal(got[len(got)-7:], want) {
			t.Errorf("%q: got %q, want it to end in %q", filter, got, want)
		}
		if seen := slices.Compact(slices.Sorted(slices.Values(got))); len(seen) != len(got) {
			t.Errorf("%q: %q has one twice", filter, got)
		}
	}
}

// Every route there is, with everything that must not get through it: the answer, and that nothing was done.
func TestEveryEndpointRefusesWhatItMust(t *testing.T) {
	b := newBed(t, session.Limits{Requests: 100_000}, 0, "redis")
	b.notify("ann", "n1", "n2")
	ann := b.token("ann", "")
	before := b.list("ann", "").At["user:ann"]
	const jsonType, app = "application/json", "https://app.example.com"
	for _, e := range rest.Endpoints(b.opt.Sessions.Calls()) {
		what, good := e.Method+" "+e.Path, goodBody(e)
		for _, c := range []struct {
			name, body string
			headers    []string
			status     int
			says       string
		}{
			{"no token", good, nil, 401, `"code":"unauthorized"`},
			{"a wrong token", good, []string{"Authorization", "Bearer " + ann + "x"}, 401, `"code":"unauthorized"`},
			{"no token but another scheme", good, []string{"Authorization", "Basic YQ==", "cookie", ann}, 401, `"code":"unauthorized"`},
			{"a service's token", good, []string{"Authorization", "Bearer " + token(t, map[string]any{"sub": "ann", "aud": auth.PublisherAudience, "exp": time.Now().Add(time.Hour).Unix()})}, 401, `"code":"unauthorized"`},
			{"an expired token", good, []string{"Authorization", "Bearer " + token(t, map[string]any{"sub": "ann", "exp": time.Now().Add(-time.Hour).Unix()})}, 401, `"code":"unauthorized"`},
			{"a page of another origin", good, []string{"Authorization", "Bearer " + ann, "Origin", "https://evil.example.com"}, 403, `"code":"forbidden"`},
			{"a page of no origin", good, []string{"cookie", ann, "Origin", "null"}, 403, `"code":"forbidden"`},
			{"a cookie across sites", good, []string{"cookie", ann, "Origin", app, "Sec-Fetch-Site", "cross-site", "Content-Type", jsonType}, 403, `Sec-Fetch-Site: expected same-origin`},
			{"a wrong cookie", good, []string{"cookie", "x", "Origin", app, "Content-Type", jsonType}, 401, `"code":"unauthorized"`},
		} {
			w := b.ask(what, c.body, c.headers...)
			if w.Code != c.status || !strings.HasPrefix(w.Body.String(), `{"type":"error",`) || !strings.Contains(w.Body.String(), c.says) {
				t.Errorf("%s with %s: got %d %s, want %d %s", what, c.name, w.Code, w.Body, c.status, c.says)
			}
			b.wantCommonHeaders(what+" with "+c.name, w)
		}
		b.wantOwn(e, good)
		switch {
		case e.Method != "GET":
			b.wantGoodBodies(e, ann, good)
			if strings.Contains(good, "ids") {
				b.wantMarkWithCookie(what, ann)
			}
		default:
			b.wantReadsWithCookie(what, ann)
		}
		if w := b.ask("PUT "+e.Path, good, "Authorization", "Bearer "+ann); w.Code != 405 || !strings.Contains(w.Header().Get("Allow"), e.Method) {
			t.Errorf("PUT %s: got %d %s, Allow %q", e.Path, w.Code, w.Body, w.Header().Get("Allow"))
		}
	}
	if l := b.list("ann", ""); l.Badge.Unread != 2 || l.Badge.Unseen != 2 || len(l.Items) != 2 || l.At["user:ann"] != before {
		t.Errorf("something was done: %+v, want it as at %s", l, before)
	}
	b.wantPushed("ann")
}

// goodBody is one that an endpoint takes.
func goodBody(e rest.Endpoint) string {
	switch {
	case e.Method == "GET":
		return ""
	case e.Method == "DELETE":
		return `{"endpoint":"https://push.example.com/1"}`
	case e.Path == "/v1/push":
		return `{"subscription":` + subscription("https://push.example.com/1") + `}`
	case e.Path == rest.Inbox+"/preferences":
		return `{"mute":["order"]}`
	}
	return `{"ids":["n1"]}`
}

// wantOwn checks that another tenant's ann meets an inbox of her own.
func (b *bed) wantOwn(e rest.Endpoint, body string) {
	b.t.Helper()
	w := b.ask(e.Method+" "+e.Path, body, "Authorization", "Bearer "+b.token("ann", "acme"))
	if says := w.Body.String(); w.Code != 200 || strings.Contains(says, `"id":"n1"`) || strings.Contains(body, "ids") && !strings.Contains(says, `"changed":0,"unknown":["n1"]`) || e.Path == "/v1/badge" && !strings.HasPrefix(says, `{"unread":0,`) {
		b.t.Errorf("%s %s of another tenant: got %d %s", e.Method, e.Path, w.Code, says)
	}
	w = b.ask(e.Method+" "+e.Path, body, "Authorization", "Bearer "+b.token("ann", "umbrella"))
	if w.Code != 401 {
		b.t.Errorf("%s %s of a tenant that the key may not speak for: got %d %s", e.Method, e.Path, w.Code, w.Body)
	}
}

// A bad is a request that a POST refuses.
type bad struct {
	name, body string
	headers    []string
	status     int
	says       string
}

// wantGoodBodies checks what a POST or DELETE takes.
func (b *bed) wantGoodBodies(e rest.Endpoint, token, good string) {
	b.t.Helper()
	what := e.Method + " " + e.Path
	huge, _ := json.Marshal(map[string]any{"ids": slices.Repeat([]string{strings.Repeat("x", 64)}, 160_000)}) // 10 MB
	bearer := []string{"Authorization", "Bearer " + token}
	page := []string{"cookie", token, "Origin", "https://app.example.com"}
	all := []bad{
		{"no JSON", "ids=n1", bearer, 400, `body: expected a JSON object such as {\"`},
		{"no UTF-8", "{\"ids\":[\"\xff\"]}", bearer, 400, `body: expected UTF-8`},
		{"a list", `["n1"]`, bearer, 400, `body: expected a JSON object`},
		{"10 MB", string(huge), bearer, 413, `"code":"too_large","message":"body: expected at most 16384 bytes"`},
		{"a cookie without an origin", good, []string{"cookie", token, "Content-Type", "application/json"}, 403, `Origin: expected`},
	}
	if e.Method == "POST" {
		all = append(all, bad{"no body", "", bearer, 400, `body: expected a JSON object such as {\"`},
			bad{"a form with a cookie", good, append(page, "Content-Type", "text/plain"), 403, `Content-Type: expected application/json`},
			bad{"a cookie and no type", good, page, 403, `Content-Type: expected application/json`})
	}
	more := badMarks
	switch {
	case e.Method == "DELETE":
		more = badForgets
	case e.Path == "/v1/push":
		more = badSubscriptions
	default:
		all = append(all, bad{"a ref that is none", `{"ref":{}}`, bearer, 400, `ref: expected a number or a string`},
			bad{"an origin that is none", good[:len(good)-1] + `,"origin":"x"}`, bearer, 400, `origin: expected 16 to 32`})
		if e.Path == rest.Inbox+"/preferences" {
			more = badChoices
		}
	}
	for body, want := range more() {
		status, says, _ := strings.Cut(want, " ")
		n, _ := strconv.Atoi(status)
		all = append(all, bad{body, body, bearer, n, says})
	}
	for _, c := range all {
		w := b.ask(what, c.body, c.headers...)
		if w.Code != c.status || !strings.HasPrefix(w.Body.String(), `{"type":"error",`) || !strings.Contains(w.Body.String(), c.says) {
			b.t.Errorf("%s with %.100s: got %d %.300s, want %d %s", what, c.name, w.Code, w.Body, c.status, c.says)
		}
	}
}

// wantMarkWithCookie checks that a page of ours may mark with its cookie.
func (b *bed) wantMarkWithCookie(what, token string) {
	b.t.Helper()
	w := b.ask(what, `{"ids":["n0"]}`, "cookie", token, "Origin", "https://app.example.com", "Content-Type", "application/json; charset=utf-8", "Sec-Fetch-Site", "same-site")
	if w.Code != 200 || !strings.Contains(w.Body.String(), `"unknown":["n0"]`) {
		b.t.Errorf("%s from a page with its cookie: got %d %s", what, w.Code, w.Body)
	}
}

// badMarks are bodies that no mark has, each with its status and what the answer says.
func badMarks() map[string]string {
	ids := make([]string, 501)
	for i := range ids {
		ids[i] = "i" + strconv.Itoa(i)
	}
	many, _ := json.Marshal(map[string]any{"ids": ids})
	return map[string]string{
		`{}`:                               `400 ids: expected exactly one of ids, upto and all`,
		`{"ids":["n1"],"all":true}`:        `400 ids: expected exactly one of ids, upto and all`,
		`{"ids":"n1"}`:                     `400 ids: expected a list of strings, as in {\"`,
		`{"ids":["n1",""]}`:                `400 ids[1]: expected 1 to 64`,
		string(many):                       `400 ids: expected at most 500, not 501`,
		`{"upto":"yesterday"}`:             `400 upto: expected`,
		`{"upto":"zzzzzz.3"}`:              `409 "code":"stale_position"`,
		`{"upto":{"user:ben":"zzzzzz.3"}}`: `400 upto: expected`,
	}
}

// badChoices are those that no choice of categories has.
func badChoices() map[string]string {
	many, _ := json.Marshal(map[string]any{"mute": slices.Repeat([]string{"c"}, 101)})
	return map[string]string{
		`{}`:                    `400 mute: expected a list of categories`,
		`{"mute":null}`:         `400 mute: expected a list of categories`,
		`{"mute":"order"}`:      `400 mute: expected a list of categories`,
		`{"mute":["order",""]}`: `400 mute[1]: expected 1 to 32`,
		`{"mute":["A B"]}`:      `400 mute[0]: expected 1 to 32`,
		string(many):            `400 mute: expected at most 100 categories, not 101`,
	}
}

// wantReadsWithCookie checks from where a GET takes a cookie.
func (b *bed) wantReadsWithCookie(what, token string) {
	b.t.Helper()
	for _, c := range []struct {
		site, origin string
		status       int
	}{
		{"", "", 200}, {"same-origin", "", 200}, {"same-site", "", 200}, {"same-site", "https://app.example.com", 200}, {"", "https://app.example.com", 200},
		{"cross-site", "", 403}, {"none", "", 403}, {"cross-site", "https://app.example.com", 403}, {"", "https://evil.example.com", 403},
	} {
		headers := []string{"cookie", token}
		for name, v := range map[string]string{"Sec-Fetch-Site": c.site, "Origin": c.origin} {
			if v != "" {
				headers = append(headers, name, v)
			}
		}
		if w := b.ask(what, "", headers...); w.Code != c.status {
			b.t.Errorf("%s with a cookie, from site %q and origin %q: got %d %s, want %d", what, c.site, c.origin, w.Code, w.Body, c.status)
		}
	}
	for _, in := range []string{"?token=", "?access_token="} {
		if w := b.ask(what+in+token, ""); w.Code != 400 || !strings.Contains(w.Body.String(), "none in a URL") {
			b.t.Errorf("%s with a token in its URL: got %d %s", what, w.Code, w.Body)
		}
	}
	if w := b.ask("HEAD "+strings.TrimPrefix(what, "GET "), "", "Authorization", "Bearer "+token); w.Code != 200 {
		b.t.Errorf("HEAD: got %d %s", w.Code, w.Body)
	}
}

func TestAListRefusesWhatItCanNotRead(t *testing.T) {
	b := newBed(t, session.Limits{}, 0, "redis")
	b.notify("ann", "n1", "n2")
	next := b.list("ann", "?limit=1").Before
	for query, says := range map[string]string{
		"?status=new": "status: expected one of active, unread, unseen, archived, all", "?category=A": "category: expected 1 to 32", "?before=x": "before: expected the `before` of the previous page",
		"?before=" + next + "&status=unread": "before: expected", "?limit=0": "limit: expected a whole number from 1 to 100", "?limit=101": "limit: expected 1 to 100", "?limit=ten": "limit: expected a whole number", "?limit=-1": "limit: expected",
		"?status=%zz": "query: expected", "?a;b": "query: expected",
	} {
		if w := b.as("ann", "GET /v1/inbox"+query, ""); w.Code != 400 || !strings.Contains(w.Body.String(), says) {
			t.Errorf("%s: got %d %s, want 400 %s", query, w.Code, w.Body, says)
		}
	}
}

// A page that is left while its mark is under way has marked all the same: it can not know whether it did.
func TestAMarkThatCameIsMadeThoughNobodyWaitsForItsAnswer(t *testing.T) {
	b := newBed(t, session.Limits{}, 0, "redis")
	b.notify("ann", "n1")
	ctx, leave := context.WithCancel(context.Background())
	leave()
	r := httptest.NewRequestWithContext(ctx, "POST", "/v1/inbox/read", strings.NewReader(`{"ids":["n1"]}`))
	r.Host = "localhost"
	r.Header.Set("Authorization", "Bearer "+b.token("ann", ""))
	b.ServeHTTP(httptest.NewRecorder(), r)
	b.wantBadge("ann", `{"unread":0,`)
}

// A client that closes its side of the connection behind its request still reads: it gets an answer, or none, but not one with nothing in it.
func TestWhoHasSaidAllItHasToSayReadsNoEmptyAnswer(t *testing.T) {
	b := newBed(t, session.Limits{}, time.Second, "redis")
	b.notify("ann", "n1")
	srv := httptest.NewServer(b)
	defer srv.Close()
	b.redis.Pause()
	defer b.redis.Resume()
	c, err := net.Dial("tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "GET /v1/inbox HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\n\r\n", b.token("ann", ""))
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(c); strings.HasPrefix(string(got), "HTTP/1.1 200") {
		t.Errorf("got %s, %v", got, err)
	}
}
