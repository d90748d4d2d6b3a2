package ws

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"allim/internal/session"
	"allim/internal/testkit"
)

// A ping that nobody answers cuts the connection, unless a frame stands before it that the client has not taken, or took only now.
func TestAPingBehindAFrameSaysNothing(t *testing.T) {
	for _, c := range []struct {
		name string
		set  func(*conn)
		cut  bool
	}{
		{"nothing before it", func(*conn) {}, true},
		{"a frame is under way", func(c *conn) { c.writing.Store(true) }, false},
		{"a frame that had to wait was taken meanwhile", func(c *conn) { c.waited.Store(int64(time.Minute)) }, false},
		{"one that had to wait was taken before", func(c *conn) { c.waited.Store(1) }, true},
		{"a frame of the client's is at work", func(c *conn) { c.reading.Store(true) }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			done := make(chan bool, 1)
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				socket, err := websocket.Accept(w, r, nil)
				if err != nil {
					t.Error(err)
					return
				}
				defer func() { _ = socket.CloseNow() }()
				conn := newConn(socket, Options{Sessions: session.New(session.Options{Limits: session.Limits{Pong: 50 * time.Millisecond}}), Metrics: session.NewMetrics(nil)})
				c.set(conn)
				conn.pong()
				done <- conn.ctx.Err() != nil
				conn.cancel()
			}))
			defer srv.Close()
			mute, _, err := websocket.Dial(testkit.Context(t, 5*time.Second), "ws"+strings.TrimPrefix(srv.URL, "http"), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = mute.CloseNow() }()
			if cut := testkit.Receive(t, 5*time.Second, done, "the end of the wait"); cut != c.cut {
				t.Errorf("cut: %v, want %v", cut, c.cut)
			}
		})
	}
}

// What marks a frame as one that had to wait is how long the kernel did not take it.
func TestAFrameThatHadToWaitIsRemembered(t *testing.T) {
	taken := make(chan *conn, 1)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		socket, err := websocket.Accept(w, r, nil)
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = socket.CloseNow() }()
		conn := newConn(socket, Options{Sessions: session.New(session.Options{}), Metrics: session.NewMetrics(nil)})
		if conn.send([]byte("{}")) != nil || conn.waited.Load() != 0 {
			t.Error("a small frame had to wait")
		}
		taken <- conn
		_ = conn.send(make([]byte, 64<<20)) // more than any kernel's room
		taken <- conn
	}))
	defer srv.Close()
	slow, _, err := websocket.Dial(testkit.Context(t, 5*time.Second), "ws"+strings.TrimPrefix(srv.URL, "http"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = slow.CloseNow() }()
	slow.SetReadLimit(-1)
	conn := testkit.Receive(t, 5*time.Second, taken, "the first frame")
	testkit.Eventually(t, 5*time.Second, conn.writing.Load, "the second is under way")
	testkit.Never(t, 2*short, func() bool { return !conn.writing.Load() }, "a frame that nobody reads is taken")
	for range 2 {
		if _, _, err := slow.Read(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	testkit.Receive(t, 5*time.Second, taken, "the second frame")
	if conn.writing.Load() || conn.waited.Load() == 0 {
		t.Errorf("writing: %v, waited: %v", conn.writing.Load(), conn.waited.Load())
	}
}
