package main

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// Two people in real Chromium use the demo: see test/e2e/browser/demo.mjs. With ALLIM_SHOTS=dir the pictures are kept there (`make shots`).
func TestTwoPeopleUseTheDemo(t *testing.T) {
	said, _ := runDemo(t, &demo{Host: "127.0.0.1"})
	lines, err := json.Marshal(regexp.MustCompile(`new WebSocket\(.*`).FindAllString(said, -1))
	if err != nil {
		t.Fatal(err)
	}
	inChromium(t, "demo.mjs", said, "CONSOLE="+string(lines), "SHOTS="+os.Getenv("ALLIM_SHOTS"))
}

// The bell and all that is behind it: see test/e2e/browser/bell.mjs. Of the two that were asked there one was called, and nobody called twice.
func TestWhoIsAskedAndDoesNotLookIsCalled(t *testing.T) {
	said, _ := runDemo(t, &demo{Host: "127.0.0.1", CallAfter: 12 * time.Second})
	picture := ""
	if shots := os.Getenv("ALLIM_SHOTS"); shots != "" {
		picture = filepath.Join(shots, "..", "demo.png")
	}
	inChromium(t, "bell.mjs", said, "PICTURE="+picture)
	resp, err := http.Get(find(t, said, `publisher .* health and metrics (http://\S+)`) + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	metrics, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	for _, result := range []string{"sent", "cancelled"} {
		if want := `allim_escalations_total{result="` + result + `",via="webhook"} 1`; !strings.Contains(string(metrics), want+"\n") {
			t.Errorf("no %s in\n%s", want, regexp.MustCompile(`(?m)^allim_(escalations|webhook).*$`).FindAll(metrics, -1))
		}
	}
}

// inChromium runs a script of test/e2e/browser against a demo that said where it is.
func inChromium(t *testing.T, script, said string, env ...string) {
	t.Helper()
	e2e, err := filepath.Abs("../../test/e2e")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(e2e, "node_modules", "playwright-core")); err != nil {
		t.Fatalf("playwright-core is missing: run `make deps` (%v)", err)
	}
	node := exec.Command("node", "browser/"+script)
	node.Dir = e2e
	node.Env = append(append(os.Environ(), "DEMO_URL="+find(t, said, `(http://[^/]*)/\?user=ann`)), env...)
	out, err := node.CombinedOutput()
	if err != nil || !strings.HasSuffix(strings.TrimSpace(string(out)), "done") {
		t.Fatalf("node browser/%s: %v\n%s", script, err, out)
	}
	t.Logf("%s", out)
}
