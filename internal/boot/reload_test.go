package boot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"allim/internal/settings"
	"allim/internal/testkit"
	"allim/pkg/auth"
)

const (
	first  = "{id: a, algorithm: HS256, secret: 7f3d1c9be05a4f2886d1b3a9c4e7f205}"
	second = "{id: b, algorithm: HS256, secret: 0b1c2d3e4f5061728394a5b6c7d8e9f0}"
)

// A journal is a log that several may write and read.
type journal struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) { j.mu.Lock(); defer j.mu.Unlock(); return j.b.Write(p) }
func (j *journal) count(event string) int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return strings.Count(j.b.String(), `"msg":"`+event+`"`)
}

// process is one whose settings stand in a file that the test changes.
func process(t *testing.T) (p Process, change func(text string), log *journal) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "allim.yaml")
	change = func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	change("keys: [" + first + "]\n")
	log = &journal{}
	p = Process{Log: slog.New(slog.NewJSONHandler(log, nil)), Reread: func() (*settings.Loaded, error) {
		return settings.Load(settings.Publisher, []string{"--config", path}, nil)
	}}
	var err error
	if p.Settings, err = p.Reread(); err != nil {
		t.Fatal(err)
	}
	return p, change, log
}

func TestKeysAreTakenWhileTheProgramRuns(t *testing.T) {
	p, change, log := process(t)
	built, err := Services(p.Settings)
	if err != nil {
		t.Fatal(err)
	}
	l := NewLive(p, built, Services)
	takes := func(id string, secret string) bool {
		token, err := auth.Sign(auth.SigningKey{ID: id, Algorithm: "HS256", Secret: []byte(secret)}, map[string]any{"sub": "s", "aud": auth.PublisherAudience,
			"exp": time.Now().Add(time.Hour).Unix(), "allim": map[string]any{"allow": []string{"inbox"}}})
		if err != nil {
			t.Fatal(err)
		}
		_, err = l.Load().Authenticate(token)
		return err == nil
	}
	a := func() bool { return takes("a", "7f3d1c9be05a4f2886d1b3a9c4e7f205") }
	b := func() bool { return takes("b", "0b1c2d3e4f5061728394a5b6c7d8e9f0") }
	for _, step := range []struct {
		file       string
		changed    bool
		err        string
		a, b       bool
		restartLog int
	}{
		{"keys: [" + first + "]\n", false, "", true, false, 0},
		{"keys: [" + first + ", " + second + "]\n", true, "", true, true, 0},
		{"keys: [" + first + ", " + second + "]\nkesy: 1\n", false, "kesy: unknown, did you mean keys?", true, true, 0},
		{"keys: [" + second + "]\ntopics: [{prefix: 'user:'}]\n", false, "topics[0].prefix: expected the prefix of", true, true, 0},
		{"keys: [{algorithm: HS256, secret: short}]\n", false, "keys[0].secret: expected at least 32 bytes", true, true, 0},
		{"keys: [" + first + ", " + second + "]\ninbox: {size: 7}\n", false, "", true, true, 1},
		{"keys: [" + second + "]\ninbox: {size: 7}\n", true, "", false, true, 1},
		{"keys: []\n", false, "api_keys: expected at least one API key", false, true, 1},
	} {
		change(step.file)
		changed, err := l.Reload()
		if changed != step.changed || (err == nil) != (step.err == "") || err != nil && !strings.Contains(err.Error(), step.err) {
			t.Errorf("%s: changed %v, %v", step.file, changed, err)
		}
		if a() != step.a || b() != step.b || log.count("restart_needed") != step.restartLog {
			t.Errorf("%s: takes a %v, b %v; restart_needed %d times", step.file, a(), b(), log.count("restart_needed"))
		}
	}
}

func TestAFaultIsCalledAfterWhatItStandsIn(t *testing.T) {
	p, change, log := process(t)
	built, err := NewOutside(p.Settings)
	if err != nil {
		t.Fatal(err)
	}
	reloader := NewReloader(p, prometheus.NewRegistry(), File{Name: "keys", Reload: NewLive(p, built, NewOutside).Reload})
	reloader.failing = map[string]string{}
	const hook = "webhooks: [{url: 'https://a.example/x', secret: whsec_short}]\n"
	for _, step := range []struct{ file, what string }{
		{"keys: [" + first + "]\n" + hook, "webhooks"},
		{"keys: [{algorithm: HS256, secret: short}]\n" + hook, "keys"},
		{"keys: [{algorithm: HS256, secret: short}]\n", "keys"},
	} {
		said := fmt.Sprintf(`"what":%q`, step.what)
		before := len(log.b.String()) // nothing else writes
		change(step.file)
		if reloader.reload(reloader.Files[0]); !strings.Contains(log.b.String()[before:], said) {
			t.Errorf("%s: it does not say %s", step.file, said)
		}
	}
}

func TestAReloaderReadsOnTimeAndWhenAskedAndSaysAFaultOnce(t *testing.T) {
	for name, every := range map[string]time.Duration{"on time": 5 * time.Millisecond, "when asked": time.Hour} {
		t.Run(name, func(t *testing.T) {
			p, _, log := process(t)
			hangup := make(chan os.Signal) // not buffered: a signal is taken once the one before was dealt with
			p.Hangup = hangup
			p.Settings.Reload.Interval = settings.Duration(every)
			var mu sync.Mutex
			fault, changed, reads := error(nil), true, 0
			registry := prometheus.NewRegistry()
			r := NewReloader(p, registry, File{}, File{Name: "it", Reload: func() (bool, error) {
				mu.Lock()
				defer mu.Unlock()
				reads++
				return changed, fault
			}})
			ctx, stop := context.WithCancel(context.Background())
			done := make(chan error, 1)
			go func() { done <- r.Run(ctx) }()
			step := func(c bool, err error) {
				mu.Lock()
				changed, fault = c, err
				from := reads
				mu.Unlock()
				for range 3 {
					if every == time.Hour {
						hangup <- syscall.SIGHUP
					}
				}
				testkit.Eventually(t, 5*time.Second, func() bool { mu.Lock(); defer mu.Unlock(); return reads >= from+3 }, "three reads")
			}
			step(false, errors.New("no file"))
			step(false, nil)
			step(false, errors.New("no file"))
			step(true, nil)
			stop()
			if err := testkit.Receive(t, 5*time.Second, done, "its end"); err != nil {
				t.Error(err)
			}
			if failed, ok := log.count("reload_failed"), log.count("reloaded"); failed != 2 || ok < 2 {
				t.Errorf("reload_failed %d times, reloaded %d times", failed, ok)
			}
			all, err := registry.Gather()
			if err != nil || len(all) != 1 || len(all[0].Metric) != 2 {
				t.Errorf("metrics: %v, %v", all, err)
			}
		})
	}
}
