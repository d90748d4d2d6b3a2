package auth

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"allim/pkg/notify"
)

func TestKeysAreRotatedByKid(t *testing.T) {
	older, newer, unnamed := []byte("older: 0123456789abcdef012345678"), []byte("newer: 0123456789abcdef012345678"), []byte("unnamed: 0123456789abcdef0123456")
	v := verifierFor(t, options(t,
		Key{ID: "old", Algorithm: "HS256", Secret: older},
		Key{ID: "new", Algorithm: "HS256", Secret: newer, Tenants: []string{"default", "acme"}},
		Key{Algorithm: "HS256", Secret: unnamed}))
	for _, c := range []struct {
		kid    string
		secret []byte
		ok     bool
	}{
		{`,"kid":"old"`, older, true}, {`,"kid":"new"`, newer, true}, {"", older, true}, {"", newer, true},
		{`,"kid":"new"`, older, false}, {`,"kid":"old"`, unnamed, false}, {`,"kid":"gone"`, older, false}, {`,"kid":"gone"`, unnamed, true},
	} {
		_, err := v.Verify(forge(`{"alg":"HS256"`+c.kid+`}`, good, c.secret))
		if (err == nil) != c.ok {
			t.Errorf("%s signed with %c…: got %v (%s), want accepted %v", c.kid, c.secret[0], err, Why(err), c.ok)
		}
	}
	acme := `{"sub":"42","exp":1800003600,"allim":{"tenant":"acme"}}`
	if _, err := v.Verify(forge(head, acme, newer)); err != nil {
		t.Errorf("a tenant of the key: %s", Why(err))
	}
	_, err := v.Verify(forge(head, acme, older)) // the rights are those of the key that signed, not of its neighbour
	wantRefused(t, err, "tenant")
}

func TestATokenWithoutTenantIsForTheDefaultOne(t *testing.T) {
	v := verifierFor(t, options(t, Key{Algorithm: "HS256", Secret: secret, Tenants: []string{"acme"}}))
	_, err := v.Verify(forge(head, good, secret))
	wantRefused(t, err, "tenant")
}

func TestAnIssuerHasItsOwnKeysOnly(t *testing.T) {
	mine, any := []byte("mine: 0123456789abcdef0123456789"), []byte("any: 0123456789abcdef01234567890")
	v := verifierFor(t, options(t, Key{Issuer: "https://id", Algorithm: "HS256", Secret: mine}, Key{Algorithm: "HS256", Secret: any}))
	for _, c := range []struct {
		iss    string
		secret []byte
		ok     bool
	}{
		{`"iss":"https://id",`, mine, true}, {`"iss":"https://id",`, any, false}, {"", any, true}, {"", mine, false},
		{`"iss":"https://other",`, any, true}, {`"iss":"https://id/",`, mine, false},
	} {
		_, err := v.Verify(forge(head, `{`+c.iss+`"sub":"42","exp":1800003600}`, c.secret))
		if (err == nil) != c.ok {
			t.Errorf("%s signed with %c…: got %v (%s), want accepted %v", c.iss, c.secret[0], err, Why(err), c.ok)
		}
	}
	strict := verifierFor(t, options(t, Key{Issuer: "https://id", Algorithm: "HS256", Secret: mine}))
	_, err := strict.Verify(forge(head, good, mine))
	wantRefused(t, err, "no key")
}

func TestWithoutKeysEveryTokenIsRefused(t *testing.T) {
	v := verifierFor(t, Options{})
	_, err := v.Verify(forge(head, good, nil))
	wantRefused(t, err, "no key")
}

func TestEveryMistakeInTheKeysIsNamed(t *testing.T) {
	_, public := rsaKey(t)
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, err = NewKeys([]Key{
		0:  {Algorithm: "HS256", Secret: secret[:31]},
		1:  {Algorithm: "none"},
		2:  {Algorithm: "RS256", Public: &p384.PublicKey},
		3:  {Algorithm: "ES256", Public: &p384.PublicKey},
		4:  {Algorithm: "EdDSA"},
		5:  {Algorithm: "RS256", Public: public, Secret: secret},
		6:  {Algorithm: "HS256", Public: public, Secret: secret},
		7:  {Algorithm: "HS256", Secret: secret, Tenants: []string{"ok", "Not"}},
		8:  {ID: "a", Algorithm: "HS256", Secret: secret},
		9:  {ID: "a", Algorithm: "HS256", Secret: secret},
		10: {Algorithm: "RS256", Public: public},
		11: {ID: strings.Repeat("k", 257), Algorithm: "HS256", Secret: secret},
		12: {Algorithm: "HS256", Secret: bytes.Repeat([]byte{0}, 64)},
		13: {Algorithm: "HS256", Secret: secret[:31], Field: "keys[0].secret_file"},
	})
	want := []string{"keys[0].secret", "keys[1].algorithm", "keys[2].public_key", "keys[3].public_key", "keys[4].public_key", "keys[5].secret",
		"keys[6].public_key", "keys[7].tenants[1]", "keys[9].id", "keys[10].algorithm", "keys[11].id", "keys[12].secret", "keys[0].secret_file.secret"}
	if got := fields(err); !slices.Equal(got, want) {
		t.Errorf("got %v\nwant %v", got, want)
	}
}

// fields lists the fields of joined FieldErrors.
func fields(err error) (all []string) {
	if err == nil {
		return nil
	}
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range many.Unwrap() {
			all = append(all, fields(e)...)
		}
		return all
	}
	var fe *notify.FieldError
	if errors.As(err, &fe) {
		all = append(all, fe.Field)
	}
	return all
}

func TestASecretThatNobodyDrewAtRandomIsRefused(t *testing.T) {
	for name, c := range map[string]struct{ secret, want string }{
		"none":            {"", "secret: expected at least 32 bytes, not 0"},
		"short":           {string(secret[:31]), "secret: expected at least 32 bytes, not 31"},
		"one byte":        {strings.Repeat("s", 32), "secret: expected randomness, such as `openssl rand -hex 32` makes: at least 8 different bytes, not 1"},
		"zeros":           {strings.Repeat("\x00", 64), "secret: expected randomness, such as `openssl rand -hex 32` makes: at least 8 different bytes, not 1"},
		"seven bytes":     {strings.Repeat("1234567", 5), "secret: expected randomness, such as `openssl rand -hex 32` makes: at least 8 different bytes, not 7"},
		"eight bytes":     {strings.Repeat("12345678", 4), ""},
		"of README":       {strings.Repeat("0123456789abcdef", 4), ""},
		"of other tests":  {"a secret of at least thirty-two bytes", ""},
		"random, no text": {"\xff\x00\x81\x13\x07\xa9\x42\x99\xd1\x5e" + strings.Repeat("\xfe", 22), ""},
	} {
		err := CheckSecret([]byte(c.secret))
		if got := fmt.Sprint(err); got != c.want && (err != nil || c.want != "") {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}

func TestTokensOfTheOldAndOfTheNewSecretVerifyWhileBothStand(t *testing.T) {
	older, newer := []byte("older: 0123456789abcdef012345678"), []byte("newer: 0123456789abcdef012345678")
	claims := `{"iss":"https://id","sub":"42","exp":1800003600}`
	for _, ids := range [][2]string{{"", ""}, {"k1", "k2"}, {"", "k2"}, {"k1", ""}} {
		table := func(keys ...Key) *Verifier {
			for i := range keys {
				keys[i].Issuer, keys[i].Algorithm = "https://id", "HS256"
			}
			return verifierFor(t, options(t, keys...))
		}
		before, during, after := Key{ID: ids[0], Secret: older}, Key{ID: ids[1], Secret: newer}, Key{ID: ids[1], Secret: newer}
		for name, c := range map[string]struct {
			v        *Verifier
			old, new bool
		}{"before": {table(before), true, false}, "during": {table(before, during), true, true}, "after": {table(after), false, true}} {
			for i, secret := range [][]byte{older, newer} {
				for _, kid := range []string{"", ids[i]} {
					h := `{"alg":"HS256"}`
					if kid != "" {
						h = `{"alg":"HS256","kid":"` + kid + `"}`
					}
					_, err := c.v.Verify(forge(h, claims, secret))
					if want := [2]bool{c.old, c.new}[i]; (err == nil) != want {
						t.Errorf("ids %q, %s the rotation, secret %d, %s: got %v (%s), want accepted %v", ids, name, i, h, err, Why(err), want)
					}
				}
			}
		}
	}
}
