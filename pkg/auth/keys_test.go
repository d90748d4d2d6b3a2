package auth

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"slices"
	"strings"
	"testing"

	"allim/pkg/notify"
)

func TestKeysAreRotatedByKid(t *testing.T) {
	older, newer, unnamed := []byte(strings.Repeat("o", 32)), []byte(strings.Repeat("n", 32)), []byte(strings.Repeat("u", 32))
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
	mine, any := []byte(strings.Repeat("m", 32)), []byte(strings.Repeat("a", 32))
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
	})
	want := []string{"keys[0].secret", "keys[1].algorithm", "keys[2].public", "keys[3].public", "keys[4].public", "keys[5].secret",
		"keys[6].public", "keys[7].tenants[1]", "keys[9].id", "keys[10].algorithm", "keys[11].id"}
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

func TestPublicKeysAreReadFromPEMOnly(t *testing.T) {
	for _, text := range []string{"", "no PEM", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
		"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"} {
		if key, err := ParsePublicKey([]byte(text)); err == nil {
			t.Errorf("%q: got %v", text, key)
		}
	}
}
