package e2e

import (
	"bufio"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"allim/internal/testkit"
	"allim/test/pods"
)

// A script is a Node program that a test talks with: it tells in lines, and is dismissed by the end of its standard input.
type script struct {
	t     *testing.T
	cmd   *exec.Cmd
	stdin io.Closer
	lines chan string // closed when the script has closed its output
	seen  []string
	done  chan struct{} // closed when the script has ended
	err   error         // why; set before done is closed
}

// runScript starts a Node program in dir, whose package must be installed. It is ended with the test.
func runScript(t *testing.T, dir, needs string, env []string, args ...string) *script {
	t.Helper()
	if _, err := os.Stat(filepath.Join(dir, "node_modules", needs)); err != nil {
		t.Fatalf("npm packages are missing (%v): run `make deps`", err)
	}
	s := &script{t: t, cmd: exec.Command("node", args...), lines: make(chan string, 1024), done: make(chan struct{})}
	s.cmd.Dir, s.cmd.Env, s.cmd.WaitDelay = dir, append(os.Environ(), env...), 5*time.Second
	var errs strings.Builder
	s.cmd.Stderr = &errs
	out, w := io.Pipe()
	s.cmd.Stdout = w
	stdin, err := s.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	s.stdin = stdin
	if err := s.cmd.Start(); err != nil {
		t.Fatalf("start node: %v (run `make deps`)", err)
	}
	var both sync.WaitGroup
	both.Go(func() { // ends with the script's output
		defer close(s.lines)
		for in := bufio.NewScanner(out); in.Scan(); {
			s.lines <- in.Text()
		}
		_, _ = io.Copy(io.Discard, out) // of a line that is too long: the script must not wait for us
	})
	both.Go(func() { // ends with the script
		s.err = s.cmd.Wait()
		_ = w.Close()
		close(s.done)
	})
	t.Cleanup(func() {
		_ = s.stdin.Close()
		select {
		case <-s.done:
		case <-time.After(10 * time.Second):
			_ = s.cmd.Process.Kill()
		}
		for range s.lines { // whoever writes must come to an end
		}
		both.Wait()
		if t.Failed() {
			t.Logf("the script said:\n%s\n%s", strings.Join(s.seen, "\n"), errs.String())
		}
	})
	return s
}

// line waits for the next line that is good.
func (s *script) line(what string, good func(string) bool) string {
	s.t.Helper()
	for {
		line := testkit.Receive(s.t, time.Minute, s.lines, what)
		s.seen = append(s.seen, line)
		if good(line) {
			return line
		}
	}
}

// told waits for what the script tells next and reads its value into v.
func (s *script) told(what string, v any) {
	s.t.Helper()
	line := s.line(what, func(line string) bool { return strings.HasPrefix(line, "{") })
	var told struct {
		What  string
		Value json.RawMessage
	}
	if err := json.Unmarshal([]byte(line), &told); err != nil || told.What != what {
		s.t.Fatalf("the script tells %s, want %s", line, what)
	}
	if err := json.Unmarshal(told.Value, v); err != nil {
		s.t.Fatalf("%s: %v", line, err)
	}
}

// dismiss tells the script that the test has seen enough.
func (s *script) dismiss() {
	s.t.Helper()
	if err := s.stdin.Close(); err != nil {
		s.t.Error(err)
	}
}

// wantGood waits until the script ended by itself, and well.
func (s *script) wantGood() {
	s.t.Helper()
	testkit.Closed(s.t, pods.Within, s.lines, "the end of the script")
	if <-s.done; s.err != nil {
		s.t.Errorf("the script ended with %v", s.err)
	}
}
