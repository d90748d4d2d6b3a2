package webpush

import (
	"errors"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"allim/pkg/notify"
)

const subject = "mailto:ops@example.com"

func keys(t *testing.T) Keys {
	t.Helper()
	public, private, err := Generate()
	if err != nil {
		t.Fatal(err)
	}
	k, err := NewKeys(subject, public, private)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// wantVapid verifies what a push says of its sender, as a push service does: RFC 8292.
func wantVapid(t *testing.T, header string, k Keys, origin string, now time.Time) {
	t.Helper()
	fields, ok := strings.CutPrefix(header, "vapid ")
	if !ok {
		t.Fatalf("Authorization: %s", header)
	}
	got := map[string]string{}
	for field := range strings.SplitSeq(fields, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(field), "=")
		got[name] = value
	}
	if got["k"] != k.Public() {
		t.Fatalf("k is %s, want %s", got["k"], k.Public())
	}
	claims := jwt.RegisteredClaims{}
	_, err := jwt.ParseWithClaims(got["t"], &claims, func(*jwt.Token) (any, error) { return &k.private.PublicKey, nil },
		jwt.WithValidMethods([]string{"ES256"}), jwt.WithAudience(origin), jwt.WithSubject(subject), jwt.WithExpirationRequired(), jwt.WithTimeFunc(func() time.Time { return now }))
	if err != nil {
		t.Fatalf("token: %v", err)
	}
	if left := claims.ExpiresAt.Sub(now); left > 24*time.Hour || left < time.Hour {
		t.Errorf("it is good for %v: a push service takes 24 hours at most", left)
	}
}

func TestThePushServiceKnowsWhoPushes(t *testing.T) {
	k, now := keys(t), time.Unix(1_795_000_000, 0)
	header, err := k.authorization("https://push.example", now)
	if err != nil {
		t.Fatal(err)
	}
	wantVapid(t, header, k, "https://push.example", now)
	_, err = jwt.Parse(strings.TrimPrefix(strings.Split(header, ",")[0], "vapid t="), func(*jwt.Token) (any, error) { return &keys(t).private.PublicKey, nil },
		jwt.WithTimeFunc(func() time.Time { return now }))
	if !errors.Is(err, jwt.ErrTokenSignatureInvalid) {
		t.Errorf("with another's key: %v", err)
	}
}

// One time in 128 a half is shorter than 32 bytes.
func TestBothHalvesOfASignatureHave32Bytes(t *testing.T) {
	got := signature(big.NewInt(1), big.NewInt(0x203))
	if len(got) != 64 || got[31] != 1 || got[62] != 2 || got[63] != 3 {
		t.Errorf("got %x", got)
	}
}

func TestKeysAreAPairOfSomebody(t *testing.T) {
	public, private, err := Generate()
	if err != nil {
		t.Fatal(err)
	}
	other, _, err := Generate()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, subject, public, private string
		field                          string // "": they are taken
	}{
		{"a pair", subject, public, private, ""},
		{"a pair with padding", subject, public + "=", private + "=", ""},
		{"a page", "https://example.com/contact", public, private, ""},
		{"nobody", "", public, private, "subject"},
		{"an address without its scheme", "ops@example.com", public, private, "subject"},
		{"no address", "mailto:ops", public, private, "subject"},
		{"a page without TLS", "http://example.com", public, private, "subject"},
		{"another's public key", subject, other, private, "public_key"},
		{"no public key", subject, "", private, "public_key"},
		{"no private key", subject, public, "", "private_key"},
		{"a short private key", subject, public, private[:40], "private_key"},
		{"another alphabet", subject, public, strings.Repeat("+", 43), "private_key"},
		{"zero", subject, public, strings.Repeat("A", 43), "private_key"},
		{"the public one twice", subject, public, public, "private_key"},
	} {
		t.Run(c.name, func(t *testing.T) {
			k, err := NewKeys(c.subject, c.public, c.private)
			if c.field == "" {
				if err != nil || k.Public() != public {
					t.Fatalf("got %v, %v", k, err)
				}
				if shown := fmt.Sprint(k) + fmt.Sprintf("%+v %#v", k, k); strings.Contains(shown, private) || strings.Contains(shown, "private") {
					t.Errorf("it shows %s", shown)
				}
				return
			}
			var fe *notify.FieldError
			if !errors.As(err, &fe) || fe.Field != c.field {
				t.Fatalf("got %v, want an error of %s", err, c.field)
			}
			if c.private != "" && strings.Contains(err.Error(), c.private) {
				t.Errorf("says %v", err)
			}
		})
	}
}

func TestAPublicKeyIsAPoint(t *testing.T) {
	public, private, err := Generate()
	if err != nil {
		t.Fatal(err)
	}
	for text, good := range map[string]bool{public: true, public + "=": true, private: false, "": false, public[1:]: false, "B" + strings.Repeat("A", 86): false} {
		if err := CheckPublic(text); (err == nil) != good {
			t.Errorf("%s: %v", text, err)
		}
	}
}
