package testkit

import (
	"bufio"
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

func TestProxyPassesBothWays(t *testing.T) {
	t.Parallel()
	c := dial(t, NewProxy(t, echoServer(t)).Addr)
	wantEcho(t, c, "hello\n")
}

func TestCutClosesAndRefusesUntilHealed(t *testing.T) {
	t.Parallel()
	p := NewProxy(t, echoServer(t))
	c := dial(t, p.Addr)
	wantEcho(t, c, "before\n")
	p.Cut()
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Fatal("the connection outlived the cut")
	}
	if extra, err := net.Dial("tcp", p.Addr); err == nil {
		extra.Close()
		t.Fatal("a new connection is accepted during the cut")
	}
	p.Heal()
	wantEcho(t, dial(t, p.Addr), "after\n")
}

func TestBlackholeHoldsBytesAndLosesNone(t *testing.T) {
	t.Parallel()
	p := NewProxy(t, echoServer(t))
	c := dial(t, p.Addr)
	wantEcho(t, c, "before\n")
	p.Blackhole(true)
	late := dial(t, p.Addr) // the kernel accepts; nothing comes through
	for _, conn := range []net.Conn{c, late} {
		if _, err := io.WriteString(conn, "held\n"); err != nil {
			t.Fatalf("write into the hole: %v", err)
		}
		_ = conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		if n, err := conn.Read(make([]byte, 1)); n > 0 || !isTimeout(err) {
			t.Fatalf("in the hole: got %d bytes, %v, want a timeout", n, err)
		}
	}
	p.Heal()
	wantRead(t, c, "held\n")
	wantRead(t, late, "held\n")
}

func TestDelayIsAddedInEachDirection(t *testing.T) {
	t.Parallel()
	p := NewProxy(t, echoServer(t))
	c := dial(t, p.Addr)
	wantEcho(t, c, "before\n")
	p.Delay(60 * time.Millisecond)
	start := time.Now()
	wantEcho(t, c, "slow\n")
	if took := time.Since(start); took < 120*time.Millisecond {
		t.Fatalf("an echo took %v, want at least 120ms", took)
	}
}

func TestAConnectionThatEndsLeavesTheProxy(t *testing.T) {
	t.Parallel()
	p := NewProxy(t, echoServer(t))
	c := dial(t, p.Addr)
	wantEcho(t, c, "x\n")
	if got := p.Links(); got != 1 {
		t.Fatalf("links: got %d, want 1", got)
	}
	c.Close()
	Eventually(t, 5*time.Second, func() bool { return p.Links() == 0 }, "link forgotten")
}

func echoServer(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { defer c.Close(); _, _ = io.Copy(c, c) })
		}
	})
	// Registered before the proxy's cleanup, so it runs after: by then no link holds a connection.
	t.Cleanup(func() { l.Close(); wg.Wait() })
	return l.Addr().String()
}

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	c, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func wantEcho(t *testing.T, c net.Conn, line string) {
	t.Helper()
	if _, err := io.WriteString(c, line); err != nil {
		t.Fatalf("write: %v", err)
	}
	wantRead(t, c, line)
}

func wantRead(t *testing.T, c net.Conn, line string) {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
	if got, err := bufio.NewReader(c).ReadString('\n'); err != nil || got != line {
		t.Fatalf("got %q, %v, want %q", got, err, line)
	}
}

func isTimeout(err error) bool {
	e, ok := err.(net.Error)
	return ok && e.Timeout()
}
