package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// made are the secrets that scripts/secrets draws.
var made = []string{"keys.yaml", "api_keys.yaml", "redis-gateway.password", "redis-publisher.password", "users.acl"}

func TestComposeIsRight(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join(root(), "../compose.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range checkCompose(t, raw) {
		t.Error(m)
	}
	for _, slip := range [][3]string{
		{"read_only: true", "readonly: true", "/services/redis/readonly: false schema"},
		{"mem_limit: 512m", "mem_limit: [512m]", "mem_limit"},
		{"stop_grace_period: 45s", "stop_grace_period: 44s", "gateway-1: stop_grace_period"},
		{"no-new-privileges:true", "no-new-privileges:false", "no-new-privileges"},
		{"cap_drop: [ALL]", "cap_drop: []", "cap_drop"},
		{"ALLIM_KEYS_FILE: /run/secrets/keys.yaml", "ALLIM_KEYS_FILE: /run/secrets/keys.yml", "keys.yml"},
		{"ALLIM_REDIS_PASSWORD_FILE: /run", "ALLIM_REDIS_PASSWORD: /run", "ALLIM_REDIS_PASSWORD is a secret"},
		{"file: redis/redis.conf", "file: redis/redis.cnf", "redis.cnf"},
		{"file: secrets/users.acl", "file: secrets/user.acl", "user.acl"},
		{`"127.0.0.1:9092:9090"`, `"127.0.0.1:9090:9090"`, "127.0.0.1:9090"},
		{`"127.0.0.1:8090:8080"`, `"8090:8080"`, "open to the network"},
		{"{ redis: { condition: service_healthy } }", "{ rediss: { condition: service_healthy } }", "rediss"},
	} {
		slipped := strings.ReplaceAll(string(raw), slip[0], slip[1])
		if slipped == string(raw) {
			t.Errorf("nothing of %q", slip[0])
		}
		if got := strings.Join(checkCompose(t, []byte(slipped)), "\n"); !strings.Contains(got, slip[2]) {
			t.Errorf("%s: got %q, want %q", slip[1], got, slip[2])
		}
	}
}

func checkCompose(t *testing.T, raw []byte) (mistakes []string) {
	t.Helper()
	known, err := schemas()
	if err != nil {
		t.Fatal(err)
	}
	asJSON, err := yaml.YAMLToJSON(raw)
	if err != nil {
		t.Fatal(err)
	}
	file, err := parse(asJSON)
	if err != nil {
		t.Fatal(err)
	}
	if err := known["compose.json"].Validate(map[string]any(file)); err != nil {
		return leaves(err.(*jsonschema.ValidationError))
	}
	wrong := func(format string, args ...any) { mistakes = append(mistakes, fmt.Sprintf(format, args...)) }
	for name, c := range fields(file, "configs") {
		if _, err := os.Stat(filepath.Join(root(), "..", text(c, "file"))); err != nil {
			wrong("config %s: %v", name, err)
		}
	}
	for name, s := range fields(file, "secrets") {
		if !slices.Contains(made, name) || text(s, "file") != "secrets/"+name {
			wrong("secret %s: %s is none that scripts/secrets makes", name, text(s, "file"))
		}
	}
	taken := map[any]bool{}
	for name, s := range fields(file, "services") {
		composeService(name, s, file, wrong)
		for _, p := range items(s, "ports") {
			host := fmt.Sprint(p)[:strings.LastIndex(fmt.Sprint(p), ":")]
			if taken[host] {
				wrong("%s: %s is taken", name, host)
			}
			if taken[host] = true; !strings.HasPrefix(host, "127.0.0.1:") {
				wrong("%s: %v is open to the network", name, p)
			}
		}
	}
	return mistakes
}

func composeService(name string, s any, file object, wrong func(string, ...any)) {
	if at(s, "read_only") != true || !slices.Contains(items(s, "cap_drop"), any("ALL")) || !slices.Contains(items(s, "security_opt"), any("no-new-privileges:true")) {
		wrong("%s: want read_only, cap_drop ALL and no-new-privileges", name)
	}
	mounted := map[string]bool{}
	for _, kind := range []string{"secrets", "configs"} {
		for _, m := range items(s, kind) {
			source, short := m.(string)
			target := "/run/secrets/" + source
			if !short {
				source, target = text(m, "source"), text(m, "target")
			}
			mounted[target] = true
			if fields(file, kind)[source] == nil {
				wrong("%s: there is no %s %q", name, kind, source)
			}
		}
	}
	for up := range fields(s, "depends_on") {
		if fields(file, "services")[up] == nil {
			wrong("%s: depends on %q, which is not there", name, up)
		}
	}
	for env, value := range fields(s, "environment") {
		if isSecret(env) {
			wrong("%s: %s is a secret in the environment", name, env)
		}
		if path, _ := value.(string); strings.HasPrefix(path, "/") && !mounted[path] {
			wrong("%s: %s: nothing is mounted at %s", name, env, path)
		}
	}
	program := text(s, "build", "args", "CMD")
	if program == "" {
		return
	}
	var grace int64
	if _, err := fmt.Sscanf(text(s, "stop_grace_period"), "%ds", &grace); err != nil || grace <= stopBudgets[program] {
		wrong("%s: stop_grace_period %q, want more than %d s", name, text(s, "stop_grace_period"), stopBudgets[program])
	}
}
