package e2e

import (
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"allim/test/pods"
)

// TestTheInboxOverHTTPInChromium: a page of another origin of the same host reads and marks with the cookie that its app has set; pages of other sites
// neither read nor change anything, though the browser holds the cookie.
func TestTheInboxOverHTTPInChromium(t *testing.T) {
	t.Parallel()
	stage := pods.Start(t, pods.Options{})
	b := pods.NewBackend(t, stage.Publishers[0], "default")
	for _, id := range []string{"n1", "n2"} {
		b.Notify("ann", id, "", `{"title":"hi"}`)
	}
	token := pods.Token(t, "ann", pods.Grant{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.Host, "localhost:") {
			http.SetCookie(w, &http.Cookie{Name: "__Host-allim", Value: token, Path: "/", Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode})
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write([]byte("<!doctype html><body>"))
	}))
	t.Cleanup(server.Close)
	local := func(addr string) string {
		_, port, err := net.SplitHostPort(addr)
		if err != nil {
			t.Fatal(err)
		}
		return "http://localhost:" + port
	}
	s := runScript(t, ".", "playwright-core", []string{"GATEWAY=" + local(stage.Gateways[0].Addr("public")), "PAGES=" + local(server.Listener.Addr().String()), "TOKEN=" + token}, "browser/inbox.mjs")
	for _, c := range []struct{ what, want string }{
		{"badge", `{"status":200,"type":"cors","retry":null,"body":{"unread":2,"unseen":2,"rev":"`},
		{"inbox", `{"status":200,"type":"cors","retry":null,"body":{"type":"inbox","items":[{"id":"n2",`},
		{"read", `{"status":200,"type":"cors","retry":null,"body":{"type":"ok","changed":1,"pos":"`},
		{"unknown", `{"status":404,"type":"cors","retry":null,"body":{"type":"error","code":"bad_frame",`},
		{"text", `{"status":403,"type":"cors","retry":null,"body":{"type":"error","code":"forbidden",`},
		{"no cookie", `{"status":401,"type":"cors","retry":null,"body":{"type":"error","code":"unauthorized",`},
		{"token", `{"status":200,"type":"cors","retry":null,"body":{"unread":1,`},
		{"hasty", `{"status":429,"type":"cors","retry":"1","body":{"type":"error","code":"limit",`},
		{"evil badge", `{"failed":"TypeError"}`},
		{"evil read", `{"failed":"TypeError"}`},
		{"evil blind read", `{"status":0,"type":"opaque",`},
		{"evil link", `{"status":403,"cookie":true}`}, // the cookie came along: it is the door that refuses
		{"evil form", `{"status":403}`},
		{"another site of ours", `{"status":401,`}, // there the browser keeps the cookie to itself
	} {
		var got json.RawMessage
		if s.told(c.what, &got); !strings.HasPrefix(string(got), c.want) {
			t.Errorf("%s: got %s, want %s", c.what, got, c.want)
		}
	}
	s.wantGood()
	if c := b.Counts("ann"); c.Unread != 1 || c.Unseen != 1 {
		t.Errorf("ann has %v, want n2 alone unread and unseen", c)
	}
	if n := stage.Gateways[0].Metric("allim_limit_hits_total", "limit", "requests"); n != 1 {
		t.Errorf("the gateway counted %v hasty requests, want 1", n)
	}
}

// TestAMarkOverHTTPReachesEveryDevice: what one page marks without a socket, at one gateway, the sockets at another show, and the page that made it knows it
// by its origin.
func TestAMarkOverHTTPReachesEveryDevice(t *testing.T) {
	t.Parallel()
	stage := pods.Start(t, pods.Options{Gateways: 2})
	b := pods.NewBackend(t, stage.Publishers[0], "default")
	b.Notify("ann", "n1", "order", `1`)
	b.Notify("ann", "n2", "order", `2`)
	token, origin := pods.Token(t, "ann", pods.Grant{}), "p9Xk3vQ0aLr7Tz1e"
	same := pods.Connect(t, stage.Gateways[0], pods.Hello{Token: token, Origin: origin})
	other := pods.Connect(t, stage.Gateways[0], pods.Hello{Token: token})
	for _, c := range []*pods.Client{same, other} {
		c.Next("welcome")
	}
	r, err := http.NewRequestWithContext(t.Context(), "POST", "http://"+stage.Gateways[1].Addr("public")+"/v1/inbox/read", strings.NewReader(`{"ids":["n1"],"origin":"`+origin+`"}`))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	w, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Body.Close()
	defer http.DefaultClient.CloseIdleConnections()
	var ok pods.Frame
	if err := json.NewDecoder(w.Body).Decode(&ok); err != nil || w.StatusCode != 200 || ok.Type != "ok" || ok.Changed != 1 || ok.Pos == "" {
		t.Fatalf("got %d %+v, %v", w.StatusCode, ok, err)
	}
	for name, c := range map[string]*pods.Client{"the same page": same, "another device": other} {
		f := c.Next("badge")
		if f.Pos != ok.Pos || f.Mine != (c == same) || len(f.Change["read"]) != 1 || f.Change["read"][0] != "n1" || f.Badge.Unread != 1 {
			t.Errorf("%s got %s, want the mark at %s", name, f.Raw, ok.Pos)
		}
	}
}
