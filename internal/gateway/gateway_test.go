package gateway

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"allim/internal/session"
	"allim/internal/testkit"
	"allim/internal/transport/ws"
	"allim/pkg/auth"
)

func TestMain(m *testing.M) { testkit.Main(m) }

var secret = []byte("a secret of the door's tests, long enough")

func token(t *testing.T, claims map[string]any) string {
	t.Helper()
	text, err := auth.Sign(auth.SigningKey{Algorithm: "HS256", Secret: secret}, claims)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func good(t *testing.T) string {
	return token(t, map[string]any{"sub": "ann", "exp": time.Now().Add(time.Hour).Unix()})
}

func door(t *testing.T) *Gateway { return doorWith(t, session.Limits{}, session.NewMetrics(nil)) }

func doorWith(t *testing.T, l session.Limits, m *session.Metrics) *Gateway {
	t.Helper()
	keys, err := auth.NewKeys([]auth.Key{{Algorithm: "HS256", Secret: secret}})
	if err != nil {
		t.Fatal(err)
	}
	v, err := auth.NewVerifier(auth.Options{Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	return doorOf(t, Options{Sessions: session.New(session.Options{Metrics: m, Limits: l}), Metrics: m, Verify: v.Verify})
}

func doorOf(t *testing.T, o Options) *Gateway {
	t.Helper()
	o.Hosts, o.Origins, o.Log = []string{"push.example.com"}, []string{"https://app.example.com"}, slog.New(slog.DiscardHandler)
	o.Sockets = ws.New(ws.Options{Limits: o.Sessions.Limits(), Metrics: o.Metrics})
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- o.Sockets.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := testkit.Receive(t, 5*time.Second, ended, "the end of the connections"); err != nil {
			t.Error(err)
		}
	})
	g, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func TestHostAndOriginAreAllowLists(t *testing.T) {
	g := door(t)
	for _, c := range []struct {
		host, origin string
		status       int
	}{
		{"localhost:8080", "", 404}, {"127.0.0.1", "", 404}, {"[::1]:8080", "", 404}, {"push.example.com", "", 404}, {"PUSH.example.com:443", "", 404},
		{"attacker.test", "", 403}, {"push.example.com.attacker.test", "", 403}, {"127.0.0.1.attacker.test", "", 403}, {"", "", 403}, {"192.168.1.7", "", 403},
		{"push.example.com", "https://app.example.com", 404}, {"push.example.com", "http://localhost:5173", 404}, {"push.example.com", "http://[::1]:1", 404},
		{"attacker.test", "http://attacker.test", 403}, {"push.example.com", "http://app.example.com", 403}, {"push.example.com", "https://app.example.com.attacker.test", 403},
		{"push.example.com", "https://x.app.example.com", 403}, {"push.example.com", "null", 403}, {"push.example.com", "file://", 403}, {"push.example.com", "ftp://localhost", 403},
		{"push.example.com", "https://push.example.com", 403},
	} {
		r := httptest.NewRequest("GET", "/v1/nothing", nil)
		r.Host = c.host
		if c.origin != "" {
			r.Header.Set("Origin", c.origin)
		}
		w := httptest.NewRecorder()
		g.ServeHTTP(w, r)
		if w.Code != c.status {
			t.Errorf("host %q, origin %q: got %d %s, want %d", c.host, c.origin, w.Code, w.Body, c.status)
		}
	}
}

func TestTheFirstCredentialDecidesAlone(t *testing.T) {
	g := door(t)
	ann := good(t)
	old := token(t, map[string]any{"sub": "ann", "exp": time.Now().Add(-time.Hour).Unix()})
	service := token(t, map[string]any{"sub": "shop", "aud": auth.PublisherAudience, "exp": time.Now().Add(time.Hour).Unix()})
	for name, c := range map[string]struct {
		bearer, protocol, cookie, origin string
		site, query                      string
		want                             string // the user, "-" for nobody, or the error
	}{
		"nothing":                              {want: "-"},
		"header":                               {bearer: "Bearer " + ann, want: "ann"},
		"header in lower case":                 {bearer: "bearer " + ann, want: "ann"},
		"subprotocol":                          {protocol: "allim.v1, bearer." + ann, want: "ann"},
		"cookie":                               {cookie: ann, origin: "https://app.example.com", want: "ann"},
		"cookie without an origin":             {cookie: ann, want: "Origin: expected that of a page which is let in, where a cookie is shown"},
		"empty cookie":                         {cookie: "", origin: "https://app.example.com", want: "-"},
		"a wrong cookie":                       {cookie: "x", origin: "https://app.example.com", want: "unauthorized"},
		"a wrong header beats a good cookie":   {bearer: "Bearer x", cookie: ann, origin: "https://app.example.com", want: "unauthorized"},
		"another scheme is a wrong header":     {bearer: "Basic YQ==", protocol: "allim.v1, bearer." + ann, want: "unauthorized"},
		"an empty bearer":                      {bearer: "Bearer ", want: "unauthorized"},
		"a wrong subprotocol beats the cookie": {protocol: "allim.v1, bearer.x", cookie: ann, origin: "https://app.example.com", want: "unauthorized"},
		"an empty subprotocol token":           {protocol: "allim.v1, bearer.", want: "unauthorized"},
		"a good header beats a wrong cookie":   {bearer: "Bearer " + ann, cookie: "x", want: "ann"},
		"expired":                              {bearer: "Bearer " + old, want: "unauthorized"},
		"a service token":                      {bearer: "Bearer " + service, want: "unauthorized"},
		"a cookie from another site":           {cookie: ann, origin: "https://app.example.com", site: "cross-site", want: "Sec-Fetch-Site: expected same-origin or same-site where a cookie is shown"},
		"a cookie from the same site":          {cookie: ann, origin: "https://app.example.com", site: "same-site", want: "ann"},
		"a ticket that nobody gave":            {query: "?ticket=x", want: "unauthorized"},
		"a wrong ticket beats a good cookie":   {query: "?ticket=", cookie: ann, origin: "https://app.example.com", want: "unauthorized"},
		"too long":                             {bearer: "Bearer " + strings.Repeat("a", 5000), want: "unauthorized"},
	} {
		r := httptest.NewRequest("GET", "/v1/ws"+c.query, nil)
		r.Header.Set("Connection", "Upgrade")
		r.Header.Set("Upgrade", "websocket")
		for k, v := range map[string]string{"Sec-Fetch-Site": c.site, "Authorization": c.bearer, "Sec-WebSocket-Protocol": c.protocol, "Origin": c.origin} {
			if v != "" {
				r.Header.Set(k, v)
			}
		}
		if c.cookie != "" {
			r.AddCookie(&http.Cookie{Name: cookieName, Value: c.cookie})
		}
		id, err := g.admit.identity(r)
		got := "-"
		switch {
		case err != nil:
			got = err.Error()
		case id != nil:
			got = id.User
		}
		if got != c.want {
			t.Errorf("%s: got %s, want %s", name, got, c.want)
		}
	}
}

func TestRefusalsAreErrorFrames(t *testing.T) {
	g := door(t)
	upgrade := func(r *http.Request) *http.Request {
		r.Header.Set("Connection", "Upgrade")
		r.Header.Set("Upgrade", "websocket")
		return r
	}
	big := upgrade(httptest.NewRequest("GET", "/v1/ws", nil))
	big.Header.Set("X-Big", strings.Repeat("x", 8<<10))
	wrong := upgrade(httptest.NewRequest("GET", "/v1/ws", nil))
	wrong.Header.Set("Authorization", "Bearer x")
	for name, c := range map[string]struct {
		r      *http.Request
		status int
		body   string
	}{
		"not an upgrade": {httptest.NewRequest("GET", "/v1/ws", nil), 426, `{"type":"error","code":"bad_frame","message":"this endpoint speaks WebSocket: new WebSocket(url)"}`},
		"nothing there":  {httptest.NewRequest("GET", "/", nil), 404, `{"type":"error","code":"bad_frame","message":"no such endpoint: the WebSocket is at /v1/ws, the inbox at /v1/inbox, the browser client at /allim.js"}`},
		"wrong token":    {wrong, 401, `{"type":"error","code":"unauthorized","message":"a valid token is needed"}`},
		"big head":       {big, 413, `{"type":"error","code":"too_large","message":"expected at most 8192 bytes of request line and headers"}`},
		"inbox":          {upgrade(httptest.NewRequest("GET", "/v1/ws?inbox=101", nil)), 400, `{"type":"error","code":"bad_frame","message":"inbox: expected 0 to 100"}`},
		"token":          {upgrade(httptest.NewRequest("GET", "/?token=a.b.c", nil)), 400, `{"type":"error","code":"bad_frame","message":"token: expected none in a URL: send it as subprotocols [\"allim.v1\", \"bearer.<jwt>\"], as a header or in the first frame"}`},
		"origin":         {upgrade(httptest.NewRequest("GET", "/?origin=short", nil)), 400, `{"type":"error","code":"bad_frame","message":"origin: expected 16 to 32 of A-Z a-z 0-9 _ -"}`},
	} {
		c.r.Host = "localhost"
		w := httptest.NewRecorder()
		g.ServeHTTP(w, c.r)
		h := w.Header()
		if w.Code != c.status || w.Body.String() != c.body || h.Get("Cache-Control") != "no-store" || h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Referrer-Policy") != "no-referrer" {
			t.Errorf("%s: got %d %s %v", name, w.Code, w.Body, h)
		}
	}
}

func TestTheBrowserClientIsServed(t *testing.T) {
	r := httptest.NewRequest("GET", "/allim.js", nil)
	r.Host = "localhost"
	w := httptest.NewRecorder()
	door(t).ServeHTTP(w, r)
	if w.Code != 200 || !strings.Contains(w.Header().Get("Content-Type"), "javascript") || w.Body.Len() < 1000 {
		t.Fatalf("%d %v, %d bytes", w.Code, w.Header(), w.Body.Len())
	}
}

func TestWrongHostsAndOriginsAreNamed(t *testing.T) {
	for _, o := range []Options{{Hosts: []string{"*"}}, {Hosts: []string{"https://x"}}, {Hosts: []string{"x:80"}}, {Hosts: []string{""}}, {Origins: []string{"*"}}, {Origins: []string{"app.example.com"}},
		{Origins: []string{"https://*.example.com"}}, {Origins: []string{"https://app.example.com/"}}, {Origins: []string{"ftp://x"}}} {
		if _, err := New(o); err == nil || !strings.Contains(err.Error(), "[0]: expected") {
			t.Errorf("%v %v: %v", o.Hosts, o.Origins, err)
		}
	}
}
