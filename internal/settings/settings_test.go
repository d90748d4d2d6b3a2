package settings

import (
	"bytes"
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

func inDir(t *testing.T, files map[string]string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for name, text := range files {
		put(t, dir, name, text)
	}
	return dir
}

func put(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

const whole = `
mode: development
log: {level: warn}
redis:
  url: redis://h:6379/0
  password_file: pw
  partitions: 64
public_url: https://h.example
origins: [https://app.example]
audience: web
keys:
  - {id: k1, issuer: https://id, algorithm: HS256, secret_file: secret, tenants: [default, acme]}
  - {algorithm: ES256, public_key_file: key.pem}
api_keys:
  - {id: shop, key: plain, tenant: acme, allow: ["publish:*", inbox]}
topics:
  - {prefix: feeds/, history: 1000, ttl: 36h, public: true}
inbox: {size: 500, retention: 30d}
anonymous: {subscribe: ["public/*"], hear: [public/chat], send: [chat message]}
limits: {data: 32KiB, deadline: 90s}
`

func TestTheWholeFileIsRead(t *testing.T) {
	dir := inDir(t, map[string]string{"secret": "s3cret\r\n", "key.pem": "PEM\n", "allim.yaml": whole})
	l, err := Load(Publisher, []string{"--config", filepath.Join(dir, "allim.yaml")}, nil)
	if err != nil {
		t.Fatal(err)
	}
	empty, err := Load(Publisher, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := empty.Settings
	want.Mode, want.Log.Level, want.PublicURL, want.Origins, want.Audience = "development", 4, "https://h.example", []string{"https://app.example"}, "web"
	want.Redis.URL, want.Redis.PasswordFile, want.Redis.Partitions = "redis://h:6379/0", filepath.Join(dir, "pw"), 64
	want.Keys = []Key{{ID: "k1", Issuer: "https://id", Algorithm: "HS256", Secret: "s3cret", SecretFile: filepath.Join(dir, "secret"), Tenants: []string{"default", "acme"}},
		{Algorithm: "ES256", PublicKey: "PEM", PublicKeyFile: filepath.Join(dir, "key.pem")}}
	want.APIKeys = []APIKey{{ID: "shop", Key: "plain", Tenant: "acme", Allow: []string{"publish:*", "inbox"}}}
	want.Topics = []Class{{Prefix: "feeds/", History: 1000, TTL: Duration(36 * time.Hour), Public: true}}
	want.Inbox = Inbox{500, Duration(30 * 24 * time.Hour)}
	want.Anonymous = &Grant{[]string{"public/*"}, []string{"public/chat"}, []string{"chat message"}}
	want.Limits.Data, want.Limits.Deadline = 32<<10, Duration(90*time.Second)
	if !reflect.DeepEqual(l.Settings, want) {
		t.Errorf("got  %#v\nwant %#v", l.Settings, want)
	}
	if l.Command != "serve" || l.Source("redis.url") != filepath.Join(dir, "allim.yaml")+":5" || l.Source("keys[1].secret") != filepath.Join(dir, "allim.yaml")+":13" {
		t.Errorf("command %q, sources %q and %q", l.Command, l.Source("redis.url"), l.Source("keys[1].secret"))
	}
}

func TestAFlagBeatsTheEnvironmentBeatsTheFileBeatsTheDefault(t *testing.T) {
	file := filepath.Join(inDir(t, map[string]string{"a.yaml": "redis: {url: redis://file}\norigins: [https://file]\ninbox: {size: 7}\ntopics: [{prefix: file/}, {prefix: more/}]\n" +
		"reflection: false\nlog: {level: error}\nreload: {interval: 1m}\nlimits: {data: 2KiB}\n"}), "a.yaml")
	of := func(l *Loaded) string {
		return fmt.Sprint(string(l.Redis.URL), l.Origins, l.Inbox.Size, l.Topics[:min(1, len(l.Topics))], l.Reflect, l.Log.Level, l.Reload.Interval, l.Limits.Data)
	}
	env := []string{"ALLIM_REDIS_URL=redis://env", "ALLIM_ORIGINS=https://env, https://env2", "ALLIM_INBOX_SIZE=8", "ALLIM_TOPICS=[{prefix: env/}]", "ALLIM_REFLECTION=true",
		"ALLIM_LOG_LEVEL=debug", "ALLIM_RELOAD_INTERVAL=2m", "ALLIM_LIMITS_DATA=3KiB"}
	flags := []string{"--redis-url=redis://flag", "--origins", "https://flag", "--origins", "https://flag2", "--inbox-size", "9", "--topics=[{prefix: flag/}]", "--reflection=false",
		"--log-level=warn", "--reload-interval=3m", "--limits-data=4KiB"}
	for _, c := range []struct {
		args, env []string
		want      string
	}{
		{nil, nil, "redis://localhost:6379/0[] 200 [] true INFO 10s 64KiB"},
		{[]string{"--config", file}, nil, "redis://file[https://file] 7 [{file/ 0 0s false}] false ERROR 1m 2KiB"},
		{nil, []string{"ALLIM_CONFIG=" + file}, "redis://file[https://file] 7 [{file/ 0 0s false}] false ERROR 1m 2KiB"},
		{nil, append([]string{"ALLIM_CONFIG=" + file}, env...), "redis://env[https://env https://env2] 8 [{env/ 0 0s false}] true DEBUG 2m 3KiB"},
		{append([]string{"--config", file}, flags...), append([]string{"ALLIM_CONFIG=/nowhere"}, env...), "redis://flag[https://flag https://flag2] 9 [{flag/ 0 0s false}] false WARN 3m 4KiB"},
		{nil, []string{"ALLIM_REDIS_URL=", "ALLIM_INBOX_SIZE="}, "redis://localhost:6379/0[] 200 [] true INFO 10s 64KiB"},
	} {
		l, err := Load(Both, c.args, c.env)
		if err != nil {
			t.Errorf("%v %v: %v", c.args, c.env, err)
			continue
		}
		if got := of(l); got != c.want {
			t.Errorf("%v %v:\n got %s\nwant %s", c.args, c.env, got, c.want)
		}
	}
}

func TestListsStandInFilesOfTheirOwn(t *testing.T) {
	dir := inDir(t, map[string]string{"keys.yaml": "- {algorithm: HS256, secret_file: s}\n", "s": "abc\n", "api.yaml": "- {id: a, key_file: k}\n", "k": "def"})
	l, err := Load(Publisher, []string{"--keys-file", filepath.Join(dir, "keys.yaml")}, []string{"ALLIM_API_KEYS_FILE=" + filepath.Join(dir, "api.yaml")})
	if err != nil || len(l.Keys) != 1 || l.Keys[0].Secret != "abc" || len(l.APIKeys) != 1 || l.APIKeys[0].Key != "def" {
		t.Errorf("got %#v %#v, %v", l.Keys, l.APIKeys, err)
	}
	if got := l.Source("keys[0].algorithm"); got != filepath.Join(dir, "keys.yaml")+":1" {
		t.Errorf("source %q", got)
	}
}

func TestTheGatewayDoesNotReadThePublishersSecrets(t *testing.T) {
	dir := inDir(t, map[string]string{"a.yaml": "api_keys_file: /not/mounted/here\n", "b.yaml": "api_keys: [{id: a, key_file: /not/mounted/here}]\n"})
	for _, f := range []string{"a.yaml", "b.yaml"} {
		if _, err := Load(Gateway, []string{"--config", filepath.Join(dir, f)}, nil); err != nil {
			t.Error(err)
		}
		if _, err := Load(Publisher, []string{"--config", filepath.Join(dir, f)}, nil); err == nil {
			t.Error("the publisher does without its keys")
		}
	}
}

// A Service called allim or allim-… makes these. The value tells its port from a setting's: nobody else writes tcp:// there.
func TestWhatKubernetesPutsIntoTheEnvironmentIsNoMistake(t *testing.T) {
	for variable, good := range map[string]bool{
		"ALLIM_GATEWAY_SERVICE_HOST=10.0.0.1": true, "ALLIM_GATEWAY_SERVICE_PORT=80": true, "ALLIM_GATEWAY_SERVICE_PORT_WS=80": true, "ALLIM_SERVICE_HOST=10.0.0.1": true,
		"ALLIM_PORT=tcp://10.0.0.1:80": true, "ALLIM_GATEWAY_PORT=tcp://10.0.0.1:80": true, "ALLIM_REDIS_PORT=udp://10.0.0.1:53": true,
		"ALLIM_GATEWAY_PORT_80_TCP=tcp://10.0.0.1:80": true, "ALLIM_GATEWAY_PORT_80_TCP_ADDR=10.0.0.1": true, "ALLIM_KEY=x": true, "PATH=/bin": true, "ALLIMX=1": true,
		"ALLIM_PORT=80": false, "ALLIM_REDIS_PORT=1": false, "ALLIM_REDIS_PORT=": false, "ALLIM_GATEWAY_PORTS=tcp://10.0.0.1:80": false, "ALLIM_PORT_X=tcp://10.0.0.1:80": false, "ALLIM_HOST=10.0.0.1": false,
	} {
		name, _, _ := strings.Cut(variable, "=")
		_, err := Load(Gateway, nil, []string{variable})
		if good && err != nil || !good && (err == nil || !strings.HasPrefix(err.Error(), "environment "+name+": unknown")) {
			t.Errorf("%s: %v", variable, err)
		}
	}
}

func TestDefaultsArePrintedAndReadBack(t *testing.T) {
	for _, program := range []string{Gateway, Publisher, Both} {
		var b bytes.Buffer
		if err := Defaults(&b, program); err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(inDir(t, map[string]string{"a.yaml": b.String()}), "a.yaml")
		l, err := Load(program, []string{"--config", file}, nil)
		if err != nil {
			t.Fatal(err)
		}
		want, err := Load(program, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		if d := Differ(&l.Settings, &want.Settings); len(d) > 0 {
			t.Errorf("%s: read back, these differ: %v", program, d)
		}
		for _, one := range l.leaves() {
			if one.isFor(program) && !strings.Contains(b.String(), one.tag.Get("help")) {
				t.Errorf("%s: nothing is said of %s", program, one.path)
			}
		}
	}
}

func TestPrintSaysWhereItComesFromAndNoSecret(t *testing.T) {
	dir := inDir(t, map[string]string{"a.yaml": "redis:\n  url: redis://me:s3cret@h\n  password: s3cret\nkeys:\n  - algorithm: HS256\n    secret: s3cret\n"})
	l, err := Load(Both, []string{"--config", filepath.Join(dir, "a.yaml"), "--inbox-size", "9"}, []string{"ALLIM_API_KEYS=[{id: a, key: s3cret}]", "ALLIM_LOG_LEVEL=warn"})
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := l.Print(&b); err != nil {
		t.Fatal(err)
	}
	text := b.String()
	for _, want := range []string{"url: redis://me:xxxxx@h # " + dir + "/a.yaml:2", "size: 9 # flag --inbox-size", "level: warn # environment ALLIM_LOG_LEVEL", "retention: 90d # default",
		"api_keys: # environment ALLIM_API_KEYS", "secret: (secret)", "key: (secret)", "password: (secret)"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	asYAML, err := yaml.Marshal(l.Settings)
	if err != nil {
		t.Fatal(err)
	}
	asJSON, err := json.Marshal(l.Settings)
	if err != nil {
		t.Fatal(err)
	}
	for _, shown := range []string{text, fmt.Sprint(l.Settings), fmt.Sprintf("%+v %#v %q", l.Settings, l.Settings, l.Redis.Password), string(asYAML), string(asJSON)} {
		if strings.Contains(shown, "s3cret") {
			t.Errorf("a secret shows in %s", shown)
		}
	}
}

func TestDifferNamesWhatChanged(t *testing.T) {
	a, _ := Load(Both, nil, nil)
	b, _ := Load(Both, []string{"--inbox-size=3", "--keys=[{id: a}]"}, nil)
	if d := Differ(&a.Settings, &b.Settings); !reflect.DeepEqual(d, []string{"keys", "inbox.size"}) {
		t.Error(d)
	}
	if d := Differ(&a.Settings, &b.Settings, "keys"); !reflect.DeepEqual(d, []string{"inbox.size"}) {
		t.Error(d)
	}
}

func TestHelpVersionAndCommands(t *testing.T) {
	l, err := Load(Gateway, []string{"--help"}, nil)
	if err != nil || !strings.Contains(l.Help, "--listen-public=ADDR") || strings.Contains(l.Help, "--listen-grpc") || !strings.Contains(l.Help, "config defaults") {
		t.Errorf("%v\n%s", err, l.Help)
	}
	if l, err = Load(Publisher, []string{"--version"}, nil); err != nil || !l.Version {
		t.Errorf("version: %v %v", l.Version, err)
	}
	for _, c := range []string{"check", "print", "defaults"} {
		if l, err = Load(Publisher, []string{"config", c, "--inbox-size=3"}, nil); err != nil || l.Command != "config "+c || l.Inbox.Size != 3 {
			t.Errorf("%s: %q %v", c, l.Command, err)
		}
	}
}
