package session_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"allim/internal/session"
	"allim/internal/testkit"
	"allim/pkg/auth"
)

// A door is a transport that closes when it is told to, unless it is stuck.
type door struct {
	stuck bool

	mu      sync.Mutex
	s       *session.Session
	moves   int
	ends    []int
	aborted bool
}

func (d *door) Ping() {}

// Wake pulls at once: in another goroutine, for it is called with the session's lock held.
func (d *door) Wake() { go d.pull() }

func (d *door) Abort() {
	d.mu.Lock()
	d.aborted = true
	d.mu.Unlock()
	go d.s.Gone()
}

func (d *door) pull() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for d.s != nil {
		frame, end := d.s.Pull()
		if strings.Contains(string(frame), `"type":"move"`) {
			d.moves++
		}
		if end != nil && d.ends == nil { // it is said again to who asks again
			d.ends = append(d.ends, end.Code)
			if !d.stuck {
				go d.s.Gone()
			}
		}
		if frame == nil {
			return
		}
	}
}

func (d *door) state() (moves int, ends []int, aborted bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.moves, d.ends, d.aborted
}

// doors opens n sessions that hear nothing.
func doors(t *testing.T, o session.Options, n int) (*session.Sessions, []*door) {
	t.Helper()
	nobody, err := auth.Anonymous(auth.Grant{})
	if err != nil {
		t.Fatal(err)
	}
	o.Anonymous, o.Tick = nobody, 10*time.Millisecond
	ss := session.New(o)
	all := make([]*door, n)
	for i := range all {
		all[i] = &door{}
		s := ss.Open(all[i], session.Hello{}, nil)
		all[i].mu.Lock()
		all[i].s = s
		all[i].mu.Unlock()
		all[i].pull()
		t.Cleanup(s.Gone)
	}
	return ss, all
}

// end ends the sessions and returns how long Run took after that.
func end(t *testing.T, ss *session.Sessions) (took func() time.Duration) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- ss.Run(ctx) }()
	cancel()
	began := time.Now()
	return func() time.Duration {
		t.Helper()
		if err := testkit.Receive(t, time.Minute, done, "the end of Run"); err != nil {
			t.Error(err)
		}
		return time.Since(began)
	}
}

func TestEverybodyIsAskedToMoveOnceAndTheEndWaitsForNobodyWhoHas(t *testing.T) {
	t.Parallel()
	ss, all := doors(t, session.Options{Window: time.Minute}, 50)
	took := end(t, ss)
	for i, d := range all {
		testkit.Eventually(t, 5*time.Second, func() bool { moves, _, _ := d.state(); return moves == 1 }, "a move")
		if i == 0 {
			continue
		}
		d.s.Gone() // has moved
	}
	testkit.Never(t, 50*time.Millisecond, func() bool { moves, ends, _ := all[0].state(); return moves != 1 || ends != nil }, "asked twice, or closed within the window")
	all[0].s.Gone()
	if d := took(); d > 10*time.Second {
		t.Errorf("took %v after the last had gone, of a window of a minute", d)
	}
}

func TestWhoDoesNotMoveIsClosedWith1012AfterTheWindow(t *testing.T) {
	t.Parallel()
	o := session.Options{Window: 200 * time.Millisecond, MoveWait: 100 * time.Millisecond, Grace: 2 * time.Second}
	ss, all := doors(t, o, 3)
	all[2].stuck = true
	d := end(t, ss)()
	if least := o.Window + o.MoveWait; d < least || d > ss.Budget() {
		t.Errorf("took %v, want %v to %v", d, least, ss.Budget())
	}
	for i, door := range all {
		if moves, ends, aborted := door.state(); moves != 1 || len(ends) != 1 || ends[0] != 1012 || aborted != (i == 2) {
			t.Errorf("door %d: %d moves, closed with %v, cut: %v", i, moves, ends, aborted)
		}
	}
}

// Nothing comes before a welcome, and who never shows a token gets none.
func TestWhoHasNoWelcomeIsNotAskedToMove(t *testing.T) {
	t.Parallel()
	ss := session.New(session.Options{Window: 50 * time.Millisecond, MoveWait: 50 * time.Millisecond, Grace: time.Second, Tick: 10 * time.Millisecond})
	d := &door{}
	s := ss.Open(d, session.Hello{}, nil)
	d.mu.Lock()
	d.s = s
	d.mu.Unlock()
	end(t, ss)()
	if moves, ends, _ := d.state(); moves != 0 || len(ends) != 1 || ends[0] != 1012 {
		t.Errorf("%d moves, closed with %v", moves, ends)
	}
}

func TestWithoutAWindowNobodyIsAskedToMove(t *testing.T) {
	t.Parallel()
	ss, all := doors(t, session.Options{}, 1)
	end(t, ss)()
	if moves, ends, _ := all[0].state(); moves != 0 || len(ends) != 1 || ends[0] != 1012 {
		t.Errorf("%d moves, closed with %v", moves, ends)
	}
}

// No more than 512 are closed at a time; the others follow as those let go.
func TestConnectionsAreClosedInBatches(t *testing.T) {
	t.Parallel()
	ss, all := doors(t, session.Options{Grace: time.Minute}, 1300)
	for _, d := range all {
		d.stuck = true
	}
	took := end(t, ss)
	for _, want := range []int{512, 1024, 1300} {
		testkit.Eventually(t, 10*time.Second, func() bool { return told(all) == want }, "the next batch")
		testkit.Never(t, 50*time.Millisecond, func() bool { return told(all) != want }, "more at once")
		var batch []*door // all of them before the first lets go: its place is taken at once
		for _, d := range all {
			if _, ends, _ := d.state(); ends != nil {
				batch = append(batch, d)
			}
		}
		for _, d := range batch {
			d.s.Gone()
		}
	}
	if d := took(); d > 50*time.Second {
		t.Errorf("took %v after the last had gone", d)
	}
}

// Those that do not let go keep nobody from being told before the time is over.
func TestEverybodyIsToldBeforeItIsCut(t *testing.T) {
	t.Parallel()
	ss, all := doors(t, session.Options{Grace: time.Second}, 700)
	for _, d := range all {
		d.stuck = true
	}
	end(t, ss)()
	if n := told(all); n != len(all) {
		t.Errorf("%d of %d were told", n, len(all))
	}
	for i, d := range all {
		if _, _, aborted := d.state(); !aborted {
			t.Fatalf("door %d was not cut", i)
		}
	}
}

// told is how many were closed with 1012.
func told(all []*door) (n int) {
	for _, d := range all {
		if _, ends, _ := d.state(); len(ends) == 1 && ends[0] == 1012 {
			n++
		}
	}
	return n
}
