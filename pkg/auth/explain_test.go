package auth

import (
	"encoding/base64"
	"encoding/hex"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
)

func TestAGoodTokenIsExplained(t *testing.T) {
	o := options(t, Key{ID: "old", Issuer: "https://id", Algorithm: "HS256", Secret: []byte("older: 0123456789abcdef012345678")},
		Key{ID: "k1", Issuer: "https://id", Algorithm: "HS256", Secret: secret, Tenants: []string{"acme"}})
	o.Audience, o.Public = "web", append(o.Public, "public/*")
	x := verifierFor(t, o).Explain(forge(`{"alg":"HS256","kid":"k1"}`, `{"iss":"https://id","sub":"ann lee","aud":["web","app"],"iat":1799999880,"nbf":1800000000,"exp":1800003600,"jti":"j1","sid":"s1",
		"allim":{"tenant":"acme","subscribe":["orders/*","page:*"],"hear":["orders/all"],"send":["chat message"],"segments":["org-7"]}}`, secret))
	want := []Fact{
		{"signed by", `HS256 with keys[1] (id "k1")`},
		{"issuer", "https://id"},
		{"audience", "web  app"},
		{"user", "ann lee"},
		{"session", "s1"},
		{"token id", "j1"},
		{"issued", "2027-01-15T07:58:00Z, 2 minutes ago"},
		{"not before", "2027-01-15T08:00:00Z, now"},
		{"expires", "2027-01-15T09:00:00Z, in 60 minutes"},
		{"tenant", "acme"},
		{"hears", "user:~YW5uIGxlZQ  segment:all  segment:org-7  orders/all"},
		{"subscribe", "orders/*  page:*"},
		{"send", "chat message"},
		{"public", "public/*"},
	}
	if !slices.Equal(x.Facts, want) {
		t.Errorf("facts:\n got %q\nwant %q", x.Facts, want)
	}
	if len(x.Refused)+len(x.Notes) > 0 || x.Service || x.Unchecked {
		t.Errorf("got %+v", x)
	}
	if x.Header != "{\n  \"alg\": \"HS256\",\n  \"kid\": \"k1\"\n}" || !strings.HasPrefix(x.Claims, "{\n  \"iss\": \"https://id\",\n") {
		t.Errorf("got %s\n%s", x.Header, x.Claims)
	}
}

// strange is a table of two issuers, and one of keys that no issuer is named for.
func strange(t testing.TB) (Options, pairs) {
	p := newPairs(t)
	return options(t,
		Key{ID: "k1", Issuer: "https://id", Algorithm: "HS256", Secret: secret},
		Key{ID: "k2", Issuer: "https://id", Algorithm: "HS256", Secret: []byte("newer: 0123456789abcdef012345678"), Tenants: []string{"acme", "default"}},
		Key{Issuer: "https://rsa", Algorithm: "RS256", Public: &p.rsa.PublicKey, Tenants: []string{"acme"}, Field: "keys[7].public_key_file"}), p
}

func TestEveryReasonOfARefusalIsExplained(t *testing.T) {
	o, p := strange(t)
	o.Audience = "web"
	v := verifierFor(t, o)
	claims := func(c string) string { return `{"iss":"https://id","aud":"web",` + c + `}` }
	k1 := func(c string) string { return forge(`{"alg":"HS256","kid":"k1"}`, claims(c), secret) }
	const fine = `"sub":"42","exp":1800003600`
	byRSA, err := Sign(SigningKey{Algorithm: "RS256", Private: p.rsa}, map[string]any{"iss": "https://rsa", "aud": "web", "sub": "42", "exp": 1800003600})
	if err != nil {
		t.Fatal(err)
	}
	readAs := func(key []byte) string { return forge(head, claims(fine), key) }
	unhex, err := hex.DecodeString(string(secret))
	if err != nil {
		t.Fatal(err)
	}
	unbase64, err := base64.StdEncoding.DecodeString(string(secret))
	if err != nil {
		t.Fatal(err)
	}
	token := k1(fine)
	parts := strings.Split(token, ".")
	for _, c := range []struct {
		name, token string
		want        []string
	}{
		{"good", token, nil},
		{"good at every limit", k1(`"sub":"42","nbf":1800000030,"iat":1800000030,"exp":1800086430`), nil},
		{"good when just expired", k1(`"sub":"42","exp":1799999971`), nil},
		{"good for a day without iat", k1(`"sub":"42","exp":1800086430`), nil},
		{"tenant of the other key", forge(head, claims(fine+`,"allim":{"tenant":"acme"}`), secret), []string{`allim.tenant "acme": keys[0] (id "k1") may speak for "default" only`}},
		{"wrong signature", forge(`{"alg":"HS256","kid":"k1"}`, claims(fine), []byte("x")),
			[]string{`signature: not made with keys[0] (id "k1"): it was another key, or the token was changed`}},
		{"wrong signature, no kid", forge(head, claims(fine), []byte("x")),
			[]string{`signature: not made with keys[0] (id "k1") or keys[1] (id "k2"): it was another key, or the token was changed`}},
		{"another key's signature", forge(`{"alg":"HS256","kid":"k2"}`, claims(fine), secret),
			[]string{`signature: not made with keys[1] (id "k2"), but with keys[0] (id "k1")`}},
		{"secret read as hex", readAs(unhex),
			[]string{`signature: not made with keys[0] (id "k1") or keys[1] (id "k2"), but with the secret of keys[0] (id "k1") decoded from hex: sign with its text as it stands`}},
		{"secret read as base64", readAs(unbase64),
			[]string{`signature: not made with keys[0] (id "k1") or keys[1] (id "k2"), but with the secret of keys[0] (id "k1") decoded from base64: sign with its text as it stands`}},
		{"secret with its line break", readAs([]byte(string(secret) + "\n")),
			[]string{`signature: not made with keys[0] (id "k1") or keys[1] (id "k2"), but with the secret of keys[0] (id "k1") with a line break after it: sign with its text as it stands`}},
		{"kid of no key", forge(`{"alg":"HS256","kid":"k9"}`, claims(fine), secret), []string{`kid "k9": no key of this issuer has this id, but "k1", "k2"`}},
		{"issuer of no key", forge(head, `{"iss":"https://evil","aud":"web",`+fine+`}`, secret), []string{`iss "https://evil": the keys are for "https://id", "https://rsa" only`}},
		{"no issuer", forge(head, `{"aud":"web",`+fine+`}`, secret), []string{`no iss: the keys are for "https://id", "https://rsa" only`}},
		{"alg of another issuer", forge(`{"alg":"RS256"}`, claims(fine), secret), []string{"alg RS256: the keys of this issuer are for HS256"}},
		{"alg none", b64([]byte(`{"alg":"none"}`)) + "." + parts[1] + ".", []string{`header: alg "none": expected HS256, RS256, ES256 or EdDSA`}},
		{"no alg", forge(`{"typ":"JWT"}`, claims(fine), secret), []string{"header: no alg: expected HS256, RS256, ES256 or EdDSA"}},
		{"brings its key", forge(`{"alg":"HS256","kid":"k1","jwk":{},"crit":[]}`, claims(fine), secret), []string{"header: crit is not accepted", "header: jwk is not accepted"}},
		{"typ", forge(`{"alg":"HS256","typ":"dpop+jwt"}`, claims(fine), secret), []string{"header: typ is not JWT"}},
		{"expired", k1(`"sub":"42","exp":1799999820`), []string{"expired 3 minutes ago, at 2027-01-15T07:57:00Z"}},
		{"expired long ago", k1(`"sub":"42","exp":1799000000`), []string{"expired 11 days ago, at 2027-01-03T18:13:20Z"}},
		{"expired as it came", k1(`"sub":"42","exp":1799999970`), []string{"expired 30 seconds ago, at 2027-01-15T07:59:30Z"}},
		{"not yet", k1(`"sub":"42","nbf":1800000300,"exp":1800003600`), []string{"nbf: not valid for another 5 minutes, until 2027-01-15T08:05:00Z"}},
		{"from the future", k1(`"sub":"42","iat":1800000300,"exp":1800003600`), []string{"iat: issued 5 minutes in the future, at 2027-01-15T08:05:00Z: a clock is wrong"}},
		{"no exp", k1(`"sub":"42"`), []string{"no exp: expected its end, at most 24 hours after iat"}},
		{"exp a text", k1(`"sub":"42","exp":"1800003600"`), []string{"exp: expected seconds since 1970, before the year 10000"}},
		{"a long life", k1(`"sub":"42","iat":1800000000,"exp":1800172800`), []string{"a life of 2 days from iat to exp: expected at most 24 hours"}},
		{"a long life without iat", k1(`"sub":"42","exp":1800172800`), []string{"exp in 2 days, and no iat: expected at most 24 hours from now"}},
		{"no sub", k1(`"exp":1800003600`), []string{"no sub: expected who it is for, 1 to 180 bytes"}},
		{"sub a number", k1(`"sub":42,"exp":1800003600`), []string{"sub: expected a string"}},
		{"aud", forge(head, `{"iss":"https://id","aud":["a","b"],`+fine+`}`, secret), []string{`aud "a b": the gateway asks for "web"`}},
		{"no aud", forge(head, `{"iss":"https://id",`+fine+`}`, secret), []string{`no aud: the gateway asks for "web"`}},
		{"a service at the gateway", forge(head, `{"iss":"https://id","aud":"allim-publisher",`+fine+`}`, secret), []string{"aud: a service token (allim-publisher): the publisher takes it, the gateway never does"}},
		{"tenant", k1(fine + `,"allim":{"tenant":"acme"}`), []string{`allim.tenant "acme": keys[0] (id "k1") may speak for "default" only`}},
		{"no tenant", byRSA, []string{`no allim.tenant, which means "default": keys[7].public_key_file may speak for "acme" only`}},
		{"tenant of neither key", forge(head, claims(fine+`,"allim":{"tenant":"x"}`), []byte("x")), []string{
			`signature: not made with keys[0] (id "k1") or keys[1] (id "k2"): it was another key, or the token was changed`,
			`allim.tenant "x": none of keys[0] (id "k1") or keys[1] (id "k2") may speak for it`}},
		{"rights", k1(fine + `,"allim":{"subscribe":["a*b","ok"],"hear":["user:7"],"send":"x","segments":["a:b"]}`), []string{
			"allim.send: expected an array of strings",
			`allim.subscribe[0]: expected a topic, or a prefix that ends in * (byte 2 is "*")`,
			"allim.hear[0]: expected an event or page topic: sub and segments open the others",
			"allim.segments[0]: expected 1 to 64 of A-Z a-z 0-9 . _ -"}},
		{"everything at once", forge(`{"alg":"HS256","kid":"k2","typ":"x","jku":"y"}`, `{"iss":"https://id","exp":1799999820,"nbf":1800000300,"aud":"allim-publisher","jti":1,"allim":{"allow":["all"],"tenant":"x"}}`, secret), []string{
			"header: jku is not accepted", "header: typ is not JWT",
			`signature: not made with keys[1] (id "k2"), but with keys[0] (id "k1")`,
			"no sub: expected who it is for, 1 to 180 bytes", "jti: expected a string",
			"expired 3 minutes ago, at 2027-01-15T07:57:00Z", "nbf: not valid for another 5 minutes, until 2027-01-15T08:05:00Z",
			`allim.tenant "x": keys[1] (id "k2") may speak for "acme", "default" only`,
			"allim.allow[0]: expected publish:<pattern>, notify:user:<pattern>, notify:segment:<pattern>, notify:*, refresh:<pattern>, inbox, events or admin",
			"aud: a service token (allim-publisher): the publisher takes it, the gateway never does"}},
		{"nothing", "", []string{"not a signed JWT: expected three parts divided by dots, found 1"}},
		{"encrypted", "a.b.c.d.e", []string{"not a signed JWT: expected three parts divided by dots, found 5"}},
		{"too long", strings.Repeat("a", MaxToken+1), []string{"4097 bytes: expected at most 4096"}},
		{"no base64url", "*.*.*", []string{"header: not base64url", "claims: not base64url", "signature: not base64url"}},
		{"a signature that is none", parts[0] + "." + parts[1] + ".*", []string{"signature: not base64url"}},
		{"a claim twice", k1(fine + `,"sub":"admin"`), []string{"claims: a name stands twice"}},
		{"claims no object", parts[0] + "." + b64([]byte(`[1]`)) + "." + parts[2], []string{"claims: not a JSON object"}},
		{"allim no object", k1(fine + `,"allim":1`), []string{"allim: not a JSON object"}},
		{"no signature", parts[0] + "." + parts[1] + ".", []string{`signature: not made with keys[0] (id "k1"): it was another key, or the token was changed`}},
		{"of another issuer's secret, with no way to check it", forge(`{"alg":"HS256"}`, `{"iss":"https://rsa","aud":"web",`+fine+`,"allim":{"tenant":"acme"}}`, secret), []string{"alg HS256: the keys of this issuer are for RS256"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := v.Explain(c.token)
			if !slices.Equal(x.Refused, c.want) {
				t.Errorf("\n got %q\nwant %q", x.Refused, c.want)
			}
			if _, err := v.Verify(c.token); (err == nil) != (len(x.Refused) == 0) {
				t.Errorf("verified: %v", Why(err))
			}
		})
	}
}

func TestAServiceTokenIsExplainedWithItsRights(t *testing.T) {
	s := services(t)
	token := forge(head, `{"sub":"shop","aud":"allim-publisher","exp":1800003600,"allim":{"allow":["publish:orders/*","inbox"],"subscribe":1}}`, secret)
	x := s.Explain(token)
	want := []Fact{{"signed by", "HS256 with keys[0]"}, {"audience", "allim-publisher"}, {"service", "shop"}, {"expires", "2027-01-15T09:00:00Z, in 60 minutes"},
		{"tenant", "default"}, {"allow", "publish:orders/*  inbox"}}
	if !slices.Equal(x.Facts, want) || len(x.Refused) > 0 || !x.Service || !slices.Equal(x.Notes, []string{"allim.subscribe is for users' tokens: nothing looks at it here"}) {
		t.Errorf("got %+v", x)
	}
	for claims, want := range map[string]string{
		`{"sub":"shop","exp":1800003600}`:                                                        `no aud: the publisher asks for "allim-publisher"`,
		`{"sub":"shop","exp":1800003600,"aud":"web"}`:                                            `aud "web": the publisher asks for "allim-publisher"`,
		`{"sub":"shop","exp":1800003600,"aud":"allim-publisher","allim":{"allow":"inbox"}}`:      "allim.allow: expected an array of strings",
		`{"sub":"shop","exp":1800003600,"aud":"allim-publisher","allim":{"tenant":"acme"}}`:      `allim.tenant "acme": keys[0] may speak for "default" only`,
		`{"sub":"shop","exp":1700003600,"aud":"allim-publisher","allim":{"allow":["publish:"]}}`: "expired 1157 days ago, at 2023-11-14T23:13:20Z",
	} {
		token := forge(head, claims, secret)
		x := s.Explain(token)
		if !slices.Contains(x.Refused, want) {
			t.Errorf("%s:\n got %q\nwant %q", claims, x.Refused, want)
		}
		if p, err := s.Authenticate(token); err == nil {
			t.Errorf("%s: got %+v", claims, p)
		}
	}
}

func TestWhatStandsInATokenAndDoesNothingIsNoted(t *testing.T) {
	v := verifierFor(t, options(t))
	for claims, want := range map[string][]string{
		`{"sub":"a","exp":1800003600,"allim":{}}`:                                   nil,
		`{"sub":"a","exp":1800003600}`:                                              {"no allim: the user hears the own stream and what is public, and sends nothing"},
		`{"sub":"a","exp":1800003600,"allim":{"subscibe":["a"],"allow":["inbox"]}}`: {"allim.allow is for service tokens: nothing looks at it here", "allim.subscibe: no such name, nothing looks at it"},
		`{"sub":"a","exp":1800003600,"allim":{},"hear":["a"]}`:                      {"hear stands beside allim, not in it: nothing looks at it"},
		`{"sub":"a","exp":1800003600,"aud":"allim-publisher"}`:                      {"no allim.allow: the service may do nothing"},
	} {
		if x := v.Explain(forge(head, claims, secret)); !slices.Equal(x.Notes, want) {
			t.Errorf("%s:\n got %q\nwant %q", claims, x.Notes, want)
		}
	}
}

func TestWithoutKeysAllIsExplainedButWhoSigned(t *testing.T) {
	v := verifierFor(t, Options{Now: func() time.Time { return now }})
	x := v.Explain(forge(`{"alg":"HS256","kid":"k"}`, `{"iss":"i","sub":"a","exp":1799999820,"allim":{"tenant":"A"}}`, secret))
	if !x.Unchecked || x.Facts[0] != (Fact{"signed by", "not checked: there is no key"}) ||
		!slices.Equal(x.Refused, []string{"expired 3 minutes ago, at 2027-01-15T07:57:00Z", "allim.tenant: expected 1 to 32 of a-z 0-9 -"}) {
		t.Errorf("got %+v", x)
	}
	if x = v.Explain(forge(head, good, secret)); !x.Unchecked || len(x.Refused) > 0 {
		t.Errorf("got %+v", x)
	}
}

func TestAnExplanationShowsNoSecretAndNoSignatureAndPrintsNoControlCharacter(t *testing.T) {
	v := verifierFor(t, options(t))
	evil := "\u009b2J\u202e\u200b"
	for _, token := range []string{
		forge(`{"alg":"HS256","kid":"`+evil+`"}`, `{"sub":"\u001b[2J`+evil+`","iss":"`+evil+`","aud":"`+evil+`","exp":1800003600,"sid":"","allim":{"`+evil+`":1,"tenant":"`+evil+`","subscribe":["`+evil+`"]}}`, secret),
		forge(`{"alg":"`+evil+`"}`, `{"`+evil+`":`, secret),
		b64([]byte("\x1b[2J")) + "." + b64([]byte("\x1b\xff")) + "." + b64([]byte("\x1b")),
		forge(`{"alg":"HS256"}`, strings.Repeat("[", 1000)+strings.Repeat("]", 1000), secret),
	} {
		x := v.Explain(token)
		all := append(slices.Clone(x.Refused), x.Notes...)
		for _, f := range x.Facts {
			all = append(all, f.Name+f.Value)
		}
		all = append(all, strings.ReplaceAll(x.Header+x.Claims, "\n", ""))
		signature := token[strings.LastIndexByte(token, '.')+1:]
		for _, s := range all {
			if i := strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }); i >= 0 {
				t.Errorf("prints %q in %q", s[i:i+1], s)
			}
			if strings.Contains(s, string(secret)) || strings.Contains(s, signature) || len(s) > 2*maxIndented {
				t.Errorf("shows too much: %s", s)
			}
		}
	}
}

// FuzzExplain: what is explained as good is taken, what is explained as refused is not, for clients and backends alike.
func FuzzExplain(f *testing.F) {
	f.Add(head, good, true)
	f.Add(`{"alg":"HS256","kid":"k1"}`, `{"iss":"https://id","sub":"a","exp":1800003600,"nbf":1.5e9,"aud":"web","allim":{"tenant":"acme","hear":["a"]}}`, false)
	f.Add(`{"alg":"HS256"}`, `{"iss":"https://id","sub":"a","iat":1800000030,"exp":1800086400.5,"aud":["allim-publisher"],"allim":{"allow":["inbox"]}}`, true)
	f.Add(`{"alg":"RS256","typ":"at+JWT"}`, `{"iss":"https://rsa","sub":1,"exp":1799999970}`, false)
	o, _ := strange(f)
	v := verifierFor(f, o)
	o.Audience = "web"
	web := verifierFor(f, o)
	s, err := NewServices(o, nil)
	if err != nil {
		f.Fatal(err)
	}
	none := verifierFor(f, options(f))
	f.Fuzz(func(t *testing.T, header, claims string, right bool) {
		key := secret
		if !right {
			key = nil
		}
		for _, token := range []string{forge(header, claims, key), header + "." + claims + ".", header} {
			for _, v := range []*Verifier{v, web, none} {
				_, err := v.Verify(token)
				if x := v.Explain(token); (len(x.Refused) == 0) != (err == nil) || x.Unchecked {
					t.Fatalf("verified: %v, explained %+v", Why(err), x)
				}
				if x := v.explain(token); err != nil && v != web && !x.Service && len(x.Refused) == 0 { // before end adds what was not found
					t.Fatalf("verified: %v, nothing found", Why(err))
				}
			}
			_, err := s.verifyService(token)
			if x := s.Explain(token); (len(x.Refused) == 0) != (err == nil) {
				t.Fatalf("verified: %v, explained %+v", Why(err), x)
			}
		}
	})
}
