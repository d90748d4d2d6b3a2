package testkit

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// leakEnv makes this test binary, started again by TestLeaksFailThePackage, leak
// what it names and check with little patience.
const leakEnv = "ALLIM_TESTKIT_LEAK"

func TestMain(m *testing.M) {
	if os.Getenv(leakEnv) != "" {
		os.Exit(run(m, 200*time.Millisecond))
	}
	Main(m)
}

var kept []any // keeps what is leaked from the garbage collector

func leakOneGoroutine() { <-make(chan struct{}) }

func TestChildThatLeaks(t *testing.T) {
	switch what := os.Getenv(leakEnv); what {
	case "", "nothing":
	case "goroutine":
		go leakOneGoroutine()
	case "listener":
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		kept = append(kept, l)
	case "pipe":
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		kept = append(kept, r, w)
	case "file":
		f, err := os.Open("leak_test.go")
		if err != nil {
			t.Fatal(err)
		}
		kept = append(kept, f)
	default:
		t.Fatalf("unknown leak %q", what)
	}
}

func TestLeaksFailThePackage(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		leak string
		says []string // empty: must pass
	}{
		{"nothing", nil},
		{"goroutine", []string{"LEAK: ", "leakOneGoroutine"}},
		{"listener", []string{"LEAK: descriptors", "socket:[", "tcp 127.0.0.1:", "(listening)"}},
		{"pipe", []string{"LEAK: descriptors", "pipe:["}},
		{"file", []string{"LEAK: descriptors", "/leak_test.go"}},
	} {
		t.Run(c.leak, func(t *testing.T) {
			t.Parallel()
			cmd := exec.Command(self, "-test.run=^TestChildThatLeaks$")
			cmd.Env = append(os.Environ(), leakEnv+"="+c.leak)
			out, err := cmd.CombinedOutput()
			if c.says == nil {
				if err != nil {
					t.Fatalf("a clean package fails: %v\n%s", err, out)
				}
				return
			}
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.ExitCode() != 1 {
				t.Fatalf("got %v, want exit code 1\n%s", err, out)
			}
			for _, want := range c.says {
				if !strings.Contains(string(out), want) {
					t.Errorf("output lacks %q:\n%s", want, out)
				}
			}
		})
	}
}
