package settings

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A setting and its form that ends in _file are one: the stronger source's form counts alone, whichever it is. Within one source there is no stronger one,
// so both stay, and that is a mistake.
func TestAValueAndTheFileThatHoldsItAreOneSetting(t *testing.T) {
	dir := inDir(t, map[string]string{"k.yaml": "- {id: listed, secret: s}\n"})
	list := filepath.Join(dir, "k.yaml")
	env := func(all ...string) []string { return all }
	for _, c := range []struct {
		name, yaml string
		env, args  []string
		want       string // password, password file, their sources, the keys
		mistake    string
	}{
		{name: "a flag beats the file form of the environment", env: env("ALLIM_REDIS_PASSWORD_FILE=e"), args: []string{"--redis-password=f"}, want: "f||flag --redis-password||"},
		{name: "a flag's file form beats the environment", env: env("ALLIM_REDIS_PASSWORD=e"), args: []string{"--redis-password-file=f"}, want: "|f||flag --redis-password-file|"},
		{name: "the environment beats the file form of the file", yaml: "redis: {password_file: y}", env: env("ALLIM_REDIS_PASSWORD=e"), want: "e||environment ALLIM_REDIS_PASSWORD||"},
		{name: "the environment's file form beats the file", yaml: "redis: {password: y}", env: env("ALLIM_REDIS_PASSWORD_FILE=e"), want: "|e||environment ALLIM_REDIS_PASSWORD_FILE|"},
		{name: "a flag beats both of the environment", env: env("ALLIM_REDIS_PASSWORD=e", "ALLIM_REDIS_PASSWORD_FILE=e"), args: []string{"--redis-password=f"}, want: "f||flag --redis-password||"},
		{name: "a flag beats them all", yaml: "redis: {password: y}", env: env("ALLIM_REDIS_PASSWORD_FILE=e"), args: []string{"--redis-password-file=f"}, want: "|f||flag --redis-password-file|"},
		{name: "an empty variable says nothing", yaml: "redis: {password_file: y}", env: env("ALLIM_REDIS_PASSWORD="), want: "|" + dir + "/y||" + dir + "/a.yaml:1|"},
		{name: "both in the file", yaml: "redis: {password: y, password_file: z}", want: "y|" + dir + "/z|" + dir + "/a.yaml:1|" + dir + "/a.yaml:1|"},
		{name: "both in the environment", env: env("ALLIM_REDIS_PASSWORD_FILE=f", "ALLIM_REDIS_PASSWORD=e"), want: "e|f|environment ALLIM_REDIS_PASSWORD|environment ALLIM_REDIS_PASSWORD_FILE|"},
		{name: "both as flags", args: []string{"--redis-password-file=f", "--redis-password=p"}, want: "p|f|flag --redis-password|flag --redis-password-file|"},

		{name: "a list beats the file's file", yaml: "keys_file: gone.yaml", env: env("ALLIM_KEYS=[{id: e, secret: s}]"), want: "||||e environment ALLIM_KEYS"},
		{name: "a list's file beats the file's list", yaml: "keys: [{id: y}, {id: z}]", args: []string{"--keys-file=" + list}, want: "||||listed " + list + ":1"},
		{name: "a flag's list beats the environment's file", env: env("ALLIM_KEYS_FILE=gone.yaml"), args: []string{"--keys=[{id: f}]"}, want: "||||f flag --keys"},
		{name: "both lists in the environment", env: env("ALLIM_KEYS_FILE="+list, "ALLIM_KEYS=[{id: e}]"), want: "||||e environment ALLIM_KEYS",
			mistake: "environment ALLIM_KEYS_FILE: keys_file: expected none beside keys, which is given at environment ALLIM_KEYS"},
		{name: "both lists as flags", args: []string{"--keys=[{id: f}]", "--keys-file=" + list}, want: "||||f flag --keys",
			mistake: "flag --keys-file: keys_file: expected none beside keys, which is given at flag --keys"},
	} {
		t.Run(c.name, func(t *testing.T) {
			put(t, dir, "a.yaml", c.yaml+"\n")
			l, err := Load(Both, append([]string{"--config=" + filepath.Join(dir, "a.yaml")}, c.args...), c.env)
			if fmt.Sprint(err) != c.mistake && (err != nil || c.mistake != "") {
				t.Errorf("got mistake %v, want %q", err, c.mistake)
			}
			got := strings.Join([]string{string(l.Redis.Password), l.Redis.PasswordFile, l.sources["redis.password"], l.sources["redis.password_file"], ""}, "|")
			for i, k := range l.Keys {
				got += k.ID + " " + l.Source(fmt.Sprintf("keys[%d].id", i))
			}
			if got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

// A device ends at once or never, and a folder is no text: whoever reads a file again would wait for a pipe.
func TestOnlyARegularFileIsRead(t *testing.T) {
	dir := inDir(t, map[string]string{"good": "{id: a}"})
	link := filepath.Join(dir, "link") // as Kubernetes mounts it
	if err := os.Symlink(filepath.Join(dir, "good"), link); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"/dev/null", dir} {
		why := file + ": expected a regular file"
		for args, want := range map[string]string{
			"--config=" + file: "flag --config: " + why, "--keys-file=" + file: "flag --keys-file: keys_file: " + why, "--api-keys-file=" + file: "flag --api-keys-file: api_keys_file: " + why,
			"--keys=[{secret_file: '" + file + "'}]":     "flag --keys: keys[0].secret_file: " + why,
			"--keys=[{public_key_file: '" + file + "'}]": "flag --keys: keys[0].public_key_file: " + why,
			"--api-keys=[{key_file: '" + file + "'}]":    "flag --api-keys: api_keys[0].key_file: " + why,
		} {
			if _, err := Load(Both, []string{args}, nil); err == nil || err.Error() != want {
				t.Errorf("%s: got %v\nwant %s", args, err, want)
			}
		}
	}
	if l, err := Load(Both, []string{"--keys=[{secret_file: '" + link + "'}]"}, nil); err != nil || l.Keys[0].Secret != "{id: a}" {
		t.Errorf("through a link: %v", err)
	}
}

func TestAnEnumIsOneOfItsTexts(t *testing.T) {
	for text, good := range map[string]bool{"production": true, "development": true, "production,development": false, "production,": false, ",": false, "Production": false, " production": false, "prod": false} {
		l, err := Load(Both, []string{"--mode=" + text}, nil)
		if (err == nil) != good || good && l.Mode != text || !good && l.Mode != Production {
			t.Errorf("%q: mode %q, %v", text, l.Mode, err)
		}
	}
}
