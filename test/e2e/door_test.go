package e2e

import (
	"net/http"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "allim/proto/allim/v1"
	"allim/test/pods"
)

func header(pairs ...string) http.Header {
	h := http.Header{}
	for i := 0; i < len(pairs); i += 2 {
		h.Add(pairs[i], pairs[i+1])
	}
	return h
}

// TestTheDoor is who a gateway lets in, and as whom. The first credential found decides alone, explicit ones before the cookie; a wrong one is never
// taken for none, although the gateway lets people in without any.
func TestTheDoor(t *testing.T) {
	t.Parallel()
	stage := pods.Start(t, pods.Options{Publishers: -1})
	gw := stage.Gateways[0]
	ann, ben := pods.Token(t, "ann", pods.Grant{}), pods.Token(t, "ben", pods.Grant{})
	wrong := ann[:len(ann)-4] + "AAAA"
	expired := pods.Token(t, "ann", pods.Grant{Life: -time.Hour})
	service := serviceToken(t)
	bearer := func(token string) string { return "Bearer " + token }
	cookie := func(token string) string { return "__Host-allim=" + token }
	const evil, nobody = "https://evil.example", "" // nobody: let in without a name
	for _, c := range []struct {
		name  string
		hello pods.Hello
		user  string
		says  string // of a refusal
	}{
		{"nothing", pods.Hello{}, nobody, ""},
		{"a token as subprotocol", pods.Hello{Token: ann}, "ann", ""},
		{"a token as header", pods.Hello{Header: header("Authorization", bearer(ann))}, "ann", ""},
		{"the scheme in lower case", pods.Hello{Header: header("Authorization", "bearer "+ann)}, "ann", ""},
		{"a cookie with an allowed origin", pods.Hello{Header: header("Cookie", cookie(ann), "Origin", pods.Origin)}, "ann", ""},
		{"a cookie from a page on loopback", pods.Hello{Header: header("Cookie", cookie(ann), "Origin", "http://127.0.0.1:3000")}, "ann", ""},
		{"another cookie", pods.Hello{Header: header("Cookie", "allim="+ann)}, nobody, ""},

		{"header before subprotocol", pods.Hello{Token: ben, Header: header("Authorization", bearer(ann))}, "ann", ""},
		{"header before cookie", pods.Hello{Header: header("Authorization", bearer(ann), "Cookie", cookie(ben))}, "ann", ""},
		{"subprotocol before cookie", pods.Hello{Token: ann, Header: header("Cookie", cookie(ben))}, "ann", ""},
		{"a wrong header before a good subprotocol", pods.Hello{Token: ann, Header: header("Authorization", bearer(wrong))}, "", "401 unauthorized"},
		{"a wrong subprotocol before a good cookie", pods.Hello{Token: wrong, Header: header("Cookie", cookie(ann), "Origin", pods.Origin)}, "", "401 unauthorized"},

		{"a wrong token as header", pods.Hello{Header: header("Authorization", bearer(wrong))}, "", "401 unauthorized"},
		{"a wrong token as subprotocol", pods.Hello{Token: wrong}, "", "401 unauthorized"},
		{"a wrong token as cookie", pods.Hello{Header: header("Cookie", cookie(wrong), "Origin", pods.Origin)}, "", "401 unauthorized"},
		{"an empty bearer", pods.Hello{Header: header("Authorization", "Bearer ")}, "", "401 unauthorized"},
		{"another scheme", pods.Hello{Header: header("Authorization", "Basic YTpi")}, "", "401 unauthorized"},
		{"an empty subprotocol", pods.Hello{Protocol: []string{"allim.v1", "bearer."}}, "", "401 unauthorized"},
		{"an empty cookie", pods.Hello{Header: header("Cookie", cookie(""), "Origin", pods.Origin)}, "", "401 unauthorized"},
		{"an expired token", pods.Hello{Token: expired}, "", "401 unauthorized"},
		{"a service token", pods.Hello{Token: service}, "", "401 unauthorized"},
		{"a tenant that the key may not speak for", pods.Hello{Token: pods.Token(t, "ann", pods.Grant{Tenant: "other"})}, "", "401 unauthorized"},

		{"a cookie without an origin", pods.Hello{Header: header("Cookie", cookie(ann))}, "", "403 forbidden"},
		{"a cookie from elsewhere", pods.Hello{Header: header("Cookie", cookie(ann), "Origin", evil)}, "", "403 forbidden"},
		{"a good token from elsewhere", pods.Hello{Token: ann, Header: header("Origin", evil)}, "", "403 forbidden"},
		{"nothing from elsewhere", pods.Hello{Header: header("Origin", evil)}, "", "403 forbidden"},
		{"an origin of another scheme", pods.Hello{Header: header("Origin", "http://app.example.test")}, "", "403 forbidden"},
		{"an origin of another port", pods.Hello{Header: header("Origin", pods.Origin+":8443")}, "", "403 forbidden"},
		{"an origin below the allowed one", pods.Hello{Header: header("Origin", "https://x.app.example.test")}, "", "403 forbidden"},
		{"the origin null", pods.Hello{Header: header("Origin", "null")}, "", "403 forbidden"},

		{"an allowed host", pods.Hello{Token: ann, Header: header("Host", pods.Host)}, "ann", ""},
		{"an allowed host with a port", pods.Hello{Token: ann, Header: header("Host", pods.Host+":8443")}, "ann", ""},
		{"another host", pods.Hello{Token: ann, Header: header("Host", "attacker.example")}, "", "403 forbidden"},
		{"a host that was rebound, with its own origin", pods.Hello{Header: header("Host", "attacker.example", "Origin", "http://attacker.example")}, "", "403 forbidden"},
	} {
		t.Run(c.name, func(t *testing.T) {
			client, err := pods.Dial(t, gw.Addr("public"), c.hello)
			if c.says != "" {
				if got := refused(err); got != c.says {
					t.Fatalf("got %q, want %q", got, c.says)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := client.Next("welcome").User; got != c.user {
				t.Errorf("welcomed as %q, want %q", got, c.user)
			}
			if c.hello.Token != "" && client.Protocol() != "allim.v1" {
				t.Errorf("got subprotocol %q", client.Protocol())
			}
		})
	}
	t.Run("what a refusal tells a stranger", func(t *testing.T) {
		for _, token := range []string{wrong, expired, service} {
			r := pods.Refused(t, gw, pods.Hello{Token: token}, http.StatusUnauthorized)
			if r.Frame.Type != "error" || r.Frame.Message != "a valid token is needed" {
				t.Errorf("got %s", r.Frame.Raw)
			}
			for name, want := range map[string]string{"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"} {
				if got := r.Header.Get(name); got != want {
					t.Errorf("%s: got %q, want %q", name, got, want)
				}
			}
		}
	})
}

// TestTheFirstFrame is the token of those who can neither set a header nor name a subprotocol.
func TestTheFirstFrame(t *testing.T) {
	t.Parallel()
	gw := pods.Start(t, pods.Options{Publishers: -1, Strict: true}).Gateways[0]
	auth := func(token string) map[string]any { return map[string]any{"type": "auth", "token": token, "ref": 1} }
	c := pods.Connect(t, gw, pods.Hello{})
	c.Send(auth(pods.Token(t, "ann", pods.Grant{})))
	if f := c.Answer(1); f.Type != "ok" {
		t.Errorf("got %s, want ok", f.Raw)
	}
	if f := c.Next("welcome"); f.User != "ann" {
		t.Errorf("welcomed as %q", f.User)
	}
	c.Send(map[string]any{"type": "auth", "token": pods.Token(t, "ben", pods.Grant{}), "ref": 2})
	if f := c.Answer(2); f.Code != "forbidden" {
		t.Errorf("a token of another user: got %s, want forbidden", f.Raw)
	}
	c.Ping()
	for name, token := range map[string]string{"wrong": "x.y.z", "expired": pods.Token(t, "ann", pods.Grant{Life: -time.Hour}), "of a service": serviceToken(t)} {
		c := pods.Connect(t, gw, pods.Hello{})
		c.Send(auth(token))
		if f := c.Answer(1); f.Code != "unauthorized" {
			t.Errorf("%s: got %s, want unauthorized", name, f.Raw)
		}
		if code, _ := c.Closed(pods.Within); code != 4401 {
			t.Errorf("%s: closed with %d, want 4401", name, code)
		}
	}
}

func TestAnAnonymousPageThatShowsAWrongTokenIsSentAway(t *testing.T) {
	t.Parallel()
	gw := pods.Start(t, pods.Options{Publishers: -1}).Gateways[0]
	c := pods.Connect(t, gw, pods.Hello{})
	c.Next("welcome")
	c.Send(`{"type":"auth","token":"x.y.z","ref":1}`)
	if f := c.Answer(1); f.Code != "unauthorized" {
		t.Errorf("got %s, want unauthorized", f.Raw)
	}
	if code, _ := c.Closed(pods.Within); code != 4401 {
		t.Errorf("closed with %d, want 4401", code)
	}
}

// TestATokenEndsAndItsConnectionWithIt: announced, then closed; a new token in time keeps it.
func TestATokenEndsAndItsConnectionWithIt(t *testing.T) {
	t.Parallel()
	gw := pods.Start(t, pods.Options{Publishers: -1}).Gateways[0]
	const life = 12 * time.Second // above the time that an accepted token is good for at least
	start := time.Now()
	ends := pods.Connect(t, gw, pods.Hello{Token: pods.Token(t, "ann", pods.Grant{Life: life})})
	stays := pods.Connect(t, gw, pods.Hello{Token: pods.Token(t, "ben", pods.Grant{Life: life})})
	if f := ends.Next("welcome"); f.User != "ann" {
		t.Errorf("welcomed as %q", f.User)
	}
	if f := ends.Next("expiring"); f.In < 5 || f.In > 12 {
		t.Errorf("got %s, want what is left of 12 s", f.Raw)
	}
	stays.Next("expiring")
	stays.Send(map[string]any{"type": "auth", "token": pods.Token(t, "ben", pods.Grant{})})
	code, reason := ends.Closed(life + pods.Within)
	if took := time.Since(start); code != 4401 || reason != "expired" || took < life-2*time.Second || took > life+5*time.Second {
		t.Errorf("closed with %d %s after %v, want 4401 after %v", code, reason, took, life)
	}
	stays.Ping()
}

func serviceToken(t *testing.T) string {
	t.Helper()
	return pods.Sign(t, map[string]any{"sub": "shop", "aud": "allim-publisher", "exp": time.Now().Add(time.Hour).Unix(), "allim": map[string]any{"allow": []string{"publish:*"}}})
}

// TestWhoMayCallThePublisher: service tokens and API keys, within their rights, and never a client's token.
func TestWhoMayCallThePublisher(t *testing.T) {
	t.Parallel()
	stage := pods.Start(t, pods.Options{Gateways: -1})
	pub := stage.Publishers[0]
	for _, c := range []struct {
		name, token string
		topic       string
		want        codes.Code
	}{
		{"a service token", serviceToken(t), "orders", codes.OK},
		{"no credential", "", "orders", codes.Unauthenticated},
		{"a wrong API key", "the-api-key-of-the-backend-of-nobody", "orders", codes.Unauthenticated},
		{"a client's token", pods.Token(t, "ann", pods.Grant{Subscribe: []string{"*"}}), "orders", codes.Unauthenticated},
		{"an expired service token", pods.Sign(t, map[string]any{"sub": "shop", "aud": "allim-publisher", "exp": time.Now().Add(-time.Hour).Unix(),
			"allim": map[string]any{"allow": []string{"publish:*"}}}), "orders", codes.Unauthenticated},
		{"a service token without this right", pods.Sign(t, map[string]any{"sub": "shop", "aud": "allim-publisher", "exp": time.Now().Add(time.Hour).Unix(),
			"allim": map[string]any{"allow": []string{"publish:orders/*"}}}), "secret", codes.PermissionDenied},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := pods.BackendWith(t, pub, c.token)
			_, err := b.Publisher.Publish(b.Call(), &pb.PublishRequest{Topics: []string{c.topic}, Data: []byte("1")})
			if status.Code(err) != c.want {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
	b := pods.BackendWith(t, pub, serviceToken(t))
	if _, err := b.Inbox.Counts(b.Call(), &pb.CountsRequest{User: "ann"}); status.Code(err) != codes.PermissionDenied {
		t.Errorf("a service token without the right inbox: got %v, want PermissionDenied", err)
	}
}
