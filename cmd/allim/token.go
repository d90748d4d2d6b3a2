package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"allim/pkg/auth"
)

// tokenCommand is about tokens. Without a subcommand it makes one.
type tokenCommand struct {
	Make    makeToken    `cmd:"" default:"withargs" help:"Sign a token, for development: of a user, or with --allow of a backend."`
	Explain explainToken `cmd:"" help:"Say what a token is, who signed it, and every reason that it is refused."`
}

// makeToken signs a client's token, or a service token. A real application's own backend does this at login.
type makeToken struct {
	Sub        string        `required:"" help:"The user, or the name of the backend."`
	Secret     string        `xor:"key" help:"HS256 secret, as in the settings file. Without any key: $$ALLIM_SECRET."`
	SecretFile string        `type:"existingfile" xor:"key" help:"File with the HS256 secret."`
	KeyFile    string        `type:"existingfile" xor:"key" help:"Private key in PEM (PKCS #8): RS256, ES256 or EdDSA, by its kind."`
	Kid        string        `help:"The key's id."`
	Issuer     string        `help:"Issuer (iss)."`
	Audience   string        `help:"Audience (aud)."`
	Tenant     string        `help:"Tenant."`
	Subscribe  []string      `help:"Patterns of topics that the user may subscribe to."`
	Hear       []string      `help:"Topics heard without asking."`
	Send       []string      `help:"Names of events that the user may send, or prefixes of them that end in *."`
	Segments   []string      `help:"Segments that the user belongs to."`
	Allow      []string      `help:"Rights of a backend, such as publish:orders/*, notify:*, inbox: makes a service token, for the publisher."`
	Life       time.Duration `default:"1h" help:"How long it is good for (${default})."`
}

// Run prints the token, and on standard error why no server would take it.
func (c *makeToken) Run() error {
	if len(c.Allow) > 0 {
		if len(c.Subscribe)+len(c.Hear)+len(c.Send)+len(c.Segments) > 0 || c.Audience != "" && c.Audience != auth.PublisherAudience {
			return &mistake{errors.New("--allow makes a service token: expected none of --subscribe, --hear, --send, --segments and --audience with it")}
		}
		c.Audience = auth.PublisherAudience
	}
	k, err := c.key()
	if err != nil {
		return &mistake{err}
	}
	token, err := auth.Sign(k, c.claims(time.Now()))
	if err != nil {
		return fmt.Errorf("sign: %w", err)
	}
	fmt.Println(token)
	for _, why := range c.refused(k, token) {
		fmt.Fprintf(os.Stderr, "allim: note: servers refuse this token: %s\n", why)
	}
	return nil
}

func (c *makeToken) claims(now time.Time) map[string]any {
	grant := map[string]any{}
	claims := map[string]any{"sub": c.Sub, "iat": now.Unix(), "exp": now.Add(c.Life).Unix(), "allim": grant}
	for name, v := range map[string]string{"iss": c.Issuer, "aud": c.Audience} {
		if v != "" {
			claims[name] = v
		}
	}
	if c.Tenant != "" {
		grant["tenant"] = c.Tenant
	}
	for name, v := range map[string][]string{"subscribe": c.Subscribe, "hear": c.Hear, "send": c.Send, "segments": c.Segments, "allow": c.Allow} {
		if len(v) > 0 {
			grant[name] = v
		}
	}
	return claims
}

// refused is why servers with this very key would not take the token.
func (c *makeToken) refused(k auth.SigningKey, token string) []string {
	key := auth.Key{ID: k.ID, Issuer: c.Issuer, Algorithm: k.Algorithm, Secret: k.Secret, Field: "the key"}
	if k.Private != nil {
		key.Public = k.Private.Public()
	}
	if c.Tenant != "" {
		key.Tenants = []string{c.Tenant}
	}
	keys, err := auth.NewKeys([]auth.Key{key})
	if err != nil {
		return []string{err.Error()}
	}
	x, _, err := explain(auth.Options{Keys: keys}, "", token)
	if err != nil {
		return []string{err.Error()}
	}
	return x.Refused
}

func (c *makeToken) key() (k auth.SigningKey, err error) {
	k.ID = c.Kid
	switch {
	case c.KeyFile != "":
		text, err := os.ReadFile(c.KeyFile)
		if err != nil {
			return k, err
		}
		k.Private, k.Algorithm, err = privateKey(text)
		return k, err
	case c.SecretFile != "":
		if c.Secret, err = secretFile(c.SecretFile); err != nil {
			return k, err
		}
	case c.Secret == "":
		c.Secret = os.Getenv("ALLIM_SECRET")
	}
	if c.Secret == "" {
		return k, errors.New("expected --secret-file, --key-file, --secret or ALLIM_SECRET")
	}
	k.Algorithm, k.Secret = "HS256", []byte(c.Secret)
	return k, auth.CheckSecret(k.Secret)
}

// secretFile reads a secret as the servers do: without the line breaks at its end.
func secretFile(path string) (string, error) {
	text, err := os.ReadFile(path)
	return strings.TrimRight(string(text), "\r\n"), err
}

func privateKey(text []byte) (crypto.Signer, string, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, "", errors.New("--key-file: expected PEM")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, "", fmt.Errorf("--key-file: expected a PKCS #8 private key: %w", err)
	}
	switch key := key.(type) {
	case *rsa.PrivateKey:
		return key, "RS256", nil
	case *ecdsa.PrivateKey:
		return key, "ES256", nil
	case ed25519.PrivateKey:
		return key, "EdDSA", nil
	}
	return nil, "", fmt.Errorf("--key-file: expected RSA, ECDSA or Ed25519, not %T", key)
}
