package webhook

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"allim/pkg/notify"
)

// Standard Webhooks: secrets are 24 to 64 random bytes, written whsec_<base64>. Two of them at once are a rotation: each signs, and a receiver
// takes whichever it knows.
const (
	secretPrefix = "whsec_"
	secretLeast  = 24
	secretMost   = 64
	secretsMost  = 2
	scheme       = "v1," // HMAC-SHA256
)

// An Endpoint, made by NewEndpoint, is where a tenant's webhooks go and what signs them. It shows neither path nor secrets when it is printed.
type Endpoint struct {
	url     string
	secrets [][]byte // one or two
}

// NewEndpoint checks a URL and one or two secrets, separated by blanks, and the new one first. With plain, http is taken too; without, only on this very
// machine. The error is a notify.FieldError of url or secret, which quotes neither.
func NewEndpoint(address, secrets string, plain bool) (Endpoint, error) {
	u, err := url.Parse(address)
	switch {
	case err != nil || u.Hostname() == "" || !goodPort(u.Port()) || u.Scheme != "https" && u.Scheme != "http":
		return Endpoint{}, &notify.FieldError{Field: "url", Want: "an address such as https://shop.example.com/hooks/allim"}
	case u.User != nil || u.Fragment != "":
		return Endpoint{}, &notify.FieldError{Field: "url", Want: "no user, password or # in it"}
	case u.Scheme == "http" && !plain && !loopback(u.Hostname()):
		return Endpoint{}, &notify.FieldError{Field: "url", Want: "https in production (or mode: development)"}
	}
	e := Endpoint{url: address}
	for _, text := range strings.Fields(secrets) {
		coded, prefixed := strings.CutPrefix(text, secretPrefix)
		secret, err := base64.StdEncoding.Strict().DecodeString(coded)
		if !prefixed || err != nil || len(secret) < secretLeast || len(secret) > secretMost {
			return Endpoint{}, &notify.FieldError{Field: "secret", Want: fmt.Sprintf("%s and the base64 of %d to %d random bytes", secretPrefix, secretLeast, secretMost)}
		}
		e.secrets = append(e.secrets, secret)
	}
	if len(e.secrets) < 1 || len(e.secrets) > secretsMost {
		return Endpoint{}, &notify.FieldError{Field: "secret", Want: "one secret, or two with a blank between them while the first replaces the second"}
	}
	return e, nil
}

// String hides what may be secret.
func (e Endpoint) String() string {
	u, err := url.Parse(e.url)
	if err != nil || u.Host == "" {
		return "(no endpoint)"
	}
	return u.Scheme + "://" + u.Host
}

// GoString hides what may be secret.
func (e Endpoint) GoString() string { return strconv.Quote(e.String()) }

// goodPort tells whether text is a port, or none: then it is the scheme's own.
func goodPort(text string) bool {
	n, err := strconv.ParseUint(text, 10, 16)
	return text == "" || err == nil && n > 0
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// sign is the header webhook-signature of a request: one signature for each secret.
func (e Endpoint) sign(id string, at time.Time, body []byte) string {
	signatures := make([]string, len(e.secrets))
	for i, secret := range e.secrets {
		mac := hmac.New(sha256.New, secret)
		fmt.Fprintf(mac, "%s.%d.", id, at.Unix())
		mac.Write(body)
		signatures[i] = scheme + base64.StdEncoding.EncodeToString(mac.Sum(nil))
	}
	return strings.Join(signatures, " ")
}

// idOf is the webhook-id of what is told of a notification, the same at each attempt and from whichever program: receivers tell by it what comes twice.
func idOf(e Event) string {
	sum := sha256.Sum256([]byte(e.Tenant + "\n" + e.User + "\n" + e.Type + "\n" + e.ID))
	return "msg_" + hex.EncodeToString(sum[:16])
}
