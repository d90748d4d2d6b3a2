package gateway

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"allim/internal/testkit"
)

// A page is a client of a door that speaks TLS.
type page struct {
	t    *testing.T
	addr string
	tls  *tls.Config
	log  *journal
}

type journal struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) { j.mu.Lock(); defer j.mu.Unlock(); return j.b.Write(p) }
func (j *journal) String() string              { j.mu.Lock(); defer j.mu.Unlock(); return j.b.String() }

// newPage serves a door with TLS until the test ends, with the certificate of httptest.
func newPage(t *testing.T, within bounds) *page {
	t.Helper()
	lent := httptest.NewTLSServer(nil)
	defer lent.Close()
	l, err := Listen(context.Background(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &page{t: t, addr: l.Addr().String(), log: &journal{}, tls: &tls.Config{RootCAs: x509.NewCertPool(), ServerName: "example.com"}}
	p.tls.RootCAs.AddCert(lent.Certificate())
	log := slog.New(slog.NewTextHandler(p.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	g := door(t)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 2)
	go func() { done <- g.opt.Sessions.Run(ctx) }()
	go func() {
		done <- serve(ctx, l, g, log, within, &tls.Config{Certificates: lent.TLS.Certificates, MinVersion: tls.VersionTLS12})
	}()
	t.Cleanup(func() {
		cancel()
		for range 2 {
			if err := testkit.Receive(t, 10*time.Second, done, "the end"); err != nil {
				t.Error(err)
			}
		}
	})
	return p
}

// client speaks HTTP/2 where it can.
func (p *page) client(http2 bool) *http.Client {
	tr := &http.Transport{TLSClientConfig: p.tls.Clone(), ForceAttemptHTTP2: http2}
	p.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 10 * time.Second}
}

func TestPagesSpeakBothVersionsOfHTTPOverTLS(t *testing.T) {
	p := newPage(t, public)
	for _, c := range []struct {
		http2         bool
		path, upgrade string
		status        int
	}{{true, "/allim.js", "", 200}, {false, "/allim.js", "", 200}, {true, "/v1/ws", "", 426}, {false, "/v1/ws", "websocket", 426}} {
		w, err := p.client(c.http2).Get("https://" + p.addr + c.path)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(w.Body)
		_ = w.Body.Close()
		if w.StatusCode != c.status || w.ProtoMajor != map[bool]int{true: 2, false: 1}[c.http2] || len(body) == 0 || w.Header.Get("Upgrade") != c.upgrade {
			t.Errorf("%+v: got %d in HTTP/%d, %d bytes, %v", c, w.StatusCode, w.ProtoMajor, len(body), w.Header)
		}
	}
}

// Browsers, and every other client of WebSockets, offer HTTP/1.1 alone for them (ALPN).
func TestWebSocketsOverTLS(t *testing.T) {
	p := newPage(t, public)
	c, _, err := websocket.Dial(testkit.Context(t, 10*time.Second), "wss://"+p.addr+"/v1/ws", &websocket.DialOptions{HTTPClient: p.client(false), Subprotocols: []string{"allim.v1"}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.CloseNow() }()
	if err := c.Write(testkit.Context(t, 5*time.Second), websocket.MessageText, []byte(`{"type":"ping"}`)); err != nil {
		t.Fatal(err)
	}
	if _, b, err := c.Read(testkit.Context(t, 5*time.Second)); err != nil || !strings.Contains(string(b), "unauthorized") {
		t.Errorf("got %s, %v", b, err)
	}
}

func TestThePortWithTLSAnswersPlainHTTPInPlainWords(t *testing.T) {
	p := newPage(t, public)
	c, err := net.Dial("tcp", p.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, _ = io.WriteString(c, "GET /allim.js HTTP/1.1\r\nHost: localhost\r\n\r\n")
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "HTTP/1.0 400") {
		t.Errorf("got %q, %v", line, err)
	}
}

func TestHandshakesAreBoundedAndTheirFaultsAreForWhoLooksForThem(t *testing.T) {
	short := public
	short.header = 100 * time.Millisecond
	p := newPage(t, short)
	for _, says := range []string{"", "\x16\x03\x01\x00\xa5", "\x16\x03\x01\x00\x02xx"} {
		c, err := net.Dial("tcp", p.addr)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(c, says)
		_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, err := io.Copy(io.Discard, c); err != nil && strings.Contains(err.Error(), "timeout") {
			t.Errorf("%q: still open after 10 s", says)
		}
		_ = c.Close()
	}
	testkit.Eventually(t, 5*time.Second, func() bool { return strings.Count(p.log.String(), "level=DEBUG msg=connection_failed") >= 3 }, "three lines at debug")
	if log := p.log.String(); strings.Contains(log, "level=INFO") || strings.Contains(log, "level=ERROR") {
		t.Errorf("strangers fill the log:\n%s", log)
	}
}

func TestAHandlerThatPanicsIsAnErrorOfOurs(t *testing.T) {
	l, err := Listen(context.Background(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	log, done := &journal{}, make(chan error, 1)
	ctx, cancel := context.WithCancel(context.Background())
	h := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("a test") })
	go func() { done <- serve(ctx, l, h, slog.New(slog.NewTextHandler(log, nil)), public, nil) }()
	if w, err := http.Get("http://" + l.Addr().String()); err == nil {
		_ = w.Body.Close()
		t.Errorf("got %d", w.StatusCode)
	}
	testkit.Eventually(t, 5*time.Second, func() bool { return strings.Contains(log.String(), "level=ERROR msg=request_panicked") }, "a line at error")
	cancel()
	if err := testkit.Receive(t, 10*time.Second, done, "the end"); err != nil {
		t.Error(err)
	}
}
