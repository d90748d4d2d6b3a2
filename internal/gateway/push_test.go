package gateway

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"allim/internal/session"
	"allim/internal/testkit"
	"allim/pkg/notify"
)

// pushed is a gateway's side of Web Push with one push service; what the real check refuses, deliver's tests show.
var pushed = &session.Push{PublicKey: "the-key", Check: func(endpoint string, p256dh, auth []byte) error {
	switch {
	case !strings.HasPrefix(endpoint, "https://push.example.com/"):
		return &notify.FieldError{Field: "endpoint", Want: "https on port 443 of a push service"}
	case len(p256dh) != 65:
		return &notify.FieldError{Field: "keys.p256dh", Want: "65 bytes"}
	}
	return nil
}}

// subscription is a browser's, as JSON.stringify writes it.
func subscription(endpoint string) string {
	return fmt.Sprintf(`{"endpoint":%q,"expirationTime":null,"keys":{"p256dh":"%s","auth":"AAECAwQFBgcICQoLDA0ODw"}}`, endpoint,
		base64.RawURLEncoding.EncodeToString(slices.Repeat([]byte{0xfe}, 65)))
}

// wantPushed wants these endpoints, and no others, to be pushed to for a user.
func (b *bed) wantPushed(user string, want ...string) {
	b.t.Helper()
	all, err := b.writer.PushSubscriptions(testkit.Context(b.t, 10*time.Second), notify.Stream{Tenant: "default", Topic: notify.Topic("user:" + user)})
	if err != nil {
		b.t.Fatal(err)
	}
	var got []string
	for _, s := range all {
		if len(s.P256dh) != 65 || s.P256dh[0] != 0xfe || len(s.Auth) != 16 || s.Auth[1] != 1 {
			b.t.Errorf("keys of %s: %x %x", s.Endpoint, s.P256dh, s.Auth)
		}
		got = append(got, strings.TrimPrefix(s.Endpoint, "https://push.example.com/"))
	}
	if slices.Sort(got); !slices.Equal(got, want) {
		b.t.Errorf("pushed to %q for %s, want %q", got, user, want)
	}
}

// badSubscriptions are bodies that subscribe nobody, each with its status and what the answer says.
func badSubscriptions() map[string]string {
	good := subscription("https://push.example.com/1")
	key := strings.Split(good, `"`)[11]
	return map[string]string{
		`{}`:                              `400 subscription: expected a browser's PushSubscription`,
		`{"subscription":null}`:           `400 subscription: expected a browser's PushSubscription`,
		good:                              `400 subscription: expected`,
		`{"subscription":"x"}`:            `400 subscription: expected another kind of value than string, as in {\"subscription\":`,
		`{"subscription":{"endpoint":7}}`: `400 subscription.endpoint: expected another kind of value than number`,
		`{"subscription":{}}`:             `400 subscription.keys.p256dh: expected base64url`,
		`{"subscription":` + subscription("https://192.0.2.1/1") + `}`:             `400 subscription.endpoint: expected https on port 443 of a push service`,
		`{"subscription":` + strings.Replace(good, key, key[:40], 1) + `}`:         `400 subscription.keys.p256dh: expected 65 bytes`,
		`{"subscription":` + strings.Replace(good, key, "+"+key[1:], 1) + `}`:      `400 subscription.keys.p256dh: expected base64url`,
		`{"subscription":` + strings.Replace(good, "AAECAwQFBgcICQ", "?", 1) + `}`: `400 subscription.keys.auth: expected base64url`,
	}
}

// badForgets are those that forget nobody.
func badForgets() map[string]string {
	return map[string]string{
		`{"endpoint":""}`: `400 endpoint: expected that of a subscription`,
		`{"endpoint":["https://push.example.com/1"]}`: `400 endpoint: expected another kind of value than array, as in {\"endpoint\":`,
	}
}

func TestABrowserIsPushedToUntilItSaysOtherwise(t *testing.T) {
	for _, backend := range []string{"redis", "embedded"} {
		t.Run(backend, func(t *testing.T) {
			b := newBed(t, session.Limits{}, 0, backend)
			if w := b.as("ann", "GET /v1/push", ""); w.Code != 200 || w.Body.String() != `{"public_key":"the-key"}` {
				t.Errorf("the key: got %d %s", w.Code, w.Body)
			}
			ok := func(user, what, body string) {
				t.Helper()
				if w := b.as(user, what+" /v1/push", body); w.Code != 200 || w.Body.String() != `{"type":"ok"}` {
					t.Errorf("%s %s: got %d %s", what, body, w.Code, w.Body)
				}
			}
			subscribe := func(user, n string) {
				t.Helper()
				ok(user, "POST", `{"subscription":`+subscription("https://push.example.com/"+n)+`}`)
			}
			subscribe("ann", "1")
			subscribe("ann", "2")
			subscribe("ann", "1")
			subscribe("ben", "3")
			b.wantPushed("ann", "1", "2")
			b.wantPushed("ben", "3")
			ok("ann", "DELETE", `{"endpoint":"https://push.example.com/3"}`) // another user's
			ok("ann", "DELETE", `{"endpoint":"https://push.example.com/1"}`)
			b.wantPushed("ann", "2")
			subscribe("ann", "4")
			ok("ann", "DELETE", "")
			b.wantPushed("ann")
			b.wantPushed("ben", "3")
			subscribe("ann", "5")
			ok("ann", "DELETE", "{}")
			b.wantPushed("ann")

			page := []string{"cookie", b.token("ann", ""), "Origin", "https://app.example.com", "Content-Type", "application/json", "Sec-Fetch-Site", "same-site"}
			if w := b.ask("POST /v1/push", `{"subscription":`+subscription("https://push.example.com/6")+`}`, page...); w.Code != 200 {
				t.Errorf("a page with its cookie: got %d %s", w.Code, w.Body)
			}
			b.wantPushed("ann", "6")
			if w := b.ask("DELETE /v1/push", "", page[:4]...); w.Code != 200 {
				t.Errorf("a page with its cookie: got %d %s", w.Code, w.Body)
			}
			b.wantPushed("ann")
		})
	}
}

// A page that is left while its request is under way has asked all the same.
func TestASubscriptionThatCameIsKeptThoughNobodyWaits(t *testing.T) {
	b := newBed(t, session.Limits{}, 0, "redis")
	gone := func(method, body string) {
		ctx, leave := context.WithCancel(context.Background())
		leave()
		r := httptest.NewRequestWithContext(ctx, method, "/v1/push", strings.NewReader(body))
		r.Host = "localhost"
		r.Header.Set("Authorization", "Bearer "+b.token("ann", ""))
		b.ServeHTTP(httptest.NewRecorder(), r)
	}
	gone("POST", `{"subscription":`+subscription("https://push.example.com/1")+`}`)
	b.wantPushed("ann", "1")
	gone("DELETE", "")
	b.wantPushed("ann")
}

func TestWhereNothingIsPushedNobodySubscribes(t *testing.T) {
	b := newBed(t, session.Limits{}, 0, "redis")
	b.as("ann", "POST /v1/push", `{"subscription":`+subscription("https://push.example.com/1")+`}`)
	b.wantPushed("ann", "1")
	o := b.opt
	o.Sessions = session.New(session.Options{Store: b.writer, Verify: o.Verify})
	without := &bed{Gateway: doorOf(t, o), t: t, writer: b.writer}
	for _, what := range []string{"GET", "POST"} {
		w := without.as("ann", what+" /v1/push", `{"subscription":`+subscription("https://push.example.com/2")+`}`)
		if w.Code != 404 || !strings.HasPrefix(w.Body.String(), `{"type":"error","code":"bad_frame","message":"push.public_key: expected`) {
			t.Errorf("%s: got %d %s", what, w.Code, w.Body)
		}
	}
	if w := without.as("ann", "DELETE /v1/push", ""); w.Code != 200 { // what was stored before goes
		t.Errorf("got %d %s", w.Code, w.Body)
	}
	b.wantPushed("ann")
}
