package gateway

import (
	"strings"
	"testing"

	"allim/internal/session"
)

func TestWhatAUserMutesOverHTTPStaysOut(t *testing.T) {
	for _, backend := range []string{"redis", "embedded"} {
		t.Run(backend, func(t *testing.T) {
			b := newBed(t, session.Limits{}, 0, backend)
			const path = "/v1/inbox/preferences"
			for _, c := range []struct{ user, what, body, want string }{
				{"ann", "GET", "", `{"type":"preferences","topic":"user:ann","pos":"`},
				{"ann", "POST", `{"mute":["order","mention","order"],"ref":1}`, `{"type":"ok","ref":1,"pos":"`},
				{"ann", "POST", `{"mute":["mention","order"]}`, `{"type":"ok"}`},
				{"ann", "GET", "", `{"type":"preferences","topic":"user:ann","pos":"`},
				{"ben", "GET", "", `{"type":"preferences","topic":"user:ben","pos":"`},
			} {
				if w := b.as(c.user, c.what+" "+path, c.body); w.Code != 200 || !strings.HasPrefix(w.Body.String(), c.want) {
					t.Errorf("%s %s %s: got %d %s, want %s", c.user, c.what, c.body, w.Code, w.Body, c.want)
				}
			}
			if w := b.as("ann", "GET "+path, ""); !strings.HasSuffix(w.Body.String(), `"mute":["mention","order"]}`) {
				t.Errorf("ann has %s", w.Body)
			}
			if w := b.as("ben", "GET "+path, ""); !strings.HasSuffix(w.Body.String(), `"mute":[]}`) {
				t.Errorf("ben has %s", w.Body)
			}
			b.notify("ann", "n1:order", "n2:other")
			b.notify("ben", "n1:order")
			b.wantBadge("ann", `{"unread":1,"unseen":1,"by":{"other":1},`)
			b.wantBadge("ben", `{"unread":1,"unseen":1,"by":{"order":1},`)
			if w := b.as("ann", "POST "+path, `{"mute":[]}`); w.Code != 200 {
				t.Errorf("got %d %s", w.Code, w.Body)
			}
			b.notify("ann", "n3:order")
			b.wantBadge("ann", `{"unread":2,`)
			if w := b.ask("GET "+path, "", "Authorization", "Bearer "+b.token("ann", "acme")); !strings.HasSuffix(w.Body.String(), `"mute":[]}`) {
				t.Errorf("ann of another tenant has %s", w.Body)
			}
			page := []string{"cookie", b.token("ann", ""), "Origin", "https://app.example.com", "Content-Type", "application/json"}
			if w := b.ask("POST "+path, `{"mute":["a"]}`, page...); w.Code != 200 {
				t.Errorf("a page with its cookie: got %d %s", w.Code, w.Body)
			}
		})
	}
}
