package main

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"allim/pkg/auth"
)

// explainToken says what a token is. The token need not stand in the history of a shell: it is read from standard input too.
type explainToken struct {
	Token         string   `arg:"" optional:"" help:"The token; absent or -: a line of standard input."`
	Config        string   `type:"existingfile" xor:"keys" placeholder:"FILE" help:"Settings file of gateway and publisher: their keys and their audience."`
	SecretFile    string   `type:"existingfile" xor:"keys" placeholder:"FILE" help:"File with the HS256 secret."`
	PublicKeyFile string   `type:"existingfile" xor:"keys" placeholder:"FILE" help:"File with public keys: PEM, a JWK or a JWK Set."`
	Secret        string   `xor:"keys" help:"HS256 secret. Without any key: the settings file $$ALLIM_CONFIG, else the secret $$ALLIM_SECRET, else the signature is not checked."`
	Algorithm     string   `enum:",RS256,ES256,EdDSA" default:"" placeholder:"NAME" help:"Of a public key file with keys for several: RS256, ES256 or EdDSA."`
	Audience      string   `help:"Audience that the gateway asks for, where not from the settings file."`
	Tenant        []string `help:"Tenants that the secret or public key may speak for, where not default alone."`
	For           string   `enum:",gateway,publisher" default:"" placeholder:"WHO" help:"Who is shown it, gateway or publisher; by default whom its audience names."`
}

// errRefused is exit code 1.
var errRefused = errors.New("the token is refused")

// Run prints what the token is. Its error is errRefused where nobody takes it, or a mistake of whoever called.
func (c *explainToken) Run() error {
	rules, from, err := c.rules()
	if err != nil {
		return &mistake{err}
	}
	token, err := c.read()
	if err != nil {
		return &mistake{err}
	}
	rules.Audience = cmp.Or(c.Audience, rules.Audience)
	x, who, err := explain(rules, c.For, token)
	if err != nil {
		return &mistake{err}
	}
	if err := report(os.Stdout, x, who, from); err != nil {
		return err
	}
	if len(x.Refused) > 0 {
		return errRefused
	}
	return nil
}

// explain asks who is shown the token; "" is whom it is for.
func explain(o auth.Options, who, token string) (auth.Explanation, string, error) {
	v, err := auth.NewVerifier(o)
	if err != nil {
		return auth.Explanation{}, "", err
	}
	s, err := auth.NewServices(o, nil)
	if err != nil {
		return auth.Explanation{}, "", err
	}
	x := v.Explain(token)
	if who == "publisher" || who == "" && x.Service {
		return s.Explain(token), "publisher", nil
	}
	return x, "gateway", nil
}

// rules are the keys that the flags name, else those of the environment, and where they are from; none is no mistake.
func (c *explainToken) rules() (o auth.Options, from string, err error) {
	var keys []auth.Key
	if c.Config+c.SecretFile+c.PublicKeyFile+c.Secret == "" {
		c.Config, from = os.Getenv("ALLIM_CONFIG"), "ALLIM_CONFIG, "
		if c.Config == "" {
			c.Secret, from = os.Getenv("ALLIM_SECRET"), "ALLIM_SECRET"
		}
	}
	k := auth.Key{Algorithm: "HS256", Tenants: c.Tenant}
	switch {
	case c.Config != "":
		o, at, err := rulesFrom(c.Config)
		return o, cmp.Or(at, from+c.Config), err
	case c.PublicKeyFile != "":
		k.Algorithm, k.Field, from = c.Algorithm, "--public-key-file", c.PublicKeyFile
		text, err := os.ReadFile(c.PublicKeyFile)
		if err != nil {
			return o, "", err
		}
		public, err := auth.ParsePublicKeys(text)
		if err != nil {
			return o, "", fmt.Errorf("--public-key-file: %w", err)
		}
		if keys, err = k.With(public); err != nil {
			return o, "", fmt.Errorf("--%w", err)
		}
	case c.SecretFile != "":
		k.Field, from = "--secret-file", c.SecretFile
		secret, err := secretFile(c.SecretFile)
		if err != nil {
			return o, "", err
		}
		k.Secret = []byte(secret)
		keys = []auth.Key{k}
	case c.Secret != "":
		k.Field, k.Secret, from = cmp.Or(from, "--secret"), []byte(c.Secret), cmp.Or(from, "--secret")
		keys = []auth.Key{k}
	default:
		return o, "", nil
	}
	o.Keys, err = auth.NewKeys(keys)
	return o, from, err
}

const maxLine = 64 << 10 // bytes of standard input: whatever is beyond a token is refused in words

func (c *explainToken) read() (string, error) {
	text := c.Token
	if text == "" || text == "-" {
		if info, err := os.Stdin.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
			fmt.Fprintln(os.Stderr, "The token, then Enter:")
		}
		lines := bufio.NewReader(io.LimitReader(os.Stdin, maxLine))
		for err := error(nil); err == nil; {
			if text, err = lines.ReadString('\n'); strings.TrimSpace(text) != "" {
				break
			}
			if err != nil && !errors.Is(err, io.EOF) {
				return "", fmt.Errorf("read the token: %w", err)
			}
		}
	}
	text = strings.TrimSpace(text)
	if scheme, rest, ok := strings.Cut(strings.TrimPrefix(text, "Authorization: "), " "); ok && strings.EqualFold(scheme, "bearer") {
		text = strings.TrimSpace(rest)
	}
	if text == "" || text == "-" {
		return "", errors.New("no token: expected it as the argument or on standard input")
	}
	return text, nil
}

// report writes the verdict, its reasons, and what the token says in two columns.
func report(w io.Writer, x auth.Explanation, who, from string) error {
	var b strings.Builder
	switch {
	case len(x.Refused) > 0:
		fmt.Fprintf(&b, "refused: the %s does not take it\n", who)
	case x.Unchecked:
		fmt.Fprintf(&b, "signature not checked, the rest is good for the %s: give --config, --secret-file or --public-key-file\n", who)
	default:
		fmt.Fprintf(&b, "good: the %s takes it\n", who)
	}
	for _, why := range x.Refused {
		fmt.Fprintf(&b, "  - %s\n", why)
	}
	for _, note := range x.Notes {
		fmt.Fprintf(&b, "  note: %s\n", note)
	}
	b.WriteByte('\n')
	facts := x.Facts
	if from != "" {
		facts = append([]auth.Fact{{Name: "keys from", Value: from}}, facts...)
	}
	for _, f := range append(facts, auth.Fact{Name: "header", Value: x.Header}, auth.Fact{Name: "claims", Value: x.Claims}) {
		if f.Value != "" {
			fmt.Fprintf(&b, "%-11s%s\n", f.Name, strings.ReplaceAll(f.Value, "\n", "\n"+strings.Repeat(" ", 11)))
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}
