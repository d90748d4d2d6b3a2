package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/big"
	"slices"
	"strings"
)

// The members that we read of a JWK (RFC 7517, section 4; RFC 7518, section 6; RFC 8037, section 2), and those that only private and symmetric keys have.
var (
	jwkNames     = []string{"keys", "kty", "kid", "alg", "use", "key_ops", "crv", "x", "y", "n", "e"}
	privateNames = []string{"d", "p", "q", "dp", "dq", "qi", "oth"}
)

// unfit is a good key that is not for us: one to leave out of a set.
type unfit string

func (u unfit) Error() string { return string(u) }

func parseJWKs(text []byte) ([]PublicKey, error) {
	o, err := parseObject(text, jwkNames...)
	if err != nil {
		return nil, fmt.Errorf("JWK: %w", err)
	}
	raw, set := o["keys"]
	if _, single := o["kty"]; single == set {
		return nil, errors.New(`JWK: expected either "kty" (a key) or "keys" (a set)`)
	}
	if !set {
		key, err := parseJWK(o)
		if err != nil {
			return nil, fmt.Errorf("JWK: %w", err)
		}
		return []PublicKey{key}, nil
	}
	var list []json.RawMessage
	if raw[0] != '[' || json.Unmarshal(raw, &list) != nil {
		return nil, errors.New("JWK Set: keys: expected an array")
	}
	if len(list) == 0 || len(list) > maxPublic {
		return nil, fmt.Errorf("JWK Set: %d keys: expected 1 to %d", len(list), maxPublic)
	}
	return parseSet(list)
}

func parseSet(list []json.RawMessage) (all []PublicKey, err error) {
	var left []string // out, each with the reason
	for i, raw := range list {
		o, err := parseObject(raw, jwkNames...)
		if err != nil {
			return nil, fmt.Errorf("JWK Set: keys[%d]: %w", i, err)
		}
		key, err := parseJWK(o)
		var not unfit
		switch {
		case errors.As(err, &not):
			left = append(left, fmt.Sprintf("keys[%d]: %s", i, not))
		case err != nil:
			return nil, fmt.Errorf("JWK Set: keys[%d]: %w", i, err)
		case key.ID != "" && slices.ContainsFunc(all, func(k PublicKey) bool { return k.ID == key.ID }):
			return nil, fmt.Errorf("JWK Set: keys[%d]: kid: expected one that no other key has", i)
		default:
			all = append(all, key)
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("JWK Set: no key for signatures: %s", strings.Join(left, "; "))
	}
	return all, nil
}

// parseJWK reads one key. Its error is unfit where the key may be good for others.
func parseJWK(o object) (k PublicKey, err error) {
	var kty, use string
	var ops []string
	var errs [5]error
	kty, errs[0] = o.text("kty")
	k.ID, errs[1] = o.text("kid")
	k.Algorithm, errs[2] = o.text("alg")
	use, errs[3] = o.text("use")
	ops, errs[4] = o.texts("key_ops")
	if err := errors.Join(errs[:]...); err != nil {
		return k, err
	}
	if _, has := o["k"]; has || kty == "oct" {
		return k, errors.New("a secret (kty oct): expected a public key; secrets stand under `secret`")
	}
	for _, name := range privateNames {
		if _, has := o[name]; has {
			return k, fmt.Errorf("a private key (it has %q) stays where tokens are signed: expected the public one", name)
		}
	}
	if len(k.ID) > maxKid {
		return k, fmt.Errorf("kid: expected at most %d bytes", maxKid)
	}
	_, hasUse := o["use"]
	_, hasOps := o["key_ops"]
	_, hasAlg := o["alg"]
	switch {
	case hasUse && use != "sig":
		return k, unfit(fmt.Sprintf("use %q: expected \"sig\"", use))
	case hasOps && !slices.Contains(ops, "verify"):
		return k, unfit(`key_ops: expected "verify" among them`)
	case hasAlg && (methods[k.Algorithm] == nil || k.Algorithm == "HS256"):
		return k, unfit(fmt.Sprintf("alg %q: expected RS256, ES256 or EdDSA", k.Algorithm))
	}
	if k.Key, err = keyOf(o, kty); err != nil {
		return k, err
	}
	algorithm, err := algorithmOf(k.Key)
	if err != nil {
		return k, err
	}
	if hasAlg && k.Algorithm != algorithm {
		return k, fmt.Errorf("alg %s: expected %s, which the key is for", k.Algorithm, algorithm)
	}
	return k, nil
}

// keyOf is the key itself.
func keyOf(o object, kty string) (crypto.PublicKey, error) {
	crv, err := o.text("crv")
	if err != nil {
		return nil, err
	}
	switch {
	case kty == "RSA":
		n, err := o.bytes("n", 0)
		if err != nil {
			return nil, err
		}
		e, err := o.bytes("e", 0)
		if err != nil {
			return nil, err
		}
		exponent := new(big.Int).SetBytes(e)
		if !exponent.IsInt64() || exponent.Int64() > math.MaxInt32 || exponent.Int64()%2 == 0 || exponent.Int64() < 3 {
			return nil, errors.New("e: expected an odd number from 3 to 2147483647")
		}
		return &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(exponent.Int64())}, nil
	case kty == "EC" && crv == "P-256":
		x, err := o.bytes("x", 32)
		if err != nil {
			return nil, err
		}
		y, err := o.bytes("y", 32)
		if err != nil {
			return nil, err
		}
		key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), slices.Concat([]byte{4}, x, y)) // SEC 1, 2.3.3
		if err != nil {
			return nil, errors.New("x, y: expected a point of P-256")
		}
		return key, nil
	case kty == "OKP" && crv == "Ed25519":
		x, err := o.bytes("x", ed25519.PublicKeySize)
		return ed25519.PublicKey(x), err
	case kty == "EC" || kty == "OKP":
		return nil, unfit(fmt.Sprintf("%s key on %q: expected EC on P-256 or OKP on Ed25519", kty, crv))
	}
	return nil, unfit(fmt.Sprintf("kty %q: expected RSA, EC or OKP", kty))
}

// bytes is the base64url value called name, of the given size, or of any but none where size is 0.
func (o object) bytes(name string, size int) ([]byte, error) {
	s, err := o.text(name)
	if err != nil {
		return nil, err
	}
	b, err := decode(s)
	if err != nil || len(b) == 0 || size > 0 && len(b) != size {
		if size > 0 {
			return nil, fmt.Errorf("%s: expected base64url of %d bytes", name, size)
		}
		return nil, fmt.Errorf("%s: expected base64url", name)
	}
	return b, nil
}
