// Package programs runs gateway, publisher and allim as processes, as an operator does: how they are told what to do, how they come, change and go.
package programs

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"allim/internal/testkit"
	"allim/test/pods"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// folder is a new folder with these files.
func folder(t *testing.T, files map[string]string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for name, text := range files {
		put(t, dir, name, text)
	}
	return dir
}

func put(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

type ended struct {
	code           int
	stdout, stderr string
}

// run runs a program that ends by itself, in dir, with no variable but env.
func run(t *testing.T, program, dir string, args, env []string) ended {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, pods.Program(t, program), args...)
	var stdout, stderr bytes.Buffer
	// With the race detector a program that ends well would sleep a second for reports of other threads.
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = dir, append([]string{"PATH=/nowhere", "GORACE=atexit_sleep_ms=0"}, env...), &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || ctx.Err() != nil) {
		t.Fatalf("run %s %q: %v", program, args, err)
	}
	return ended{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}
