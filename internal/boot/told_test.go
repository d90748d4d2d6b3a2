package boot

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"allim/internal/settings"
	"allim/internal/webpush"
)

const hookSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

func TestWebhooksAreOfOneTenantEach(t *testing.T) {
	all, err := Webhooks([]settings.Webhook{{URL: "https://a.example/x", Secret: hookSecret}, {Tenant: "acme", URL: "http://b.example/", Secret: hookSecret + " " + hookSecret}}, true)
	if err != nil || len(all) != 2 || fmt.Sprint(all["default"], all["acme"]) != "https://a.example http://b.example" {
		t.Errorf("got %v, %v", all, err)
	}
	_, err = Webhooks([]settings.Webhook{{URL: "http://b.example/", Secret: hookSecret}, {Tenant: "default", URL: "https://a.example/", Secret: hookSecret},
		{Tenant: "a b", URL: "https://a.example/", Secret: "hunter2"}}, false)
	want := []string{"webhooks[0].url: expected https in production", "webhooks[1].tenant: expected one that no other webhook has: webhooks[0]", "webhooks[2].tenant: ", "webhooks[2].secret: "}
	lines := strings.Split(fmt.Sprint(err), "\n")
	if len(lines) != len(want) || strings.Contains(fmt.Sprint(err), "hunter2") {
		t.Fatalf("got %v", err)
	}
	for i := range want {
		if !strings.HasPrefix(lines[i], want[i]) {
			t.Errorf("got %s, want %s", lines[i], want[i])
		}
	}
}

func TestPushNeedsKeysOrNothing(t *testing.T) {
	public, private, err := webpush.Generate()
	if err != nil {
		t.Fatal(err)
	}
	const subject = "mailto:ops@example.com"
	for _, c := range []struct {
		name string
		of   settings.Push
		keys bool
		want string // beginning of the mistake; "": none
	}{
		{"nothing", settings.Push{}, false, ""},
		{"all", settings.Push{Subject: subject, PublicKey: public, PrivateKey: settings.Secret(private)}, true, ""},
		{"no subject", settings.Push{PublicKey: public, PrivateKey: settings.Secret(private)}, false, "push.subject: "},
		{"no private key", settings.Push{Subject: subject, PublicKey: public}, false, "push.private_key: "},
		{"no public key", settings.Push{Subject: subject, PrivateKey: settings.Secret(private)}, false, "push.public_key: "},
		{"hosts that are none", settings.Push{Hosts: []string{"push.example.com", "x"}}, false, "push.hosts[1]: "},
	} {
		keys, hosts, err := Push(c.of)
		if (keys != nil) != c.keys || (err == nil) != (c.want == "") || err != nil && !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%s: got %v, %v", c.name, keys, err)
		}
		if c.want == "" && hosts.Check("https://fcm.googleapis.com/x") != nil {
			t.Errorf("%s: Chrome's is not known", c.name)
		}
	}
}

// What a gateway stores is what a publisher would push to.
func TestAGatewayTakesTheSubscriptionsThatArePushedTo(t *testing.T) {
	public, _, err := webpush.Generate()
	if err != nil {
		t.Fatal(err)
	}
	for of, want := range map[*settings.Push]string{
		{}: "", {Hosts: []string{"x"}}: "push.hosts[0]: ", {PublicKey: "x"}: "push.public_key: ", {PublicKey: public[:86] + "!"}: "push.public_key: ",
	} {
		if check, err := Subscriptions(*of); (err == nil) != (want == "") || err != nil && !strings.HasPrefix(err.Error(), want) || check != nil && of.PublicKey == "" {
			t.Errorf("%+v: got %v, want %s", of, err, want)
		}
	}
	key, err := base64.RawURLEncoding.DecodeString(public) // a browser's looks the same
	if err != nil {
		t.Fatal(err)
	}
	secret := make([]byte, 16)
	const chrome = "https://fcm.googleapis.com/fcm/send/x"
	for _, c := range []struct {
		name, endpoint string
		key, secret    []byte
		want           string // beginning of the mistake; "": none
	}{
		{"Chrome's", chrome, key, secret, ""},
		{"Firefox'", "https://updates.push.services.mozilla.com/wpush/v2/x", key, secret, ""},
		{"plain", "http://fcm.googleapis.com/x", key, secret, "endpoint: "},
		{"another port", "https://fcm.googleapis.com:8443/x", key, secret, "endpoint: "},
		{"our own network", "https://169.254.169.254/latest", key, secret, "endpoint: "},
		{"this machine", "https://localhost/x", key, secret, "endpoint: "},
		{"a name that only begins like one", "https://fcm.googleapis.com.evil.example/x", key, secret, "endpoint: "},
		{"one behind an @", "https://fcm.googleapis.com@evil.example/x", key, secret, "endpoint: "},
		{"nothing", "", key, secret, "endpoint: "},
		{"a point beside the curve", chrome, append([]byte{4}, make([]byte, 64)...), secret, "keys.p256dh: "},
		{"a short key", chrome, key[:64], secret, "keys.p256dh: "},
		{"a short secret", chrome, key, secret[:15], "keys.auth: "},
	} {
		check, err := Subscriptions(settings.Push{PublicKey: public})
		if err != nil {
			t.Fatal(err)
		}
		if err := check(c.endpoint, c.key, c.secret); (err == nil) != (c.want == "") || err != nil && !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %s", c.name, err, c.want)
		}
	}
	check, err := Subscriptions(settings.Push{PublicKey: public, Hosts: []string{"push.example.com"}})
	if err != nil || check("https://push.example.com/x", key, secret) != nil || check(chrome, key, secret) == nil {
		t.Errorf("the list of the settings does not hold: %v", err)
	}
}
