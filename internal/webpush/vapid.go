package webpush

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"net/url"
	"strings"
	"time"

	"allim/pkg/notify"
)

// tokenLife is how long a push service may take a token for good: half of what RFC 8292 (section 2) allows, for clocks that differ.
const tokenLife = 12 * time.Hour

// Keys, made by NewKeys, tell push services who pushes (RFC 8292, VAPID). The zero value pushes nothing.
type Keys struct {
	subject string
	public  string // base64url, as pages give it to the browser
	private *ecdsa.PrivateKey
}

// NewKeys checks a pair and who is behind it: subject is a mailto: or https: URL. The error is a notify.FieldError of subject, public_key or private_key,
// which does not quote the last.
func NewKeys(subject, public, private string) (Keys, error) {
	u, err := url.Parse(subject)
	if err != nil || !(u.Scheme == "mailto" && strings.Contains(u.Opaque, "@") || u.Scheme == "https" && u.Host != "") {
		return Keys{}, &notify.FieldError{Field: "subject", Want: "where whoever runs a push service reaches you: mailto:ops@example.com, or an https URL"}
	}
	scalar, err := decode(private)
	var key *ecdsa.PrivateKey
	if err == nil {
		key, err = ecdsa.ParseRawPrivateKey(elliptic.P256(), scalar)
	}
	if err != nil {
		return Keys{}, &notify.FieldError{Field: "private_key", Want: "32 bytes in base64url, as `allim push-keys` prints them"}
	}
	k := Keys{subject: subject, private: key}
	if k.public, err = publicText(key); err != nil || strings.TrimRight(public, "=") != k.public {
		return Keys{}, &notify.FieldError{Field: "public_key", Want: "the one of the private key: 65 bytes in base64url, as `allim push-keys` prints them"}
	}
	return k, nil
}

// Generate makes a pair as NewKeys takes it.
func Generate() (public, private string, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", "", fmt.Errorf("make keys: %w", err)
	}
	scalar, err := key.Bytes()
	if err != nil {
		return "", "", fmt.Errorf("make keys: %w", err)
	}
	public, err = publicText(key)
	return public, base64.RawURLEncoding.EncodeToString(scalar), err
}

// CheckPublic checks a public key where the private one is elsewhere. The error is a notify.FieldError of public_key.
func CheckPublic(public string) error {
	b, err := decode(public)
	if err == nil {
		_, err = ecdsa.ParseUncompressedPublicKey(elliptic.P256(), b)
	}
	if err != nil {
		return &notify.FieldError{Field: "public_key", Want: "65 bytes in base64url, as `allim push-keys` prints them"}
	}
	return nil
}

func publicText(key *ecdsa.PrivateKey) (string, error) {
	b, err := key.PublicKey.Bytes()
	if err != nil {
		return "", fmt.Errorf("encode public key: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(b), nil
}

func decode(text string) ([]byte, error) {
	return base64.RawURLEncoding.Strict().DecodeString(strings.TrimRight(text, "="))
}

// Public is the key that pages ask the browser to subscribe with; "" where nothing is pushed.
func (k Keys) Public() string { return k.public }

// String hides the private key.
func (k Keys) String() string { return k.public }

// GoString hides the private key.
func (k Keys) GoString() string { return fmt.Sprintf("%q", k.public) }

// authorization is the header of a push to an origin: a token that only this service may take, signed with ES256.
func (k Keys) authorization(origin string, now time.Time) (string, error) {
	claims, err := json.Marshal(struct {
		Audience string `json:"aud"`
		Expires  int64  `json:"exp"`
		Subject  string `json:"sub"`
	}{origin, now.Add(tokenLife).Unix(), k.subject})
	if err != nil {
		return "", fmt.Errorf("make token of push: %w", err)
	}
	text := base64.RawURLEncoding.EncodeToString([]byte(`{"typ":"JWT","alg":"ES256"}`)) + "." + base64.RawURLEncoding.EncodeToString(claims)
	sum := sha256.Sum256([]byte(text))
	r, s, err := ecdsa.Sign(rand.Reader, k.private, sum[:])
	if err != nil {
		return "", fmt.Errorf("sign token of push: %w", err)
	}
	return "vapid t=" + text + "." + base64.RawURLEncoding.EncodeToString(signature(r, s)) + ", k=" + k.public, nil
}

// signature is r and s in 32 bytes each (RFC 7518, section 3.4).
func signature(r, s *big.Int) []byte {
	out := make([]byte, 64)
	r.FillBytes(out[:32])
	s.FillBytes(out[32:])
	return out
}
