package webhook

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"allim/internal/testkit"
	"allim/pkg/notify"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// The signature that all libraries of Standard Webhooks are tested with (libraries/go/webhook_symmetric_test.go there, TestWebhookSign). The
// specification's own example names no secret.
const (
	theirSecret    = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	theirID        = "msg_p5jXN8AQM9LWM0D4loKWxJek"
	theirBody      = `{"test": 2432232314}`
	theirSignature = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
)

var theirTime = time.Unix(1614265330, 0)

func TestTheSignatureIsThatOfStandardWebhooks(t *testing.T) {
	if got := endpoint(t, "https://h.example", theirSecret).sign(theirID, theirTime, []byte(theirBody)); got != theirSignature {
		t.Errorf("got %s, want %s", got, theirSignature)
	}
}

func TestDuringARotationBothSecretsSignTheNewOneFirst(t *testing.T) {
	other := "whsec_" + strings.Repeat("QUJD", 8)
	both := endpoint(t, "https://h.example", other+" "+theirSecret).sign(theirID, theirTime, []byte(theirBody))
	alone := endpoint(t, "https://h.example", other).sign(theirID, theirTime, []byte(theirBody))
	if both != alone+" "+theirSignature {
		t.Errorf("got %s", both)
	}
}

func TestWhatIsNoEndpointIsRefusedAndNotQuoted(t *testing.T) {
	long := "whsec_" + strings.Repeat("QUJD", 22) // 66 bytes
	for _, c := range []struct {
		name, url, secret string
		plain             bool
		field             string // "": it is taken
	}{
		{"https", "https://h.example/hunter2?x=y", theirSecret, false, ""},
		{"http on this machine", "http://127.0.0.1:99/", theirSecret, false, ""},
		{"http by name on this machine", "http://localhost:99/", theirSecret, false, ""},
		{"http elsewhere", "http://h.example/hunter2", theirSecret, false, "url"},
		{"http elsewhere in development", "http://h.example/", theirSecret, true, ""},
		{"a port that is none", "https://h.example:65536/hunter2", theirSecret, true, "url"},
		{"no scheme", "h.example/hunter2", theirSecret, true, "url"},
		{"another scheme", "ftp://h.example/hunter2", theirSecret, true, "url"},
		{"no host", "https:///hunter2", theirSecret, true, "url"},
		{"no URL", "https://%zz/hunter2", theirSecret, true, "url"},
		{"a password", "https://me:hunter2@h.example/", theirSecret, true, "url"},
		{"a fragment", "https://h.example/#hunter2", theirSecret, true, "url"},
		{"no secret", "https://h.example/", " ", true, "secret"},
		{"three", "https://h.example/", theirSecret + " " + theirSecret + " " + theirSecret, true, "secret"},
		{"another prefix", "https://h.example/", "whsk_" + theirSecret[6:] + "hunter2", true, "secret"},
		{"no base64", "https://h.example/", theirSecret + "!hunter2", true, "secret"},
		{"without padding", "https://h.example/", "whsec_" + strings.Repeat("QUJD", 8) + "QQ", true, "secret"},
		{"too short", "https://h.example/", "whsec_aHVudGVyMg==", true, "secret"},
		{"too long", "https://h.example/", long, true, "secret"},
		{"the second is bad", "https://h.example/", theirSecret + " hunter2", true, "secret"},
	} {
		t.Run(c.name, func(t *testing.T) {
			e, err := NewEndpoint(c.url, c.secret, c.plain)
			if c.field == "" {
				if err != nil {
					t.Fatal(err)
				}
				if shown := fmt.Sprint(e) + fmt.Sprintf("%#v %+v", e, e); strings.Contains(shown, "hunter2") || strings.Contains(shown, "secret") {
					t.Errorf("it shows %s", shown)
				}
				return
			}
			var fe *notify.FieldError
			if !errors.As(err, &fe) || fe.Field != c.field || e.url != "" {
				t.Fatalf("got %v and %v, want an error of %s", e, err, c.field)
			}
			for _, hidden := range []string{"hunter2", theirSecret, long, "aHVudGVyMg"} {
				if strings.Contains(err.Error(), hidden) {
					t.Errorf("says %v", err)
				}
			}
		})
	}
}

func TestTheIDTellsEventsApart(t *testing.T) {
	a := Event{Tenant: "t", User: "u", ID: "n", Type: Unseen}
	b, c, d, e, late := a, a, a, a, a
	b.Tenant, c.User, d.ID, e.Type = "x", "x", "x", Unread
	late.At, late.Data = time.Now(), []byte("1")
	if idOf(a) != idOf(late) {
		t.Error("another attempt has another id")
	}
	seen := map[string]bool{}
	for _, one := range []Event{a, b, c, d, e} {
		id := idOf(one)
		if seen[id] || strings.Contains(id, ".") || len(id) != 36 { // a dot would let parts of what is signed trade places
			t.Errorf("id %s of %+v", id, one)
		}
		seen[id] = true
	}
}

func endpoint(t *testing.T, url, secret string) Endpoint {
	t.Helper()
	e, err := NewEndpoint(url, secret, false)
	if err != nil {
		t.Fatal(err)
	}
	return e
}
