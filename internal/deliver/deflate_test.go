package deliver_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"allim/internal/deliver"
	"allim/internal/settings"
	"allim/internal/store"
	"allim/internal/testkit"
	"allim/pkg/auth"
	"allim/pkg/notify"
)

// A counted connection says how many bytes came.
type counted struct {
	net.Conn
	n *atomic.Int64
}

func (c counted) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.n.Add(int64(n))
	return n, err
}

// Everybody gets the same, in fewer bytes who agreed to that, and for long messages alone.
func TestMessagesAreCompressedForWhoAgreed(t *testing.T) {
	srv := testkit.Redis(t)
	everybody, err := auth.Anonymous(auth.Grant{Hear: []string{feed}})
	if err != nil {
		t.Fatal(err)
	}
	r := startWith(t, srv.As("gateway"), 0, func(o *deliver.Options) { o.Anonymous, o.Deflate = everybody, 1000 })
	testkit.Eventually(t, 20*time.Second, func() bool { s, _ := get(r.ops + "/healthz/ready"); return s == 200 }, "ready")
	p := publisher(t, srv)
	ctx := testkit.Context(t, 20*time.Second)
	type client struct {
		*websocket.Conn
		name  string
		bytes *atomic.Int64
		small bool // what is long is
	}
	var clients []client
	for _, c := range []struct {
		name, query string
		mode        websocket.CompressionMode
		small       bool
	}{
		{"one that agreed", "", websocket.CompressionNoContextTakeover, true},
		{"another", "", websocket.CompressionContextTakeover, true},
		{"one that did not", "", websocket.CompressionDisabled, false},
		{"one with a cursor, whose frames are its own", "?cursor=", websocket.CompressionNoContextTakeover, false},
	} {
		n := &atomic.Int64{}
		dial := func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
			return counted{conn, n}, err
		}
		conn, _, err := websocket.Dial(ctx, "ws"+strings.TrimPrefix(r.public, "http")+c.query, &websocket.DialOptions{CompressionMode: c.mode, CompressionThreshold: 1,
			HTTPClient: &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.CloseNow()
		if _, b, err := conn.Read(ctx); err != nil || !strings.Contains(string(b), "welcome") {
			t.Fatalf("%s: %s, %v", c.name, b, err)
		}
		if err := conn.Write(ctx, websocket.MessageText, []byte(`{"type":"ping"}`)); err != nil { // of a few bytes, and compressed where that was agreed on
			t.Fatal(err)
		}
		if _, b, err := conn.Read(ctx); err != nil || !strings.Contains(string(b), "pong") {
			t.Fatalf("%s: %s, %v", c.name, b, err)
		}
		clients = append(clients, client{conn, c.name, n, c.small})
	}
	for i, text := range []string{strings.Repeat("short ", 100), strings.Repeat("long ", 1000)} {
		for _, c := range clients {
			c.bytes.Store(0)
		}
		data, _ := json.Marshal(text)
		m := &notify.Message{Change: notify.ChangeMessage, ID: fmt.Sprint("m", i), Time: time.Now(), Data: data}
		if got := p.Write(ctx, []notify.Stream{{Tenant: "default", Topic: feed}}, m, store.Committed); got[0].Err != nil {
			t.Fatal(got[0].Err)
		}
		for _, c := range clients {
			_, b, err := c.Read(ctx)
			var f struct{ ID, Data string }
			if err != nil || json.Unmarshal(b, &f) != nil || f.ID != m.ID || f.Data != text {
				t.Fatalf("%s: %s, %v", c.name, b, err)
			}
			if small := c.bytes.Load() < int64(len(text)); small != (c.small && i == 1) {
				t.Errorf("%s: %d bytes for a text of %d", c.name, c.bytes.Load(), len(text))
			}
		}
	}
}

func TestALeastSizeOfWhatIsCompressed(t *testing.T) {
	for size, good := range map[settings.Size]bool{0: true, 1: false, 63: false, 64: true, 64 << 10: true} {
		l, err := settings.Load(settings.Gateway, []string{"--mode=development", "--anonymous={hear: [a]}", fmt.Sprint("--websocket-deflate=", size)}, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, err = deliver.Configure(l)
		var fe *notify.FieldError
		if got := !errors.As(err, &fe); got != good || !good && fe.Field != "websocket.deflate" {
			t.Errorf("%d: %v", size, err)
		}
	}
}
