//go:build fault

package fault

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"allim/test/pods"
)

// A sabotage is a guard that is taken away, and the scenario that must fail without it, by a breach of one of these rules.
type sabotage struct {
	guard    string // its edits are those of guards, by this name
	forgets  bool   // the readers' own guard instead: they show what they know
	scenario func(start)
	rules    []int
	model    bool // the model of the topic state must see it, too
}

var sabotages = []sabotage{
	{guard: "dedupe", scenario: publisherKilled, rules: []int{1}},
	{guard: "gap check", scenario: onePercentDropped, rules: []int{2, 3}, model: true},
	{guard: "history id", scenario: failoverLoses, rules: []int{1, 6}},
	{guard: "change check", scenario: onePercentDropped, rules: []int{2, 8}},
	{guard: "replay", scenario: failoverLoses, rules: []int{1}},
	{guard: "client dedupe", scenario: failoverLoses, rules: []int{2}, forgets: true},
	{guard: "resync on acknowledgement", scenario: resetsEachSecond, rules: []int{8}},
}

// TestEveryGuardIsNeeded takes one guard after the other away and wants a scenario to fail, for the reason that the guard is there for.
func TestEveryGuardIsNeeded(t *testing.T) {
	defer func(was bool) { short = was }(short)
	short = true // a guard that is missing shows in the selection
	for _, s := range sabotages {
		t.Run(s.guard, func(t *testing.T) {
			overlay := s.overlay(t)
			programs := ""
			if overlay != "" {
				programs = build(t, overlay)
			}
			var started *world
			said := watch(t, func(tb testing.TB) {
				s.scenario(func(o options) *world {
					started = newWorld(tb, &row{name: "without " + s.guard}, programs, o)
					started.forgets, started.patience = s.forgets, hasty
					return started
				})
			})
			if !slices.ContainsFunc(s.rules, func(n int) bool { return strings.Contains(said, fmt.Sprintf("rule %d: ", n)) }) {
				t.Errorf("without its %s the scenario breaks none of the rules %v; it said:\n%s", s.guard, s.rules, said)
			}
			for line := range strings.Lines(said) {
				if strings.HasPrefix(line, "rule ") || strings.HasPrefix(line, "waited ") {
					t.Logf("as it must: %s", strings.TrimSpace(line))
				}
			}
			if s.model && modelHolds(t, overlay) {
				t.Errorf("the model of the topic state does not miss its %s", s.guard)
			}
		})
	}
}

// overlay writes the edited files and the list of them that go build reads, and is its path; "" where there is nothing to edit.
func (s *sabotage) overlay(t *testing.T) string {
	t.Helper()
	edits := guards[s.guard]
	if len(edits) == 0 {
		return ""
	}
	root, err := pods.Root()
	if err != nil {
		t.Fatal(err)
	}
	dir, texts := t.TempDir(), map[string]string{}
	for _, e := range edits {
		path := filepath.Join(root, filepath.FromSlash(e.file))
		if texts[path] == "" {
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			texts[path] = string(b)
		}
		texts[path] = strings.Replace(texts[path], e.old, e.new, 1)
	}
	replace := map[string]string{}
	for path, text := range texts {
		replace[path] = filepath.Join(dir, fmt.Sprint(len(replace))+filepath.Base(path))
		if err := os.WriteFile(replace[path], []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	list := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(list, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return list
}

// build builds both programs with an overlay, and is the directory they stand in.
func build(t *testing.T, overlay string) string {
	t.Helper()
	dir := t.TempDir()
	if out, err := inRoot(t, "build", "-buildvcs=false", "-overlay", overlay, "-o", dir+string(filepath.Separator), "./cmd/gateway", "./cmd/publisher"); err != nil {
		t.Fatalf("build without the guard: %v\n%s", err, out)
	}
	return dir
}

// modelHolds tells whether the model's schedules all go well.
func modelHolds(t *testing.T, overlay string) bool {
	t.Helper()
	out, err := inRoot(t, "test", "-count=1", "-overlay", overlay, "-run", "TestNoSchedule", "./pkg/fanout")
	if err != nil && !strings.Contains(string(out), "--- FAIL") {
		t.Fatalf("run the model: %v\n%s", err, out)
	}
	return err == nil
}

func inRoot(t *testing.T, args ...string) ([]byte, error) {
	t.Helper()
	root, err := pods.Root()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", args...)
	cmd.Dir = root
	return cmd.CombinedOutput()
}

// A witness stands in for a test, to see it fail.
type witness struct {
	testing.TB

	mu       sync.Mutex // guards the fields below
	said     []string
	failed   bool
	cleanups []func()
}

// watch runs a test to its end, cleanups included, and is what it failed with.
func watch(t *testing.T, test func(testing.TB)) string {
	w := &witness{TB: t}
	run := func(f func()) {
		done := make(chan struct{})
		go func() { // ends with f, or where f gives up
			defer close(done)
			f()
		}()
		<-done
	}
	run(func() { test(w) })
	for len(w.cleanups) > 0 {
		last := w.cleanups[len(w.cleanups)-1]
		w.cleanups = w.cleanups[:len(w.cleanups)-1]
		run(last)
	}
	return strings.Join(w.said, "\n")
}

func (w *witness) Helper()             {}
func (w *witness) Logf(string, ...any) {}
func (w *witness) Cleanup(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cleanups = append(w.cleanups, f)
}

func (w *witness) Failed() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.failed
}

func (w *witness) Errorf(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.said, w.failed = append(w.said, fmt.Sprintf(format, args...)), true
}

func (w *witness) Error(args ...any) { w.Errorf("%s", strings.TrimSpace(fmt.Sprintln(args...))) }
func (w *witness) Fatal(args ...any) { w.Error(args...); runtime.Goexit() }
func (w *witness) Fatalf(format string, args ...any) {
	w.Errorf(format, args...)
	runtime.Goexit()
}
