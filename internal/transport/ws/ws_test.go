package ws_test

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/prometheus/client_golang/prometheus"

	"allim/internal/session"
	"allim/internal/testkit"
	"allim/internal/transport/ws"
	"allim/pkg/auth"
	"allim/pkg/notify"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// A bed is a server of sessions that know nobody: what a transport does by itself needs no Redis.
type bed struct {
	url      string
	sessions *session.Sessions
	metrics  *prometheus.Registry
	stop     func()     // ends the sessions
	ended    chan error // gets what they ended with
}

func bedOf(t *testing.T, o session.Options, w ws.Options) *bed {
	t.Helper()
	if o.Verify == nil {
		o.Verify = func(string) (*auth.Identity, error) { return nil, notify.ErrUnauthorized }
	}
	b := &bed{metrics: prometheus.NewRegistry(), ended: make(chan error, 1)}
	o.Tick, o.Grace = 10*time.Millisecond, time.Second
	w.Metrics = session.NewMetrics(b.metrics)
	o.Metrics = w.Metrics
	b.sessions = session.New(o)
	w.Limits = b.sessions.Limits()
	sockets := ws.New(w)
	ctx, stop := context.WithCancel(context.Background())
	b.stop = stop
	live, end := context.WithCancel(context.Background())
	over := make(chan error, 1)
	go func() { b.ended <- b.sessions.Run(ctx) }()
	go func() { over <- sockets.Run(live) }()
	srv := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		sockets.Serve(rw, r, func(c session.Conn) ws.Peer { return ws.Of(b.sessions.Open(c, session.Hello{}, nil)) })
	}))
	b.url = "ws" + strings.TrimPrefix(srv.URL, "http")
	t.Cleanup(func() {
		stop()
		end()
		if err := testkit.Receive(t, 10*time.Second, over, "the end of all connections"); err != nil {
			t.Error(err)
		}
		srv.Close()
	})
	return b
}

func serve(t *testing.T, o session.Options, w ws.Options) (url string, sessions *session.Sessions) {
	t.Helper()
	b := bedOf(t, o, w)
	return b.url, b.sessions
}

// wantLimits wants that so many limits of the transport were met, and no others of its own.
func (b *bed) wantLimits(t *testing.T, want map[string]float64) {
	t.Helper()
	for _, limit := range []string{"pong", "write", "frame_bytes"} {
		if got := testkit.Metric(t, b.metrics, "allim_limit_hits_total", limit); got != want[limit] {
			t.Errorf("%s: %v times, want %v", limit, got, want[limit])
		}
	}
}

func dial(t *testing.T, url string) *websocket.Conn {
	t.Helper()
	c, _, err := websocket.Dial(testkit.Context(t, 5*time.Second), url, &websocket.DialOptions{Subprotocols: []string{ws.Subprotocol, "bearer.x"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.CloseNow() })
	return c
}

func wantFrame(t *testing.T, c *websocket.Conn, code string) {
	t.Helper()
	_, b, err := c.Read(testkit.Context(t, 5*time.Second))
	var f struct{ Type, Code string }
	if err != nil || json.Unmarshal(b, &f) != nil || f.Code != code {
		t.Fatalf("got %s, %v; want an error %s", b, err, code)
	}
}

func wantClose(t *testing.T, c *websocket.Conn, code websocket.StatusCode) {
	t.Helper()
	for {
		_, b, err := c.Read(testkit.Context(t, 5*time.Second))
		if err == nil {
			t.Logf("before the close: %s", b)
			continue
		}
		if got := websocket.CloseStatus(err); got != code {
			t.Fatalf("closed with %d (%v), want %d", got, err, code)
		}
		return
	}
}

func send(t *testing.T, c *websocket.Conn, typ websocket.MessageType, text string) {
	t.Helper()
	if err := c.Write(testkit.Context(t, 5*time.Second), typ, []byte(text)); err != nil {
		t.Fatal(err)
	}
}

func TestFramesAreAnsweredAndTheSilentAreSentAway(t *testing.T) {
	url, sessions := serve(t, session.Options{Limits: session.Limits{AuthTimeout: 300 * time.Millisecond}}, ws.Options{})
	c := dial(t, url)
	if c.Subprotocol() != ws.Subprotocol {
		t.Fatalf("subprotocol %q", c.Subprotocol())
	}
	send(t, c, websocket.MessageText, `{"type":"ping"}`)
	wantFrame(t, c, "unauthorized")
	send(t, c, websocket.MessageBinary, `{"type":"ping"}`)
	wantFrame(t, c, "unauthorized")
	wantFrame(t, c, "unauthorized") // no token came in time
	wantClose(t, c, 4401)
	testkit.Eventually(t, 5*time.Second, func() bool { return sessions.Len() == 0 }, "the session ends")
}

func TestFrameOfTheLimitPassesAndOneByteMoreCloses(t *testing.T) {
	for _, most := range []int{0, 100, 100_000} { // 0: the contract's
		b := bedOf(t, session.Options{Limits: session.Limits{Frame: most}}, ws.Options{})
		url, sessions := b.url, b.sessions
		want := most
		if most == 0 {
			want = 16 << 10
		}
		if got := sessions.Limits().Frame; got != want {
			t.Errorf("%d means %d", most, got)
		}
		c := dial(t, url)
		send(t, c, websocket.MessageText, `"`+strings.Repeat("x", want-2)+`"`)
		wantFrame(t, c, "unauthorized")
		send(t, c, websocket.MessageText, `"`+strings.Repeat("x", want-1)+`"`)
		wantClose(t, c, websocket.StatusMessageTooBig)
		b.wantLimits(t, map[string]float64{"frame_bytes": 1})
	}
}

func TestTextThatIsNotUTF8Closes(t *testing.T) {
	url, _ := serve(t, session.Options{}, ws.Options{})
	c := dial(t, url)
	send(t, c, websocket.MessageText, "\"\xff\xfe\"")
	wantClose(t, c, websocket.StatusInvalidFramePayloadData)
}

func TestPeerThatAnswersNoPingIsCut(t *testing.T) {
	b := bedOf(t, session.Options{Limits: session.Limits{Ping: 20 * time.Millisecond, Pong: 100 * time.Millisecond, AuthTimeout: time.Minute}}, ws.Options{})
	sessions := b.sessions
	alive, mute := dial(t, b.url), dial(t, b.url)
	testkit.Eventually(t, 5*time.Second, func() bool { return sessions.Len() == 2 }, "both are there")
	reading := alive.CloseRead(context.Background()) // answers pings; mute never reads
	testkit.Eventually(t, 5*time.Second, func() bool { return sessions.Len() == 1 }, "the mute one is cut")
	if reading.Err() != nil {
		t.Fatal("the one that answers was cut too")
	}
	b.wantLimits(t, map[string]float64{"pong": 1})
	_ = mute.CloseNow()
}

// Its pongs stand behind its own frame, which waits for somebody else.
func TestAClientWhoseCommandTakesLongIsNotCut(t *testing.T) {
	hold, begun := make(chan struct{}), make(chan struct{})
	limits := session.Limits{Ping: 100 * time.Millisecond, Pong: 500 * time.Millisecond}
	verify := func(string) (*auth.Identity, error) { close(begun); <-hold; return nil, notify.ErrUnauthorized }
	url, sessions := serve(t, session.Options{Limits: limits, Verify: verify}, ws.Options{})
	c := dial(t, url)
	ended := make(chan error, 1)
	go func() {
		_, _, err := c.Read(context.Background()) // answers pings meanwhile
		ended <- err
	}()
	send(t, c, websocket.MessageText, `{"type":"auth","token":"x"}`)
	testkit.Closed(t, 5*time.Second, begun, "it is at work")
	testkit.Never(t, 1500*time.Millisecond, func() bool { return sessions.Len() == 0 }, "it is cut")
	close(hold)
	if err := testkit.Receive(t, 5*time.Second, ended, "the answer"); err != nil {
		t.Errorf("instead of the answer: %v", err)
	}
}

func TestStoppingClosesWith1012(t *testing.T) {
	b := bedOf(t, session.Options{Limits: session.Limits{AuthTimeout: time.Minute}}, ws.Options{})
	c := dial(t, b.url)
	send(t, c, websocket.MessageText, `{}`)
	wantFrame(t, c, "unauthorized")
	b.stop()
	wantClose(t, c, 1012)
	if err := testkit.Receive(t, 5*time.Second, b.ended, "sessions end"); err != nil {
		t.Fatal(err)
	}
	late := dial(t, b.url)
	wantClose(t, late, 1012)
}

// A peer that is told to go, and neither reads that nor answers, holds its connection for closeWait.
func TestPeerThatNeverReadsIsLetGo(t *testing.T) {
	url, sessions := serve(t, session.Options{Limits: session.Limits{AuthTimeout: time.Minute}}, ws.Options{})
	conn, err := net.Dial("tcp", strings.TrimPrefix(url, "ws://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.(*net.TCPConn).SetReadBuffer(4 << 10)
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, 5*time.Second, func() bool { return sessions.Len() == 1 }, "the session begins")
	ping := []byte{0x81, 0x80 | 2, 0, 0, 0, 0, '{', '}'} // masked with zeros: {}
	flood := []byte(strings.Repeat(string(ping), 4096))
	_ = conn.SetWriteDeadline(time.Now().Add(20 * time.Second))
	for sessions.Len() == 1 {
		if _, err := conn.Write(flood); err != nil {
			break // cut
		}
	}
	testkit.Eventually(t, 10*time.Second, func() bool { return sessions.Len() == 0 }, "the session ends")
}

func TestTokenAmongTheSubprotocols(t *testing.T) {
	for header, want := range map[string]string{"allim.v1, bearer.a.b.c": "a.b.c", "bearer.": "", "allim.v1": "-", "": "-", "bearer.x,bearer.y": "x"} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("Sec-WebSocket-Protocol", header)
		got, ok := ws.Token(r)
		if !ok {
			got = "-"
		}
		if got != want {
			t.Errorf("%q: got %q, want %q", header, got, want)
		}
	}
}

func TestUpgrades(t *testing.T) {
	for _, c := range []struct {
		connection, upgrade string
		want                bool
	}{{"Upgrade", "websocket", true}, {"keep-alive, upgrade", "WebSocket", true}, {"keep-alive", "websocket", false}, {"upgrade", "h2c", false}, {"", "", false}} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("Connection", c.connection)
		r.Header.Set("Upgrade", c.upgrade)
		if got := ws.IsUpgrade(r); got != c.want {
			t.Errorf("%+v: got %v", c, got)
		}
	}
}
