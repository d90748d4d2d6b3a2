package e2e

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"allim/internal/testkit"
	"allim/test/pods"
)

// TestThePlainestPageInChromium is the example that everybody begins with, unchanged but for the address: its greeting is answered by an error that
// helps, it keeps its connection, and hears what is published for everybody, compressed where the gateway does that.
func TestThePlainestPageInChromium(t *testing.T) {
	t.Parallel()
	stage := pods.Start(t, pods.Options{})
	b := pods.NewBackend(t, stage.Publishers[0], "default")
	t.Run("plain", func(t *testing.T) { plainestPage(t, stage.Gateways[0], b, "m1", "") })
	t.Run("compressed", func(t *testing.T) {
		plainestPage(t, stage.AddGateway("--websocket-deflate=64"), b, "m2", "permessage-deflate; client_no_context_takeover; server_no_context_takeover")
	})
}

func plainestPage(t *testing.T, gw *pods.Pod, b *pods.Backend, id, extensions string) {
	t.Helper()
	html, err := os.ReadFile("browser/plain.html")
	if err != nil {
		t.Fatal(err)
	}
	page := strings.Replace(string(html), "ws://localhost:8080", "ws://"+gw.Addr("public"), 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write([]byte(page))
	}))
	t.Cleanup(server.Close)
	s := runScript(t, ".", "playwright-core", nil, "browser/plain.mjs", server.URL)
	heard := func() string {
		t.Helper()
		var said [2]string
		s.told("console", &said)
		if said[0] != "Message from server " {
			t.Errorf("the page said %q", said)
		}
		return said[1]
	}
	if got := heard(); !strings.HasPrefix(got, `{"type":"welcome"`) || strings.Contains(got, `"user"`) {
		t.Errorf("got %s, want a welcome of nobody", got)
	}
	if got := heard(); !strings.Contains(got, `"code":"bad_frame"`) || !strings.Contains(got, `subscribe`) || !strings.Contains(got, `Hello Server!`) {
		t.Errorf("got %s, want an error that says what to send", got)
	}
	text := `"` + strings.Repeat("hi, ", 100) + `"`
	b.Publish("public/chat", id, text)
	if got := heard(); !strings.HasPrefix(got, `{"type":"message","topic":"public/chat"`) || !strings.Contains(got, `"data":`+text) {
		t.Errorf("got %s, want the message", got)
	}
	s.dismiss()
	const open = 1 // WebSocket.OPEN
	state := 0
	if s.told("state", &state); state != open {
		t.Errorf("the socket's readyState is %d, want %d", state, open)
	}
	agreed := ""
	if s.told("extensions", &agreed); agreed != extensions {
		t.Errorf("it agreed to %q, want %q", agreed, extensions)
	}
	s.wantGood()
}

// TestTheBrowserClient runs the client's own test against a real gateway: at rest, and with its connection cut while it is told something.
func TestTheBrowserClient(t *testing.T) {
	t.Parallel()
	root, err := pods.Root()
	if err != nil {
		t.Fatal(err)
	}
	stage := pods.Start(t, pods.Options{Gateways: 2})
	b := pods.NewBackend(t, stage.Publishers[0], "default")
	for i, name := range []string{"at rest", "with its connection cut"} {
		t.Run(name, func(t *testing.T) {
			proxy := testkit.NewProxy(t, stage.Gateways[i].Addr("public"))
			user, topic := []string{"ann", "ben"}[i], []string{"feed/1", "feed/2"}[i]
			s := runScript(t, filepath.Join(root, "client"), "ws", []string{
				"ALLIM_URL=http://" + proxy.Addr + "/v1/ws",
				"ALLIM_TOKEN=" + pods.Token(t, user, pods.Grant{Subscribe: []string{"feed/*"}}),
				"ALLIM_TOPIC=" + topic, "ALLIM_MESSAGE=m2", "ALLIM_NOTIFICATION=n2",
			}, "test/gateway.test.js")
			s.line("ready", func(line string) bool { return line == "ready" })
			b.Publish(topic, "m1", "1")
			if i == 1 {
				proxy.Cut()
			}
			b.Publish(topic, "m2", "2")
			b.Notify(user, "n1", "", `{"title":"before"}`)
			b.Notify(user, "n2", "mention", `{"title":"hi"}`)
			if i == 1 {
				proxy.Heal()
			}
			s.wantGood()
			if c := b.Counts(user); c.Unread != 1 {
				t.Errorf("the user has %v, want one unread: the client's test reads one of two", c)
			}
			if n := stage.Gateways[i].Metric("allim_session_closes_total"); n != float64(1+i) {
				t.Errorf("the gateway saw %v connections end, want %d", n, 1+i)
			}
		})
	}
}
