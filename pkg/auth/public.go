package auth

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"

	"allim/pkg/notify"
)

// Bounds of a text with public keys.
const (
	maxPublic     = 16       // keys in it
	maxPublicText = 64 << 10 // bytes: 16 keys with their chains of certificates
)

// A PublicKey is one key of a file that an issuer gives away.
type PublicKey struct {
	ID        string           // the JWK's kid; "" where it has none, and of PEM
	Algorithm string           // the JWK's alg; "" where it has none, and of PEM
	Key       crypto.PublicKey // *rsa.PublicKey, *ecdsa.PublicKey on P-256 or ed25519.PublicKey
}

const wantPublic = `PEM ("PUBLIC KEY" or "CERTIFICATE"), a JWK or a JWK Set`

// ParsePublicKeys reads what an issuer publishes: PEM blocks "PUBLIC KEY" (PKIX) or "CERTIFICATE" (whose validity is not looked at), a JWK or a JWK Set
// (RFC 7517); 1 to 16 keys, none of them private or a secret. Of a set, keys that are for something else than signatures, or of a kind that we do not know, are left
// out; whatever else is not as expected is an error, since a key that is silently missing is found out at the next rotation.
func ParsePublicKeys(text []byte) ([]PublicKey, error) {
	keys, err := parsePublicKeys(text)
	if err != nil {
		return nil, fmt.Errorf("parse public key: %w", err)
	}
	return keys, nil
}

func parsePublicKeys(text []byte) ([]PublicKey, error) {
	if len(text) > maxPublicText {
		return nil, fmt.Errorf("%d bytes: expected at most %d", len(text), maxPublicText)
	}
	switch trimmed := bytes.TrimSpace(text); {
	case len(trimmed) == 0:
		return nil, errors.New("nothing there: expected " + wantPublic)
	case trimmed[0] == '{':
		return parseJWKs(trimmed)
	case bytes.Contains(text, pemBegin):
		return parsePEM(text)
	}
	return nil, errors.New("expected " + wantPublic)
}

// ParsePublicKey reads a text that holds one key, as ParsePublicKeys does.
func ParsePublicKey(text []byte) (crypto.PublicKey, error) {
	keys, err := ParsePublicKeys(text)
	if err != nil {
		return nil, err
	}
	if len(keys) != 1 {
		return nil, fmt.Errorf("parse public key: %d keys, expected one", len(keys))
	}
	return keys[0].Key, nil
}

var pemBegin = []byte("-----BEGIN ")

func parsePEM(text []byte) (all []PublicKey, err error) {
	stand := bytes.Count(text, pemBegin)
	if stand > maxPublic {
		return nil, fmt.Errorf("%d PEM blocks: expected at most %d", stand, maxPublic)
	}
	for i := range stand {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil { // it skips what it can not read
			return nil, fmt.Errorf("PEM: %d of %d blocks can be read", i, stand)
		}
		key, err := parseBlock(block)
		if err != nil {
			return nil, fmt.Errorf("PEM block %d: %w", i+1, err)
		}
		if _, err := algorithmOf(key); err != nil {
			return nil, fmt.Errorf("PEM block %d: %w", i+1, err)
		}
		all = append(all, PublicKey{Key: key})
	}
	return all, nil
}

func parseBlock(block *pem.Block) (crypto.PublicKey, error) {
	switch {
	case block.Type == "PUBLIC KEY":
		return x509.ParsePKIXPublicKey(block.Bytes)
	case block.Type == "CERTIFICATE":
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		return cert.PublicKey, nil
	case strings.HasSuffix(block.Type, "PRIVATE KEY"):
		return nil, fmt.Errorf(`%q: a private key stays where tokens are signed; expected its "PUBLIC KEY" (openssl pkey -pubout)`, block.Type)
	}
	return nil, fmt.Errorf(`%q: expected "PUBLIC KEY" or "CERTIFICATE"`, block.Type)
}

// algorithmOf is the only algorithm that we take of a key.
func algorithmOf(key crypto.PublicKey) (string, error) {
	var wants []string
	for _, algorithm := range []string{"RS256", "ES256", "EdDSA"} {
		want := publicFor(algorithm, key)
		if want == "" {
			return algorithm, nil
		}
		wants = append(wants, want)
	}
	return "", errors.New("expected " + strings.Join(wants, ", or "))
}

// With returns a key like k for each of keys, which one file of its issuer holds. A file of one key takes k's ID; in one of several, each has its own. Where k names an
// algorithm, keys for others are left out, as long as one remains. Its error is a notify.FieldError of "id", "algorithm" or "public_key".
func (k Key) With(keys []PublicKey) ([]Key, error) {
	var all []Key
	var others []string
	for _, p := range keys {
		algorithm, err := algorithmOf(p.Key)
		if err != nil {
			return nil, &notify.FieldError{Field: "public_key", Want: strings.TrimPrefix(err.Error(), "expected ")}
		}
		if k.Algorithm != "" && algorithm != k.Algorithm {
			others = append(others, algorithm)
			continue
		}
		one := k
		one.Algorithm, one.Public = algorithm, p.Key
		if p.ID != "" && k.ID == "" {
			one.ID = p.ID
		} else if p.ID != "" && k.ID != p.ID {
			return nil, &notify.FieldError{Field: "id", Want: fmt.Sprintf("%q, which the file names (or no id here)", p.ID)}
		}
		all = append(all, one)
	}
	switch mixed := slices.ContainsFunc(all, func(o Key) bool { return o.Algorithm != all[0].Algorithm }); {
	case len(all) == 0:
		return nil, &notify.FieldError{Field: "algorithm", Want: "one that a key of the file is for: " + strings.Join(slices.Compact(others), ", ")}
	case mixed:
		return nil, &notify.FieldError{Field: "algorithm", Want: "one of those that the file has keys for, since an issuer has one"}
	case k.ID != "" && len(all) > 1:
		return nil, &notify.FieldError{Field: "id", Want: fmt.Sprintf("none: the file holds %d keys", len(all))}
	}
	return all, nil
}
