package inbox

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	mostHook = 64 << 10        // bytes of a webhook's body
	hookAge  = 5 * time.Minute // of its time, before or after ours: older ones are somebody's recording
)

var errUnsigned = errors.New("the webhook is not signed by us")

// readSecret reads a secret as both sides have it: whsec_ and base64.
func readSecret(text string) ([]byte, error) {
	secret, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(text, "whsec_"))
	if err != nil || len(secret) < 24 {
		return nil, errors.New("inbox options: HookSecret: want whsec_ and the base64 of at least 24 bytes")
	}
	return secret, nil
}

// verify checks a webhook as Standard Webhooks says: one of its signatures is the HMAC-SHA256 of `id.time.body` with our secret.
func verify(secret []byte, h http.Header, body []byte, now time.Time) error {
	seconds, err := strconv.ParseInt(h.Get("Webhook-Timestamp"), 10, 64)
	if err != nil || now.Sub(time.Unix(seconds, 0)).Abs() > hookAge {
		return errUnsigned
	}
	mac := hmac.New(sha256.New, secret)
	fmt.Fprintf(mac, "%s.%d.", h.Get("Webhook-Id"), seconds)
	mac.Write(body)
	want := []byte("v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	for one := range strings.FieldsSeq(h.Get("Webhook-Signature")) {
		if hmac.Equal([]byte(one), want) {
			return nil
		}
	}
	return errUnsigned
}

// hook is where Allim calls when nobody looked: the phone rings. The same webhook may come twice, with the same Webhook-Id; here the question itself tells, which
// rings once.
func (h *handler) hook(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, mostHook))
	if err != nil {
		refuse(w, http.StatusRequestEntityTooLarge, "too_large", fmt.Sprintf("the body has more than %d bytes, or did not come whole", mostHook))
		return
	}
	if err := verify(h.calls.secret, r.Header, body, time.Now()); err != nil {
		refuse(w, http.StatusUnauthorized, "unsigned", err.Error())
		return
	}
	var told struct {
		Type string
		Data struct{ ID string }
	}
	if err := json.Unmarshal(body, &told); err != nil {
		refuse(w, http.StatusBadRequest, "not_json", "the body is not the JSON object that a webhook has")
		return
	}
	if told.Type == "notification.unseen" {
		h.calls.become(told.Data.ID, callRings) // of a question that is closed, or of another process: nothing to ring for
	}
	w.WriteHeader(http.StatusNoContent)
}
