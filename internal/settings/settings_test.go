package settings

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"allim/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

const whole = `
redis: redis://localhost:6379/0
partitions: 64
public_url: https://h.example
origins: [https://app.example]
hosts: [h.example]
audience: web
keys:
  - {id: k1, issuer: https://id, algorithm: HS256, secret_file: secret, tenants: [default, acme]}
  - {algorithm: ES256, public_key_file: key.pem}
api_keys:
  - {id: shop, key: plain, tenant: acme, allow: ["publish:*", inbox]}
  - {id: crm, key_file: /nowhere}
topics:
  - {prefix: feeds/, history: 1000, ttl: 36h}
inbox: {size: 500, retention: 90d}
anonymous: {subscribe: ["public/*"], hear: [public/chat], send: [chat message]}
`

func write(t *testing.T, files map[string]string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestTheWholeFileIsRead(t *testing.T) {
	dir := write(t, map[string]string{"secret": "s3cret\n", "key.pem": "PEM\n", "plain": "abc\r\n"})
	text := strings.Replace(whole, "/nowhere", filepath.Join(dir, "plain"), 1)
	if err := os.WriteFile(filepath.Join(dir, "allim.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := Load(filepath.Join(dir, "allim.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	want := &File{
		Redis: "redis://localhost:6379/0", Partitions: 64, PublicURL: "https://h.example", Audience: "web",
		Origins: []string{"https://app.example"}, Hosts: []string{"h.example"},
		Keys: []Key{{ID: "k1", Issuer: "https://id", Algorithm: "HS256", Secret: "s3cret", SecretFile: "secret", Tenants: []string{"default", "acme"}},
			{Algorithm: "ES256", PublicKey: "PEM", PublicKeyFile: "key.pem"}},
		APIKeys: []APIKey{{ID: "shop", Key: "plain", Tenant: "acme", Allow: []string{"publish:*", "inbox"}},
			{ID: "crm", Key: "abc", KeyFile: filepath.Join(dir, "plain")}},
		Topics:    []Class{{Prefix: "feeds/", History: 1000, TTL: Duration(36 * time.Hour)}},
		Inbox:     Inbox{Size: 500, Retention: Duration(90 * 24 * time.Hour)},
		Anonymous: &Grant{Subscribe: []string{"public/*"}, Hear: []string{"public/chat"}, Send: []string{"chat message"}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %#v\nwant %#v", got, want)
	}
}

func TestNoFileAndAnEmptyFileSayNothing(t *testing.T) {
	dir := write(t, map[string]string{"empty.yaml": "", "comment.yaml": "# nothing yet\n"})
	for _, path := range []string{"", filepath.Join(dir, "empty.yaml"), filepath.Join(dir, "comment.yaml")} {
		f, err := Load(path)
		if err != nil || !reflect.DeepEqual(f, &File{}) {
			t.Errorf("%q: got %+v, %v", path, f, err)
		}
	}
}

func TestEveryMistakeIsNamed(t *testing.T) {
	dir := write(t, map[string]string{
		"unknown.yaml": "redis: x\nredsi: y\nkeys:\n  - {kid: a}\n",
		"types.yaml":   "partitions: many\ninbox: {retention: 5}\ntopics: [{ttl: -5m}, {ttl: [1h]}]\n",
		"two.yaml":     "redis: x\n---\nredis: y\n",
		"files.yaml":   "keys: [{secret_file: gone}, {secret: a, secret_file: b}]\napi_keys: [{key_file: gone}]\n",
		"big.yaml":     "# " + strings.Repeat("x", maxFile),
	})
	for name, want := range map[string][]string{
		"unknown.yaml": {"line 2", "redsi", "line 4", "kid"},
		"types.yaml":   {"line 1", "line 2", "a duration", "line 3"},
		"two.yaml":     {"one YAML document"},
		"files.yaml":   {"keys[0].secret_file", "keys[1].secret_file", "api_keys[0].key_file"},
		"big.yaml":     {"more than"},
		"gone.yaml":    {"gone.yaml"},
	} {
		_, err := Load(filepath.Join(dir, name))
		for _, w := range want {
			if err == nil || !strings.Contains(err.Error(), w) {
				t.Errorf("%s: got %v, want it to name %q", name, err, w)
			}
		}
	}
}

func TestSecretsDoNotShow(t *testing.T) {
	f := File{Keys: []Key{{Secret: "s3cret"}}, APIKeys: []APIKey{{Key: "s3cret"}}}
	asYAML, err := yaml.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	asJSON, err := json.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	for _, shown := range []string{fmt.Sprint(f), fmt.Sprintf("%+v %#v %q", f, f, f.Keys[0].Secret), string(asYAML), string(asJSON)} {
		if strings.Contains(shown, "s3cret") {
			t.Errorf("a secret shows in %s", shown)
		}
	}
}
