//go:build fault

package fault

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"allim/test/pods"
)

// TestTheBrowserClientNeedsItsDedupe lets the tests of the browser client run on a copy that forgets the ids it knows, and wants them to fail.
func TestTheBrowserClientNeedsItsDedupe(t *testing.T) {
	root, err := pods.Root()
	if err != nil {
		t.Fatal(err)
	}
	from, to := filepath.Join(root, "client"), filepath.Join(t.TempDir(), "client")
	if _, err := os.Stat(filepath.Join(from, "node_modules")); err != nil {
		t.Fatalf("npm packages are missing (%v): run `make deps`", err)
	}
	for _, dir := range []string{"src", "test"} {
		if err := os.CopyFS(filepath.Join(to, dir), os.DirFS(filepath.Join(from, dir))); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(filepath.Join(from, "node_modules"), filepath.Join(to, "node_modules")); err != nil {
		t.Fatal(err)
	}
	copyFile(t, filepath.Join(from, "package.json"), filepath.Join(to, "package.json"), "", "")
	run := func() (string, error) {
		cmd := exec.Command("node", "--test", "--test-timeout=60000", "test/topics.test.js")
		cmd.Dir = to
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := run(); err != nil {
		t.Fatalf("the copy's tests fail as it is: %v\n%s", err, out)
	}
	copyFile(t, filepath.Join(from, "src", "topic.js"), filepath.Join(to, "src", "topic.js"), " && !(frame.id && this.known.has(frame.id));", ";")
	out, err := run()
	if err == nil || !strings.Contains(out, "\nnot ok ") {
		t.Errorf("without its dedupe the client passes its tests (%v):\n%s", err, out)
	}
}

// copyFile copies a file with old, which must be in it once, replaced; "" replaces nothing.
func copyFile(t *testing.T, from, to, old, by string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	if old != "" {
		if n := strings.Count(text, old); n != 1 {
			t.Fatalf("%s has %d times %q, want it once: the guard has moved, and this test must follow", from, n, old)
		}
		text = strings.Replace(text, old, by, 1)
	}
	if err := os.WriteFile(to, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
