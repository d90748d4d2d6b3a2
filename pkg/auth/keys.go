package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"errors"
	"fmt"
	"slices"

	"github.com/golang-jwt/jwt/v5"

	"allim/pkg/notify"
)

// MinSecret is the least length of an HS256 secret in bytes (RFC 7518, section 3.2).
const MinSecret = 32

// Bounds of a table of keys.
const (
	minRSA     = 2048 // bits
	maxRSA     = 16384
	minBytes   = 8  // different ones in a secret: fewer is no randomness, and of random secrets once in 10^36, of 32 hex digits once in 10^7
	maxPerIss  = 16 // keys of one issuer: how many a token without kid can make us try
	maxTenants = 1000
)

// A Key verifies tokens of one issuer.
type Key struct {
	ID        string           // the token's kid; "" for a key whose tokens name none, or one of no other key
	Issuer    string           // the token's iss; "" for issuers that no key names, and tokens without
	Algorithm string           // HS256, RS256, ES256 or EdDSA
	Secret    []byte           // of HS256: at least MinSecret bytes of randomness
	Public    crypto.PublicKey // of the others: *rsa.PublicKey (2048 bits or more), *ecdsa.PublicKey on P-256, ed25519.PublicKey
	Tenants   []string         // that its tokens may speak for; none: notify.DefaultTenant only
	Field     string           // what mistakes and explanations call it; "": keys[<place in the table>]
}

// Keys is a table of keys: for each issuer one algorithm, and as many keys as a rotation needs. It is immutable.
type Keys struct {
	issuers map[string]*issuer
	all     []*Key // in the order given
}

type issuer struct {
	method jwt.SigningMethod
	keys   []*Key
}

var methods = map[string]jwt.SigningMethod{
	"HS256": jwt.SigningMethodHS256,
	"RS256": jwt.SigningMethodRS256,
	"ES256": jwt.SigningMethodES256,
	"EdDSA": jwt.SigningMethodEdDSA,
}

// NewKeys makes a table. Its error joins one notify.FieldError for each mistake. A table without keys refuses every token.
func NewKeys(keys []Key) (*Keys, error) {
	t := &Keys{issuers: map[string]*issuer{}}
	var errs []error
	for i, k := range keys {
		if k.Field == "" {
			k.Field = fmt.Sprintf("keys[%d]", i)
		}
		wrong := k.check()
		if wrong == nil {
			wrong = t.add(&k)
		}
		errs = append(errs, wrong...)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return t, nil
}

func mistake(field string, i int, want string) error {
	return &notify.FieldError{Field: fmt.Sprintf(field, i), Want: want}
}

// add gives a key that is good in itself to its issuer.
func (t *Keys) add(k *Key) []error {
	iss := t.issuers[k.Issuer]
	if iss == nil {
		iss = &issuer{method: methods[k.Algorithm]}
		t.issuers[k.Issuer] = iss
	}
	wrong := func(name, want string) []error {
		return []error{&notify.FieldError{Field: k.Field + "." + name, Want: want}}
	}
	switch same := func(o *Key) bool { return k.ID != "" && o.ID == k.ID }; {
	case iss.method != methods[k.Algorithm]:
		return wrong("algorithm", iss.method.Alg()+", as the other keys of this issuer")
	case slices.ContainsFunc(iss.keys, same):
		return wrong("id", "one that no other key of this issuer has")
	case len(iss.keys) == maxPerIss:
		return wrong("issuer", fmt.Sprintf("at most %d keys", maxPerIss))
	}
	iss.keys = append(iss.keys, k)
	t.all = append(t.all, k)
	return nil
}

// check completes k and returns every mistake in it.
func (k *Key) check() (errs []error) {
	wrong := func(name, want string) {
		errs = append(errs, &notify.FieldError{Field: k.Field + "." + name, Want: want})
	}
	if methods[k.Algorithm] == nil {
		wrong("algorithm", "HS256, RS256, ES256 or EdDSA")
		return errs
	}
	if k.Algorithm == "HS256" {
		if want := secretWant(k.Secret); want != "" {
			wrong("secret", want)
		}
		if k.Public != nil {
			wrong("public_key", "none with HS256")
		}
	} else {
		if len(k.Secret) > 0 {
			wrong("secret", "none with "+k.Algorithm)
		}
		if want := publicFor(k.Algorithm, k.Public); want != "" {
			wrong("public_key", want)
		}
	}
	if len(k.ID) > maxKid {
		wrong("id", fmt.Sprintf("at most %d bytes", maxKid))
	}
	if len(k.Tenants) > maxTenants {
		wrong("tenants", fmt.Sprintf("at most %d", maxTenants))
	}
	for i, t := range k.Tenants {
		if err := notify.CheckTenant(t); err != nil {
			errs = append(errs, notify.InField(fmt.Sprintf("%s.tenants[%d]", k.Field, i), err))
		}
	}
	if len(k.Tenants) == 0 {
		k.Tenants = []string{notify.DefaultTenant}
	}
	return errs
}

// CheckSecret tells whether an HS256 secret is one that NewKeys takes. Its error is a notify.FieldError and shows nothing of it.
func CheckSecret(secret []byte) error {
	if want := secretWant(secret); want != "" {
		return &notify.FieldError{Field: "secret", Want: want}
	}
	return nil
}

// secretWant is what was expected of a secret; "" when it is good.
func secretWant(secret []byte) string {
	if len(secret) < MinSecret {
		return fmt.Sprintf("at least %d bytes, not %d", MinSecret, len(secret))
	}
	return weak(secret)
}

// weak is what was expected of a secret or API key whose length is good, where nobody can have drawn it at random.
func weak(secret []byte) string {
	var seen [256]bool
	different := 0
	for _, b := range secret {
		if !seen[b] {
			seen[b] = true
			different++
		}
	}
	if different >= minBytes {
		return ""
	}
	return fmt.Sprintf("randomness, such as `openssl rand -hex 32` makes: at least %d different bytes, not %d", minBytes, different)
}

// publicFor is what was expected of a public key; "" when it fits the algorithm.
func publicFor(algorithm string, public crypto.PublicKey) string {
	switch key := public.(type) {
	case *rsa.PublicKey:
		if algorithm == "RS256" && key.N != nil && key.N.BitLen() >= minRSA && key.N.BitLen() <= maxRSA && key.E >= 3 {
			return ""
		}
	case *ecdsa.PublicKey:
		if algorithm == "ES256" && key.Curve == elliptic.P256() {
			return ""
		}
	case ed25519.PublicKey:
		if algorithm == "EdDSA" && len(key) == ed25519.PublicKeySize {
			return ""
		}
	}
	return map[string]string{
		"RS256": fmt.Sprintf("an RSA key of %d to %d bits", minRSA, maxRSA),
		"ES256": "an ECDSA key on P-256",
		"EdDSA": "an Ed25519 key",
	}[algorithm]
}

// find returns the keys to try for a token and its only algorithm. An issuer that a key names has no other keys.
func (t *Keys) find(iss, kid string) (jwt.SigningMethod, []*Key) {
	group := t.issuers[iss]
	if group == nil {
		group = t.issuers[""]
	}
	if group == nil {
		return nil, nil
	}
	if kid == "" {
		return group.method, group.keys
	}
	var named, unnamed []*Key
	for _, k := range group.keys {
		switch k.ID {
		case kid:
			named = append(named, k)
		case "":
			unnamed = append(unnamed, k)
		}
	}
	if named != nil {
		return group.method, named
	}
	return group.method, unnamed
}

// verifyKey is what the jwt library wants of a key.
func (k *Key) verifyKey() any {
	if k.Algorithm == "HS256" {
		return k.Secret
	}
	return k.Public
}
