package programs

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"allim/internal/testkit"
	"allim/pkg/auth"
	"allim/test/pods"
)

// A kind of setting: one that is of it, and how it is given in each place, each time another.
type kind struct {
	name, of, path, fallback         string
	file, env, flag                  string   // the value's text there
	more                             []string // of the same flag, given again
	shownFile, shownEnv, shownByFlag string   // by `config print`; "": as it was given
}

var kinds = []kind{
	{name: "text", path: "listen.ops", file: ":1001", env: ":1002", flag: ":1003"},
	{name: "a text at the top", of: "gateway", path: "audience", file: "one", env: "two", flag: "three"},
	{name: "enum", path: "mode", fallback: "production", file: "development", env: "production", flag: "development"},
	{name: "number", path: "redis.partitions", fallback: "128", file: "64", env: "32", flag: "16"},
	{name: "duration", path: "inbox.retention", fallback: "90d", file: "36h", env: "120m", flag: "7d", shownEnv: "2h"},
	{name: "size", of: "gateway", path: "limits.frame", fallback: "16KiB", file: "2048", env: "64KiB", flag: "1MiB", shownFile: "2KiB"},
	{name: "size of the publisher", of: "publisher", path: "limits.request", fallback: "4MiB", file: "1MiB", env: "64KiB", flag: "8MiB"},
	{name: "bool", of: "publisher", path: "reflection", fallback: "true", file: "false", env: "true", flag: "false"},
	{name: "level", path: "log.level", fallback: "info", file: "warn", env: "error", flag: "debug"},
	{name: "list of texts", of: "gateway", path: "origins", fallback: "[]", file: "[https://f.example.com, https://g.example.com]", env: "https://e.example.com, https://h.example.com",
		flag: "https://a.example.com", more: []string{"https://b.example.com,https://c.example.com"},
		shownEnv: "[https://e.example.com, https://h.example.com]", shownByFlag: "[https://a.example.com, https://b.example.com, https://c.example.com]"},
	{name: "list of objects", path: "topics", fallback: "[]", file: "[{prefix: f/, history: 7, ttl: 36h}]", env: "[{prefix: e/, public: true}]", flag: "[{prefix: a/}, {prefix: b/}]"},
	{name: "object", of: "gateway", path: "anonymous", fallback: "null", file: "{subscribe: [public/*], hear: [public/chat]}", env: "{send: [chat message]}", flag: "{subscribe: [a, b/*]}"},
	{name: "URL", path: "redis.url", fallback: "redis://localhost:6379/0", file: "redis://ann:" + hidden + "-f@f:6379/1", env: "redis://e:6379/2", flag: "rediss://ann:" + hidden + "-a@a:6379/3",
		shownFile: "redis://ann:xxxxx@f:6379/1", shownByFlag: "rediss://ann:xxxxx@a:6379/3"},
	{name: "secret", path: "redis.password", file: hidden + "-f", env: hidden + "-e", flag: hidden + "-a", shownFile: "(secret)", shownEnv: "(secret)", shownByFlag: "(secret)"},
	{name: "secret by file", path: "redis.password_file", file: "one.txt", env: "two.txt", flag: "three.txt"},
	{name: "keys", path: "keys", file: key("f"), env: key("e"), flag: key("a"), shownFile: shownKey("f"), shownEnv: shownKey("e"), shownByFlag: shownKey("a")},
	{name: "keys by file", path: "keys_file", file: "keys-1.yaml", env: "keys-2.yaml", flag: "keys-3.yaml"},
	{name: "API keys", of: "publisher", path: "api_keys", file: apiKey("f"), env: apiKey("e"), flag: apiKey("a"), shownFile: shownAPIKey("f"), shownEnv: shownAPIKey("e"), shownByFlag: shownAPIKey("a")},
	{name: "API keys by file", of: "publisher", path: "api_keys_file", file: "api-1.yaml", env: "api-2.yaml", flag: "api-3.yaml"},
}

// hidden stands in every secret: no output may hold it.
const hidden = "this-must-never-be-shown"

func key(id string) string {
	return fmt.Sprintf("[{id: %s, algorithm: HS256, secret: %s-of-the-keys-%s}]", id, hidden, id)
}
func shownKey(id string) string {
	return fmt.Sprintf("[{id: %s, algorithm: HS256, secret: (secret)}]", id)
}
func apiKey(id string) string {
	return fmt.Sprintf("[{id: %s, key: %s-of-the-apis-%s}]", id, hidden, id)
}
func shownAPIKey(id string) string { return fmt.Sprintf("[{id: %s, key: (secret)}]", id) }

// kindFiles are the files that the kinds name.
func kindFiles() map[string]string {
	files := map[string]string{}
	for i, name := range []string{"one.txt", "two.txt", "three.txt"} {
		files[name] = fmt.Sprint(hidden, i, "\n")
		files[fmt.Sprintf("keys-%d.yaml", i+1)] = key("k") + "\n"
		files[fmt.Sprintf("api-%d.yaml", i+1)] = apiKey("k") + "\n"
	}
	return files
}

func (k kind) programs() []string {
	if k.of != "" {
		return []string{k.of}
	}
	return []string{"gateway", "publisher"}
}

func (k kind) variable() string {
	return "ALLIM_" + strings.ToUpper(strings.ReplaceAll(k.path, ".", "_")) + "="
}

func (k kind) flags() (args []string) {
	for _, v := range append([]string{k.flag}, k.more...) {
		args = append(args, k.flagName()+"="+v)
	}
	return args
}

func (k kind) flagName() string {
	return "--" + strings.NewReplacer(".", "-", "_", "-").Replace(k.path)
}

// yaml is a settings file that gives it, with all that a start needs besides, and the line of it.
func (k kind) yaml(given bool) (text string, line int) {
	text = "public_url: https://push.example.com\n"
	if k.path != "keys" && k.path != "keys_file" {
		text += "keys: [{algorithm: HS256, secret: " + hidden + "-and-more-of-it}]\n"
	}
	if !given {
		return text, 0
	}
	parts := strings.Split(k.path, ".")
	for i, part := range parts {
		text += strings.Repeat("  ", i) + part + ":"
		if i < len(parts)-1 {
			text += "\n"
		}
	}
	return text + " " + k.file + "\n", strings.Count(text, "\n") + 1
}

// shown is what `config print` says of a setting: its value as YAML in one line, and where it comes from.
func shown(t *testing.T, text, path string) (value, source string) {
	t.Helper()
	var doc yaml.Node
	if err := yaml.Unmarshal([]byte(text), &doc); err != nil {
		t.Fatalf("what config print says is no YAML: %v\n%s", err, text)
	}
	n := doc.Content[0]
	for _, part := range strings.Split(path, ".") {
		i := 0
		for i < len(n.Content) && n.Content[i].Value != part {
			i += 2
		}
		if i >= len(n.Content) {
			t.Fatalf("config print does not name %s:\n%s", path, text)
		}
		source = n.Content[i].LineComment + n.Content[i+1].LineComment
		n = n.Content[i+1]
	}
	return oneLine(t, n), strings.TrimPrefix(source, "# ")
}

// oneLine writes YAML of any style in one.
func oneLine(t *testing.T, n *yaml.Node) string {
	t.Helper()
	var v any
	if err := n.Decode(&v); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(v)
}

func parsed(t *testing.T, text string) string {
	t.Helper()
	var doc yaml.Node
	if err := yaml.Unmarshal([]byte(text), &doc); err != nil {
		t.Fatal(err)
	}
	return oneLine(t, doc.Content[0])
}

func TestEveryKindOfSettingIsTakenFromEveryPlaceAndTheNearestCounts(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			for _, program := range k.programs() {
				if k.fallback != "" {
					k.wantShown(t, program, false, false, false, k.fallback, "default")
				}
				_, line := k.yaml(true)
				k.wantShown(t, program, true, false, false, or(k.shownFile, k.file), fmt.Sprintf("allim.yaml:%d", line))
				k.wantShown(t, program, false, true, false, or(k.shownEnv, k.env), "environment "+strings.TrimSuffix(k.variable(), "="))
				k.wantShown(t, program, false, false, true, or(k.shownByFlag, k.flag), "flag "+k.flagName())
				k.wantShown(t, program, true, true, false, or(k.shownEnv, k.env), "environment "+strings.TrimSuffix(k.variable(), "="))
				k.wantShown(t, program, true, true, true, or(k.shownByFlag, k.flag), "flag "+k.flagName())
			}
		})
	}
}

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// wantShown gives the setting in some places and wants to see which counts. Its variable is always there, empty where it is not one of them: that says nothing.
func (k kind) wantShown(t *testing.T, program string, file, env, flag bool, value, source string) {
	t.Helper()
	text, _ := k.yaml(file)
	dir := folder(t, kindFiles())
	put(t, dir, "allim.yaml", text)
	args, vars := []string{"config", "print", "--config=allim.yaml"}, []string{k.variable()}
	if env {
		vars[0] += k.env
	}
	if flag {
		args = append(args, k.flags()...)
	}
	got := run(t, program, dir, args, vars)
	if got.code != 0 || got.stderr != "" {
		t.Errorf("%s: exit code %d, says %s", program, got.code, got.stderr)
		return
	}
	if strings.Contains(got.stdout, hidden) {
		t.Errorf("%s shows a secret:\n%s", program, got.stdout)
	}
	if v, s := shown(t, got.stdout, k.path); v != parsed(t, value) || s != source {
		t.Errorf("%s shows %s %q of %q, want %q of %q", program, k.path, v, s, parsed(t, value), source)
	}
}

func TestTheSettingsFileIsNamedByFlagOrVariableAndItsPathsAreBesideIt(t *testing.T) {
	t.Parallel()
	for _, program := range []string{"gateway", "publisher"} {
		dir := folder(t, map[string]string{"other.yaml": "audience: not-this-one\n", "secret.txt": hidden + " and more, 32 bytes\n"})
		sub := folder(t, map[string]string{"allim.yaml": goodURL + "keys: [{algorithm: HS256, secret_file: secret.txt}]\n" + goodAPI, "secret.txt": hidden + " beside the settings\n"})
		file := sub + "/allim.yaml"
		byFlag := run(t, program, dir, []string{"config", "print", "--config", file}, []string{"ALLIM_CONFIG=other.yaml"})
		byVariable := run(t, program, dir, []string{"config", "print"}, []string{"ALLIM_CONFIG=" + file})
		if byFlag != byVariable || byFlag.code != 0 {
			t.Errorf("%s: by flag %+v, by variable %+v", program, byFlag, byVariable)
		}
		for _, want := range []string{"# " + file + ":2", "secret_file: " + sub + "/secret.txt"} {
			if !strings.Contains(byFlag.stdout, want) {
				t.Errorf("%s: lacks %q:\n%s", program, want, byFlag.stdout)
			}
		}
		if strings.Contains(byFlag.stdout, hidden) {
			t.Errorf("%s shows what is in the secret's file", program)
		}
	}
}

func TestVersionSaysWhichBuildThisIs(t *testing.T) {
	t.Parallel()
	for _, program := range []string{"gateway", "publisher", "allim"} {
		got := run(t, program, t.TempDir(), []string{"--version"}, nil)
		if want := regexp.MustCompile(`^` + program + ` \S+ \(commit \w+, go1\.\d+\S*, \w+/\w+\)\n$`); got.code != 0 || !want.MatchString(got.stdout) {
			t.Errorf("got %+v, want %v", got, want)
		}
	}
}

func TestHelpNamesEverySettingOfTheProgramAndDefaultsIsAFileThatCheckTakes(t *testing.T) {
	t.Parallel()
	alone := map[string][]string{"gateway": {"--listen-public", "--tls-public-cert-file", "--anonymous"}, "publisher": {"--listen-grpc", "--api-keys", "--reflection"}}
	for _, program := range []string{"gateway", "publisher"} {
		defaults := run(t, program, t.TempDir(), []string{"config", "defaults"}, nil)
		help := run(t, program, t.TempDir(), []string{"--help"}, nil)
		if defaults.code != 0 || help.code != 0 || help.stderr != "" {
			t.Fatalf("%s: %+v %+v", program, defaults, help)
		}
		var doc yaml.Node
		if err := yaml.Unmarshal([]byte(defaults.stdout), &doc); err != nil {
			t.Fatal(err)
		}
		paths := leaves("", doc.Content[0])
		if len(paths) < 25 {
			t.Errorf("%s: config defaults has %d settings only: %v", program, len(paths), paths)
		}
		named := regexp.MustCompile(`--[a-z-]+`).FindAllString(help.stdout, -1)
		for _, p := range paths {
			if flag := (kind{path: p}).flagName(); !slices.Contains(named, flag) {
				t.Errorf("%s --help does not name %s", program, flag)
			}
		}
		for of, flags := range alone {
			for _, flag := range flags {
				if slices.Contains(named, flag) != (of == program) {
					t.Errorf("%s --help and %s of the %s", program, flag, of)
				}
			}
		}
		// Without a key it says what is missing, with one it is good: and no value changes by being written down.
		dir := folder(t, map[string]string{"allim.yaml": defaults.stdout})
		if bare := run(t, program, dir, []string{"config", "check", "--config=allim.yaml"}, nil); bare.code != 2 {
			t.Errorf("%s: the bare defaults: %+v", program, bare)
		}
		args := []string{"--config=allim.yaml", "--keys=" + key("k")}
		if program == "gateway" {
			args = append(args, "--public-url=https://push.example.com")
		}
		if checked := run(t, program, dir, append([]string{"config", "check"}, args...), nil); checked.code != 0 || checked.stdout != program+": the settings are good\n" {
			t.Errorf("%s: %+v", program, checked)
		}
		written := run(t, program, dir, append([]string{"config", "print"}, args...), nil).stdout
		unwritten := run(t, program, dir, append([]string{"config", "print"}, args[1:]...), nil).stdout
		if without(written) != without(unwritten) {
			t.Errorf("%s: with the defaults as a file\n%s\nwithout it\n%s", program, written, unwritten)
		}
	}
}

// without is a text without its comments.
func without(text string) string {
	return regexp.MustCompile(`(?m) *#.*$`).ReplaceAllString(text, "")
}

// leaves are the settings that a file of defaults has.
func leaves(path string, n *yaml.Node) (all []string) {
	if n.Kind != yaml.MappingNode || len(n.Content) == 0 {
		return []string{path}
	}
	for i := 0; i < len(n.Content); i += 2 {
		all = append(all, leaves(strings.TrimPrefix(path+"."+n.Content[i].Value, "."), n.Content[i+1])...)
	}
	return all
}

// shared is a file for both programs, each of which takes its own.
const shared = goodURL + `keys: [{algorithm: HS256, secret: ` + goodSecret + `, tenants: [acme]}]
` + goodAPI + `anonymous: {subscribe: ["public/*"]}
topics: [{prefix: feeds/, history: 1000, ttl: 36h}, {prefix: public/, public: true}]
limits: {frame: 32KiB, data: 32KiB}
inbox: {size: 500}
`

func TestOneFileServesBothProgramsAndIsCheckedWithTheEyesOfBoth(t *testing.T) {
	t.Parallel()
	dir := folder(t, map[string]string{"allim.yaml": shared})
	for _, program := range []string{"gateway", "publisher"} {
		if got := run(t, program, dir, []string{"config", "check", "--config=allim.yaml"}, nil); got.code != 0 {
			t.Errorf("%s: %+v", program, got)
		}
	}
	if got := run(t, "allim", dir, []string{"config", "check", "--config=allim.yaml"}, nil); got.code != 0 {
		t.Errorf("allim: %+v", got)
	}
	put(t, dir, "wrong.yaml", "keys: [{algorithm: HS256, secret: short}]\napi_keys: [{id: a, key: "+goodSecret+", allow: [everything]}]\nanonymous: {hear: ['a/*']}\nredsi: x\nlog: {level: loud}\n")
	got := run(t, "allim", dir, []string{"config", "check", "--config=wrong.yaml"}, nil)
	if got.code != 2 || got.stdout != "" {
		t.Errorf("allim: exit code %d, says %s", got.code, got.stdout)
	}
	for _, want := range []string{"wrong.yaml:4: redsi: unknown", "wrong.yaml:5: log.level: expected", "wrong.yaml:1: keys[0].secret: expected at least 32 bytes, not 5",
		"wrong.yaml:2: api_keys[0].allow[0]: expected", "wrong.yaml:3: anonymous.hear[0]: expected", "public_url: expected"} {
		if strings.Count(got.stderr, want) != 1 {
			t.Errorf("says %q %d times, want once:\n%s", want, strings.Count(got.stderr, want), got.stderr)
		}
	}
	if got := run(t, "allim", dir, []string{"config", "print", "--config=allim.yaml"}, nil); got.code != 0 || strings.Contains(got.stdout, strings.Trim(goodSecret, `"`)) ||
		!strings.Contains(got.stdout, "32KiB # allim.yaml:6") {
		t.Errorf("allim config print: %+v", got)
	}
}

func TestARunningGatewayTakesAChangedFileWholeOrNotAtAll(t *testing.T) {
	t.Parallel()
	file := func(audience, prefix, keys string) string {
		return goodURL + "audience: " + audience + "\ntopics: [{prefix: '" + prefix + "'}]\nanonymous: {subscribe: ['public/*']}\nkeys:\n" + keys
	}
	named := func(id string) string {
		return "- {id: " + id + ", algorithm: HS256, secret: \"" + secretOf(id) + "\"}\n"
	}
	s := newSite(t, file("web", "feeds/", named("old")))
	p := s.start("gateway", "gateway", "--reload-interval=24h")
	p.Expect("reload_failed")
	for _, step := range []struct {
		name, file string
		failed     float64 // in all
		ok         float64
		takes      []string // keys, with the audience of the start
	}{
		{"a topic class that is none", file("web", "user:", named("new")), 1, 0, []string{"old"}},
		{"the same again", file("web", "user:", named("new")), 2, 0, []string{"old"}},
		{"another audience and one more key", file("app", "feeds/", named("old")+named("new")), 2, 1, []string{"old", "new"}},
		{"no key at all", file("app", "feeds/", ""), 3, 1, []string{"old", "new"}},
		{"only the new key", file("app", "feeds/", named("new")), 3, 2, []string{"new"}},
	} {
		put(t, s.dir, "allim.yaml", step.file)
		p.Signal(syscall.SIGHUP)
		testkit.EventuallyNil(t, pods.Within, func() error {
			failed, ok := p.Metric("allim_reloads_total", "what", "keys", "result", "failed"), p.Metric("allim_reloads_total", "what", "keys", "result", "ok")
			if failed != step.failed || ok != step.ok {
				return fmt.Errorf("%v failures and %v changes counted, want %v and %v", failed, ok, step.failed, step.ok)
			}
			return nil
		}, step.name)
		for _, id := range []string{"old", "new"} {
			for audience, want := range map[string]bool{"web": slices.Contains(step.takes, id), "app": false} {
				token, err := auth.Sign(auth.SigningKey{ID: id, Algorithm: "HS256", Secret: []byte(secretOf(id))}, map[string]any{"sub": "ann", "aud": audience, "exp": time.Now().Add(time.Hour).Unix()})
				if err != nil {
					t.Fatal(err)
				}
				if !want {
					pods.Refused(t, p, pods.Hello{Token: token}, 401)
					continue
				}
				pods.Connect(t, p, pods.Hello{Token: token}).Drop()
			}
		}
	}
	if said := fmt.Sprint(p.Said("restart_needed", "", "")["settings"]); said != "[audience]" {
		t.Errorf("restart_needed for %s, want [audience]", said)
	}
}
