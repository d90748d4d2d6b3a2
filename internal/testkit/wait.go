package testkit

import (
	"context"
	"testing"
	"time"
)

const pollFirst, pollLongest = time.Millisecond, 5 * time.Millisecond

// Eventually waits until cond is true and fails the test when it is not within
// the given time. cond is asked at least once and once more at the end; it runs
// on the caller's goroutine, so it may fail the test itself.
func Eventually(t testing.TB, within time.Duration, cond func() bool, what string) {
	t.Helper()
	if !poll(within, cond) {
		t.Fatalf("waited %v in vain: %s", within, what)
	}
}

// EventuallyNil is Eventually for an attempt that says what is missing: its last
// error is in the failure.
func EventuallyNil(t testing.TB, within time.Duration, try func() error, what string) {
	t.Helper()
	var err error
	if !poll(within, func() bool { err = try(); return err == nil }) {
		t.Fatalf("waited %v in vain: %s: %v", within, what, err)
	}
}

// Never fails the test as soon as cond is true during the given time. It always
// costs that time, so keep it short and prefer a condition that comes after.
func Never(t testing.TB, during time.Duration, cond func() bool, what string) {
	t.Helper()
	if poll(during, cond) {
		t.Fatalf("must not happen within %v: %s", during, what)
	}
}

// Receive returns the next value of ch and fails the test when none comes in
// time or ch is closed.
func Receive[T any](t testing.TB, within time.Duration, ch <-chan T, what string) T {
	t.Helper()
	select {
	case v, ok := <-ch:
		if !ok {
			t.Fatalf("channel closed, want a value: %s", what)
		}
		return v
	case <-time.After(within):
		t.Fatalf("waited %v in vain: %s", within, what)
		panic("unreachable")
	}
}

// Closed waits until ch is closed, skipping values, and fails the test when it
// stays open.
func Closed[T any](t testing.TB, within time.Duration, ch <-chan T, what string) {
	t.Helper()
	end := time.After(within)
	for {
		select {
		case _, ok := <-ch:
			if !ok {
				return
			}
		case <-end:
			t.Fatalf("waited %v in vain: %s", within, what)
		}
	}
}

// Context returns a context with a deadline that is cancelled when the test ends.
func Context(t testing.TB, within time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), within)
	t.Cleanup(cancel)
	return ctx
}

func poll(within time.Duration, cond func() bool) bool {
	deadline := time.Now().Add(within)
	for pause := pollFirst; ; pause = min(pause*2, pollLongest) {
		last := !time.Now().Before(deadline)
		if cond() {
			return true
		}
		if last {
			return false
		}
		time.Sleep(pause)
	}
}
