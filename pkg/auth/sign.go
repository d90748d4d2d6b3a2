package auth

import (
	"crypto"
	"fmt"

	"github.com/golang-jwt/jwt/v5"
)

// A SigningKey signs tokens: in tests, in the demo and for `allim token`. Servers only verify.
type SigningKey struct {
	ID        string        // the token's kid; "" for none
	Algorithm string        // HS256, RS256, ES256 or EdDSA
	Secret    []byte        // of HS256
	Private   crypto.Signer // of the others: *rsa.PrivateKey, *ecdsa.PrivateKey, ed25519.PrivateKey
}

// Sign makes a token of claims. It checks nothing: it can make bad tokens for tests.
func Sign(k SigningKey, claims map[string]any) (string, error) {
	method := methods[k.Algorithm]
	if method == nil {
		return "", fmt.Errorf("sign token: unknown algorithm %q", k.Algorithm)
	}
	t := jwt.NewWithClaims(method, jwt.MapClaims(claims))
	if k.ID != "" {
		t.Header["kid"] = k.ID
	}
	var key any = k.Private
	if k.Algorithm == "HS256" {
		key = k.Secret
	}
	s, err := t.SignedString(key)
	if err != nil {
		return "", fmt.Errorf("sign token: %w", err)
	}
	return s, nil
}
