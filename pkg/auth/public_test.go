package auth

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"allim/pkg/notify"
)

// pairs are one key of every kind that we take, made once.
type pairs struct {
	rsa *rsa.PrivateKey
	ec  *ecdsa.PrivateKey
	ed  ed25519.PrivateKey
}

func newPairs(t testing.TB) pairs {
	t.Helper()
	signer, _ := rsaKey(t)
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return pairs{signer.(*rsa.PrivateKey), ec, ed}
}

// jwk are the members of a public key, without what more is given.
func jwk(t testing.TB, key crypto.PublicKey, more string) string {
	t.Helper()
	switch key := key.(type) {
	case *rsa.PublicKey:
		return `{"kty":"RSA","n":"` + b64(key.N.Bytes()) + `","e":"` + b64(big.NewInt(int64(key.E)).Bytes()) + `"` + more + `}`
	case *ecdsa.PublicKey:
		point, err := key.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		return `{"kty":"EC","crv":"P-256","x":"` + b64(point[1:33]) + `","y":"` + b64(point[33:]) + `"` + more + `}`
	case ed25519.PublicKey:
		return `{"kty":"OKP","crv":"Ed25519","x":"` + b64(key) + `"` + more + `}`
	}
	t.Fatalf("no JWK of %T", key)
	return ""
}

func pkix(t testing.TB, key crypto.PublicKey) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

func certificate(t testing.TB, key crypto.Signer) string {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1, 0)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func TestPublicKeysAreReadFromPEMAndJWK(t *testing.T) {
	p := newPairs(t)
	r, e, d := &p.rsa.PublicKey, &p.ec.PublicKey, p.ed.Public()
	set := func(keys ...string) string { return `{"keys":[` + strings.Join(keys, ",") + `]}` }
	type want = []PublicKey
	for name, c := range map[string]struct {
		text string
		want want
	}{
		"PEM of RSA":            {pkix(t, r), want{{Key: r}}},
		"PEM of EC":             {pkix(t, e), want{{Key: e}}},
		"PEM of Ed25519":        {pkix(t, d), want{{Key: d}}},
		"certificate":           {certificate(t, p.ec), want{{Key: e}}},
		"two blocks, with text": {"old:\n" + pkix(t, r) + "\nnew:\n" + certificate(t, p.rsa) + "end\n", want{{Key: r}, {Key: r}}},
		"JWK of RSA":            {jwk(t, r, `,"kid":"a","alg":"RS256","use":"sig","x5c":["AAAA"]`), want{{"a", "RS256", r}}},
		"JWK of EC":             {"\n " + jwk(t, e, `,"key_ops":["verify","sign"]`) + "\n", want{{"", "", e}}},
		"JWK of Ed25519":        {jwk(t, d, `,"kid":"한"`), want{{"한", "", d}}},
		"set":                   {set(jwk(t, r, `,"kid":"a"`), jwk(t, r, `,"kid":"b"`)), want{{"a", "", r}, {"b", "", r}}},
		"set without what is for others": {set(jwk(t, r, `,"use":"enc"`), jwk(t, e, `,"key_ops":["deriveKey"]`), jwk(t, r, `,"alg":"RSA-OAEP"`), jwk(t, r, `,"alg":"HS256"`),
			`{"kty":"EC","crv":"P-384","x":"AA","y":"AA"}`, `{"kty":"OKP","crv":"X25519","x":"AA"}`, `{"kty":"AKP","pub":"AA"}`, jwk(t, d, "")), want{{"", "", d}}},
		"set of kids that differ": {set(jwk(t, r, ""), jwk(t, r, ""), jwk(t, r, `,"kid":"a","use":"enc"`), jwk(t, r, `,"kid":"a"`)), want{{"", "", r}, {"", "", r}, {"a", "", r}}},
	} {
		got, err := ParsePublicKeys([]byte(c.text))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		same := func(a, b PublicKey) bool {
			return a.ID == b.ID && a.Algorithm == b.Algorithm && a.Key.(interface{ Equal(crypto.PublicKey) bool }).Equal(b.Key)
		}
		if !slices.EqualFunc(got, c.want, same) {
			t.Errorf("%s: got %+v, want %+v", name, got, c.want)
		}
	}
}

func TestATextThatIsNoPublicKeyIsRefusedInWords(t *testing.T) {
	p := newPairs(t)
	r, e := &p.rsa.PublicKey, &p.ec.PublicKey
	block := func(kind string, bytes []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: bytes}))
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(p.ec)
	if err != nil {
		t.Fatal(err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	set := func(keys ...string) string { return `{"keys":[` + strings.Join(keys, ",") + `]}` }
	whole := jwk(t, e, "")
	const kinds = "expected an RSA key of 2048 to 16384 bits, or an ECDSA key on P-256, or an Ed25519 key"
	const private = `stays where tokens are signed; expected its "PUBLIC KEY" (openssl pkey -pubout)`
	for _, c := range []struct{ name, text, want string }{
		{"nothing", " \n", `nothing there: expected PEM ("PUBLIC KEY" or "CERTIFICATE"), a JWK or a JWK Set`},
		{"neither", "no PEM", `expected PEM ("PUBLIC KEY" or "CERTIFICATE"), a JWK or a JWK Set`},
		{"an array", `[` + whole + `]`, `expected PEM ("PUBLIC KEY" or "CERTIFICATE"), a JWK or a JWK Set`},
		{"too much", strings.Repeat("x", maxPublicText+1), "65537 bytes: expected at most 65536"},
		{"private PEM", block("PRIVATE KEY", pkcs8), `PEM block 1: "PRIVATE KEY": a private key ` + private},
		{"private PEM of EC", pkix(t, r) + block("EC PRIVATE KEY", pkcs8), `PEM block 2: "EC PRIVATE KEY": a private key ` + private},
		{"PKCS #1", block("RSA PUBLIC KEY", x509.MarshalPKCS1PublicKey(r)), `PEM block 1: "RSA PUBLIC KEY": expected "PUBLIC KEY" or "CERTIFICATE"`},
		{"second block cut", pkix(t, r) + pkix(t, e)[:60], "PEM: 1 of 2 blocks can be read"},
		{"first block cut", pkix(t, r)[:60] + "\n" + pkix(t, e), "PEM: 1 of 2 blocks can be read"},
		{"17 blocks", strings.Repeat(pkix(t, e), 17), "17 PEM blocks: expected at most 16"},
		{"PEM on P-384", pkix(t, &p384.PublicKey), "PEM block 1: " + kinds},
		{"PEM of 1024 bits", pkix(t, &weak.PublicKey), "PEM block 1: " + kinds},
		{"secret", `{"kty":"oct","k":"AAAA"}`, "JWK: a secret (kty oct): expected a public key; secrets stand under `secret`"},
		{"secret in a set", set(whole, `{"kty":"oct","use":"enc","k":"AAAA"}`), "JWK Set: keys[1]: a secret (kty oct): expected a public key; secrets stand under `secret`"},
		{"private", jwk(t, e, `,"d":"AAAA"`), `JWK: a private key (it has "d") stays where tokens are signed: expected the public one`},
		{"private in a set, for others", set(whole, jwk(t, r, `,"use":"enc","dp":"AAAA"`)), `JWK Set: keys[1]: a private key (it has "dp") stays where tokens are signed: expected the public one`},
		{"a name twice", jwk(t, e, `,"x":"AAAA"`), "JWK: a name stands twice"},
		{"an unknown name twice", set(jwk(t, e, `,"z":1,"z":2`)), "JWK Set: keys[0]: a name stands twice"},
		{"keys twice", `{"keys":[],"keys":[` + whole + `]}`, "JWK: a name stands twice"},
		{"another case", jwk(t, e, `,"Use":"enc"`), `JWK: "use" in another case`},
		{"key and set", `{"keys":[` + whole + `],"kty":"EC"}`, `JWK: expected either "kty" (a key) or "keys" (a set)`},
		{"neither key nor set", `{}`, `JWK: expected either "kty" (a key) or "keys" (a set)`},
		{"two values", whole + whole, "JWK: more than one JSON value"},
		{"keys no array", `{"keys":{}}`, "JWK Set: keys: expected an array"},
		{"no keys", set(), "JWK Set: 0 keys: expected 1 to 16"},
		{"17 keys", set(slices.Repeat([]string{whole}, 17)...), "JWK Set: 17 keys: expected 1 to 16"},
		{"nothing left", set(jwk(t, r, `,"use":"enc"`), jwk(t, e, `,"key_ops":["sign"]`), jwk(t, e, `,"key_ops":[]`), `{"kty":"EC","crv":"P-521"}`, jwk(t, r, `,"alg":"PS256"`), `{"kty":"x"}`),
			`JWK Set: no key for signatures: keys[0]: use "enc": expected "sig"; keys[1]: key_ops: expected "verify" among them; keys[2]: key_ops: expected "verify" among them; ` +
				`keys[3]: EC key on "P-521": expected EC on P-256 or OKP on Ed25519; keys[4]: alg "PS256": expected RS256, ES256 or EdDSA; keys[5]: kty "x": expected RSA, EC or OKP`},
		{"for encryption", jwk(t, r, `,"use":"enc"`), `JWK: use "enc": expected "sig"`},
		{"alg of another kind", jwk(t, e, `,"alg":"RS256"`), "JWK: alg RS256: expected ES256, which the key is for"},
		{"kid twice", set(jwk(t, e, `,"kid":"a"`), jwk(t, e, `,"kid":"a"`)), "JWK Set: keys[1]: kid: expected one that no other key has"},
		{"kid a number", jwk(t, e, `,"kid":1`), "JWK: kid: expected a string"},
		{"kid too long", jwk(t, e, `,"kid":"`+strings.Repeat("k", 257)+`"`), "JWK: kid: expected at most 256 bytes"},
		{"key_ops no list", jwk(t, e, `,"key_ops":"verify"`), "JWK: key_ops: expected an array of strings"},
		{"off the curve", `{"kty":"EC","crv":"P-256","x":"` + b64(make([]byte, 32)) + `","y":"` + b64(make([]byte, 32)) + `"}`, "JWK: x, y: expected a point of P-256"},
		{"x too short", `{"kty":"EC","crv":"P-256","x":"AAAA","y":"AAAA"}`, "JWK: x: expected base64url of 32 bytes"},
		{"no y", `{"kty":"EC","crv":"P-256","x":"` + b64(make([]byte, 32)) + `"}`, "JWK: y: expected base64url of 32 bytes"},
		{"Ed25519 too short", `{"kty":"OKP","crv":"Ed25519","x":"AAAA"}`, "JWK: x: expected base64url of 32 bytes"},
		{"x padded", `{"kty":"OKP","crv":"Ed25519","x":"` + b64(make([]byte, 32)) + `="}`, "JWK: x: expected base64url of 32 bytes"},
		{"no n", `{"kty":"RSA","e":"AQAB"}`, "JWK: n: expected base64url"},
		{"e even", jwk(t, &rsa.PublicKey{N: r.N, E: 4}, ""), "JWK: e: expected an odd number from 3 to 2147483647"},
		{"e of one", jwk(t, &rsa.PublicKey{N: r.N, E: 1}, ""), "JWK: e: expected an odd number from 3 to 2147483647"},
		{"e that wraps", `{"kty":"RSA","n":"` + b64(r.N.Bytes()) + `","e":"` + b64([]byte{1, 0, 0, 0, 0, 0, 1, 0, 1}) + `"}`, "JWK: e: expected an odd number from 3 to 2147483647"},
		{"e of 33 bits", `{"kty":"RSA","n":"` + b64(r.N.Bytes()) + `","e":"` + b64([]byte{1, 0, 0, 0, 1}) + `"}`, "JWK: e: expected an odd number from 3 to 2147483647"},
		{"RSA of 1024 bits", jwk(t, &weak.PublicKey, ""), "JWK: " + kinds},
		{"RSA of 16392 bits", jwk(t, &rsa.PublicKey{N: new(big.Int).SetBytes(bytes.Repeat([]byte{255}, 2049)), E: 3}, ""), "JWK: " + kinds},
	} {
		got, err := ParsePublicKeys([]byte(c.text))
		if err == nil {
			t.Errorf("%s: got %+v", c.name, got)
		} else if err.Error() != "parse public key: "+c.want {
			t.Errorf("%s:\n got %v\nwant parse public key: %s", c.name, err, c.want)
		}
		if one, err := ParsePublicKey([]byte(c.text)); err == nil {
			t.Errorf("%s: read as %v", c.name, one)
		}
	}
	for name, text := range map[string]string{"public": block("PUBLIC KEY", []byte{1}), "certificate": block("CERTIFICATE", []byte{1})} { // in x509's words
		if got, err := ParsePublicKeys([]byte(text)); err == nil || !strings.HasPrefix(err.Error(), "parse public key: PEM block 1: ") {
			t.Errorf("%s: got %v, %v", name, got, err)
		}
	}
	if key, err := ParsePublicKey([]byte(pkix(t, r) + pkix(t, e))); err == nil || err.Error() != "parse public key: 2 keys, expected one" {
		t.Errorf("one of two: got %v, %v", key, err)
	}
}

func TestOneEntryOfTheSettingsTakesAllKeysOfItsFile(t *testing.T) {
	p := newPairs(t)
	r, e := PublicKey{"r", "RS256", &p.rsa.PublicKey}, PublicKey{"e", "", &p.ec.PublicKey}
	r2, plain := PublicKey{"r2", "", &p.rsa.PublicKey}, PublicKey{"", "", &p.ec.PublicKey}
	entry := Key{Issuer: "https://id", Tenants: []string{"acme"}, Field: "keys[3]"}
	with := func(id, algorithm string) Key {
		k := entry
		k.ID, k.Algorithm = id, algorithm
		return k
	}
	for _, c := range []struct {
		entry Key
		file  []PublicKey
		want  string // ids and algorithms
		err   string
	}{
		{with("", ""), []PublicKey{r}, "r RS256", ""},
		{with("", ""), []PublicKey{r, r2}, "r RS256, r2 RS256", ""},
		{with("", "ES256"), []PublicKey{r, e}, "e ES256", ""},
		{with("mine", "ES256"), []PublicKey{plain}, "mine ES256", ""},
		{with("e", ""), []PublicKey{e}, "e ES256", ""},
		{with("mine", ""), []PublicKey{e}, "", `id: expected "e", which the file names (or no id here)`},
		{with("mine", ""), []PublicKey{plain, plain}, "", "id: expected none: the file holds 2 keys"},
		{with("", ""), []PublicKey{r, e}, "", "algorithm: expected one of those that the file has keys for, since an issuer has one"},
		{with("", "EdDSA"), []PublicKey{r, r2, e}, "", "algorithm: expected one that a key of the file is for: RS256, ES256"},
		{with("", ""), []PublicKey{{Key: "no key"}}, "", "public_key: expected an RSA key of 2048 to 16384 bits, or an ECDSA key on P-256, or an Ed25519 key"},
	} {
		keys, err := c.entry.With(c.file)
		var got []string
		for _, k := range keys {
			got = append(got, k.ID+" "+k.Algorithm)
			if k.Issuer != entry.Issuer || !slices.Equal(k.Tenants, entry.Tenants) || k.Field != entry.Field {
				t.Errorf("%+v: got %+v", c.entry, k)
			}
		}
		if strings.Join(got, ", ") != c.want || c.err == "" && err != nil || c.err != "" && (err == nil || err.Error() != c.err || !errors.Is(err, notify.ErrInvalid)) {
			t.Errorf("%s %s with %d keys: got %q, %v; want %q, %s", c.entry.ID, c.entry.Algorithm, len(c.file), got, err, c.want, c.err)
		}
		if err == nil {
			if _, err := NewKeys(keys); err != nil {
				t.Errorf("%+v: %v", c.entry, err)
			}
		}
	}
}

// FuzzParsePublicKeys: whatever is read makes a table, and nothing panics.
func FuzzParsePublicKeys(f *testing.F) {
	p := newPairs(f)
	for _, key := range []crypto.PublicKey{&p.rsa.PublicKey, &p.ec.PublicKey, p.ed.Public()} {
		f.Add(pkix(f, key))
		f.Add(jwk(f, key, `,"kid":"a","use":"sig"`))
		f.Add(fmt.Sprintf(`{"keys":[%s,%s]}`, jwk(f, key, `,"use":"enc"`), jwk(f, key, "")))
	}
	f.Add(certificate(f, p.ec))
	f.Add(`{"keys":[{"kty":"oct","k":"AA"}]}`)
	f.Fuzz(func(t *testing.T, text string) {
		keys, err := ParsePublicKeys([]byte(text))
		if (err == nil) != (len(keys) > 0) || len(keys) > maxPublic {
			t.Fatalf("got %d keys, %v", len(keys), err)
		}
		for _, p := range keys {
			all, err := Key{}.With([]PublicKey{p})
			if err != nil {
				t.Fatalf("%+v: %v", p, err)
			}
			if p.Algorithm != "" && p.Algorithm != all[0].Algorithm {
				t.Fatalf("%+v became %+v", p, all[0])
			}
			if _, err := NewKeys(all); err != nil {
				t.Fatalf("%+v: %v", p, err)
			}
		}
	})
}
