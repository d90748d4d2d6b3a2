package main

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"allim/pkg/auth"
)

// printed runs a command and returns what it printed.
func printed(t *testing.T, run func() error) string {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	was := os.Stdout
	os.Stdout = w
	err = run()
	os.Stdout = was
	_ = w.Close()
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 8192)
	n, _ := r.Read(b)
	return strings.TrimSpace(string(b[:n]))
}

func TestTokensOfEveryKindOfKeyVerify(t *testing.T) {
	secret := strings.Repeat("s", 32)
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
		cmd tokenCommand
		key auth.Key
	}{
		"secret":      {tokenCommand{Secret: secret}, auth.Key{Algorithm: "HS256", Secret: []byte(secret)}},
		"secret file": {tokenCommand{SecretFile: secretFile}, auth.Key{Algorithm: "HS256", Secret: []byte(secret)}},
		"RSA":         {tokenCommand{KeyFile: file(rsaKey)}, auth.Key{Algorithm: "RS256", Public: &rsaKey.PublicKey}},
		"ECDSA":       {tokenCommand{KeyFile: file(ecKey)}, auth.Key{Algorithm: "ES256", Public: &ecKey.PublicKey}},
		"Ed25519":     {tokenCommand{KeyFile: file(edKey)}, auth.Key{Algorithm: "EdDSA", Public: edPublic}},
	} {
		t.Run(name, func(t *testing.T) {
			c.cmd.Sub, c.cmd.Life, c.cmd.Hear, c.cmd.Subscribe, c.cmd.Tenant = "ann", time.Hour, []string{"orders/all"}, []string{"orders/*"}, "acme"
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
			if id.User != "ann" || id.Tenant != "acme" || !id.MayHear("orders/7") || len(id.Hear) != 1 {
				t.Errorf("identity %+v", id)
			}
		})
	}
	for _, c := range []tokenCommand{{Secret: "short"}, {}, {KeyFile: secretFile}} {
		if err := c.Run(); err == nil {
			t.Errorf("%+v made a token", c)
		}
	}
}
