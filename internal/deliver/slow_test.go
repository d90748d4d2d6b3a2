package deliver_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"allim/internal/deliver"
	"allim/internal/session"
	"allim/internal/store"
	"allim/internal/testkit"
	"allim/pkg/auth"
	"allim/pkg/notify"
)

const feed = "long/feed"

// slowBank is a bank whose readers hear feed, with a small queue and pings that come often. Its publisher is another user of the same Redis.
func slowBank(t *testing.T, lag time.Duration) (*running, *store.Store) {
	t.Helper()
	srv := testkit.Redis(t)
	everybody, err := auth.Anonymous(auth.Grant{Subscribe: []string{feed}})
	if err != nil {
		t.Fatal(err)
	}
	r := startWith(t, srv.As("gateway"), 0, func(o *deliver.Options) {
		o.Anonymous, o.Lag = everybody, lag
		o.Limits = session.Limits{Queue: 64 << 10, Ping: time.Second, Pong: 2 * time.Second}
	})
	testkit.Eventually(t, 20*time.Second, func() bool { s, _ := get(r.ops + "/healthz/ready"); return s == 200 }, "ready")
	return r, publisher(t, srv)
}

// A reader is a client that reads when it is told to, and keeps what came.
type reader struct {
	t   *testing.T
	ws  *websocket.Conn
	ids []string
	pos string // of the last
}

// join connects, with so much room for it in the kernel (0: as usual), and goes on after pos; "" is from now on.
func (r *running) join(t *testing.T, room int, pos string) *reader {
	t.Helper()
	dial := func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := (&net.Dialer{}).DialContext(ctx, network, addr)
		if err == nil && room > 0 {
			err = c.(*net.TCPConn).SetReadBuffer(room)
		}
		return c, err
	}
	ctx := testkit.Context(t, 20*time.Second)
	ws, _, err := websocket.Dial(ctx, "ws"+strings.TrimPrefix(r.public, "http"), &websocket.DialOptions{HTTPClient: &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ws.CloseNow() })
	ws.SetReadLimit(1 << 20)
	c := &reader{t: t, ws: ws, pos: pos}
	from := any(nil)
	if pos != "" {
		from = pos
	}
	ask, err := json.Marshal(map[string]any{"type": "subscribe", "topics": map[string]any{feed: from}})
	if err != nil {
		t.Fatal(err)
	}
	if err := ws.Write(ctx, websocket.MessageText, ask); err != nil {
		t.Fatal(err)
	}
	for typ := ""; typ != "subscribed"; {
		if typ, err = c.next(); err != nil || typ == "error" || typ == "message" {
			t.Fatalf("got %s, %v before subscribed", typ, err)
		}
	}
	return c
}

// next reads one frame.
func (c *reader) next() (typ string, err error) {
	c.t.Helper()
	_, b, err := c.ws.Read(testkit.Context(c.t, 20*time.Second))
	if err != nil {
		return "", err
	}
	var f struct{ Type, ID, Pos string }
	if err := json.Unmarshal(b, &f); err != nil {
		c.t.Fatal(err)
	}
	switch f.Type {
	case "message":
		c.ids = append(c.ids, f.ID)
		c.pos = f.Pos
	case "reset":
		c.t.Errorf("a reset to %s", f.Pos)
	}
	return f.Type, nil
}

// until reads until it has n messages in all.
func (c *reader) until(n int) error {
	c.t.Helper()
	for len(c.ids) < n {
		if _, err := c.next(); err != nil {
			return fmt.Errorf("after %d of %d messages: %w", len(c.ids), n, err)
		}
	}
	return nil
}

// wantInOrder wants the messages from the first to the n-th.
func wantInOrder(t *testing.T, ids []string, n int) {
	t.Helper()
	if len(ids) != n {
		t.Fatalf("got %d messages, want %d", len(ids), n)
	}
	for i, id := range ids {
		if want := fmt.Sprint("m", i); id != want {
			t.Fatalf("message %d is %s, want %s", i, id, want)
		}
	}
}

// flood publishes until somebody lags, and a little more; each message reaches fast at once.
func (r *running) flood(t *testing.T, p *store.Store, fast *reader) (n int) {
	t.Helper()
	ctx := testkit.Context(t, time.Minute)
	say := func() {
		m := &notify.Message{Change: notify.ChangeMessage, ID: fmt.Sprint("m", n), Time: time.Now(), Data: []byte(`"` + strings.Repeat("x", 20<<10) + `"`)}
		if got := p.Write(ctx, []notify.Stream{{Tenant: "default", Topic: feed}}, m, store.Committed); got[0].Err != nil {
			t.Fatal(got[0].Err)
		}
		n++
		began := time.Now()
		if err := fast.until(n); err != nil {
			t.Fatal(err)
		}
		if late := time.Since(began); late > 2*time.Second {
			t.Errorf("message %d took %v to who reads", n, late)
		}
	}
	for !r.shows("allim_feed_subscriptions_lagging 1") {
		if n == 1000 {
			t.Fatal("the kernel takes 20 MB for who reads nothing")
		}
		for range 5 {
			say()
		}
	}
	for range 20 {
		say()
	}
	fast.ws.CloseRead(context.Background()) // answers pings; nothing more comes
	return n
}

// shows tells whether the metrics have a line.
func (r *running) shows(line string) bool {
	_, text := get(r.ops + "/metrics")
	return strings.Contains(text, "\n"+line+"\n")
}

func TestAReaderThatStallsForLessThanItsLagIsNotCutAndGetsAllInOrder(t *testing.T) {
	t.Parallel()
	r, p := slowBank(t, 30*time.Second)
	slow, fast := r.join(t, 32<<10, ""), r.join(t, 0, "")
	n := r.flood(t, p, fast)
	testkit.Never(t, 4*time.Second, func() bool { return !r.shows("allim_sessions 2") }, "a cut while a ping goes without a pong")
	if err := slow.until(n); err != nil {
		t.Fatal(err)
	}
	wantInOrder(t, slow.ids, n)
	testkit.Eventually(t, 5*time.Second, func() bool { return r.shows("allim_feed_subscriptions_lagging 0") }, "nobody lags")
	for _, line := range []string{`allim_limit_hits_total{limit="pong"} 0`, `allim_limit_hits_total{limit="write"} 0`} {
		if !r.shows(line) {
			t.Errorf("no %s", line)
		}
	}
}

func TestAReaderThatNeverReadsIsTooSlowAndMissesNothingWhenItComesBack(t *testing.T) {
	t.Parallel()
	r, p := slowBank(t, time.Second)
	slow, fast := r.join(t, 32<<10, ""), r.join(t, 0, "")
	n := r.flood(t, p, fast)
	testkit.Eventually(t, 20*time.Second, func() bool {
		return r.shows(`allim_session_closes_total{code="4408"} 1`) && r.shows("allim_sessions 1")
	}, "it is closed as too slow")
	if err := slow.until(n); err == nil {
		t.Fatal("it got everything, and was to get nothing")
	}
	again := r.join(t, 0, slow.pos)
	if err := again.until(n - len(slow.ids)); err != nil {
		t.Fatal(err)
	}
	wantInOrder(t, append(slow.ids, again.ids...), n)
	if err := fast.ws.Ping(testkit.Context(t, 20*time.Second)); err != nil {
		t.Errorf("the one that reads: %v", err)
	}
}
