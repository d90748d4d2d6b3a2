package settings

import (
	"flag"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
)

var rewrite = flag.Bool("rewrite", false, "write docs/configuration.md anew")

const reference = "../../docs/configuration.md"

// docs/configuration.md is made of the tree of settings, so that it cannot say anything else.
func TestTheReferenceIsWhatTheSettingsAre(t *testing.T) {
	want := page()
	if *rewrite {
		if err := os.WriteFile(reference, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(reference)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Error("docs/configuration.md is stale: go test ./internal/settings -run TestTheReference -rewrite")
	}
}

const intro = `# Settings

<!-- Made from internal/settings by: go test ./internal/settings -run TestTheReference -rewrite -->

Every setting has one name in four places. A flag beats the environment, that the file, that the default:

| | |
|---|---|
| flag | ` + "`--redis-url redis://cache:6379/0`" + ` |
| environment | ` + "`ALLIM_REDIS_URL=redis://cache:6379/0`" + ` (an empty variable says nothing) |
| file (` + "`--config allim.yaml` or `ALLIM_CONFIG`" + `) | ` + "`redis: {url: redis://cache:6379/0}`" + `, in YAML |
| default | as below |

One file can serve gateway and publisher: each takes what is its own and checks the spelling of everything. A name that does not exist, in any
of the places, and a value that makes no sense end the program with exit code 2, and all mistakes are told at once, each with where it stands and what was
expected. (1 is a failure while running, 0 an end that was asked for.)

` + "```sh" + `
gateway config defaults > allim.yaml   # every setting, its default and what it means
gateway config check --config allim.yaml   # all mistakes, without starting
gateway config print --config allim.yaml   # what counts, and where each of it comes from; secrets hidden
` + "```" + `

The same with ` + "`publisher`" + `; ` + "`allim config check --config allim.yaml`" + ` looks at the file with the eyes of both.

- **Secrets** have a form that ends in ` + "`_file`" + `: the path of a file that holds it. In the settings file, paths are beside the file.
- **Lists** of texts in a flag or the environment are separated by commas; a flag may be repeated. Lists of objects and objects are YAML there:
  ` + "`ALLIM_TOPICS='[{prefix: feeds/, history: 1000}]'`" + `.
- **Read again while running**, every ` + "`reload.interval`" + ` and on SIGHUP: keys, api_keys, webhooks, the files that they name, TLS certificates. What is wrong is logged
  (` + "`reload_failed`" + `) and the old ones stay; a change of anything else is logged (` + "`restart_needed`" + `) and waits for the next start. Redis' password and client
  certificate are read for every new connection.
- A **duration** needs its unit: ` + "`5s`, `10m`, `36h`, `90d`" + `. A **size** is bytes: ` + "`512`, `64KiB`, `4MiB`" + `.
- **Unknown variables** that begin with ` + "`ALLIM_`" + ` are mistakes too. Those that Kubernetes makes for Services are left alone.

`

const production = `## Production

` + "`mode`" + ` is ` + "`production`" + ` unless you say otherwise. There the gateway does not start without ` + "`public_url`" + `, nor with plain http in it or in ` + "`origins`" + ` (loopback
excepted). In both modes no program starts with a weak key, without any (a gateway with ` + "`anonymous`" + ` excepted), or on a Redis with another number of partitions than it was told.

`

const example = `## A file for both programs

` + "```yaml" + `
public_url: https://push.example.com
origins: [https://app.example.com]
redis:
  url: rediss://redis.internal:6379/0
  username: allim-gateway          # the publisher: ALLIM_REDIS_USERNAME=allim-publisher
  password_file: /run/secrets/redis-password
  ca_file: /etc/allim/redis-ca.pem
keys:
  - {issuer: https://app.example.com, algorithm: HS256, id: "2026-11", secret_file: /run/secrets/jwt-2026-11}
  - {issuer: https://app.example.com, algorithm: HS256, id: "2026-05", secret_file: /run/secrets/jwt-2026-05}
  - {issuer: https://login.example.com, algorithm: ES256, public_key_file: /etc/allim/login.jwks.json, tenants: [acme]}
api_keys:
  - {id: shop, key_file: /run/secrets/shop-key, allow: ["publish:orders/*", "notify:*", inbox]}
webhooks:
  - {url: "https://shop.internal/hooks/allim", secret_file: /run/secrets/webhook}
push:
  subject: mailto:ops@example.com
  public_key: BNcRdreALRFXTkOOUHK1EtK2wtaz5Ry4YfYCA_0QTpQtUbVlUls0VJXg7A8u-Ts1XbjhazAkj7I99e8QcYP7DkM
  private_key_file: /run/secrets/push
anonymous:
  subscribe: ["public/*"]
topics:
  - {prefix: feeds/, history: 1000, ttl: 36h}
  - {prefix: public/, history: 50, public: true}
inbox: {size: 500}
` + "```" + `
`

// page is the whole reference.
func page() string {
	var b strings.Builder
	b.WriteString(intro + production + "## All settings\n")
	s := &Settings{}
	var sections []string
	rows := map[string]string{}
	for _, l := range s.leaves() {
		name := l.path[:max(0, strings.LastIndex(l.path, "."))]
		if rows[name] == "" {
			sections = append(sections, name)
		}
		rows[name] += fmt.Sprintf("| `%s` | %s | %s | %s | %s |\n", l.path, defaultText(l), ofText(l.of), cell(describe(l.v.Type(), l.tag)), cell(l.tag.Get("help")))
	}
	for _, name := range sections {
		title := "`" + name + "`"
		if name == "" {
			title = "At the top"
		}
		fmt.Fprintf(&b, "\n### %s\n\n| setting | default | of | value | |\n|---|---|---|---|---|\n%s", title, rows[name])
	}
	for _, l := range s.leaves() {
		e := element(l.v.Type())
		if e.Kind() != reflect.Struct {
			continue
		}
		what := "Each of"
		if l.v.Kind() == reflect.Pointer {
			what = "In"
		}
		fmt.Fprintf(&b, "\n### %s `%s`\n\n| name | value | |\n|---|---|---|\n", what, l.path)
		for i := range e.NumField() {
			f := e.Field(i)
			fmt.Fprintf(&b, "| `%s` | %s | %s |\n", f.Tag.Get("name"), cell(describe(f.Type, f.Tag)), cell(f.Tag.Get("help")))
		}
	}
	return b.String() + "\n" + example
}

func defaultText(l leaf) string {
	text := l.fallback(Both)
	if own := l.tag.Get(Publisher); own != "" {
		return "`" + text + "`, of the publisher `" + own + "`"
	}
	if text == "" {
		return ""
	}
	return "`" + text + "`"
}

func ofText(of string) string {
	if of == "" {
		return "both"
	}
	return of
}

func cell(s string) string { return strings.ReplaceAll(s, "|", `\|`) }

// Two settings must not share a name anywhere, and every one says what it means.
func TestNamesAreOneToOne(t *testing.T) {
	seen := map[string]string{}
	for _, l := range (&Settings{}).leaves() {
		for _, name := range []string{l.env(), "--" + l.flag()} {
			if other := seen[name]; other != "" {
				t.Errorf("%s is %s and %s", name, l.path, other)
			}
			seen[name] = l.path
		}
		if help := l.tag.Get("help"); !strings.HasSuffix(help, ".") {
			t.Errorf("%s says of itself %q, want a sentence", l.path, help)
		}
	}
}

// The example of the reference is a file that both programs take, as far as the files that it names are there.
func TestTheExampleOfTheReferenceIsRead(t *testing.T) {
	_, rest, _ := strings.Cut(example, "```yaml\n")
	text, _, _ := strings.Cut(rest, "```")
	path := t.TempDir() + "/allim.yaml"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := Load(Both, []string{"--config", path}, nil)
	for line := range strings.Lines(err.Error()) {
		if line := strings.TrimSpace(line); !strings.HasSuffix(line, "no such file or directory") && !strings.HasSuffix(line, "mistakes in the settings:") {
			t.Error(line)
		}
	}
	if len(l.Keys) != 3 || len(l.Topics) != 2 || len(l.Webhooks) != 1 || l.Push.PublicKey == "" || l.Anonymous == nil {
		t.Errorf("read %+v", l.Settings)
	}
}
