package boot

import (
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
