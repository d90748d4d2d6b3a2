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

// An edit takes a guard out of one file of ours. The file must have old exactly once, so that the table can not rot; nothing in the product knows of it.
type edit struct{ file, old, new string }

// A sabotage is a guard that is taken away, and the scenario that must fail without it, by a breach of one of these rules.
type sabotage struct {
	guard    string
	edits    []edit
	forgets  bool // the readers' own guard instead: they show what they know
	scenario func(start)
	rules    []int
	model    bool // the model of the topic state must see it, too
}

var sabotages = []sabotage{
	{guard: "dedupe", scenario: publisherKilled, rules: []int{1}, edits: []edit{
		{"internal/store/lua/publish.lua", "local dup = redis.call('ZSCORE', DEDUPE, ARGV[1])\n", "local dup = false\n"},
		{"internal/store/lua/notify.lua", "local dup = redis.call('ZSCORE', DEDUPE, id) or redis.call('ZSCORE', INDEX, id)\n", "local dup = false\n"}}},
	{guard: "gap check", scenario: onePercentDropped, rules: []int{2, 3}, model: true, edits: []edit{
		{"pkg/fanout/topic.go", "case p.Offset == t.pos.Offset+1 && (same || empty(t.pos.Epoch)):\n", "case p.Offset > t.pos.Offset && (same || empty(t.pos.Epoch)):\n\t\tx.free(t)\n"},
		{"pkg/fanout/catch.go", "case c.pos.Epoch != t.pos.Epoch || o > c.pos.Offset+1:", "case c.pos.Epoch != t.pos.Epoch:"},
		{"pkg/fanout/catch.go", "case o == c.pos.Offset+1:", "case o > c.pos.Offset:"}}},
	{guard: "history id", scenario: failoverLoses, rules: []int{1, 6}, edits: []edit{
		{"internal/store/lua/lib.lua", "string.match(info, 'master_replid:(%x+)') or '?'", "'?'"}}},
	{guard: "change check", scenario: onePercentDropped, rules: []int{2, 8}, edits: []edit{
		{"pkg/fanout/hub.go", "\tdur(&o.CheckEvery, 10*time.Second)\n", "\to.CheckEvery = -1\n"}}},
	{guard: "replay", scenario: failoverLoses, rules: []int{1}, edits: []edit{
		{"internal/store/replay.go", "\t\treturn at.Offset <= p.top\n", "\t\treturn true\n"},
		{"internal/store/replay.go", "epoch == at.Epoch && at.Offset <= n {", "epoch == at.Epoch && at.Offset <= n+at.Offset {"}}},
	{guard: "client dedupe", scenario: failoverLoses, rules: []int{2}, forgets: true},
	{guard: "resync on acknowledgement", scenario: resetsEachSecond, rules: []int{8}, edits: []edit{
		{"pkg/fanout/topic.go", "func (x *shard) acked(t *topic) { x.startSync(t, byAck) }", `func (x *shard) acked(t *topic) {
	if !t.known {
		x.startSync(t, byAck)
		return
	}
	x.enter(t, syncs)
	t.sync = &syncing{}
	x.finishSync(t)
}`}}},
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
	if len(s.edits) == 0 {
		return ""
	}
	root, err := pods.Root()
	if err != nil {
		t.Fatal(err)
	}
	dir, texts := t.TempDir(), map[string]string{}
	for _, e := range s.edits {
		path := filepath.Join(root, filepath.FromSlash(e.file))
		if texts[path] == "" {
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			texts[path] = string(b)
		}
		if n := strings.Count(texts[path], e.old); n != 1 {
			t.Fatalf("%s has %d times %q, want it once: the guard has moved, and this table must follow", e.file, n, e.old)
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
