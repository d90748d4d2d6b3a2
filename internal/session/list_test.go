package session

import (
	"strings"
	"testing"
	"time"

	"allim/internal/testkit"
	"allim/pkg/notify"
)

// A list that Redis does not give is tried again until the session ends, or its own stream: a Move of it that was not answered in time. Then nobody waits for it
// any more: who asks for the inbox is answered, and the stream is heard when it is subscribed to again.
func TestAListEndsWithItsStream(t *testing.T) {
	s, c, _ := aReader(Limits{})
	defer s.Gone()
	s.own, s.listing = c, true
	s.leave(c)
	if done, err := s.listOnce(); !done || err != nil {
		t.Fatal(done, err)
	}
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		s.Handle([]byte(`{"type":"inbox","ref":1}`))
	}()
	testkit.Closed(t, 5*time.Second, answered, "the answer to who asks for the inbox")
	if frame, _ := s.Pull(); !strings.Contains(string(frame), `"type":"error","ref":1`) {
		t.Errorf("answered %s", frame)
	}
	again := &sub{s: s, topic: c.topic}
	s.own, s.subs = again, []*sub{again}
	if !again.Deliver(nil, offered(notify.ChangeMessage, 1), false) {
		t.Error("a message of the own stream waits for a list that is over")
	}
	s.own, s.subs = nil, nil
}
