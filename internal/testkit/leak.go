package testkit

import (
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// settle is how long goroutines and descriptors get to end after the last test:
// a closed connection's goroutine needs a moment, a leak never ends.
const settle = 5 * time.Second

// Main runs a package's tests and then fails the package, with a list, when they
// left a goroutine or an open descriptor behind. Every package that starts a
// goroutine or opens a descriptor has
//
//	func TestMain(m *testing.M) { testkit.Main(m) }
//
// The pools of http.DefaultTransport belong to nobody and are emptied first.
// Outside Linux only goroutines are checked.
func Main(m *testing.M) { os.Exit(run(m, settle)) }

func run(m *testing.M, settle time.Duration) int {
	before, ours := descriptors(), goleak.IgnoreCurrent()
	code := m.Run()
	endShared()
	if code != 0 {
		return code // what a failed test left behind says nothing
	}
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	deadline := time.Now().Add(settle)
	if err := leakedGoroutines(ours, deadline); err != nil {
		fmt.Fprintf(os.Stderr, "LEAK: %v\n", err)
		code = 1
	}
	if leaked := leakedDescriptors(before, deadline); len(leaked) > 0 {
		fmt.Fprintf(os.Stderr, "LEAK: descriptors left open by the tests:\n\t%s\n", strings.Join(leaked, "\n\t"))
		code = 1
	}
	return code
}

func leakedGoroutines(ours goleak.Option, deadline time.Time) error {
	for {
		err := goleak.Find(ours) // waits up to a second by itself
		if err == nil || time.Now().After(deadline) {
			return err
		}
	}
}

func leakedDescriptors(before map[string]string, deadline time.Time) []string {
	for pause := pollFirst; ; {
		var leaked []string
		now := descriptors()
		for fd, target := range now {
			if before[fd] != target {
				leaked = append(leaked, "fd "+fd+": "+target)
			}
		}
		if len(leaked) == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			slices.Sort(leaked)
			return withSockets(leaked)
		}
		time.Sleep(pause)
	}
}
