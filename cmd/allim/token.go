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

// tokenCommand signs a client's token, for development and tests. A real application's own backend does this at login.
type tokenCommand struct {
	Sub        string        `required:"" help:"The user."`
	Secret     string        `env:"ALLIM_SECRET" xor:"key" help:"HS256 secret, as in the settings file."`
	SecretFile string        `type:"existingfile" xor:"key" help:"File with the HS256 secret."`
	KeyFile    string        `type:"existingfile" xor:"key" help:"Private key in PEM (PKCS #8): RS256, ES256 or EdDSA, by its kind."`
	Kid        string        `help:"The key's id."`
	Issuer     string        `help:"Issuer (iss)."`
	Audience   string        `help:"Audience (aud)."`
	Tenant     string        `help:"Tenant."`
	Subscribe  []string      `help:"Patterns of topics that the user may subscribe to."`
	Hear       []string      `help:"Topics heard without asking."`
	Life       time.Duration `default:"1h" help:"How long it is good for (${default})."`
}

// Run prints the token.
func (c *tokenCommand) Run() error {
	k, err := c.key()
	if err != nil {
		return err
	}
	now := time.Now()
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
	if len(c.Subscribe) > 0 {
		grant["subscribe"] = c.Subscribe
	}
	if len(c.Hear) > 0 {
		grant["hear"] = c.Hear
	}
	token, err := auth.Sign(k, claims)
	if err != nil {
		return fmt.Errorf("sign: %w", err)
	}
	fmt.Println(token)
	return nil
}

func (c *tokenCommand) key() (k auth.SigningKey, err error) {
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
		text, err := os.ReadFile(c.SecretFile)
		if err != nil {
			return k, err
		}
		c.Secret = strings.TrimRight(string(text), "\r\n")
	}
	if len(c.Secret) < auth.MinSecret {
		return k, fmt.Errorf("--secret, --secret-file or --key-file is needed; a secret has at least %d bytes", auth.MinSecret)
	}
	k.Algorithm, k.Secret = "HS256", []byte(c.Secret)
	return k, nil
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
