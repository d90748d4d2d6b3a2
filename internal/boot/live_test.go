package boot

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"allim/internal/settings"
	"allim/pkg/auth"
)

// A running is something live in a folder of settings.
type running struct {
	t   *testing.T
	dir string
	p   Process
	log *journal
	*Live[auth.Verifier]
}

// clients is who reads clients' tokens, as the gateway has it with `anonymous`: it needs no key, and is made of more than what may change while it runs.
func clients(l *settings.Loaded) (*auth.Verifier, error) {
	keys, err := Keys(l.Keys)
	_, public, err2 := Classes(l.Topics)
	if err := errors.Join(err, err2); err != nil {
		return nil, err
	}
	return auth.NewVerifier(auth.Options{Keys: keys, Audience: l.Audience, Public: public, OnlyMine: !l.Segments.All})
}

// runWith starts from a settings file. before is called in front of every reading.
func runWith(t *testing.T, files map[string]string, before func(r *running)) *running {
	t.Helper()
	r := &running{t: t, dir: t.TempDir(), log: &journal{}}
	r.p = Process{Log: slog.New(slog.NewJSONHandler(r.log, nil)), Reread: func() (*settings.Loaded, error) {
		before(r)
		return settings.Load(settings.Gateway, []string{"--config", filepath.Join(r.dir, "allim.yaml")}, nil)
	}}
	r.put(files)
	var err error
	if r.p.Settings, err = r.p.Reread(); err != nil {
		t.Fatal(err)
	}
	built, err := clients(r.p.Settings)
	if err != nil {
		t.Fatal(err)
	}
	r.Live = NewLive(r.p, built, clients)
	return r
}

func (r *running) put(files map[string]string) {
	r.t.Helper()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(r.dir, name), []byte(text), 0o600); err != nil {
			r.t.Fatal(err)
		}
	}
}

// state is which of the keys a and b are good, for which audience, and whether the topics of old/ and new/ are public.
func (r *running) state() string {
	r.t.Helper()
	var all []string
	for id, secret := range map[string]string{"a": "7f3d1c9be05a4f2886d1b3a9c4e7f205", "b": "0b1c2d3e4f5061728394a5b6c7d8e9f0"} {
		for _, audience := range []string{"web", "app"} {
			token, err := auth.Sign(auth.SigningKey{ID: id, Algorithm: "HS256", Secret: []byte(secret)}, map[string]any{"sub": "ann", "aud": audience, "exp": time.Now().Add(time.Hour).Unix()})
			if err != nil {
				r.t.Fatal(err)
			}
			if who, err := r.Load().Verify(token); err == nil {
				all = append(all, fmt.Sprintf("%s for %s old %v new %v", id, audience, who.MayHear("old/x"), who.MayHear("new/x")))
			}
		}
	}
	if len(all) == 2 && all[0] > all[1] {
		all[0], all[1] = all[1], all[0]
	}
	return strings.Join(all, ", ")
}

const (
	onlyA = "a for web old true new false"
	onlyB = "b for web old true new false"
	onAir = "audience: web\ntopics: [{prefix: old/, public: true}]\nanonymous: {subscribe: ['old/*']}\n"
	keyA  = "keys: [" + first + "]\n"
	keyB  = "keys: [" + second + "]\n"
	keyAB = "keys: [" + first + ", " + second + "]\n"
)

func TestWhatNeedsARestartIsNotTakenHalf(t *testing.T) {
	r := runWith(t, map[string]string{"allim.yaml": onAir + keyA}, func(*running) {})
	for _, step := range []struct {
		name, file string
		changed    bool
		err        string // part of it
		state      string
		restart    string // the newest restart_needed, as the log has it
	}{
		{"as it was", onAir + keyA, false, "", onlyA, ""},
		{"a topic class of another name", keyAB + strings.ReplaceAll(onAir, "public", "pubic"), false, "topics[0].pubic: unknown", onlyA, ""},
		{"a prefix that is none", keyAB + strings.ReplaceAll(onAir, "prefix: old/", "prefix: 'user:'"), false, "topics[0].prefix: expected the prefix of", onlyA, ""},
		{"an audience that is none", keyAB + strings.ReplaceAll(onAir, "web", "allim-publisher"), false, "audience: expected one of your own", onlyA, ""},
		{"another audience", strings.ReplaceAll(onAir, "web", "app") + keyA, false, "", onlyA, `["audience"]`},
		{"another audience and a key", strings.ReplaceAll(onAir, "web", "app") + keyAB, true, "", onlyA + ", " + onlyB, `["audience"]`},
		{"no key", strings.ReplaceAll(onAir, "web", "app"), false, "expected at least one key, as before", onlyA + ", " + onlyB, `["audience"]`},
		{"other topics and another key", strings.ReplaceAll(onAir, "old/", "new/") + keyB, true, "", onlyB, `["anonymous","topics"]`},
		{"the same again", strings.ReplaceAll(onAir, "old/", "new/") + keyB, false, "", onlyB, `["anonymous","topics"]`},
		{"all as at first", onAir + keyA, true, "", onlyA, `["anonymous","topics"]`},
	} {
		r.put(map[string]string{"allim.yaml": step.file})
		changed, err := r.Reload()
		if changed != step.changed || (err == nil) != (step.err == "") || err != nil && !strings.Contains(err.Error(), step.err) {
			t.Errorf("%s: changed %v, %v", step.name, changed, err)
		}
		if got := r.state(); got != step.state {
			t.Errorf("%s:\ngot  %s\nwant %s", step.name, got, step.state)
		}
		if got := r.log.restart(); got != step.restart {
			t.Errorf("%s: restart_needed for %s, want %s", step.name, got, step.restart)
		}
	}
	if n := r.log.count("restart_needed"); n != 2 { // what is again as at the start needs none
		t.Errorf("restart_needed %d times, want 2", n)
	}
}

// restart is the settings of the newest restart_needed.
func (j *journal) restart() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	text := j.b.String()
	_, rest, _ := strings.Cut(text[max(0, strings.LastIndex(text, `"restart_needed"`)):], `"settings":`)
	list, _, _ := strings.Cut(rest, "}")
	return list
}

func TestAListWithoutKeysIsNotTakenWhereThereWereSome(t *testing.T) {
	for name, text := range map[string]string{"empty": "", "a line end": "\n", "a comment": "# nothing\n", "null": "null\n", "no keys": "[]\n"} {
		t.Run(name, func(t *testing.T) {
			r := runWith(t, map[string]string{"allim.yaml": onAir + "keys_file: k.yaml\n", "k.yaml": "- " + first + "\n"}, func(*running) {})
			r.put(map[string]string{"k.yaml": text})
			for range 2 {
				if changed, err := r.Reload(); changed || err == nil || !strings.HasPrefix(err.Error(), "expected at least one key") || r.state() != onlyA {
					t.Errorf("changed %v, %v; takes %s", changed, err, r.state())
				}
			}
			r.put(map[string]string{"k.yaml": "- " + second + "\n"})
			if changed, err := r.Reload(); !changed || err != nil || r.state() != onlyB {
				t.Errorf("then a key: changed %v, %v; takes %s", changed, err, r.state())
			}
		})
	}
	r := runWith(t, map[string]string{"allim.yaml": onAir}, func(*running) {})
	r.put(map[string]string{"allim.yaml": "inbox: {size: 7}\n" + onAir})
	if changed, err := r.Reload(); changed || err != nil {
		t.Errorf("without keys all along: changed %v, %v", changed, err)
	}
}

// Whoever writes a list in place may be caught in the middle, where a prefix of it is a list, too.
func TestAListThatIsBeingWrittenIsNotTaken(t *testing.T) {
	both := "- " + first + "\n- " + second + "\n"
	var next []string // what the file holds at each reading
	r := runWith(t, map[string]string{"allim.yaml": onAir + "keys_file: k.yaml\n", "k.yaml": "- " + first + "\n"}, func(r *running) {
		if len(next) > 0 {
			r.put(map[string]string{"k.yaml": next[0]})
			next = next[1:]
		}
	})
	for _, step := range []struct {
		name    string
		reads   []string
		changed bool
		failed  bool
		state   string
	}{
		{"half of it, then all", []string{"- " + second + "\n", "- " + second + "\n- " + first + "\n"}, false, false, onlyA},
		{"nothing of it, then all", []string{"", both}, false, false, onlyA},
		{"as it was, then all", []string{"- " + first + "\n", both}, false, false, onlyA},
		{"all, then no list", []string{both, "- " + first + "\n- {id: b, algor"}, false, true, onlyA},
		{"no list, then all", []string{"- {id: b, algor", both}, false, true, onlyA},
		{"all of it", []string{both, both}, true, false, onlyA + ", " + onlyB},
	} {
		next = step.reads
		changed, err := r.Reload()
		if changed != step.changed || (err != nil) != step.failed || r.state() != step.state {
			t.Errorf("%s: changed %v, %v; takes %s", step.name, changed, err, r.state())
		}
	}
}

func TestEveryFailedTryIsCountedAndLoggedOnce(t *testing.T) {
	r := runWith(t, map[string]string{"allim.yaml": onAir + keyA}, func(*running) {})
	registry := prometheus.NewRegistry()
	reloader := NewReloader(r.p, registry, File{Name: "keys", Reload: r.Reload})
	reloader.failing = map[string]string{}
	for _, step := range []struct {
		file               string
		tries              int
		failed, ok, logged int // in all
	}{
		{onAir + keyA, 2, 0, 0, 0},
		{onAir + keyB + "kesy: 1\n", 3, 3, 0, 1},
		{onAir, 2, 5, 0, 2}, // another mistake: no keys
		{onAir + keyB, 2, 5, 1, 2},
		{onAir, 1, 6, 1, 3}, // it was good in between
	} {
		r.put(map[string]string{"allim.yaml": step.file})
		for range step.tries {
			reloader.reload(reloader.Files[0])
		}
		got := reloads(t, registry)
		if want := map[string]int{"failed": step.failed, "ok": step.ok}; fmt.Sprint(got) != fmt.Sprint(want) || r.log.count("reload_failed") != step.logged || r.log.count("reloaded") != step.ok {
			t.Errorf("%q: counted %v, want %v; logged %d failures, want %d, and %d changes", step.file, got, want, r.log.count("reload_failed"), step.logged, r.log.count("reloaded"))
		}
	}
}

// reloads is allim_reloads_total of the keys by result.
func reloads(t *testing.T, registry *prometheus.Registry) map[string]int {
	t.Helper()
	all, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	counted := map[string]int{}
	for _, family := range all {
		for _, m := range family.GetMetric() {
			labels := map[string]string{}
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			if family.GetName() == "allim_reloads_total" && labels["what"] == "keys" {
				counted[labels["result"]] = int(m.GetCounter().GetValue())
			}
		}
	}
	return counted
}
