package ws

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"allim/internal/session"
	"allim/internal/testkit"
)

// A client may end its side, or all of it, while what it was slow to take is still being written.
func TestAClientThatEndsInTheMiddleOfAFrame(t *testing.T) {
	for _, secure := range []bool{false, true} {
		_, dial := serveLines(t, Options{}, secure)
		for i := range 20 {
			l := dial()
			l.peer.say(make([]byte, 16<<20)) // more than any kernel's room
			if _, err := io.CopyN(io.Discard, l.r, int64(1+i)<<18); err != nil {
				t.Fatal(err)
			}
			if half, ok := l.Conn.(interface{ CloseWrite() error }); ok && i%2 == 0 {
				_ = half.CloseWrite()
				_, _ = io.Copy(io.Discard, l.r)
			} else {
				_ = l.Close()
			}
			testkit.Closed(t, 10*time.Second, l.peer.gone, "the peer is told")
		}
	}
}

// A client that closes, or makes a mistake, and ends its side of the connection with that, reads on: it loses nothing of what stands before the close, nor that.
func TestAClientThatEndsItsSideReadsTheClose(t *testing.T) {
	const size = 1 << 20
	for _, secure := range []bool{false, true} {
		_, dial := serveLines(t, Options{}, secure)
		for i := range 60 {
			fault, pending := i%2 > 0, i%12 < 2
			l := dial()
			if pending {
				tcp := l.peer.conn.net
				if s, is := tcp.(*tls.Conn); is {
					tcp = s.NetConn()
				}
				_ = tcp.(*net.TCPConn).SetWriteBuffer(32 << 10)
				l.peer.say(make([]byte, size))
				testkit.Eventually(t, 5*time.Second, l.peer.conn.isBlocked, "it is under way")
			}
			frame, want := script{}.frame(0x88, "\x03\xe8"), "\x03\xe8"
			if fault {
				frame, want = script{}.frame(0x83, ""), "\x03\xea"
			}
			if _, err := l.Write(frame); err != nil {
				t.Fatal(err)
			}
			if err := l.Conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
				t.Fatal(err)
			}
			_ = l.SetReadDeadline(time.Now().Add(20 * time.Second))
			if pending {
				if _, b, err := l.next(); err != nil || len(b) != size {
					t.Fatalf("secure %v, fault %v: %d bytes, %v", secure, fault, len(b), err)
				}
			}
			if first, b, err := l.next(); err != nil || first != 0x88 || !strings.HasPrefix(string(b), want) {
				t.Fatalf("secure %v, fault %v: %#x %q, %v", secure, fault, first, b, err)
			}
			// That TLS ends, too, may come when the socket is closed already: the kernel resets it, after the close.
			if b, err := io.ReadAll(l.r); len(b) > 0 || err != nil && !(secure && errors.Is(err, syscall.ECONNRESET)) {
				t.Fatalf("%x, %v", b, err)
			}
			testkit.Closed(t, 5*time.Second, l.peer.gone, "the peer is told")
		}
	}
}

// A client that has closed is waited for, but not for as long as it likes to take a little now and then. Whether it has ended its side makes no difference.
func TestAClientThatClosesTakesTheRestInTime(t *testing.T) {
	for name, half := range map[string]bool{"open": false, "half": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := prometheus.NewRegistry()
			_, dial := serveLines(t, Options{Write: time.Second, Metrics: session.NewMetrics(r)}, false)
			l := dial()
			_ = l.Conn.(*net.TCPConn).SetReadBuffer(32 << 10)
			_ = l.peer.conn.net.(*net.TCPConn).SetWriteBuffer(32 << 10)
			l.peer.say(make([]byte, 4<<20))
			testkit.Eventually(t, 5*time.Second, l.peer.conn.isBlocked, "it is under way")
			_, _ = l.Write(script{}.frame(0x88, "\x03\xe8"))
			if half {
				_ = l.Conn.(*net.TCPConn).CloseWrite()
			}
			tick := time.NewTicker(50 * time.Millisecond)
			defer tick.Stop()
			end := time.After(10 * time.Second) // of the 13 and more that it would take
			for took := 0; ; took++ {
				select {
				case <-l.peer.gone:
					if got := hits(t, r, "write"); took < 10 || got != 1 {
						t.Errorf("counted %v, %d times taken", got, took)
					}
					return
				case <-end:
					t.Fatal("it is not cut")
				case <-tick.C:
					_, _ = io.CopyN(io.Discard, l.r, 16<<10)
				}
			}
		})
	}
}

// Whoever waits for room in what the client does not read waits no more when the client is gone: nobody would wake it.
func TestAMessageAtWorkEndsWithItsConnection(t *testing.T) {
	conn, err := net.Dial("tcp", serveEcho(t, 64<<10, 0))
	if err != nil {
		t.Fatal(err)
	}
	l := upgrade(t, conn, nil)
	frame := script{}.frame(0x82, strings.Repeat("x", 60_000))
	for err == nil { // until it hears no more
		_ = l.SetWriteDeadline(time.Now().Add(500 * time.Millisecond))
		_, err = l.Write(frame)
	}
	_ = conn.(*net.TCPConn).SetLinger(0) // a reset
	_ = conn.Close()
} // the server's end is waited for, and with it Handle

// While a client that made a mistake is given time to read why, nothing is done for it.
func TestAConnectionThatLingersCostsNothing(t *testing.T) {
	_, dial := serveLines(t, Options{}, false)
	l := dial()
	if _, err := l.Write(script{}.frame(0x83, "")); err != nil {
		t.Fatal(err)
	}
	if first, _, err := l.next(); err != nil || first != 0x88 {
		t.Fatalf("%#x, %v", first, err)
	}
	c := l.peer.conn
	testkit.Eventually(t, 5*time.Second, func() bool { c.mu.Lock(); defer c.mu.Unlock(); return c.shut && !c.blocked && !c.queued.Load() }, "all is said")
	testkit.Never(t, 300*time.Millisecond, func() bool { return c.queued.Load() || c.isBlocked() }, "it is written to again")
}

// The time that a client has for answering a close begins when it could have read it.
func TestASlowClientReadsWhyItIsClosed(t *testing.T) {
	_, dial := serveLines(t, Options{}, false)
	l := dial()
	_ = l.Conn.(*net.TCPConn).SetReadBuffer(32 << 10)
	_ = l.peer.conn.net.(*net.TCPConn).SetWriteBuffer(32 << 10)
	const size = 1 << 20
	l.peer.say(make([]byte, size))
	l.peer.End(4501, "revoked")
	testkit.Eventually(t, 5*time.Second, l.peer.conn.isBlocked, "it is under way")
	testkit.Never(t, closeWait+500*time.Millisecond, func() bool { return !l.peer.conn.isBlocked() || l.peer.conn.cutting.Load() }, "it is given up")
	_ = l.SetReadDeadline(time.Now().Add(20 * time.Second))
	if _, b, err := l.next(); err != nil || len(b) != size {
		t.Fatal(len(b), err)
	}
	if first, b, err := l.next(); err != nil || first != 0x88 || string(b) != "\x11\x95revoked" {
		t.Fatalf("%#x %q, %v", first, b, err)
	}
}

// The answer to a client's close may be out before the library ends the connection. Who waits for that end, as a client must (RFC 6455, section 7.1.1),
// waits no longer for it.
func TestACloseThatIsAnsweredFastEndsAtOnce(t *testing.T) {
	for _, secure := range []bool{false, true} {
		_, dial := serveLines(t, Options{}, secure)
		l := dial()
		c := l.peer.conn
		lib := &socket{c: c} // as coder/websocket has it
		if _, err := lib.Write([]byte("\x88\x02\x03\xe8")); err != nil {
			t.Fatal(err)
		}
		testkit.Eventually(t, 5*time.Second, func() bool { c.mu.Lock(); defer c.mu.Unlock(); return c.shut && !c.blocked }, "the answer is out")
		_ = lib.Close()
		if !c.cutting.Load() {
			t.Error("it waits for the client, which waits for it")
		}
		if first, b, err := l.next(); err != nil || first != 0x88 || string(b) != "\x03\xe8" {
			t.Fatalf("%#x %q, %v", first, b, err)
		}
		testkit.Closed(t, 5*time.Second, l.peer.gone, "the peer is told")
	}
}

// A client that takes nothing holds its connection for Options.Write, and that is counted.
func TestAClientThatTakesNothingIsCut(t *testing.T) {
	for name, secure := range map[string]bool{"plain": false, "under TLS": true} {
		t.Run(name, func(t *testing.T) {
			r := prometheus.NewRegistry()
			_, dial := serveLines(t, Options{Write: 300 * time.Millisecond, Metrics: session.NewMetrics(r)}, secure)
			l, other := dial(), dial()
			l.peer.say(make([]byte, 16<<20))
			testkit.Closed(t, 10*time.Second, l.peer.gone, "the peer is told")
			if write, pong := hits(t, r, "write"), hits(t, r, "pong"); write != 1 || pong != 0 {
				t.Errorf("counted %v of write and %v of pong", write, pong)
			}
			other.peer.say([]byte("still here"))
			if _, b, err := other.next(); err != nil || string(b) != "still here" {
				t.Fatal(string(b), err)
			}
		})
	}
}

// A client that closes while ours is on its way, or its own is answered, reads all that was before it, and takes as long as it likes to.
func TestAClientsCloseLosesNothing(t *testing.T) {
	const size = 1 << 20
	for _, c := range []struct {
		name   string
		secure bool
		ours   bool // a close is under way before the client's comes
		want   string
	}{{"ours first", false, true, "\x11\x95revoked"}, {"ours first, under TLS", true, true, "\x11\x95revoked"}, {"the client's alone", false, false, "\x03\xe8"}, {"the client's alone, under TLS", true, false, "\x03\xe8"}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, dial := serveLines(t, Options{}, c.secure)
			l := dial()
			w := l.peer.conn
			tcp := w.net
			if s, is := tcp.(*tls.Conn); is {
				tcp = s.NetConn()
			}
			_ = tcp.(*net.TCPConn).SetWriteBuffer(32 << 10)
			if c.ours {
				tail := appendClose(textFraming.Append(nil, make([]byte, size)), 4501, "revoked")
				w.mu.Lock()
				w.blocked, w.closing = true, true
				write := func() { w.push(tail) }
				if c.secure {
					w.control, write = tail, w.drain
				}
				w.mu.Unlock()
				w.server.wg.Go(write)
			} else {
				l.peer.say(make([]byte, size))
			}
			testkit.Eventually(t, 5*time.Second, w.isBlocked, "it is under way")
			if _, err := l.Write(script{}.frame(0x88, "\x03\xe8")); err != nil {
				t.Fatal(err)
			}
			testkit.Eventually(t, 5*time.Second, func() bool { l.peer.mu.Lock(); defer l.peer.mu.Unlock(); return c.ours || l.peer.end != nil }, "the peer is told to say no more")
			testkit.Never(t, closeWait+500*time.Millisecond, func() bool { return w.cutting.Load() }, "it is given up")
			_ = l.SetReadDeadline(time.Now().Add(20 * time.Second))
			if _, b, err := l.next(); err != nil || len(b) != size {
				t.Fatal(len(b), err)
			}
			if first, b, err := l.next(); err != nil || first != 0x88 || string(b) != c.want {
				t.Fatalf("%#x %q, %v", first, b, err)
			}
			if b, err := io.ReadAll(l.r); len(b) > 0 || err != nil {
				t.Errorf("%x, %v", b, err)
			}
			testkit.Closed(t, 5*time.Second, l.peer.gone, "the peer is told")
		})
	}
}

type panics struct{ *speaker }

func (panics) Handle([]byte, bool) { panic("a fault of ours") }

// What goes wrong with one connection is told, and costs no other.
func TestAFaultOfOursCostsOneConnection(t *testing.T) {
	s, dial := serveLines(t, Options{}, false)
	l, other := dial(), dial()
	c := l.peer.conn
	c.mu.Lock()
	c.peer = panics{l.peer}
	c.mu.Unlock()
	if _, err := l.Write(script{}.frame(0x81, "x")); err != nil {
		t.Fatal(err)
	}
	testkit.Closed(t, 5*time.Second, l.peer.gone, "the peer is told")
	other.peer.say([]byte("still here"))
	if _, b, err := other.next(); err != nil || string(b) != "still here" {
		t.Fatal(string(b), err)
	}
	testkit.Eventually(t, 5*time.Second, func() bool { s.mu.Lock(); defer s.mu.Unlock(); return len(s.conns) == 1 }, "it is forgotten")
}

// A request that outlives the door begins nothing.
func TestNothingBeginsAfterTheEnd(t *testing.T) {
	s := New(Options{Limits: &session.Limits{Frame: 100, Pong: time.Minute}, Metrics: session.NewMetrics(nil)})
	s.ended = true
	gone := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.Serve(w, r, func(c session.Conn) Peer { return &speaker{conn: c.(*conn), gone: gone} })
	}))
	defer srv.Close()
	conn, err := net.Dial("tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	l := upgrade(t, conn, nil)
	if b, err := io.ReadAll(l.r); len(b) > 0 || err != nil {
		t.Errorf("%x, %v", b, err)
	}
	testkit.Closed(t, 5*time.Second, gone, "the peer is told")
	s.wg.Wait()
}
