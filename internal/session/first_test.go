package session

import (
	"strings"
	"testing"
	"time"

	"allim/internal/testkit"
	"allim/pkg/auth"
)

// A page that speaks as soon as it is open was answered before it was welcomed (found in Chromium by test/e2e).
func TestTheWelcomeComesBeforeAnyAnswer(t *testing.T) {
	s := &Session{shared: New(Options{}), conn: deafConn{}, identity: &auth.Identity{Anonymous: true}}
	s.batch = &batch{s: s, welcome: true, wait: 1}
	handled := make(chan struct{})
	go func() { s.Handle([]byte("Hello Server!")); close(handled) }()
	testkit.Eventually(t, 5*time.Second, func() bool { s.mu.Lock(); defer s.mu.Unlock(); return s.waiting != nil || s.out.len() > 0 }, "the frame is looked at")
	s.mu.Lock()
	s.batch.wait = 0
	s.batch.finish()
	s.mu.Unlock()
	testkit.Closed(t, 5*time.Second, handled, "the frame is handled")
	for _, want := range []string{`{"type":"welcome"`, `{"type":"error"`} {
		if frame, _ := s.Pull(); !strings.HasPrefix(string(frame), want) {
			t.Errorf("got %s, want %s", frame, want)
		}
	}
}
