package inbox

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

const hookSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

// signed are the headers of a webhook.
func signed(secret, id string, at time.Time, body string) []string {
	key, _ := readSecret(secret)
	mac := hmac.New(sha256.New, key)
	fmt.Fprintf(mac, "%s.%d.%s", id, at.Unix(), body)
	return []string{"Webhook-Id: " + id, fmt.Sprintf("Webhook-Timestamp: %d", at.Unix()), "Webhook-Signature: v1,x v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil)), "Content-Type: application/json"}
}

// The signature with which all libraries of Standard Webhooks are tested (libraries/go/webhook_symmetric_test.go there).
func TestAWebhookIsVerifiedAsStandardWebhooksSays(t *testing.T) {
	secret, err := readSecret(hookSecret)
	if err != nil {
		t.Fatal(err)
	}
	h := http.Header{}
	h.Set("Webhook-Id", "msg_p5jXN8AQM9LWM0D4loKWxJek")
	h.Set("Webhook-Timestamp", "1614265330")
	h.Set("Webhook-Signature", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=")
	at := time.Unix(1614265330, 0)
	if err := verify(secret, h, []byte(`{"test": 2432232314}`), at.Add(4*time.Minute)); err != nil {
		t.Errorf("got %v", err)
	}
	for name, bad := range map[string]error{
		"another body": verify(secret, h, []byte(`{"test": 2432232315}`), at),
		"too old":      verify(secret, h, []byte(`{"test": 2432232314}`), at.Add(6*time.Minute)),
		"too new":      verify(secret, h, []byte(`{"test": 2432232314}`), at.Add(-6*time.Minute)),
	} {
		if bad == nil {
			t.Errorf("%s is taken", name)
		}
	}
}

func TestTheHookTakesWhatIsSignedAndNothingElse(t *testing.T) {
	c := open(t, nil)
	c.post(200, "/api/ask", `{"by":"ben","to":"ann"}`)
	one := c.wantStates(callWaiting)
	good := `{"type":"notification.unseen","data":{"id":"` + one.ID + `"}}`
	now := time.Now()
	for _, test := range []struct {
		name   string
		status int
		body   string
		header []string
	}{
		{"nothing", 401, good, nil},
		{"another secret", 401, good, signed("whsec_"+strings.Repeat("QUJD", 8), "msg_1", now, good)},
		{"another body", 401, good, signed(hookSecret, "msg_1", now, good+" ")},
		{"an old recording", 401, good, signed(hookSecret, "msg_1", now.Add(-time.Hour), good)},
		{"another id", 401, good, append(signed(hookSecret, "msg_1", now, good), "Webhook-Id: msg_2")},
		{"no JSON", 400, "x", signed(hookSecret, "msg_1", now, "x")},
		{"too much", 413, strings.Repeat(" ", mostHook+1), nil},
		{"another type", 204, strings.Replace(good, "unseen", "unread", 1), signed(hookSecret, "msg_1", now, strings.Replace(good, "unseen", "unread", 1))},
	} {
		if res, body := c.do("POST", "/hook", test.body, test.header...); res.StatusCode != test.status {
			t.Errorf("%s: got %s %s, want %d", test.name, res.Status, body, test.status)
		}
	}
	if res, _ := c.do("GET", "/hook", ""); res.StatusCode != 405 {
		t.Errorf("GET: got %s", res.Status)
	}
	c.rec.look() // none of them rang, or it would be answered now
	c.wantStates(callWaiting, callLooked)
}
