package webpush

import (
	"bytes"
	"crypto/ecdh"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"strings"
	"testing"

	"allim/internal/testkit"
	"allim/pkg/notify"
)

func TestMain(m *testing.M) { testkit.Main(m) }

func raw(t *testing.T, text string) []byte {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The example of RFC 8291 (section 5, with the values of appendix A), byte for byte.
func TestABodyIsThatOfTheRFC(t *testing.T) {
	const (
		browser = "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4"
		auth    = "BTBZMqHH6r4Tts7J_aSIgg"
		sender  = "yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw"
		salt    = "DGv6ra1nlYgDCS1FRnbzlw"
		want    = "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A_" +
			"yl95bQpu6cVPTpK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN"
	)
	s, err := NewSubscription("https://push.example/1", raw(t, browser), raw(t, auth))
	if err != nil {
		t.Fatal(err)
	}
	own, err := ecdh.P256().NewPrivateKey(raw(t, sender))
	if err != nil {
		t.Fatal(err)
	}
	got, err := s.encryptWith([]byte("When I grow up, I want to be a watermelon"), own, raw(t, salt))
	if err != nil || base64.RawURLEncoding.EncodeToString(got) != want {
		t.Errorf("got %s, %v", base64.RawURLEncoding.EncodeToString(got), err)
	}
}

func TestABodyIsReadWithTheBrowsersKeyAlone(t *testing.T) {
	mine, theirs := browser(t), browser(t)
	text := bytes.Repeat([]byte("x"), maxText)
	body, err := mine.subscription(t).encrypt(text)
	if err != nil {
		t.Fatal(err)
	}
	if len(body) != 4096 { // what every push service takes (RFC 8030, section 7.2), to the byte
		t.Errorf("the longest is of %d bytes", len(body))
	}
	if got, err := testkit.Decrypt(body, mine.private, mine.auth); err != nil || !bytes.Equal(got, text) {
		t.Errorf("got %.20q, %v", got, err)
	}
	if got, err := testkit.Decrypt(body, theirs.private, mine.auth); err == nil {
		t.Errorf("another browser reads %.20q", got)
	}
	if got, err := testkit.Decrypt(body, mine.private, theirs.auth); err == nil {
		t.Errorf("without the secret: %.20q", got)
	}
	again, err := mine.subscription(t).encrypt(text)
	if err != nil || bytes.Equal(again[:headerLen], body[:headerLen]) {
		t.Errorf("key and salt come twice: %v", err)
	}
	if _, err := mine.subscription(t).encrypt(append(text, 'x')); !errors.Is(err, notify.ErrTooLarge) {
		t.Errorf("one byte more: %v", err)
	}
}

func TestKeysThatAreNoneAreRefused(t *testing.T) {
	b := browser(t)
	public := b.private.PublicKey().Bytes()
	outside := bytes.Clone(public)
	outside[64] ^= 1
	compressed := append([]byte{2}, public[1:33]...)
	for _, c := range []struct {
		name         string
		p256dh, auth []byte
		field        string
	}{
		{"a point beside the curve", outside, b.auth, "keys.p256dh"},
		{"a compressed point", compressed, b.auth, "keys.p256dh"},
		{"no point", nil, b.auth, "keys.p256dh"},
		{"zeros", make([]byte, 65), b.auth, "keys.p256dh"},
		{"one byte more", append(bytes.Clone(public), 0), b.auth, "keys.p256dh"},
		{"no secret", public, nil, "keys.auth"},
		{"a short secret", public, b.auth[1:], "keys.auth"},
		{"a long secret", public, append(bytes.Clone(b.auth), 0), "keys.auth"},
	} {
		_, err := NewSubscription("https://push.example/1", c.p256dh, c.auth)
		var fe *notify.FieldError
		if !errors.As(err, &fe) || fe.Field != c.field || !strings.Contains(err.Error(), "expected") {
			t.Errorf("%s: got %v, want an error of %s", c.name, err, c.field)
		}
	}
}

type testBrowser struct {
	private *ecdh.PrivateKey
	auth    []byte
}

func browser(t *testing.T) testBrowser {
	t.Helper()
	private, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	auth := make([]byte, authLen)
	_, _ = rand.Read(auth)
	return testBrowser{private, auth}
}

func (b testBrowser) subscription(t *testing.T) Subscription {
	t.Helper()
	s, err := NewSubscription("https://push.example/1", b.private.PublicKey().Bytes(), b.auth)
	if err != nil {
		t.Fatal(err)
	}
	return s
}
