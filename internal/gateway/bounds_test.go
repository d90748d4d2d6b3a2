package gateway

import (
	"net/http"
	"net/http/httptest"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"allim/internal/session"
	"allim/internal/testkit"
	"allim/pkg/auth"
	"allim/pkg/notify"
)

// hits is how often a limit was met.
func hits(t *testing.T, r *prometheus.Registry, limit string) float64 {
	t.Helper()
	return testkit.Metric(t, r, "allim_limit_hits_total", limit)
}

type idle struct{}

func (idle) Wake()  {}
func (idle) Ping()  {}
func (idle) Abort() {}

// upgrade is a request with a mistake that is found last: who gets its answer passed the limits.
func upgrade(bearer string) *http.Request {
	r := httptest.NewRequest("GET", "/v1/ws?inbox=x", nil)
	r.Host = "localhost"
	r.Header.Set("Connection", "Upgrade")
	r.Header.Set("Upgrade", "websocket")
	if bearer != "" {
		r.Header.Set("Authorization", "Bearer "+bearer)
	}
	return r
}

func TestLimitsOfTheDoorAreThoseOfTheOptions(t *testing.T) {
	ann := good(t)
	hears := token(t, map[string]any{"sub": "ann", "exp": time.Now().Add(time.Hour).Unix(), "allim": map[string]any{"hear": []string{"a", "b"}}})
	plain := upgrade("")
	const passed = `"message":"inbox: expected 0 to 100"`
	for _, c := range []struct {
		name, limit string
		limits      session.Limits
		open        int // sessions that are there
		r           *http.Request
		status      int
		says        string
	}{
		{"bytes of the head", "", session.Limits{Header: headSize(plain)}, 0, plain, 400, passed},
		{"one byte of the head more", "header_bytes", session.Limits{Header: headSize(plain) - 1}, 0, plain, 413, "expected at most " + strconv.Itoa(headSize(plain)-1) + " bytes"},
		{"bytes of a token", "", session.Limits{Token: len(ann)}, 0, upgrade(ann), 400, passed},
		{"one byte of a token more", "token_bytes", session.Limits{Token: len(ann) - 1}, 0, upgrade(ann), 401, `"code":"unauthorized"`},
		{"topics of a token", "", session.Limits{Topics: 4}, 0, upgrade(hears), 400, passed},
		{"one topic of a token more", "token_topics", session.Limits{Topics: 3}, 0, upgrade(hears), 401, `"code":"unauthorized"`},
		{"sessions", "", session.Limits{Sessions: 2}, 1, plain, 400, passed},
		{"one session more", "sessions", session.Limits{Sessions: 2}, 2, plain, 503, `"code":"unavailable"`},
	} {
		registry := prometheus.NewRegistry()
		g := doorWith(t, c.limits, session.NewMetrics(registry))
		for range c.open {
			defer g.opt.Sessions.Open(idle{}, session.Hello{}, nil).Gone()
		}
		w := httptest.NewRecorder()
		g.ServeHTTP(w, c.r)
		if w.Code != c.status || !strings.Contains(w.Body.String(), c.says) {
			t.Errorf("%s: got %d %s", c.name, w.Code, w.Body)
		}
		for _, l := range session.LimitNames {
			if n := hits(t, registry, l); l == c.limit && n != 1 || l != c.limit && n != 0 {
				t.Errorf("%s: %s counted %v times", c.name, l, n)
			}
		}
	}
}

// A storm of new connections is turned away before a token is looked at, and the next second's come in.
func TestMoreNewConnectionsThanTheLimitAreToldToComeBack(t *testing.T) {
	registry := prometheus.NewRegistry()
	m := session.NewMetrics(registry)
	verified := 0
	g := doorOf(t, Options{Sessions: session.New(session.Options{Metrics: m}), Metrics: m, Upgrades: 20,
		Verify: func(string) (*auth.Identity, error) { verified++; return nil, notify.ErrUnauthorized }})
	try := func() *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		g.ServeHTTP(w, upgrade("x"))
		return w
	}
	for i := range 20 {
		if w := try(); w.Code != 401 {
			t.Fatalf("connection %d of 20: %d %s", i+1, w.Code, w.Body)
		}
	}
	w := try()
	wait, err := strconv.Atoi(w.Header().Get("Retry-After"))
	if w.Code != 503 || !strings.Contains(w.Body.String(), `"code":"unavailable"`) || err != nil || wait < 1 || wait > 11 {
		t.Errorf("one more: %d %s, Retry-After %q", w.Code, w.Body, w.Header().Get("Retry-After"))
	}
	if verified != 20 {
		t.Errorf("%d tokens were looked at, want 20", verified)
	}
	if n := hits(t, registry, "upgrades"); n != 1 {
		t.Errorf("counted %v times", n)
	}
	testkit.Eventually(t, 5*time.Second, func() bool { return try().Code == 401 }, "another one, as time passes")
}

func TestHowManyNewConnectionsADoorTakesUnlessItIsToldOtherwise(t *testing.T) {
	g := doorOf(t, Options{Sessions: session.New(session.Options{}), Metrics: session.NewMetrics(nil)})
	if got, want := g.upgrades.Burst(), 500*runtime.GOMAXPROCS(0); got != want || int(g.upgrades.Limit()) != want {
		t.Errorf("got %d at once and %v a second, want %d", got, g.upgrades.Limit(), want)
	}
}
