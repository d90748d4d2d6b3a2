package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"allim/pkg/auth"
)

const explainSecret = "a secret of at least thirty-two bytes"

// said is what `allim token …` prints and its exit code, with text on standard input.
func said(t *testing.T, text string, args ...string) (string, int) {
	t.Helper()
	path := written(t, "stdin", text)
	in, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	was := os.Stdin
	os.Stdin = in
	defer func() { os.Stdin = was }()
	var code int
	out, _ := output(t, func() error { code = start(append([]string{"token"}, args...)); return nil })
	return out, code
}

func written(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func signed(t *testing.T, claims map[string]any) string {
	t.Helper()
	token, err := auth.Sign(auth.SigningKey{Algorithm: "HS256", Secret: []byte(explainSecret)}, claims)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func quiet(t *testing.T) {
	t.Setenv("ALLIM_SECRET", "")
	t.Setenv("ALLIM_CONFIG", "")
}

func TestATokenThatTheCommandMakesItExplains(t *testing.T) {
	quiet(t)
	t.Setenv("ALLIM_SECRET", explainSecret)
	for name, args := range map[string][]string{
		"as in README":      {"--sub", "ann", "--subscribe", "orders/*"},
		"by its name":       {"make", "--sub", "ann", "--subscribe", "orders/*"},
		"with another file": {"--sub", "ann", "--subscribe", "orders/*", "--secret-file", written(t, "secret", explainSecret+"\n")}, // the environment steps back
	} {
		token, code := said(t, "", args...)
		if code != 0 {
			t.Fatalf("%s: exit code %d", name, code)
		}
		token = strings.TrimSpace(token)
		for way, in := range map[string][]string{"argument": {token}, "input": {}, "dash": {"-"}} {
			out, code := said(t, "\nBearer "+token+"\r\n", append([]string{"explain"}, in...)...)
			if code != 0 || !strings.HasPrefix(out, "good: the gateway takes it\n\nkeys from  ALLIM_SECRET\nsigned by  HS256 with ALLIM_SECRET\nuser       ann\nissued     ") ||
				!strings.Contains(out, "\nsubscribe  orders/*\nheader     {\n             \"alg\": \"HS256\",\n") {
				t.Errorf("%s, by %s: exit code %d\n%s", name, way, code, out)
			}
			if strings.Contains(out, explainSecret) || strings.Contains(out, token[strings.LastIndexByte(token, '.'):]) {
				t.Errorf("%s: shows a secret or the signature\n%s", name, out)
			}
		}
	}
}

func TestTheWholeExplanationOfATokenWithoutTimes(t *testing.T) {
	quiet(t)
	out, code := said(t, "", "explain", "--secret", explainSecret, signed(t, map[string]any{"sub": "ann", "allim": map[string]any{"hear": []string{"a*"}, "allow": []string{"inbox"}}}))
	want := `refused: the gateway does not take it
  - no exp: expected its end, at most 24 hours after iat
  - allim.hear[0]: expected only A-Z a-z 0-9 . _ ~ / : @ = + , - (byte 2 is "*")
  note: allim.allow is for service tokens: nothing looks at it here

keys from  --secret
signed by  HS256 with --secret
user       ann
tenant     default
hears      user:ann  segment:all
header     {
             "alg": "HS256",
             "typ": "JWT"
           }
claims     {
             "allim": {
               "allow": [
                 "inbox"
               ],
               "hear": [
                 "a*"
               ]
             },
             "sub": "ann"
           }
`
	if out != want || code != failed {
		t.Errorf("exit code %d, got\n%s\nwant\n%s", code, out, want)
	}
}

func TestTheVerdictIsThatOfWhomTheTokenIsShownTo(t *testing.T) {
	quiet(t)
	now := time.Now().Unix()
	user := signed(t, map[string]any{"sub": "ann", "exp": now + 60, "aud": "web"})
	service := signed(t, map[string]any{"sub": "shop", "exp": now + 60, "aud": "allim-publisher", "allim": map[string]any{"allow": []string{"inbox"}}})
	late := signed(t, map[string]any{"sub": "ann", "exp": now - 600, "aud": "web"})
	lately := signed(t, map[string]any{"sub": "ann", "exp": now - 10, "aud": "web"})
	acme := signed(t, map[string]any{"sub": "ann", "exp": now + 60, "aud": "web", "allim": map[string]any{"tenant": "acme"}})
	config := func(more string) string {
		return written(t, "allim.yaml", "mode: development\nkeys: [{id: k1, algorithm: HS256, secret: "+explainSecret+"}]\n"+more)
	}
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	byEd, err := auth.Sign(auth.SigningKey{ID: "e1", Algorithm: "EdDSA", Private: private}, map[string]any{"sub": "ann", "exp": now + 60})
	if err != nil {
		t.Fatal(err)
	}
	set := written(t, "keys.json", `{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"e1","x":"`+base64.RawURLEncoding.EncodeToString(public)+`"}]}`)
	for _, c := range []struct {
		name  string
		args  []string
		begin string
		code  int
	}{
		{"user", []string{"--secret", explainSecret, user}, "good: the gateway takes it\n", 0},
		{"user at the publisher", []string{"--secret", explainSecret, "--for", "publisher", user}, "refused: the publisher does not take it\n  - aud \"web\": the publisher asks for \"allim-publisher\"\n", failed},
		{"service", []string{"--secret", explainSecret, service}, "good: the publisher takes it\n", 0},
		{"service at the gateway", []string{"--secret", explainSecret, "--for", "gateway", service}, "refused: the gateway does not take it\n  - aud: a service token (allim-publisher): the publisher takes it, the gateway never does\n", failed},
		{"another audience", []string{"--secret", explainSecret, "--audience", "app", user}, "refused: the gateway does not take it\n  - aud \"web\": the gateway asks for \"app\"\n", failed},
		{"expired", []string{"--secret", explainSecret, late}, "refused: the gateway does not take it\n  - expired 10 minutes ago, at ", failed},
		{"expired within the leeway", []string{"--secret", explainSecret, lately}, "good: the gateway takes it\n  note: it expired 1", 0},
		{"another secret", []string{"--secret", "another " + explainSecret, user}, "refused: the gateway does not take it\n  - signature: not made with --secret: it was another key, or the token was changed\n", failed},
		{"another tenant", []string{"--secret", explainSecret, acme}, "refused: the gateway does not take it\n  - allim.tenant \"acme\": --secret may speak for \"default\" only\n", failed},
		{"tenant of the key", []string{"--secret", explainSecret, "--tenant", "acme", acme}, "good: the gateway takes it\n", 0},
		{"settings", []string{"--config", config("audience: web\n"), user}, "good: the gateway takes it\n", 0},
		{"audience of the settings", []string{"--config", config("audience: app\n"), user}, "refused: the gateway does not take it\n  - aud \"web\": the gateway asks for \"app\"\n", failed},
		{"a set of keys", []string{"--public-key-file", set, byEd}, "good: the gateway takes it\n", 0},
		{"a set of keys for another", []string{"--public-key-file", set, user}, "refused: the gateway does not take it\n  - alg HS256: the keys of this issuer are for EdDSA\n", failed},
		{"no key", []string{user}, "signature not checked, the rest is good for the gateway: give --config, --secret-file or --public-key-file\n", 0},
		{"no key, expired", []string{late}, "refused: the gateway does not take it\n  - expired 10 minutes ago, at ", failed},
		{"no token", []string{"--secret", explainSecret}, "", mistaken},
		{"a weak secret", []string{"--secret", strings.Repeat("s", 32), user}, "", mistaken},
		{"two kinds of keys", []string{"--secret", explainSecret, "--public-key-file", set, user}, "", mistaken},
		{"no such algorithm in the file", []string{"--public-key-file", set, "--algorithm", "RS256", user}, "", mistaken},
		{"a file of something else", []string{"--public-key-file", config(""), user}, "", mistaken},
		{"settings with a mistake", []string{"--config", config("audiense: app\n"), user}, "", mistaken},
	} {
		t.Run(c.name, func(t *testing.T) {
			out, code := said(t, "", append([]string{"explain"}, c.args...)...)
			if !strings.HasPrefix(out, c.begin) || code != c.code || c.begin == "" && out != "" && !strings.HasPrefix(out, "Usage:") {
				t.Errorf("exit code %d, want %d, got\n%s\nwant\n%s", code, c.code, out, c.begin)
			}
		})
	}
}

func TestTheSettingsFileOfTheEnvironmentComesBeforeItsSecret(t *testing.T) {
	path := written(t, "allim.yaml", "mode: development\nkeys: [{id: k1, algorithm: HS256, secret: "+explainSecret+"}]\ntopics: [{prefix: open/, public: true}]\n")
	list := written(t, "keys.yaml", "- {id: k1, algorithm: HS256, secret: "+explainSecret+"}\n")
	apart := written(t, "allim.yaml", "mode: development\nkeys_file: "+list+"\n")
	token := signed(t, map[string]any{"sub": "ann", "exp": time.Now().Unix() + 60})
	t.Setenv("ALLIM_CONFIG", path)
	t.Setenv("ALLIM_SECRET", "another "+explainSecret)
	if out, _ := said(t, "", "explain", "--config", apart, token); !strings.Contains(out, "\nkeys from  "+list+":1\n") {
		t.Errorf("with a list in a file of its own\n%s", out)
	}
	out, code := said(t, "", "explain", token)
	if code != 0 || !strings.Contains(out, "\nkeys from  "+path+":2\nsigned by  HS256 with keys[0] (id \"k1\")\n") || !strings.Contains(out, "\npublic     open/*\n") {
		t.Errorf("exit code %d\n%s", code, out)
	}
}
