package webpush

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"allim/internal/testkit"
)

const within = 10 * time.Second

var (
	now  = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	push = Push{ID: "n1", Topic: "user:ann", Category: "mention", Data: []byte(`{"title":"Tea","body":"is here","url":"/tea","icon":"/tea.png","more":[1]}`)}
)

func sender(t *testing.T, o Options) *Sender {
	t.Helper()
	if o.Keys.private == nil {
		o.Keys = keys(t)
	}
	if o.Now == nil {
		o.Now = func() time.Time { return now }
	}
	s := New(o)
	t.Cleanup(s.Close)
	return s
}

func subscription(t *testing.T, d *testkit.Device) Subscription {
	t.Helper()
	s, err := NewSubscription(d.Endpoint, d.P256dh, d.Auth)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestABrowserGetsWhatIsPushed(t *testing.T) {
	service := testkit.NewPushService(t)
	ann, bob := service.Device(t), service.Device(t)
	s := sender(t, Options{Hosts: hosts(t, service.Host), Roots: service.Roots})
	later := push
	later.Collapse, later.ExpiresAt = "tea", now.Add(time.Hour)
	ctx := testkit.Context(t, within)
	for _, one := range []struct {
		to   *testkit.Device
		push Push
	}{{ann, push}, {bob, later}} {
		if got := s.Send(ctx, subscription(t, one.to), one.push); got != (Answer{Status: 201}) {
			t.Fatalf("got %+v", got)
		}
	}
	pushes := service.Pushes()
	if len(pushes) != 2 || pushes[0].To != ann || pushes[1].To != bob {
		t.Fatalf("it got %+v", pushes)
	}
	const want = `{"id":"n1","topic":"user:ann","category":"mention","title":"Tea","body":"is here","url":"/tea","icon":"/tea.png"}`
	for i, life := range []string{"86400", "3600"} {
		h := pushes[i].Header
		if pushes[i].Text != want {
			t.Errorf("%d: text %s", i, pushes[i].Text)
		}
		if topic := h.Get("Topic"); h.Get("TTL") != life || h.Get("Urgency") != "normal" || len(topic) != 32 || strings.ContainsAny(topic, "+/=") {
			t.Errorf("%d: header %v", i, h)
		}
		wantVapid(t, h.Get("Authorization"), s.keys, "https://"+service.Host, now)
	}
	if pushes[0].Header.Get("Topic") == pushes[1].Header.Get("Topic") {
		t.Error("the second replaces the first")
	}
}

func TestAPushServiceThatAnswersDecides(t *testing.T) {
	for _, c := range []struct {
		status int
		want   Result
	}{{200, Sent}, {201, Sent}, {202, Sent}, {404, Gone}, {410, Gone}, {429, Again}, {408, Again}, {500, Again}, {503, Again}, {400, Refused}, {401, Refused}, {403, Refused}, {413, Refused}} {
		service := testkit.NewPushService(t)
		service.Answer(func(*testkit.Device) int { return c.status })
		s := sender(t, Options{Hosts: hosts(t, service.Host), Roots: service.Roots})
		if got := s.Send(testkit.Context(t, within), subscription(t, service.Device(t)), push); got != (Answer{Result: c.want, Status: c.status}) {
			t.Errorf("%d: got %+v", c.status, got)
		}
		if n := len(service.Pushes()); n != 1 {
			t.Errorf("%d: it came %d times", c.status, n)
		}
	}
}

// serve is a push service that behaves badly.
func serve(t *testing.T, answer http.HandlerFunc, change ...func(*httptest.Server)) (url, host string, roots *x509.CertPool, got *atomic.Int32) {
	t.Helper()
	got = &atomic.Int32{}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got.Add(1)
		_, _ = io.Copy(io.Discard, r.Body)
		answer(w, r)
	}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	for _, f := range change {
		f(server)
	}
	server.StartTLS()
	t.Cleanup(server.Close)
	roots = x509.NewCertPool()
	roots.AddCert(server.Certificate())
	return server.URL, strings.TrimPrefix(server.URL, "https://"), roots, got
}

func at(t *testing.T, endpoint string) Subscription {
	t.Helper()
	b := browser(t)
	s, err := NewSubscription(endpoint, b.private.PublicKey().Bytes(), b.auth)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestAPushServiceAsksForAPause(t *testing.T) {
	for text, want := range map[string]time.Duration{"": 0, "7": 7 * time.Second, "86400": time.Hour, "99999999999999999999": 0, "-1": 0, "soon": 0,
		"Mon, 23 Nov 2026 12:00:30 GMT": 30 * time.Second, "Tue, 24 Nov 2026 12:00:30 GMT": time.Hour, "Sun, 22 Nov 2026 12:00:30 GMT": 0} {
		url, host, roots, _ := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", text)
			w.WriteHeader(429)
		})
		if got := sender(t, Options{Hosts: hosts(t, host), Roots: roots}).Send(testkit.Context(t, within), at(t, url+"/x"), push); got != (Answer{Result: Again, Status: 429, After: want}) {
			t.Errorf("%q: got %+v", text, got)
		}
	}
}

func TestAPushServiceThatDoesNotAnswerIsTriedAgain(t *testing.T) {
	for name, answer := range map[string]http.HandlerFunc{
		"it hangs up":                  func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"it says nothing for too long": func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done(); panic(http.ErrAbortHandler) }, // to return is to answer 200
		"its header does not end":      func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X", strings.Repeat("x", 64<<10)) },
	} {
		t.Run(name, func(t *testing.T) {
			url, host, roots, came := serve(t, answer)
			ctx := testkit.Context(t, within)
			got := sender(t, Options{Hosts: hosts(t, host), Roots: roots, Timeout: time.Second}).Send(ctx, at(t, url+"/hunter2"), push)
			if ctx.Err() != nil || got.Result != Again || got.Status != 0 || got.Err == nil || came.Load() == 0 || strings.Contains(got.Err.Error(), "hunter2") {
				t.Errorf("got %+v after %d", got, came.Load())
			}
		})
	}
	t.Run("an old TLS", func(t *testing.T) {
		url, host, roots, came := serve(t, func(http.ResponseWriter, *http.Request) {}, func(s *httptest.Server) {
			s.TLS = &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}
		})
		if got := sender(t, Options{Hosts: hosts(t, host), Roots: roots}).Send(testkit.Context(t, within), at(t, url), push); got.Result != Again || got.Err == nil || came.Load() != 0 {
			t.Errorf("got %+v", got)
		}
	})
	t.Run("an unknown authority", func(t *testing.T) {
		url, host, _, came := serve(t, func(http.ResponseWriter, *http.Request) {})
		if got := sender(t, Options{Hosts: hosts(t, host), Roots: x509.NewCertPool()}).Send(testkit.Context(t, within), at(t, url), push); got.Result != Again || got.Err == nil || came.Load() != 0 {
			t.Errorf("got %+v", got)
		}
	})
}

func TestNoMoreOfAnAnswerIsReadThanItsBound(t *testing.T) {
	ended, written := make(chan struct{}), 0
	url, host, roots, _ := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		defer close(ended)
		w.WriteHeader(201)
		for chunk := bytes.Repeat([]byte("x"), 1<<16); ; {
			n, err := w.Write(chunk)
			if written += n; err != nil {
				return
			}
		}
	})
	if got := sender(t, Options{Hosts: hosts(t, host), Roots: roots}).Send(testkit.Context(t, within), at(t, url), push); got != (Answer{Status: 201}) {
		t.Errorf("got %+v", got)
	}
	testkit.Closed(t, within, ended, "the push service finds out that nobody reads")
	if written > 64<<20 { // what sockets hold is less
		t.Errorf("it could write %d bytes", written)
	}
}

// A push service, or who answers in its name, leads us nowhere.
func TestNothingIsPushedIntoOurOwnNetwork(t *testing.T) {
	url, host, roots, came := serve(t, func(http.ResponseWriter, *http.Request) {})
	ctx := testkit.Context(t, within)

	t.Run("a redirect", func(t *testing.T) {
		first, firstHost, firstRoots, asked := serve(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, url, http.StatusTemporaryRedirect) })
		s := sender(t, Options{Hosts: hosts(t, firstHost, host), Roots: firstRoots})
		if got := s.Send(ctx, at(t, first), push); got.Result != Refused || got.Status != 307 || asked.Load() != 1 || came.Load() != 0 {
			t.Errorf("got %+v", got)
		}
	})
	t.Run("an endpoint that is not listed", func(t *testing.T) {
		if got := sender(t, Options{Hosts: hosts(t, "127.0.0.1:1"), Roots: roots}).Send(ctx, at(t, url), push); got.Result != Refused || got.Err == nil || came.Load() != 0 {
			t.Errorf("got %+v", got)
		}
	})
	t.Run("a listed name that leads to a private address", func(t *testing.T) {
		h := hosts(t, "push.example.com")
		h.exact[host] = true // as if it had been resolved to this
		if got := sender(t, Options{Hosts: h, Roots: roots}).Send(ctx, at(t, url), push); got.Result != Refused || !errors.Is(got.Err, errPrivate) || came.Load() != 0 {
			t.Errorf("got %+v", got)
		}
	})
	t.Run("an address that is listed as such", func(t *testing.T) {
		if got := sender(t, Options{Hosts: hosts(t, host), Roots: roots}).Send(ctx, at(t, url), push); got.Result != Sent || came.Load() != 1 {
			t.Errorf("got %+v", got)
		}
	})
}

func TestWhoeverGivesUpInTheMiddleLearnsNothing(t *testing.T) {
	ctx, cancel := context.WithCancel(testkit.Context(t, within))
	url, host, roots, _ := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	})
	if got := sender(t, Options{Hosts: hosts(t, host), Roots: roots}).Send(ctx, at(t, url), push); got.Result != Again || !errors.Is(got.Err, context.Canceled) {
		t.Errorf("got %+v", got)
	}
}

func TestAPushLivesAsLongAsItsNotification(t *testing.T) {
	s := sender(t, Options{})
	for expires, want := range map[time.Time]time.Duration{{}: 24 * time.Hour, now.Add(time.Minute): time.Minute, now.Add(-time.Minute): 0, now.Add(1000 * time.Hour): 28 * 24 * time.Hour} {
		if got := s.life(Push{ExpiresAt: expires}); got != want {
			t.Errorf("%v: got %v, want %v", expires, got, want)
		}
	}
}
