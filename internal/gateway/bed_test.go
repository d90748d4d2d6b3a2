package gateway

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"allim/internal/embedded"
	"allim/internal/keyspace"
	"allim/internal/session"
	"allim/internal/store"
	"allim/internal/testkit"
	"allim/pkg/auth"
	"allim/pkg/notify"
)

// A bed is a door in front of a real store.
type bed struct {
	*Gateway
	t        *testing.T
	redis    *testkit.RedisServer // nil: the embedded one
	writer   *store.Store         // a publisher's
	registry *prometheus.Registry
}

func newBed(t *testing.T, l session.Limits, wait time.Duration, backend string) *bed {
	t.Helper()
	b := &bed{t: t, registry: prometheus.NewRegistry()}
	var urls [2]string
	if backend == "embedded" {
		srv, err := embedded.Listen(embedded.Options{})
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- srv.Run(ctx) }()
		t.Cleanup(func() { stop(); <-ended })
		urls = [2]string{srv.URL(), srv.URL()}
	} else {
		b.redis = testkit.Redis(t)
		urls = [2]string{b.redis.As("gateway"), b.redis.As("publisher")}
	}
	keys, err := keyspace.NewMap(0)
	if err != nil {
		t.Fatal(err)
	}
	var stores [2]*store.Store
	for i, url := range urls {
		rdb, err := store.Connect(store.Connection{URL: url})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = rdb.Close() })
		if stores[i], err = store.New(store.Options{Redis: rdb, Keys: keys}); err != nil {
			t.Fatal(err)
		}
	}
	b.writer = stores[1]
	tokens, err := auth.NewKeys([]auth.Key{{Algorithm: "HS256", Secret: secret, Tenants: []string{"default", "acme"}}})
	if err != nil {
		t.Fatal(err)
	}
	v, err := auth.NewVerifier(auth.Options{Keys: tokens})
	if err != nil {
		t.Fatal(err)
	}
	m := session.NewMetrics(b.registry)
	b.Gateway = doorOf(t, Options{Sessions: session.New(session.Options{Store: stores[0], Verify: v.Verify, Metrics: m, Limits: l, RedisWait: wait, Push: pushed}), Metrics: m, Verify: v.Verify})
	return b
}

func (b *bed) notify(user string, ids ...string) {
	b.t.Helper()
	topic, err := notify.UserTopic(user)
	if err != nil {
		b.t.Fatal(err)
	}
	for _, id := range ids {
		id, category, _ := strings.Cut(id, ":")
		m := &notify.Message{Change: notify.ChangeNotification, ID: id, Category: category, Time: time.Now(), Data: []byte(`{"title":"` + id + `"}`)}
		for _, r := range b.writer.Write(testkit.Context(b.t, 10*time.Second), []notify.Stream{{Tenant: "default", Topic: topic}}, m, store.Committed) {
			if r.Err != nil {
				b.t.Fatal(r.Err)
			}
		}
	}
}

// A request as the tests spell it: a method and a path, a body, and headers in pairs. cookie is a header of its own here.
func (b *bed) ask(what, body string, headers ...string) *httptest.ResponseRecorder {
	b.t.Helper()
	method, path, _ := strings.Cut(what, " ")
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Host = "push.example.com"
	for pair := range slices.Chunk(headers, 2) {
		if pair[0] == "cookie" {
			r.AddCookie(&http.Cookie{Name: cookieName, Value: pair[1]})
		} else {
			r.Header.Set(pair[0], pair[1])
		}
	}
	w := httptest.NewRecorder()
	b.ServeHTTP(w, r)
	return w
}

// as asks with a user's token.
func (b *bed) as(user, what, body string) *httptest.ResponseRecorder {
	b.t.Helper()
	return b.ask(what, body, "Authorization", "Bearer "+b.token(user, ""))
}

func (b *bed) token(user, tenant string) string {
	b.t.Helper()
	allim := map[string]any{}
	if tenant != "" {
		allim["tenant"] = tenant
	}
	return token(b.t, map[string]any{"sub": user, "exp": time.Now().Add(time.Hour).Unix(), "allim": allim})
}

// A listed is the frame `inbox` as a page reads it.
type listed struct {
	Type, Before string
	Items        []struct {
		ID, Topic, Category  string
		Seen, Read, Archived bool
	}
	At    map[string]string
	Badge struct{ Unread, Unseen int }
}

func (l *listed) ids() (all []string) {
	for _, i := range l.Items {
		all = append(all, i.ID)
	}
	return all
}

func (b *bed) list(user, query string) *listed {
	b.t.Helper()
	w := b.as(user, "GET /v1/inbox"+query, "")
	l := &listed{}
	if err := json.Unmarshal(w.Body.Bytes(), l); err != nil || w.Code != 200 || l.Type != "inbox" {
		b.t.Fatalf("GET /v1/inbox%s: %d %s", query, w.Code, w.Body)
	}
	return l
}

func (b *bed) wantBadge(user, want string) {
	b.t.Helper()
	if w := b.as(user, "GET /v1/badge", ""); w.Code != 200 || !strings.HasPrefix(w.Body.String(), want) {
		b.t.Errorf("the badge of %s is %d %s, want %s…", user, w.Code, w.Body, want)
	}
}

func (b *bed) wantCommonHeaders(what string, w *httptest.ResponseRecorder) {
	b.t.Helper()
	for name, want := range map[string]string{"Content-Type": "application/json", "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"} {
		if got := w.Header().Get(name); got != want {
			b.t.Errorf("%s: %s is %q, want %q", what, name, got, want)
		}
	}
	if w.Code == 401 && w.Header().Get("WWW-Authenticate") != "Bearer" {
		b.t.Errorf("%s: 401 without WWW-Authenticate", what)
	}
}
