package main

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"allim/pkg/auth"
)

// printed runs a command and returns what it printed; it may not fail.
func printed(t *testing.T, run func() error) string {
	t.Helper()
	out, err := output(t, run)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(out)
}

// output runs a command and returns what it printed, and its error.
func output(t *testing.T, run func() error) (string, error) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	text := make(chan string, 1)
	go func() {
		b, _ := io.ReadAll(r)
		text <- string(b)
	}()
	was := os.Stdout
	os.Stdout = w
	err = run()
	os.Stdout = was
	_ = w.Close()
	return <-text, err
}

func TestTokensOfEveryKindOfKeyVerify(t *testing.T) {
	t.Setenv("ALLIM_SECRET", "")
	const secret = "a secret of at least thirty-two bytes"
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	edPublic, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	file := func(key any) string {
		b, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "key.pem")
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: b}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	secretFile := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secretFile, []byte(secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		cmd makeToken
		key auth.Key
	}{
		"secret":      {makeToken{Secret: secret}, auth.Key{Algorithm: "HS256", Secret: []byte(secret)}},
		"secret file": {makeToken{SecretFile: secretFile}, auth.Key{Algorithm: "HS256", Secret: []byte(secret)}},
		"RSA":         {makeToken{KeyFile: file(rsaKey)}, auth.Key{Algorithm: "RS256", Public: &rsaKey.PublicKey}},
		"ECDSA":       {makeToken{KeyFile: file(ecKey)}, auth.Key{Algorithm: "ES256", Public: &ecKey.PublicKey}},
		"Ed25519":     {makeToken{KeyFile: file(edKey)}, auth.Key{Algorithm: "EdDSA", Public: edPublic}},
	} {
		t.Run(name, func(t *testing.T) {
			c.cmd.Sub, c.cmd.Life, c.cmd.Hear, c.cmd.Subscribe, c.cmd.Tenant = "ann", time.Hour, []string{"orders/all"}, []string{"orders/*"}, "acme"
			c.cmd.Send, c.cmd.Segments = []string{"chat*"}, []string{"org-7"}
			c.cmd.Kid, c.cmd.Issuer, c.cmd.Audience = "k1", "shop", "pages"
			c.key.ID, c.key.Issuer, c.key.Tenants = "k1", "shop", []string{"acme"}
			keys, err := auth.NewKeys([]auth.Key{c.key})
			if err != nil {
				t.Fatal(err)
			}
			v, err := auth.NewVerifier(auth.Options{Keys: keys, Audience: "pages"})
			if err != nil {
				t.Fatal(err)
			}
			id, err := v.Verify(printed(t, c.cmd.Run))
			if err != nil {
				t.Fatal(auth.Why(err))
			}
			if id.User != "ann" || id.Tenant != "acme" || !id.MayHear("orders/7") || len(id.Hear) != 1 || !id.MaySend("chat message") || !id.MayHear("segment:org-7") {
				t.Errorf("identity %+v", id)
			}
		})
	}
	for _, c := range []makeToken{{Secret: "short"}, {}, {KeyFile: secretFile}, {Secret: strings.Repeat("s", 32)}, {Secret: secret, Allow: []string{"inbox"}, Hear: []string{"a"}},
		{Secret: secret, Allow: []string{"inbox"}, Audience: "web"}} {
		if err := c.Run(); err == nil {
			t.Errorf("%+v made a token", c)
		}
	}
}

func TestATokenWithRightsIsABackends(t *testing.T) {
	const secret = "a secret of at least thirty-two bytes"
	keys, err := auth.NewKeys([]auth.Key{{Algorithm: "HS256", Secret: []byte(secret)}})
	if err != nil {
		t.Fatal(err)
	}
	s, err := auth.NewServices(auth.Options{Keys: keys}, nil)
	if err != nil {
		t.Fatal(err)
	}
	c := makeToken{Sub: "shop", Secret: secret, Life: time.Hour, Allow: []string{"publish:orders/*", "inbox"}}
	p, err := s.Authenticate(printed(t, c.Run))
	if err != nil {
		t.Fatal(auth.Why(err))
	}
	if p.Name != "shop" || !p.MayPublish("orders/7") || p.MayPublish("x") || !p.MayInbox() {
		t.Errorf("got %+v", p)
	}
}

func TestWhatServersWouldRefuseIsSaidBesideTheToken(t *testing.T) {
	const secret = "a secret of at least thirty-two bytes"
	for name, c := range map[string]struct {
		cmd  makeToken
		want []string
	}{
		"good":          {makeToken{Sub: "ann", Life: time.Hour, Tenant: "acme", Issuer: "i", Kid: "k", Audience: "web"}, nil},
		"a long life":   {makeToken{Sub: "ann", Life: 48 * time.Hour}, []string{"a life of 2 days from iat to exp: expected at most 24 hours"}},
		"no pattern":    {makeToken{Sub: "ann", Life: time.Hour, Subscribe: []string{"a*b"}}, []string{`allim.subscribe[0]: expected a topic, or a prefix that ends in * (byte 2 is "*")`}},
		"no tenant":     {makeToken{Sub: "ann", Life: time.Hour, Tenant: "A"}, []string{"the key.tenants[0]: expected 1 to 32 of a-z 0-9 -"}},
		"unknown right": {makeToken{Sub: "shop", Life: time.Hour, Audience: auth.PublisherAudience, Allow: []string{"refresh"}}, []string{"allim.allow[0]: expected publish:<pattern>, notify:user:<pattern>, notify:segment:<pattern>, notify:*, refresh:<pattern>, inbox, events or admin"}},
	} {
		c.cmd.Secret = secret
		k, err := c.cmd.key()
		if err != nil {
			t.Fatal(err)
		}
		token, err := auth.Sign(k, c.cmd.claims(time.Now()))
		if err != nil {
			t.Fatal(err)
		}
		if got := c.cmd.refused(k, token); !slices.Equal(got, c.want) {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}
