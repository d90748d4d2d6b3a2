package webhook

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
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

var event = Event{Type: Unseen, At: time.UnixMilli(1_795_000_010_000), Tenant: "default", User: "ann", ID: "n1", Category: "mention",
	Time: time.UnixMilli(1_795_000_000_123), Topic: "user:ann", Pos: "abc.7", Data: []byte(`{"title":"a < b & c","html":"<b>"}`)}

// What is sent, byte for byte: receivers rely on it.
const eventText = `{"type":"notification.unseen","timestamp":"2026-11-18T11:06:50.000Z","data":{"user":"ann","id":"n1","category":"mention",` +
	`"time":"2026-11-18T11:06:40.123Z","topic":"user:ann","pos":"abc.7","data":{"title":"a < b & c","html":"<b>"}}}`

// A receiver is a backend's server that checks what it gets as Standard Webhooks tells receivers to, and answers as it is told.
type receiver struct {
	*httptest.Server
	got    atomic.Int32
	ids    chan string
	answer http.HandlerFunc
}

func receive(t *testing.T, answer http.HandlerFunc) *receiver {
	t.Helper()
	r := &receiver{answer: answer, ids: make(chan string, 16)}
	r.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		r.got.Add(1)
		if why := verify(q); why != "" {
			t.Errorf("receiver: %s", why)
		}
		select {
		case r.ids <- q.Header.Get("webhook-id"):
		default:
		}
		r.answer(w, q)
	}))
	r.Config.ErrorLog = log.New(io.Discard, "", 0)
	r.StartTLS()
	t.Cleanup(r.Close)
	return r
}

func verify(q *http.Request) (why string) {
	body, err := io.ReadAll(q.Body)
	if err != nil || string(body) != eventText {
		return "body " + string(body)
	}
	secret, _ := base64.StdEncoding.DecodeString(theirSecret[6:])
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(q.Header.Get("webhook-id") + "." + q.Header.Get("webhook-timestamp") + "." + string(body)))
	for _, one := range strings.Fields(q.Header.Get("webhook-signature")) {
		sent, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(one, "v1,"))
		if err == nil && hmac.Equal(sent, mac.Sum(nil)) && q.Method == http.MethodPost && q.Header.Get("content-type") == "application/json" {
			return ""
		}
	}
	return "no signature of the secret"
}

func (r *receiver) roots() *x509.CertPool {
	roots := x509.NewCertPool()
	roots.AddCert(r.Certificate())
	return roots
}

// attempt is one of a sender of its own.
func (r *receiver) attempt(t *testing.T, o Options) Answer {
	t.Helper()
	if o.Roots == nil {
		o.Roots = r.roots()
	}
	s := New(o)
	defer s.Close()
	ctx := testkit.Context(t, within)
	got := s.Send(ctx, endpoint(t, r.URL+"/hooks?of=hunter2", theirSecret), event)
	if ctx.Err() != nil {
		t.Error("it takes all the time that it is given")
	}
	return got
}

func TestAReceiverThatAnswersDecides(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		name   string
		status int
		retry  string // Retry-After
		want   Answer
	}{
		{"ok", 200, "", Answer{Result: Sent}},
		{"accepted", 202, "", Answer{Result: Sent}},
		{"no content", 204, "", Answer{Result: Sent}},
		{"the last of its kind", 299, "", Answer{Result: Sent}},
		{"not modified", 304, "", Answer{Result: Again}},
		{"a bad request", 400, "", Answer{Result: Again}},
		{"not found", 404, "", Answer{Result: Again}},
		{"gone", 410, "", Answer{Result: Refused}},
		{"gone, but later", 410, "7", Answer{Result: Refused}},
		{"a fault", 500, "7", Answer{Result: Again}},
		{"a gateway's", 502, "", Answer{Result: Again}},
		{"too many", 429, "7", Answer{Result: Again, After: 7 * time.Second}},
		{"too many, and nothing more", 429, "", Answer{Result: Again}},
		{"away", 503, "3600", Answer{Result: Again, After: time.Hour}},
		{"away for long", 503, "86400", Answer{Result: Again, After: time.Hour}},
		{"away for ever", 503, "9223372036854775807", Answer{Result: Again, After: time.Hour}},
		{"away until", 503, "Mon, 23 Nov 2026 12:00:30 GMT", Answer{Result: Again, After: 30 * time.Second}},
		{"away until tomorrow", 503, "Tue, 24 Nov 2026 12:00:30 GMT", Answer{Result: Again, After: time.Hour}},
		{"away until yesterday", 503, "Sun, 22 Nov 2026 12:00:30 GMT", Answer{Result: Again}},
		{"away until before", 503, "-5", Answer{Result: Again}},
		{"away until something", 503, "soon", Answer{Result: Again}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := receive(t, func(w http.ResponseWriter, _ *http.Request) {
				if c.retry != "" {
					w.Header().Set("Retry-After", c.retry)
				}
				w.WriteHeader(c.status)
			})
			c.want.Status = c.status
			if got := r.attempt(t, Options{Now: func() time.Time { return now }}); got != c.want {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
			if n := r.got.Load(); n != 1 {
				t.Errorf("the receiver got it %d times", n)
			}
		})
	}
}

func TestARedirectIsNotFollowed(t *testing.T) {
	for _, status := range []int{301, 302, 303, 307, 308} {
		other := receive(t, func(http.ResponseWriter, *http.Request) {})
		r := receive(t, func(w http.ResponseWriter, q *http.Request) { http.Redirect(w, q, other.URL, status) })
		roots := r.roots()
		roots.AddCert(other.Certificate())
		if got := r.attempt(t, Options{Roots: roots}); got.Result != Again || got.Status != status || other.got.Load() != 0 {
			t.Errorf("%d: got %+v, and elsewhere %d", status, got, other.got.Load())
		}
	}
}

func TestAReceiverThatDoesNotAnswerIsTriedAgain(t *testing.T) {
	for name, answer := range map[string]http.HandlerFunc{
		"it hangs up":                   func(w http.ResponseWriter, _ *http.Request) { panic(http.ErrAbortHandler) },
		"it says nothing for too long":  func(_ http.ResponseWriter, q *http.Request) { <-q.Context().Done() },
		"its header does not end":       func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X", strings.Repeat("x", 64<<10)) },
		"what it says is no answer":     func(w http.ResponseWriter, _ *http.Request) { raw(w, "SMTP 220 hello\r\n\r\n") },
		"it ends in the middle of line": func(w http.ResponseWriter, _ *http.Request) { raw(w, "HTTP/1.1 20") },
	} {
		t.Run(name, func(t *testing.T) {
			r := receive(t, answer)
			got := r.attempt(t, Options{Timeout: time.Second})
			if got.Result != Again || got.Status != 0 || got.Err == nil || r.got.Load() == 0 {
				t.Errorf("got %+v after %d requests", got, r.got.Load())
			}
			if got.Err != nil && strings.Contains(got.Err.Error(), "hunter2") {
				t.Errorf("says %v", got.Err)
			}
		})
	}
}

func raw(w http.ResponseWriter, text string) {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		panic(err)
	}
	defer conn.Close()
	_, _ = io.WriteString(conn, text)
}

// An answer may be as long as it likes: little of it is read, and what was decided stands.
func TestNoMoreOfAnAnswerIsReadThanItsBound(t *testing.T) {
	ended, written := make(chan struct{}), 0
	r := receive(t, func(w http.ResponseWriter, _ *http.Request) {
		defer close(ended)
		for chunk := bytes.Repeat([]byte("x"), 1<<16); ; {
			n, err := w.Write(chunk)
			if written += n; err != nil {
				return
			}
		}
	})
	if got := r.attempt(t, Options{}); got != (Answer{Result: Sent, Status: 200}) {
		t.Errorf("got %+v", got)
	}
	testkit.Closed(t, within, ended, "the receiver finds out that nobody reads")
	if written > 64<<20 { // what sockets hold is less
		t.Errorf("it could write %d bytes", written)
	}
}

// What was said in time is an answer, though its rest never comes.
func TestAnAnswerWhoseBodyHangsCounts(t *testing.T) {
	r := receive(t, func(w http.ResponseWriter, q *http.Request) {
		w.WriteHeader(200)
		w.(http.Flusher).Flush()
		<-q.Context().Done()
	})
	if got := r.attempt(t, Options{Timeout: time.Second}); got.Result != Sent || got.Status != 200 {
		t.Errorf("got %+v", got)
	}
}

func TestNobodyIsToldWhoDoesNotProveWhoHeIs(t *testing.T) {
	t.Run("an unknown authority", func(t *testing.T) {
		r := receive(t, func(http.ResponseWriter, *http.Request) {})
		got := r.attempt(t, Options{Roots: x509.NewCertPool()})
		var ca x509.UnknownAuthorityError
		if got.Result != Again || !errors.As(got.Err, &ca) || r.got.Load() != 0 {
			t.Errorf("got %+v", got)
		}
	})
	t.Run("TLS 1.1", func(t *testing.T) {
		r := &receiver{}
		r.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { r.got.Add(1) }))
		r.TLS = &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}
		r.Config.ErrorLog = log.New(io.Discard, "", 0)
		r.StartTLS()
		defer r.Close()
		if got := r.attempt(t, Options{}); got.Result != Again || got.Err == nil || r.got.Load() != 0 {
			t.Errorf("got %+v", got)
		}
	})
	t.Run("nobody", func(t *testing.T) {
		r := receive(t, func(http.ResponseWriter, *http.Request) {})
		r.Close()
		if got := r.attempt(t, Options{}); got.Result != Again || got.Err == nil {
			t.Errorf("got %+v", got)
		}
	})
}

func TestWhoeverGivesUpInTheMiddleLearnsNothing(t *testing.T) {
	ctx, cancel := context.WithCancel(testkit.Context(t, within))
	r := receive(t, func(_ http.ResponseWriter, q *http.Request) {
		cancel()
		<-q.Context().Done()
	})
	s := New(Options{Roots: r.roots()})
	defer s.Close()
	if got := s.Send(ctx, endpoint(t, r.URL, theirSecret), event); got.Result != Again || !errors.Is(got.Err, context.Canceled) {
		t.Errorf("got %+v", got)
	}
}

// The receiver tells what comes twice by the id; the time and the signature are of each attempt.
func TestTwoAttemptsHaveOneID(t *testing.T) {
	r := receive(t, func(http.ResponseWriter, *http.Request) {})
	now := time.Now()
	s := New(Options{Roots: r.roots(), Now: func() time.Time { now = now.Add(time.Minute); return now }})
	defer s.Close()
	for range 2 {
		if got := s.Send(testkit.Context(t, within), endpoint(t, r.URL, theirSecret), event); got.Result != Sent {
			t.Fatalf("got %+v", got)
		}
	}
	if a, b := testkit.Receive(t, within, r.ids, "the first"), testkit.Receive(t, within, r.ids, "the second"); a != b || a == "" {
		t.Errorf("ids %q and %q", a, b)
	}
}

func TestANotificationWithoutDataSaysNull(t *testing.T) {
	body, err := bodyOf(Event{Type: Unread, Data: []byte{}})
	if err != nil || !strings.HasSuffix(string(body), `"data":null}}`) || strings.Contains(string(body), "category") {
		t.Errorf("got %s, %v", body, err)
	}
}
