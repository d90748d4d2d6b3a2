package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"allim/pkg/notify"
)

var (
	secret = []byte("0123456789abcdef0123456789abcdef")
	now    = time.Unix(1_800_000_000, 0)
	b64    = base64.RawURLEncoding.EncodeToString
)

const good = `{"sub":"42","iat":1800000000,"exp":1800003600}`
const head = `{"alg":"HS256","typ":"JWT"}`

func options(t testing.TB, keys ...Key) Options {
	t.Helper()
	if len(keys) == 0 {
		keys = []Key{{Algorithm: "HS256", Secret: secret}}
	}
	table, err := NewKeys(keys)
	if err != nil {
		t.Fatal(err)
	}
	return Options{Keys: table, Now: func() time.Time { return now }}
}

func verifierFor(t testing.TB, o Options) *Verifier {
	t.Helper()
	v, err := NewVerifier(o)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// forge signs any header and any claims with HS256, as an attacker who has the key, or a careless issuer, would.
func forge(header, claims string, key []byte) string {
	signed := b64([]byte(header)) + "." + b64([]byte(claims))
	m := hmac.New(sha256.New, key)
	m.Write([]byte(signed))
	return signed + "." + b64(m.Sum(nil))
}

func wantRefused(t *testing.T, err error, why string) {
	t.Helper()
	if !errors.Is(err, notify.ErrUnauthorized) {
		t.Fatalf("got %v (%s), want unauthorized", err, Why(err))
	}
	if err.Error() != "unauthorized" {
		t.Errorf("a stranger is told %q", err)
	}
	if !strings.Contains(Why(err), why) {
		t.Errorf("the log is told %q, want %q", Why(err), why)
	}
}

func TestAGoodTokenBecomesAnIdentity(t *testing.T) {
	v := verifierFor(t, options(t, Key{ID: "k1", Issuer: "https://id", Algorithm: "HS256", Secret: secret, Tenants: []string{"acme"}}))
	id, err := v.Verify(forge(`{"alg":"HS256","kid":"k1"}`, `{"iss":"https://id","sub":"ann","aud":"x","iat":1800000000,"nbf":1800000000,"exp":1800003600.5,
		"jti":"j1","sid":"s1","other":{"a":1},"allim":{"tenant":"acme","subscribe":["orders/*","page:*"],"hear":["orders/all","orders/all"],
		"send":["chat message"],"segments":["org-7"],"later":1}}`, secret))
	if err != nil {
		t.Fatalf("%v: %s", err, Why(err))
	}
	if id.User != "ann" || id.Tenant != "acme" || id.ID != "j1" || id.SessionID != "s1" || id.Anonymous ||
		!id.Expires.Equal(now.Add(3600*time.Second+500*time.Millisecond)) || !id.IssuedAt.Equal(now) {
		t.Errorf("got %+v", id)
	}
	if want := []notify.Topic{"user:ann", "segment:all", "segment:org-7", "orders/all"}; !slices.Equal(id.Heard(), want) {
		t.Errorf("heard: got %v, want %v", id.Heard(), want)
	}
}

func TestEveryUserIsOfTheSegmentAllUnlessOnlyTheNamedOnesAre(t *testing.T) {
	only := options(t)
	only.OnlyMine = true
	anonymous, err := Anonymous(Grant{})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, claim string
		o           Options
		want        []notify.Topic
	}{
		{"not named", `{}`, options(t), []notify.Topic{"user:42", "segment:all"}},
		{"named", `{"segments":["org-7","all"]}`, options(t), []notify.Topic{"user:42", "segment:org-7", "segment:all"}},
		{"only the named ones, not named", `{"segments":["org-7"]}`, only, []notify.Topic{"user:42", "segment:org-7"}},
		{"only the named ones, named", `{"segments":["all"]}`, only, []notify.Topic{"user:42", "segment:all"}},
	} {
		token := forge(head, `{"sub":"42","exp":1800003600,"allim":`+c.claim+`}`, secret)
		id, err := verifierFor(t, c.o).Verify(token)
		if err != nil {
			t.Errorf("%s: %s", c.name, Why(err))
			continue
		}
		if heard := id.Heard(); !slices.Equal(heard, c.want) || id.MayHear("segment:all") != slices.Contains(c.want, "segment:all") || id.MayHear("segment:allx") {
			t.Errorf("%s: heard %v, want %v; may hear all: %v", c.name, heard, c.want, id.MayHear("segment:all"))
		}
	}
	if anonymous.MayHear("segment:all") || len(anonymous.Heard()) > 0 {
		t.Errorf("the anonymous hear %v", anonymous.Heard())
	}
}

func TestEveryAttackIsRefused(t *testing.T) {
	claims := func(c string) string { return forge(head, c, secret) }
	header := func(h string) string { return forge(h, good, secret) }
	token := claims(good)
	parts := strings.Split(token, ".")
	last := token[len(token)-1]
	altered := token[:len(token)-1] + string(rune(last+1)) // 43 characters hold 258 bits: the last two are spare
	v := verifierFor(t, options(t))
	if _, err := v.Verify(token); err != nil {
		t.Fatalf("the token that the attacks start from: %s", Why(err))
	}
	grant := func(g string) string { return claims(`{"sub":"42","exp":1800003600,"allim":` + g + `}`) }
	many := func(n int, form string) string {
		var all []string
		for i := range n {
			all = append(all, fmt.Sprintf(form, i))
		}
		return strings.Join(all, ",")
	}
	for _, c := range []struct{ name, token, why string }{
		{"empty", "", "three segments"},
		{"too long", token + strings.Repeat("A", MaxToken), "bytes"},
		{"two segments", parts[0] + "." + parts[1], "three segments"},
		{"four segments", token + ".x", "three segments"},
		{"alg none", b64([]byte(`{"alg":"none"}`)) + "." + parts[1] + ".", "alg"},
		{"no alg", header(`{"typ":"JWT"}`), "alg"},
		{"alg in another case", header(`{"alg":"hs256"}`), "alg"},
		{"alg name in another case", header(`{"ALG":"HS256"}`), "case"},
		{"another alg", header(`{"alg":"HS512"}`), "alg"},
		{"RS256 without a key for it", header(`{"alg":"RS256"}`), "alg"},
		{"two algs", header(`{"alg":"none","alg":"HS256"}`), "twice"},
		{"typ of something else", header(`{"alg":"HS256","typ":"secevent+jwt"}`), "typ"},
		{"typ empty", header(`{"alg":"HS256","typ":""}`), "typ"},
		{"typ no string", header(`{"alg":"HS256","typ":1}`), "typ"},
		{"crit", header(`{"alg":"HS256","crit":["x"],"x":1}`), "crit"},
		{"crit in another case", header(`{"alg":"HS256","Crit":["x"]}`), "crit"},
		{"jku", header(`{"alg":"HS256","jku":"https://evil"}`), "jku"},
		{"jwk", header(`{"alg":"HS256","jwk":{"kty":"oct","k":"AAAA"}}`), "jwk"},
		{"x5u", header(`{"alg":"HS256","x5u":"https://evil"}`), "x5u"},
		{"x5c", header(`{"alg":"HS256","x5c":[]}`), "x5c"},
		{"b64", header(`{"alg":"HS256","b64":false}`), "b64"},
		{"kid no string", header(`{"alg":"HS256","kid":1}`), "kid"},
		{"kid too long", header(`{"alg":"HS256","kid":"` + strings.Repeat("k", 257) + `"}`), "kid"},
		{"empty key", forge(head, good, nil), "signature"},
		{"wrong key", forge(head, good, []byte(strings.Repeat("x", 32))), "signature"},
		{"no signature", parts[0] + "." + parts[1] + ".", "signature"},
		{"last character altered", altered, "signature"},
		{"line break in a segment", parts[0] + "." + parts[1] + "." + parts[2][:9] + "\n" + parts[2][9:], "base64url"},
		{"line break in the claims", parts[0] + ".\r\n" + parts[1] + "." + parts[2], "base64url"},
		{"padding", token + "=", "base64url"},
		{"header no object", header(`["HS256"]`), "object"},
		{"header with a second value", header(head + `{}`), "more than one"},
		{"claims no object", claims(`"42"`), "object"},
		{"claims cut", claims(good[:20]), "object"},
		{"claims with a second value", claims(good + `1`), "more than one"},
		{"claims not UTF-8", claims("{\"sub\":\"\xff\",\"exp\":1800003600}"), "UTF-8"},
		{"no exp", claims(`{"sub":"42"}`), "exp"},
		{"exp null", claims(`{"sub":"42","exp":null}`), "exp"},
		{"exp text", claims(`{"sub":"42","exp":"1800003600"}`), "exp"},
		{"exp negative", claims(`{"sub":"42","exp":-1}`), "exp"},
		{"exp in the year 285 million", claims(`{"sub":"42","exp":9000000000000000}`), "exp"},
		{"exp infinite", claims(`{"sub":"42","exp":1e999}`), "exp"},
		{"EXP only", claims(`{"sub":"42","EXP":1800003600}`), "case"},
		{"expired", claims(`{"sub":"42","exp":1799999970}`), "expired"},
		{"not yet", claims(`{"sub":"42","nbf":1800000031,"exp":1800003600}`), "not valid yet"},
		{"nbf text", claims(`{"sub":"42","nbf":"0","exp":1800003600}`), "nbf"},
		{"issued in the future", claims(`{"sub":"42","iat":1800000031,"exp":1800003600}`), "before issued"},
		{"nbf negative", claims(`{"sub":"42","nbf":-1,"exp":1800003600}`), "nbf"},
		{"iat text", claims(`{"sub":"42","iat":"now","exp":1800003600}`), "iat"},
		{"a life over a day", claims(`{"sub":"42","iat":1800000000,"exp":1800086401}`), "life"},
		{"a life over a day by an old iat", claims(`{"sub":"42","iat":1,"exp":1800003600}`), "life"},
		{"a life over a day without iat", claims(`{"sub":"42","exp":1800086431}`), "life"},
		{"no sub", claims(`{"exp":1800003600}`), "sub"},
		{"sub empty", claims(`{"sub":"","exp":1800003600}`), "sub"},
		{"sub a number", claims(`{"sub":42,"exp":1800003600}`), "sub"},
		{"sub null", claims(`{"sub":null,"exp":1800003600}`), "sub"},
		{"sub too long", claims(`{"sub":"` + strings.Repeat("s", 181) + `","exp":1800003600}`), "sub"},
		{"sub half a surrogate pair", claims(`{"sub":"\ud800","exp":1800003600}`), "sub"},
		{"sub in two cases", claims(`{"sub":"a","SUB":"admin","exp":1800003600}`), "case"},
		{"sub twice", claims(`{"sub":"a","sub":"admin","exp":1800003600}`), "twice"},
		{"sub twice by an escape", claims(`{"sub":"a","\u0073ub":"admin","exp":1800003600}`), "twice"},
		{"an unknown claim twice", claims(`{"sub":"a","x":1,"x":2,"exp":1800003600}`), "twice"},
		{"aud of services", claims(`{"sub":"42","aud":"allim-publisher","exp":1800003600}`), "service"},
		{"aud of services among others", claims(`{"sub":"42","aud":["web","allim-publisher"],"exp":1800003600}`), "service"},
		{"aud a number", claims(`{"sub":"42","aud":1,"exp":1800003600}`), "aud"},
		{"aud of numbers", claims(`{"sub":"42","aud":[1],"exp":1800003600}`), "aud[0]"},
		{"iss a number", claims(`{"sub":"42","iss":1,"exp":1800003600}`), "iss"},
		{"jti a number", claims(`{"sub":"42","jti":1,"exp":1800003600}`), "jti"},
		{"sid a number", claims(`{"sub":"42","sid":1,"exp":1800003600}`), "sid"},
		{"tenant not the key's", grant(`{"tenant":"acme"}`), "tenant"},
		{"tenant empty", grant(`{"tenant":""}`), "tenant"},
		{"tenant a number", grant(`{"tenant":1}`), "tenant"},
		{"tenant twice", grant(`{"tenant":"default","tenant":"acme"}`), "twice"},
		{"tenant in two cases", grant(`{"tenant":"default","Tenant":"acme"}`), "case"},
		{"allim no object", grant(`[]`), "allim"},
		{"allim null", grant(`null`), "allim"},
		{"subscribe no list", grant(`{"subscribe":"*"}`), "subscribe"},
		{"subscribe null", grant(`{"subscribe":null}`), "subscribe"},
		{"subscribe of numbers", grant(`{"subscribe":[1]}`), "subscribe[0]"},
		{"subscribe no pattern", grant(`{"subscribe":["a*b"]}`), "subscribe[0]"},
		{"hear a pattern", grant(`{"hear":["orders/*"]}`), "hear[0]"},
		{"hear a user", grant(`{"hear":["a","user:7"]}`), "hear[1]"},
		{"hear a segment", grant(`{"hear":["segment:x"]}`), "hear[0]"},
		{"hear me", grant(`{"hear":["me"]}`), "hear[0]"},
		{"send a control character", grant(`{"send":["a\u0000"]}`), "send[0]"},
		{"segment with a colon", grant(`{"segments":["a:b"]}`), "segments[0]"},
		{"21 segments", grant(`{"segments":[` + many(21, `"s%d"`) + `]}`), "segments"},
		{"101 topics heard", grant(`{"hear":[` + many(100, `"t%d"`) + `]}`), "at most 100"},
		{"101 topics heard with segments", grant(`{"hear":[` + many(89, `"t%d"`) + `],"segments":[` + many(10, `"s%d"`) + `]}`), "at most 100"},
	} {
		t.Run(c.name, func(t *testing.T) {
			id, err := v.Verify(c.token)
			if id != nil {
				t.Errorf("an identity comes with the error: %+v", id)
			}
			wantRefused(t, err, c.why)
		})
	}
}

func TestTokensAtTheLimitsAreTaken(t *testing.T) {
	v := verifierFor(t, options(t))
	hear := make([]string, 98)
	for i := range hear {
		hear[i] = fmt.Sprintf(`"t%d"`, i)
	}
	for name, c := range map[string]string{
		"just expired":     `{"sub":"42","exp":1799999971}`,
		"just not yet":     `{"sub":"42","nbf":1800000030,"exp":1800003600}`,
		"clock ahead":      `{"sub":"42","iat":1800000030,"exp":1800003600}`,
		"a day":            `{"sub":"42","iat":1800000000,"exp":1800086400}`,
		"a day, no iat":    `{"sub":"42","exp":1800086430}`,
		"180 bytes of sub": `{"sub":"` + strings.Repeat("한", 60) + `","exp":1800003600}`,
		"100 topics heard": `{"sub":"42","exp":1800003600,"allim":{"hear":[` + strings.Join(hear, ",") + `]}}`,
		"no grant":         `{"sub":"42","exp":1800003600,"allim":{}}`,
		"any audience":     `{"sub":"42","exp":1800003600,"aud":["a","b"]}`,
	} {
		if _, err := v.Verify(forge(head, c, secret)); err != nil {
			t.Errorf("%s: %s", name, Why(err))
		}
	}
	pad := strings.Repeat("x", 2900)
	token := forge(head, `{"sub":"42","exp":1800003600,"p":"`+pad+`"}`, secret)
	pad += strings.Repeat("x", (MaxToken-len(token))*3/4)
	token = forge(head, `{"sub":"42","exp":1800003600,"p":"`+pad+`"}`, secret)
	if _, err := v.Verify(token); err != nil || len(token) < MaxToken-3 {
		t.Errorf("a token of %d bytes: %s", len(token), Why(err))
	}
}

func TestTheAudienceIsCheckedAsConfigured(t *testing.T) {
	o := options(t)
	o.Audience = "web"
	v := verifierFor(t, o)
	for aud, ok := range map[string]bool{`"web"`: true, `["x","web"]`: true, `"x"`: false, `[]`: false, `""`: false, `["web","allim-publisher"]`: false} {
		_, err := v.Verify(forge(head, `{"sub":"42","exp":1800003600,"aud":`+aud+`}`, secret))
		if (err == nil) != ok {
			t.Errorf("aud %s: got %v, want accepted %v", aud, err, ok)
		}
	}
	_, err := v.Verify(forge(head, good, secret))
	wantRefused(t, err, "aud")
	o.Audience = PublisherAudience
	if _, err := NewVerifier(o); err == nil {
		t.Error("clients with the audience of services are accepted")
	}
}

func TestAPublicKeyIsNoSecret(t *testing.T) {
	private, public := rsaKey(t)
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	v := verifierFor(t, options(t, Key{Algorithm: "RS256", Public: public}, Key{Issuer: "hmac", Algorithm: "HS256", Secret: secret}))
	for _, known := range [][]byte{text, der} { // the classic confusion: HS256 with what everybody may know
		_, err = v.Verify(forge(head, good, known))
		wantRefused(t, err, "alg")
	}
	_, err = v.Verify(forge(head, good, secret)) // of another issuer, but with a secret of the table
	wantRefused(t, err, "alg")
	token, err := Sign(SigningKey{Algorithm: "RS256", Private: private}, map[string]any{"iss": "hmac", "sub": "42", "exp": now.Unix() + 60})
	if err != nil {
		t.Fatal(err)
	}
	_, err = v.Verify(token)
	wantRefused(t, err, "alg")
}

func rsaKey(t testing.TB) (crypto.Signer, *rsa.PublicKey) {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return k, &k.PublicKey
}

func TestEveryAlgorithmSignsAndVerifies(t *testing.T) {
	rsaPrivate, rsaPublic := rsaKey(t)
	ecPrivate, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	edPublic, edPrivate, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		sign   SigningKey
		public crypto.PublicKey
	}{
		{SigningKey{Algorithm: "HS256", Secret: secret}, nil},
		{SigningKey{Algorithm: "RS256", Private: rsaPrivate}, rsaPublic},
		{SigningKey{Algorithm: "ES256", Private: ecPrivate}, &ecPrivate.PublicKey},
		{SigningKey{Algorithm: "EdDSA", Private: edPrivate}, edPublic},
	} {
		t.Run(c.sign.Algorithm, func(t *testing.T) {
			public := c.public
			if public != nil { // by the way of the settings
				der, err := x509.MarshalPKIXPublicKey(public)
				if err != nil {
					t.Fatal(err)
				}
				if public, err = ParsePublicKey(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})); err != nil {
					t.Fatal(err)
				}
			}
			v := verifierFor(t, options(t, Key{Algorithm: c.sign.Algorithm, Secret: c.sign.Secret, Public: public}))
			token, err := Sign(c.sign, map[string]any{"sub": "42", "exp": now.Unix() + 60})
			if err != nil {
				t.Fatal(err)
			}
			if id, err := v.Verify(token); err != nil || id.User != "42" {
				t.Fatalf("got %v, %v: %s", id, err, Why(err))
			}
			i := strings.LastIndexByte(token, '.') + 10
			other := byte('A')
			if token[i] == 'A' {
				other = 'B'
			}
			_, err = v.Verify(token[:i] + string(other) + token[i+1:])
			wantRefused(t, err, "signature")
		})
	}
}
