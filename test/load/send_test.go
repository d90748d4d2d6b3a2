//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"allim/internal/testkit"
)

// deaf is a stage without processes and connections, of so many users.
func deaf(t *testing.T, users int) *stage {
	s := &stage{Context: t.Context(), served: &served{own: func(u string) string { return u }}, topics: 1, users: users}
	hears := make([][]int, users)
	for i := range hears {
		hears[i] = []int{0, s.inbox(i), s.group(i)}
	}
	s.crowd = &crowd{judge: newJudge(s.group(users-1)+1, hears)}
	return s
}

// asks are the calls that a product got, by user; each delivers at once what it is given.
type asks struct {
	mu    sync.Mutex
	calls map[string][]string
}

func (a *asks) deliver(s *stage, who string, data []byte) {
	marks(data, func(m mark) {
		a.mu.Lock()
		a.calls[who] = append(a.calls[who], fmt.Sprint(m.n))
		a.mu.Unlock()
		s.crowd.state(func() {
			for i := range s.crowd.judge.readers {
				if slices.Contains(s.crowd.judge.readers[i].lines, int(m.line)) {
					s.crowd.judge.receive(i, m)
				}
			}
		})
	})
}

func TestEveryLineHasOneCallerThatCountsUp(t *testing.T) {
	for _, callers := range []int{1, 3, 64} {
		s, a := deaf(t, 10), &asks{calls: map[string][]string{}}
		s.served.unicast = func(_ context.Context, user, _ string, data []byte) error {
			a.deliver(s, user, data)
			return nil
		}
		if err := s.steady(s.inboxes(), 1e6, 50*time.Microsecond, callers, small); err != nil {
			t.Fatal(err)
		}
		if len(a.calls) != 10 || s.written.Load() != 50 {
			t.Errorf("%d callers: %d users got %d messages", callers, len(a.calls), s.written.Load())
		}
		if s.crowd.judge.lost(); len(s.crowd.judge.faults.kinds) > 0 {
			t.Errorf("%d callers: %v", callers, s.crowd.judge.faults.take())
		}
	}
}

func TestACallForManyUsersCountsForEachOfThem(t *testing.T) {
	s, a := deaf(t, groupSize+7), &asks{calls: map[string][]string{}}
	s.served.notify = func(_ context.Context, users []string, _ string, data []byte) error {
		a.deliver(s, fmt.Sprint(len(users), users[0]), data)
		return nil
	}
	for _, i := range []int{0, groupSize} {
		if err := s.put(s.group(i), true, now(), small); err != nil {
			t.Fatal(err)
		}
	}
	if len(a.calls["100u0"]) != 1 || len(a.calls["7u100"]) != 1 || s.written.Load() != groupSize+7 || s.crowd.judge.due != groupSize+7 {
		t.Errorf("got calls %v, %d written, %d due", a.calls, s.written.Load(), s.crowd.judge.due)
	}
}

// fake is a stream that breaks after so many acknowledgements.
type fake struct {
	s      *stage
	a      *asks
	sent   chan struct{}
	breaks int
	closed bool
}

var errBroken = errors.New("broken")

func (f *fake) send(topic, _ string, data []byte) error {
	f.a.deliver(f.s, topic, data)
	f.sent <- struct{}{}
	return nil
}

func (f *fake) acknowledged() error {
	<-f.sent
	if f.breaks--; f.breaks == 0 {
		return errBroken
	}
	return nil
}

func (f *fake) close() error { f.closed = true; return nil }

func TestAStreamIsFilledToItsWindowAndItsEndIsTold(t *testing.T) {
	for _, breaks := range []int{-1, 5} {
		s := deaf(t, 10)
		f := &fake{s: s, a: &asks{calls: map[string][]string{}}, sent: make(chan struct{}, 10), breaks: breaks}
		s.served.stream = func(context.Context) (stream, error) { return f, nil }
		err := s.streamed(8, 30*time.Millisecond)
		if errors.Is(err, errBroken) != (breaks > 0) || !f.closed {
			t.Errorf("got %v, closed %v", err, f.closed)
		}
		if s.crowd.judge.lost(); len(f.a.calls) < min(10, max(breaks, -10*breaks)) || len(s.crowd.judge.faults.kinds) > 0 {
			t.Errorf("%d users, %v", len(f.a.calls), s.crowd.judge.faults.take())
		}
	}
}

func TestWhoPublishesFlatOutWaitsForRoom(t *testing.T) {
	s := deaf(t, 10)
	s.served.unicast = func(context.Context, string, string, []byte) error { return nil } // and nobody gets anything
	if err := s.flatOut(s.inboxes(), 300*time.Millisecond, 4); err != nil {
		t.Fatal(err)
	}
	if due := s.crowd.judge.due; due == 0 || due > underWay+4 {
		t.Errorf("%d deliveries are under way, want at most %d", due, underWay)
	}
}

func TestAnErrorOfACallEndsTheLoad(t *testing.T) {
	s := deaf(t, 10)
	s.served.publish = func(context.Context, string, string, []byte) error { return errBroken }
	for name, load := range map[string]func() error{
		"steady": func() error { return s.steady([]int{0}, 1000, time.Hour, 1, small) },
		"bursts": func() error { return s.bursts(0, 5, time.Hour) },
		"flat":   func() error { return s.flatOut([]int{0}, time.Hour, 3) },
	} {
		if err := load(); !errors.Is(err, errBroken) || !strings.Contains(err.Error(), "line 0") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestAPauseEndsWithTheRun(t *testing.T) {
	s := deaf(t, 1)
	ctx, cancel := context.WithCancel(s.Context)
	s.Context = ctx
	ended := make(chan error, 1)
	go func() { ended <- s.exactly(30 * time.Second) }()
	cancel()
	if err := testkit.Receive(t, 5*time.Second, ended, "the end of a pause"); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
