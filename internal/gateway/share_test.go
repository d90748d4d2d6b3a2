package gateway

import (
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"allim/internal/session"
	"allim/internal/testkit"
)

func TestPagesOfAnAllowedOriginMayReadAnswersAndNoOthers(t *testing.T) {
	b := newBed(t, session.Limits{}, 0, "redis")
	bearer := "Bearer " + b.token("ann", "")
	for _, c := range []struct {
		name, what string
		headers    []string
		status     int
		shared     string // the origin that may read it
	}{
		{"an answer", "GET /v1/badge", []string{"Authorization", bearer, "Origin", "https://app.example.com"}, 200, "https://app.example.com"},
		{"an answer to loopback", "GET /v1/inbox", []string{"Authorization", bearer, "Origin", "http://localhost:5173"}, 200, "http://localhost:5173"},
		{"a refusal", "GET /v1/badge", []string{"Origin", "https://app.example.com"}, 401, "https://app.example.com"},
		{"nothing there", "GET /v1/nothing", []string{"Origin", "https://app.example.com"}, 404, "https://app.example.com"},
		{"no page", "GET /v1/badge", []string{"Authorization", bearer}, 200, ""},
		{"another's page", "GET /v1/badge", []string{"Authorization", bearer, "Origin", "https://evil.example.com"}, 403, ""},
		{"no path of ours", "GET /elsewhere", []string{"Origin", "https://app.example.com"}, 404, ""},
	} {
		w := b.ask(c.what, "", c.headers...)
		h := w.Header()
		if got := h.Get("Access-Control-Allow-Origin"); w.Code != c.status || got != c.shared || (got != "") != (h.Get("Access-Control-Allow-Credentials") == "true") || (got != "") != (h.Get("Access-Control-Expose-Headers") == "ETag, Retry-After") {
			t.Errorf("%s: got %d %v", c.name, w.Code, h)
		}
		if c.status != 403 && strings.Contains(c.what, "/v1/") && h.Get("Vary") != "Origin" {
			t.Errorf("%s: Vary is %q", c.name, h.Get("Vary"))
		}
	}
}

// A browser asks without any credential whether it may.
func TestABrowserMayAskFirst(t *testing.T) {
	b := newBed(t, session.Limits{}, 0, "redis")
	for path, methods := range map[string]string{"/v1/inbox": "GET, HEAD", "/v1/badge": "GET, HEAD", "/v1/inbox/read": "POST", "/v1/inbox/delete": "POST",
		"/v1/inbox/preferences": "GET, POST, HEAD", "/v1/push": "DELETE, GET, POST, HEAD", "/v1/inbox/tickle": "POST", "/v1/nothing": "GET, POST"} { // where nothing is the page reads that, if it may ask
		w := b.ask("OPTIONS "+path, "", "Origin", "https://app.example.com", "Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "authorization,content-type")
		h := w.Header()
		if w.Code != 204 || w.Body.Len() != 0 || h.Get("Access-Control-Allow-Origin") != "https://app.example.com" || h.Get("Access-Control-Allow-Credentials") != "true" ||
			h.Get("Access-Control-Allow-Headers") != "Authorization, Content-Type, Last-Event-ID, If-None-Match" || h.Get("Access-Control-Allow-Methods") != methods || h.Get("Content-Type") != "" {
			t.Errorf("%s: got %d %s %v", path, w.Code, w.Body, h)
		}
		if w := b.ask("OPTIONS "+path, "", "Origin", "https://evil.example.com", "Access-Control-Request-Method", "POST"); w.Code != 403 || w.Header().Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s for another's page: got %d %v", path, w.Code, w.Header())
		}
	}
	for _, what := range []string{"OPTIONS /v1/nothing", "OPTIONS /v1/inbox/tickle", "POST /v1/inbox/tickle", "GET /v1/inbox/", "POST /v1/inbox/read/n1"} {
		if w := b.as("ann", what, ""); w.Code != 404 || !strings.Contains(w.Body.String(), `"code":"bad_frame"`) {
			t.Errorf("%s: got %d %s", what, w.Code, w.Body)
		}
	}
	if w := b.as("ann", "POST /v1/inbox/tickle", `{}`); !strings.Contains(w.Body.String(), "one of archive, delete, read, seen, unarchive, unread") {
		t.Errorf("an unknown mark: got %s", w.Body)
	}
}

// One user's haste is that user's alone, and passes.
func TestWhoAsksTooOftenIsToldToComeBack(t *testing.T) {
	b := newBed(t, session.Limits{Requests: 5}, 0, "redis")
	first := func(user, what, body string, most int) (n int, w *httptest.ResponseRecorder) {
		for n = range most {
			if w = b.as(user, what, body); w.Code != 200 {
				return n, w
			}
		}
		return most, w
	}
	if n, w := first("ann", "GET /v1/inbox", "", 10); n != 2 || w.Code != 429 || !strings.Contains(w.Body.String(), `"code":"limit"`) || w.Header().Get("Retry-After") != "1" {
		t.Errorf("a list is worth ten of twenty: got %d, then %d %s %q", n, w.Code, w.Body, w.Header().Get("Retry-After"))
	}
	if n := hits(t, b.registry, "requests"); n != 1 {
		t.Errorf("counted %v times", n)
	}
	if n, w := first("ben", "GET /v1/badge", "", 20); n != 20 {
		t.Errorf("ben is not ann: got %d, then %d %s", n, w.Code, w.Body)
	}
	if w := b.ask("GET /v1/badge", "", "Authorization", "Bearer "+b.token("ann", "acme")); w.Code != 200 {
		t.Errorf("nor is ann of another tenant: got %d %s", w.Code, w.Body)
	}
	if n, w := first("cho", "POST /v1/inbox/read", `{"all":true}`, 10); n != 2 || w.Code != 429 {
		t.Errorf("a mark of all is worth ten: got %d, then %d %s", n, w.Code, w.Body)
	}
	if n, w := first("dan", "POST /v1/inbox/read", `{"ids":["n1"]}`, 20); n != 20 {
		t.Errorf("a mark of ids is worth one: got %d, then %d %s", n, w.Code, w.Body)
	}
	if n, w := first("eve", "POST /v1/inbox/read", `{`, 21); n != 0 || w.Code != 400 {
		t.Fatalf("a bad body: got %d %s", w.Code, w.Body)
	}
	for range 19 {
		b.as("eve", "POST /v1/inbox/read", `{`)
	}
	if w := b.as("eve", "POST /v1/inbox/read", `{`); w.Code != 429 {
		t.Errorf("bad ones count as well: got %d %s", w.Code, w.Body)
	}
	testkit.Eventually(t, 10*time.Second, func() bool { return b.as("ann", "GET /v1/inbox", "").Code == 200 }, "another list, as time passes")
}

func TestARedisThatIsNotThereIsAFaultOfOurs(t *testing.T) {
	b := newBed(t, session.Limits{}, 200*time.Millisecond, "redis")
	b.notify("ann", "n1")
	b.wantBadge("ann", `{"unread":1,`)
	b.redis.Stop()
	for what, body := range map[string]string{"GET /v1/inbox": "", "GET /v1/badge": "", "POST /v1/inbox/read": `{"ids":["n1"]}`, "POST /v1/push": `{"subscription":` + subscription("https://push.example.com/1") + `}`, "DELETE /v1/push": ""} {
		w := b.as("ann", what, body)
		wait, err := strconv.Atoi(w.Header().Get("Retry-After"))
		if w.Code != 503 || !strings.Contains(w.Body.String(), `"code":"unavailable"`) || !strings.Contains(w.Body.String(), `"retry_after":`) || err != nil || wait < 1 || wait > 11 {
			t.Errorf("%s: got %d %s, Retry-After %q", what, w.Code, w.Body, w.Header().Get("Retry-After"))
		}
	}
}
