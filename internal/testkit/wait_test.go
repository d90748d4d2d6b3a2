package testkit

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"
)

func TestWaitsEndWithTheConditionOrFailTheTest(t *testing.T) {
	closed := make(chan int)
	close(closed)
	full := make(chan int, 1)
	const short = 10 * time.Millisecond
	n := 0
	for _, c := range []struct {
		name  string
		wait  func(testing.TB)
		fails string // "" when the wait must succeed
	}{
		{"true at the third look", func(t testing.TB) { n = 0; Eventually(t, time.Second, func() bool { n++; return n == 3 }, "x") }, ""},
		{"never true", func(t testing.TB) { Eventually(t, short, func() bool { return false }, "moon") }, "moon"},
		{"asked once even without time", func(t testing.TB) { Eventually(t, 0, func() bool { return true }, "x") }, ""},
		{"last error is told", func(t testing.TB) {
			EventuallyNil(t, short, func() error { return errors.New("not yet") }, "sun")
		}, "sun: not yet"},
		{"nil error", func(t testing.TB) { EventuallyNil(t, short, func() error { return nil }, "x") }, ""},
		{"never happened", func(t testing.TB) { Never(t, short, func() bool { return false }, "x") }, ""},
		{"happened", func(t testing.TB) { Never(t, time.Second, func() bool { return true }, "rain") }, "rain"},
		{"a value", func(t testing.TB) {
			full <- 7
			if got := Receive(t, time.Second, full, "x"); got != 7 {
				t.Fatalf("got %d, want 7", got)
			}
		}, ""},
		{"no value", func(t testing.TB) { Receive(t, short, make(chan int), "letter") }, "letter"},
		{"closed instead of a value", func(t testing.TB) { Receive(t, time.Second, closed, "letter") }, "closed"},
		{"closed", func(t testing.TB) { Closed(t, time.Second, closed, "x") }, ""},
		{"open", func(t testing.TB) { Closed(t, short, make(chan int), "door") }, "door"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := record(t, c.wait)
			if (r != "") != (c.fails != "") || !strings.Contains(r, c.fails) {
				t.Fatalf("failure: got %q, want it to contain %q", r, c.fails)
			}
		})
	}
}

// recorder stands in for a test, to see it fail.
type recorder struct {
	testing.TB
	failure string
}

func (r *recorder) Helper() {}
func (r *recorder) Fatalf(format string, args ...any) {
	r.failure = strings.TrimSpace(fmt.Sprintf(format, args...))
	runtime.Goexit()
}

func record(t *testing.T, f func(testing.TB)) string {
	r := &recorder{TB: t}
	done := make(chan struct{})
	go func() { defer close(done); f(r) }()
	<-done
	return r.failure
}
