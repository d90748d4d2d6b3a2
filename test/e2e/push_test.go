package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"

	"allim/internal/testkit"
	pb "allim/proto/allim/v1"
	"allim/test/pods"
)

const webPush = pb.NotifyRequest_Escalate_WEB_PUSH

// pushSettings are those of Web Push with keys of their own, as `allim push-keys` prints them, and one push service.
func pushSettings(t *testing.T, service *testkit.PushService) (yaml, public string) {
	t.Helper()
	out, err := exec.Command(pods.Program(t, "allim"), "push-keys").Output()
	if err != nil {
		t.Fatal(err)
	}
	public = regexp.MustCompile(`public_key: (\S+)`).FindStringSubmatch(string(out))[1]
	return string(out) + fmt.Sprintf("  hosts: ['%s']\n", service.Host), public
}

// wantSender wants a push to say who sends it, as push services are told to find out: RFC 8292, sections 2 and 3. The key is what its browser has subscribed with.
func wantSender(t *testing.T, p testkit.Push, origin, key string) {
	t.Helper()
	found := regexp.MustCompile(`^vapid t=([^,]+), k=(\S+)$`).FindStringSubmatch(p.Header.Get("Authorization"))
	if found == nil || found[2] != key {
		t.Fatalf("Authorization: %s, want the key %s", p.Header.Get("Authorization"), key)
	}
	point, err := base64.RawURLEncoding.DecodeString(key)
	if err != nil {
		t.Fatal(err)
	}
	public, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := jwt.Parse(found[1], func(*jwt.Token) (any, error) { return public, nil }, jwt.WithValidMethods([]string{"ES256"}), jwt.WithAudience(origin),
		jwt.WithSubject("mailto:you@example.com"), jwt.WithExpirationRequired()); err != nil {
		t.Errorf("the token of a push: %v", err)
	}
}

// Four browsers subscribe at a gateway, and a publisher pushes what no device showed: who takes it is told once, who has ended is told once and never more, and who is
// busy or has a fault is told again, alone.
func TestBrowsersArePushedToUntilTheyTakeIt(t *testing.T) {
	t.Parallel()
	service := testkit.NewPushService(t)
	yaml, key := pushSettings(t, service)
	stage := pods.Start(t, pods.Options{Settings: yaml, Env: []string{"SSL_CERT_FILE=" + service.CAFile}})
	pub, url, token := stage.Publishers[0], "http://"+stage.Gateways[0].Addr("public")+"/v1/push", pods.Token(t, "ann", pods.Grant{})
	v := &victim{T: t, backend: pods.NewBackend(t, pub, "default")}
	browsers := map[*testkit.Device]string{}
	for _, name := range []string{"well", "ended", "busy", "fault"} {
		d := service.Device(t)
		browsers[d] = name
		encode := base64.RawURLEncoding.EncodeToString
		body, err := json.Marshal(map[string]any{"subscription": map[string]any{"endpoint": d.Endpoint, "expirationTime": nil, "keys": map[string]string{"p256dh": encode(d.P256dh), "auth": encode(d.Auth)}}})
		if err != nil {
			t.Fatal(err)
		}
		if got := v.post(url, token, body); !strings.HasPrefix(got, "200 ") {
			t.Fatalf("subscribe %s: %s", name, got)
		}
	}
	tried := map[string]int{}                    // of the first notification
	service.Answer(func(d *testkit.Device) int { // one after the other
		name := browsers[d]
		tried[name]++
		switch {
		case name == "ended":
			return http.StatusGone
		case name == "busy" && tried[name] == 1:
			return http.StatusTooManyRequests
		case name == "fault" && tried[name] == 1:
			return http.StatusInternalServerError
		}
		return http.StatusCreated
	})
	sent(t, v.backend, "ann", &pb.NotifyRequest{Id: "n1", Category: "tea", Escalate: unlessSeen(webPush)})
	testkit.Eventually(t, pods.Within, func() bool { return escalations("sent", pub) == 1 }, "all who take it have it")
	(deadlines{t, stage.Redis, "ann"}).wantNone()
	got := map[string]int{}
	for _, p := range service.Pushes() {
		got[browsers[p.To]]++
		wantSender(t, p, "https://"+service.Host, key)
		var said struct{ ID, Topic, Category, Title string }
		if err := json.Unmarshal([]byte(p.Text), &said); err != nil || said.ID != "n1" || said.Topic != "user:ann" || said.Category != "tea" || said.Title != "Tea" {
			t.Errorf("pushed %s, %v", p.Text, err)
		}
	}
	if want := map[string]int{"well": 1, "ended": 1, "busy": 2, "fault": 2}; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("pushed to %v, want %v", got, want)
	}
	if n := pub.Metric("allim_push_removed_total"); n != 1 {
		t.Errorf("%v are forgotten, want the one that has ended", n)
	}
	rdb := stage.Redis.Client()
	keys, err := rdb.Keys(t.Context(), "al:{*}:default:i:ann:p").Result()
	if err != nil || len(keys) != 1 || rdb.HLen(t.Context(), keys[0]).Val() != 3 {
		t.Errorf("Redis has %v of ann's browsers, %v, want three", keys, err)
	}

	before := len(service.Pushes())
	sent(t, v.backend, "ann", &pb.NotifyRequest{Id: "n2", Escalate: unlessSeen(webPush)})
	testkit.Eventually(t, pods.Within, func() bool { return escalations("sent", pub) == 2 }, "the next one is pushed")
	got = map[string]int{}
	for _, p := range service.Pushes()[before:] {
		got[browsers[p.To]]++
	}
	if want := map[string]int{"well": 1, "busy": 1, "fault": 1}; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("the next one is pushed to %v, want %v", got, want)
	}
}
