package e2e

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"allim/test/pods"
)

// dial opens a TCP connection to a gateway; it is closed when the test ends.
func dial(t *testing.T, gw *pods.Pod) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", gw.Addr("public"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// head sends a request whose line and headers have n bytes and is how it was refused, "" where it was answered.
func head(t *testing.T, gw *pods.Pod, n int) string {
	t.Helper()
	conn := dial(t, gw)
	request := fmt.Sprintf("GET /allim.js HTTP/1.1\r\nHost: %s\r\nX-Pad: ", gw.Addr("public"))
	request += strings.Repeat("x", n-len(request)-len("\r\n")) + "\r\n"
	if len(request) != n {
		t.Fatalf("the head has %d bytes, want %d", len(request), n)
	}
	if _, err := io.WriteString(conn, request+"\r\n"); err != nil {
		t.Fatal(err)
	}
	r, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	if r.StatusCode == http.StatusOK {
		return ""
	}
	_, code, _ := strings.Cut(string(body), `"code":"`)
	code, _, _ = strings.Cut(code, `"`)
	return fmt.Sprint(r.StatusCode, " ", code)
}

// A mute client speaks the opening handshake and reads frames, but never writes one: no pong.
type mute struct {
	conn net.Conn
	in   *bufio.Reader
}

func dialMute(t *testing.T, gw *pods.Pod) *mute {
	t.Helper()
	m := &mute{conn: dial(t, gw)}
	m.in = bufio.NewReader(m.conn)
	_, err := fmt.Fprintf(m.conn, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
		gw.Addr("public"))
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.ReadResponse(m.in, nil)
	if err != nil || r.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("got %v, %v, want an upgrade", r, err)
	}
	return m
}

// next is the opcode of the next frame of the gateway (RFC 6455, section 5.2: its frames are not masked).
func (m *mute) next(within time.Duration) (opcode byte, err error) {
	if err := m.conn.SetReadDeadline(time.Now().Add(within)); err != nil {
		return 0, err
	}
	var b [2]byte
	if _, err := io.ReadFull(m.in, b[:]); err != nil {
		return 0, err
	}
	n := int(b[1] & 0x7f)
	if n == 126 {
		var long [2]byte
		if _, err := io.ReadFull(m.in, long[:]); err != nil {
			return 0, err
		}
		n = int(long[0])<<8 | int(long[1])
	}
	_, err = m.in.Discard(n)
	return b[0] & 0xf, err
}

// A tap is a client's network that can be shut: what the gateway sends then stays in the kernel until that has no more room.
type tap struct {
	mu   sync.Mutex
	open chan struct{} // closed while bytes flow
}

func newTap() *tap {
	t := &tap{open: make(chan struct{})}
	close(t.open)
	return t
}

// shut stops the flow; the function it returns lets it go on.
func (t *tap) shut() (open func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	shut := make(chan struct{})
	t.open = shut
	return sync.OnceFunc(func() { close(shut) })
}

// client makes connections through the tap, with a small buffer in the kernel.
func (t *tap) client() *http.Client {
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		var d net.Dialer
		conn, err := d.DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return tapped{conn, t}, conn.(*net.TCPConn).SetReadBuffer(256 << 10)
	}}}
}

type tapped struct {
	net.Conn
	tap *tap
}

func (c tapped) Read(b []byte) (int, error) {
	c.tap.mu.Lock()
	open := c.tap.open
	c.tap.mu.Unlock()
	<-open
	return c.Conn.Read(b)
}
