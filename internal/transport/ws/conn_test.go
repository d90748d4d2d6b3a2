package ws

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"allim/internal/session"
	"allim/internal/testkit"
)

func TestWhatComesWithTheRequestIsRead(t *testing.T) {
	_, dial := serveLines(t, Options{}, false)
	l := dial()
	testkit.Eventually(t, 5*time.Second, func() bool {
		l.peer.mu.Lock()
		defer l.peer.mu.Unlock()
		return fmt.Sprint(l.peer.heard) == "[false early]"
	}, "the early frame is heard")
}

// Each way to end: what the client reads, and that the TCP connection really ends.
func TestEveryEndEndsTheConnection(t *testing.T) {
	for _, c := range []struct {
		name    string
		in      script
		hangsUp bool // the client closes its side of the connection only when ours is closed
		want    string
	}{
		{"a close of the client's", script{}.frame(0x88, "\x03\xe8bye"), false, "88 03e8627965"},
		{"an empty close of the client's", script{}.frame(0x88, ""), false, "88 "},
		{"a fault", script{}.frame(0x83, ""), false, "88 03ea616e20756e6b6e6f776e206f70636f6465"},
		{"a fault, and more without an end", append(script{}.frame(0x83, ""), make([]byte, 100_000)...), false, "88 03ea616e20756e6b6e6f776e206f70636f6465"},
		{"too much", script{}.frame(0x81, strings.Repeat("x", 16<<10+1)), false, "88 03f1" + fmt.Sprintf("%x", "at most 16384 bytes in a message")},
		{"no text", script{}.frame(0x81, "\xff"), false, "88 03ef" + fmt.Sprintf("%x", "text that is not UTF-8")},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, dial := serveLines(t, Options{}, false)
			l := dial()
			go func() { _, _ = l.Write(c.in) }()
			_ = l.SetReadDeadline(time.Now().Add(closeWait + 5*time.Second))
			first, payload, err := l.next()
			if got := fmt.Sprintf("%x %x", first, payload); err != nil || got != c.want {
				t.Fatalf("%s, %v; want %s", got, err, c.want)
			}
			if n, err := io.Copy(io.Discard, l.r); n > 0 || err != nil {
				t.Fatalf("after the close: %d bytes, %v", n, err)
			}
			_ = l.Close()
			testkit.Closed(t, closeWait+5*time.Second, l.peer.gone, "the peer is told")
		})
	}
}

// A client that neither answers a close nor hangs up is let go after closeWait.
func TestAnUnansweredCloseEnds(t *testing.T) {
	_, dial := serveLines(t, Options{}, false)
	l := dial()
	l.peer.End(4000, "go")
	testkit.Closed(t, closeWait+5*time.Second, l.peer.gone, "the peer is told")
	if b, err := io.ReadAll(l.r); err != nil || fmt.Sprintf("%x", b) != "88040fa0676f" {
		t.Fatalf("%x, %v", b, err)
	}
}

// A ping that nobody answers cuts the connection, unless bytes stand before it that the client has not taken, or took only now, or a message of its own
// is at work, behind which its pong stands.
func TestAPingBehindAFrameSaysNothing(t *testing.T) {
	for _, c := range []struct {
		name string
		set  func(*conn)
		cut  bool
	}{
		{"nothing before it", func(*conn) {}, true},
		{"bytes are under way", func(c *conn) { c.blocked = true }, false},
		{"bytes that had to wait were taken meanwhile", func(c *conn) { c.waited.Store(10) }, false},
		{"bytes that had to wait were taken before", func(c *conn) { c.waited.Store(9) }, true},
		{"a message of the client's is at work", func(c *conn) { c.reading.Store(true) }, false},
		{"it was answered", func(c *conn) { _ = c.pong(nil) }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := New(Options{Limits: &session.Limits{Pong: 1}, Metrics: session.NewMetrics(nil)})
			near, far := net.Pipe()
			defer func() { _ = far.Close() }()
			conn := &conn{server: s, net: near, flusher: s.flushers[0]}
			conn.pinged.Store(10)
			s.waiting = []sign{{conn, 10}}
			c.set(conn)
			s.sweep()
			if conn.cutting.Load() != c.cut || len(s.waiting) != 0 {
				t.Errorf("cut: %v, want %v", conn.cutting.Load(), c.cut)
			}
			s.wg.Wait()
		})
	}
}

// What marks bytes as those that had to wait is how long the kernel did not take them.
func TestBytesThatHadToWaitAreRemembered(t *testing.T) {
	_, dial := serveLines(t, Options{}, false)
	l := dial()
	c := l.peer.conn
	l.peer.say([]byte("{}"))
	if _, b, err := l.next(); err != nil || string(b) != "{}" || c.waited.Load() != 0 || c.isBlocked() {
		t.Fatal("a small frame had to wait", string(b), err)
	}
	l.peer.say(make([]byte, 16<<20)) // more than any kernel's room
	testkit.Eventually(t, 5*time.Second, c.isBlocked, "it is under way")
	testkit.Never(t, 2*short, func() bool { return !c.isBlocked() }, "a frame that nobody reads is taken")
	if _, b, err := l.next(); err != nil || len(b) != 16<<20 {
		t.Fatal(len(b), err)
	}
	testkit.Eventually(t, 5*time.Second, func() bool { return !c.isBlocked() && c.waited.Load() > 0 }, "it was taken, and had to wait")
}

// Each control frame leaves coder/websocket in one Write: that is what keeps them apart from ours (performance.md, rule 1).
func TestTheLibraryWritesControlFramesWhole(t *testing.T) {
	s := New(Options{Limits: &session.Limits{}, Metrics: session.NewMetrics(nil)})
	for n := range maxControl - 1 {
		c := &conn{server: s, flusher: s.flushers[0], blocked: true}
		near, far := net.Pipe()
		w := bufio.NewReadWriter(bufio.NewReader(near), bufio.NewWriter(near))
		go func() { _, _ = io.Copy(io.Discard, far) }()
		h := &hijacker{ResponseWriter: pipeWriter{httptest.NewRecorder(), near, w}, socket: &socket{c: c}}
		r := httptest.NewRequest("GET", "/", nil)
		for k, v := range map[string]string{"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="} {
			r.Header.Set(k, v)
		}
		lib := acceptWith(t, h, r)
		c.fed = closeFrame("\x03\xe8" + strings.Repeat("x", n))
		_, _, _ = lib.Read(context.Background())
		if want := appendClose(nil, 1000, strings.Repeat("x", n)); !bytes.Equal(c.bye, want) || !c.ending {
			t.Fatalf("%d: %x\nwant %x", n, c.bye, want)
		}
		_, _ = near.Close(), far.Close()
	}
}

type pipeWriter struct {
	http.ResponseWriter
	conn net.Conn
	rw   *bufio.ReadWriter
}

func (p pipeWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) { return p.conn, p.rw, nil }

func acceptWith(t *testing.T, w http.ResponseWriter, r *http.Request) *websocket.Conn {
	t.Helper()
	lib, err := websocket.Accept(w, r, nil)
	if err != nil {
		t.Fatal(err)
	}
	return lib
}

func closeFrame(payload string) []byte {
	return head(append(make([]byte, maxHead), payload...), opClose, false)
}
