package ws

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"allim/internal/session"
	"allim/internal/testkit"
)

// A speaker is a Peer that says what it is told to say.
type speaker struct {
	conn *conn
	gone chan struct{}
	once sync.Once

	mu    sync.Mutex
	waits [][]byte
	heard []string
	end   *session.End
	hold  chan struct{} // not nil: Handle waits until it is closed
}

func (p *speaker) say(frame []byte) {
	p.mu.Lock()
	p.waits = append(p.waits, frame)
	p.mu.Unlock()
	p.conn.Wake()
}

func (p *speaker) Handle(message []byte, binary bool) {
	p.mu.Lock()
	p.heard = append(p.heard, fmt.Sprintf("%v %s", binary, message))
	hold := p.hold
	p.mu.Unlock()
	if hold != nil {
		<-hold
	}
}

func (p *speaker) Fill(b []byte, most int, f *session.Framing) ([]byte, *session.End) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(b) < most && len(p.waits) > 0 {
		var shared []byte
		if f.Shared != nil {
			shared = f.Shared(p.waits[0])
		}
		if b = append(b, shared...); len(shared) == 0 {
			b = f.Append(b, p.waits[0])
		}
		p.waits = p.waits[1:]
	}
	if len(p.waits) > 0 {
		return b, nil
	}
	return b, p.end
}

func (p *speaker) End(code int, reason string) {
	p.mu.Lock()
	p.end = &session.End{Code: code, Reason: reason}
	p.mu.Unlock()
	p.conn.Wake()
}

// all is what was heard so far.
func (p *speaker) all() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.heard)
}

func (p *speaker) Gone() { p.once.Do(func() { close(p.gone) }) }

// A line is a raw client and the peer it talks to.
type line struct {
	net.Conn
	r      *bufio.Reader
	answer http.Header // to the upgrade
	peer   *speaker
}

// serveLines is a server of speakers, under TLS if secure; with is done to it before it runs.
func serveLines(t *testing.T, o Options, secure bool, with ...func(*Server)) (s *Server, dial func(header ...string) *line) {
	t.Helper()
	if o.Limits == nil {
		o.Limits = session.New(session.Options{}).Limits()
	}
	if o.Metrics == nil {
		o.Metrics = session.NewMetrics(nil)
	}
	s = New(o)
	for _, do := range with {
		do(s)
	}
	peers := make(chan *speaker, 1)
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var p *speaker
		s.Serve(w, r, func(c session.Conn) Peer {
			p = &speaker{conn: c.(*conn), gone: make(chan struct{})}
			return p
		})
		peers <- p
	}))
	if secure {
		srv.StartTLS()
	} else {
		srv.Start()
	}
	t.Cleanup(srv.Close)
	live(t, s)
	return s, func(header ...string) *line {
		conn, err := net.Dial("tcp", srv.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if secure {
			conn = tls.Client(conn, &tls.Config{RootCAs: srv.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs, ServerName: "example.com"})
		}
		l := upgrade(t, conn, header, script{}.frame(0x81, "early")...) // in the same packet as the request, as a client must not send it, and some do
		l.peer = testkit.Receive(t, 5*time.Second, peers, "a connection")
		return l
	}
}

// live runs a server until the test ends.
func live(t *testing.T, s *Server) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	over := make(chan error, 1)
	go func() { over <- s.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := testkit.Receive(t, 10*time.Second, over, "the end of all connections"); err != nil {
			t.Error(err)
		}
	})
}

// upgrade asks for a WebSocket; early goes with the request.
func upgrade(t *testing.T, conn net.Conn, header []string, early ...byte) *line {
	t.Helper()
	t.Cleanup(func() { _ = conn.Close() })
	ask := "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
	for _, h := range header {
		ask += h + "\r\n"
	}
	if _, err := conn.Write(append([]byte(ask+"\r\n"), early...)); err != nil {
		t.Fatal(err)
	}
	l := &line{Conn: conn, r: bufio.NewReaderSize(conn, 64)}
	r, err := http.ReadResponse(l.r, nil)
	if err != nil || r.StatusCode != http.StatusSwitchingProtocols {
		t.Fatal(r, err)
	}
	l.answer = r.Header
	return l
}

// next reads one frame of the server's.
func (l *line) next() (first byte, payload []byte, err error) {
	var head [2]byte
	if _, err := io.ReadFull(l.r, head[:]); err != nil {
		return 0, nil, err
	}
	n := uint64(head[1])
	if n >= 126 {
		ext := make([]byte, map[uint64]int{126: 2, 127: 8}[n])
		if len(ext) == 0 {
			return 0, nil, fmt.Errorf("a server's frame that is masked: %x", head)
		}
		if _, err := io.ReadFull(l.r, ext); err != nil {
			return 0, nil, err
		}
		n = binary.BigEndian.Uint64(append(make([]byte, 8-len(ext)), ext...))
	}
	if n > 1<<24 {
		return 0, nil, fmt.Errorf("a frame of %d bytes", n)
	}
	payload = make([]byte, n)
	_, err = io.ReadFull(l.r, payload)
	return head[0], payload, err
}

// hits is how often a limit was met.
func hits(t *testing.T, r *prometheus.Registry, limit string) float64 {
	t.Helper()
	return testkit.Metric(t, r, "allim_limit_hits_total", limit)
}
