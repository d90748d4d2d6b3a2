package settings

import (
	"bytes"
	"fmt"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

const hidden = "hunter2"

// Whoever mistypes a setting shows the message to others. What may be a secret is not in it, nor in what `config print` says then.
func TestAMessageDoesNotQuoteWhatMayBeASecret(t *testing.T) {
	pem := "-----BEGIN PRIVATE KEY-----\n" + hidden + "MC4CAQAwBQYDK2VwBCIEIA==\n-----END PRIVATE KEY-----\n"
	dir := inDir(t, map[string]string{"pem": pem, "plain": hidden + "\n", "pair": "password: " + hidden + "\n", "list": "- " + hidden + "\n", "typo": "- {id: a, secret:" + hidden + "}\n", "star": "- {secret: *" + hidden + "}\n"})
	for _, c := range []struct {
		name, yaml string
		args, env  []string
	}{
		{name: "a star in front", yaml: "redis:\n  password: *hunter2"},
		{name: "a star in a name", yaml: "*hunter2 : x"},
		{name: "a merged star", yaml: "redis:\n  <<: *hunter2"},
		{name: "an ampersand in front", yaml: "redis:\n  password: &hunter2"},
		{name: "a loop", yaml: "keys: &hunter2 [*hunter2]"},
		{name: "a quote that does not end", yaml: "redis:\n  password: \"hunter2"},
		{name: "an at sign in front", yaml: "redis:\n  password: @hunter2"},
		{name: "a percent sign in front of a line", yaml: "%hunter2\nredis: {}"},
		{name: "a tag that there is not", yaml: "redis:\n  password: !<hunter2"},
		{name: "a colon and a blank in it", yaml: "redis:\n  password: hunter2: x"},
		{name: "braces around it", yaml: "redis:\n  password: {hunter2: x}"},
		{name: "brackets around it", yaml: "redis:\n  password: [hunter2]"},
		{name: "no blank", yaml: "redis:\n  password:hunter2"},
		{name: "no blank between others", yaml: "redis:\n  username: a\n  password:hunter2\n  partitions: 1"},
		{name: "no blank, and a value", yaml: "redis:\n  password:hunter2: x"},
		{name: "an equals sign", yaml: "redis: {password=hunter2: }"},
		{name: "a blank only", yaml: "redis: {password hunter2: }"},
		{name: "no blank in an element", yaml: "keys: [{algorithm: HS256, secret:hunter2}]"},
		{name: "no blank in a name that is long", yaml: "redis:\n  " + strings.Repeat("password", 9) + "hunter2: x"},
		{name: "instead of the section", yaml: "redis: hunter2"},
		{name: "instead of the list", yaml: "api_keys: hunter2"},
		{name: "instead of the element", yaml: "api_keys: [hunter2]"},
		{name: "in a variable's YAML", env: []string{"ALLIM_KEYS=*hunter2"}},
		{name: "as a variable's YAML", env: []string{"ALLIM_API_KEYS=hunter2"}},
		{name: "in an element of a variable", env: []string{"ALLIM_API_KEYS=[{id: a, key=hunter2}]"}},
		{name: "in an unknown variable", env: []string{"ALLIM_REDIS_PASSWROD=hunter2"}},
		{name: "in an unknown flag", args: []string{"--redis-passwrod=hunter2"}},
		{name: "behind an unknown flag", args: []string{"--redis-passwrod", "hunter2"}},
		{name: "a private key as the settings file", args: []string{"--config=" + filepath.Join(dir, "pem")}},
		{name: "a secret as the settings file", args: []string{"--config=" + filepath.Join(dir, "plain")}},
		{name: "a private key as the list of keys", args: []string{"--keys-file=" + filepath.Join(dir, "pem")}},
		{name: "a secret as the list of keys", args: []string{"--keys-file=" + filepath.Join(dir, "plain")}},
		{name: "a password as the list of keys", args: []string{"--keys-file=" + filepath.Join(dir, "pair")}},
		{name: "a list of secrets as that of API keys", args: []string{"--api-keys-file=" + filepath.Join(dir, "list")}},
		{name: "in a webhook's address", yaml: "webhooks:\n  - {url: {hunter2: x}}"},
		{name: "instead of a webhook", yaml: "webhooks: [hunter2]"},
		{name: "a star in a webhook's secret", yaml: "webhooks:\n  - {secret: *hunter2}"},
		{name: "a private key of push that is none", yaml: "push:\n  private_key: [hunter2]"},
		{name: "a secret as the list of webhooks", args: []string{"--webhooks-file=" + filepath.Join(dir, "plain")}},
		{name: "no blank in the list of keys", args: []string{"--keys-file=" + filepath.Join(dir, "typo")}},
		{name: "a star in the list of keys", args: []string{"--keys-file=" + filepath.Join(dir, "star")}},
	} {
		t.Run(c.name, func(t *testing.T) {
			put(t, dir, "a.yaml", c.yaml+"\n")
			if c.args == nil && c.env == nil {
				c.args = []string{"--config=" + filepath.Join(dir, "a.yaml")}
			}
			l, err := Load(Both, c.args, c.env)
			if err == nil {
				t.Fatal("it is taken")
			}
			if strings.Contains(err.Error(), hidden) {
				t.Errorf("says %v", err)
			}
			wantHidden(t, l)
		})
	}
}

func TestOnlyWhatIsNoSecretIsQuoted(t *testing.T) {
	for _, c := range []struct {
		of   any
		want string
	}{{Secret(""), ""}, {URL(""), ""}, {"", `, not "hunter2"`}, {0, `, not "hunter2"`}} {
		if got := not(reflect.ValueOf(c.of), hidden); got != c.want {
			t.Errorf("%T: got %s, want %s", c.of, got, c.want)
		}
	}
	if got := not(reflect.ValueOf(""), strings.Repeat("x", 64)+hidden); strings.Contains(got, hidden) {
		t.Errorf("a long one: got %s", got)
	}
}

// wantHidden wants `config print` to show nothing of what is hidden.
func wantHidden(t *testing.T, l *Loaded) (text string) {
	t.Helper()
	var b bytes.Buffer
	if err := l.Print(&b); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(b.String(), hidden) {
		t.Errorf("config print shows it:\n%s", b.String())
	}
	return b.String()
}

// A file that a setting names may hold a private key by mistake, where a public one belongs.
func TestPrintDoesNotShowWhatStandsInFiles(t *testing.T) {
	dir := inDir(t, map[string]string{"secret": hidden + " one", "api": hidden + " two", "key": "-----BEGIN PRIVATE KEY-----\n" + hidden + "\n-----END PRIVATE KEY-----\n", "password": hidden,
		"k.yaml": "- {id: k, algorithm: ES256, public_key_file: key}\n- {id: s, secret_file: secret}\n- {id: p, public_key: shown as it is written}\n", "a.yaml": "- {id: a, key_file: api}\n",
		"hook": hidden + " three", "h.yaml": "- {url: \"https://h.example/?token=hunter2\", secret_file: hook}\n", "push": hidden})
	args := []string{"--keys-file=" + dir + "/k.yaml", "--api-keys-file=" + dir + "/a.yaml", "--redis-password-file=" + dir + "/password",
		"--webhooks-file=" + dir + "/h.yaml", "--push-private-key-file=" + dir + "/push"}
	l, err := Load(Both, args, nil)
	if err != nil {
		t.Fatal(err)
	}
	if l.Keys[0].PublicKey == "" || l.Keys[1].Secret == "" || l.APIKeys[0].Key == "" || l.Webhooks[0].Secret == "" || l.Push.PrivateKey == "" {
		t.Fatal("the files are not read")
	}
	text := wantHidden(t, l)
	for _, want := range []string{"public_key_file: " + dir + "/key", "secret_file: " + dir + "/secret", "key_file: " + dir + "/api", "password_file: " + dir + "/password",
		"secret_file: " + dir + "/hook", "private_key_file: " + dir + "/push", "public_key: shown as it is written", "secret: (secret)", "key: (secret)"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}

func TestAURLShowsNoPassword(t *testing.T) {
	for text, want := range map[string]string{
		"redis://h:6379/0":                  "redis://h:6379/0",
		"redis://me:hunter2@h:6379/0":       "redis://me:xxxxx@h:6379/0",
		"redis://:hunter2@h":                "redis://:xxxxx@h",
		"rediss://h/0?password=hunter2":     "rediss://h/0?(hidden)",
		"redis://me:12?hunter2@h/0":         "redis://me:12?(hidden)",
		"unix:///run/redis.sock":            "unix:///run/redis.sock",
		"unix://me:hunter2@/run/redis.sock": "unix://me:xxxxx@/run/redis.sock",
		"unix:hunter2":                      "(not a URL)",
		"hunter2":                           "(not a URL)",
		"redis:hunter2":                     "(not a URL)",
		"redis:/hunter2":                    "(not a URL)",
		"redis:///hunter2":                  "(not a URL)",
		"redis://me:hun%ter2@h":             "(not a URL)",
		"redis://me:12/hunter2@h/0":         "(not a URL)",
		"redis://me:12#hunter2@h/0":         "(not a URL)",
		"redis://h/0#hunter2":               "(not a URL)",
		"":                                  "(not a URL)",
	} {
		u := URL(text)
		shown, _ := u.MarshalText()
		for _, got := range []string{u.String(), fmt.Sprint(u), string(shown), strings.Trim(fmt.Sprintf("%#v", u), `"`)} {
			if got != want {
				t.Errorf("%s: got %s, want %s", text, got, want)
			}
		}
	}
}
