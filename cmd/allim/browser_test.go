package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Two people in real Chromium use the demo: see test/e2e/browser/demo.mjs. With ALLIM_SHOTS=dir the pictures are kept there (`make shots`).
func TestTwoPeopleUseTheDemo(t *testing.T) {
	e2e, err := filepath.Abs("../../test/e2e")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(e2e, "node_modules", "playwright-core")); err != nil {
		t.Fatalf("playwright-core is missing: run `make deps` (%v)", err)
	}
	said, _ := runDemo(t, &demo{Host: "127.0.0.1"})
	lines, err := json.Marshal(regexp.MustCompile(`new WebSocket\(.*`).FindAllString(said, -1))
	if err != nil {
		t.Fatal(err)
	}
	node := exec.Command("node", "browser/demo.mjs")
	node.Dir = e2e
	node.Env = append(os.Environ(), "DEMO_URL="+find(t, said, `(http://[^/]*)/\?user=ann`), "CONSOLE="+string(lines), "SHOTS="+os.Getenv("ALLIM_SHOTS"))
	out, err := node.CombinedOutput()
	if err != nil || !strings.HasSuffix(strings.TrimSpace(string(out)), "done") {
		t.Fatalf("node browser/demo.mjs: %v\n%s", err, out)
	}
	t.Logf("%s", out)
}
