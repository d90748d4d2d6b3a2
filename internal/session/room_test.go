package session

import (
	"fmt"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"allim/internal/testkit"
	"allim/internal/wire"
	"allim/pkg/auth"
	"allim/pkg/fanout"
	"allim/pkg/notify"
)

// counted is the counter of a metric for its one label.
func counted(t *testing.T, r *prometheus.Registry, metric, label string) float64 {
	t.Helper()
	return testkit.Metric(t, r, metric, label)
}

// aReader is a session that hears one topic and is not emptied.
func aReader(l Limits) (*Session, *sub, *prometheus.Registry) {
	r := prometheus.NewRegistry()
	s := &Session{shared: New(Options{Limits: l, Metrics: NewMetrics(r)}), conn: deafConn{}, identity: &auth.Identity{User: "ann"}}
	c := &sub{s: s, topic: "a"}
	s.subs = []*sub{c}
	return s, c, r
}

func offered(change notify.Change, n int) *fanout.Delivery {
	return &fanout.Delivery{Stream: notify.Stream{Topic: "a"}, Message: &notify.Message{Change: change, ID: fmt.Sprint(n), Position: notify.Position{Epoch: "aaaaaa", Offset: uint64(n)}}}
}

// A queue full of what is of its moment makes nobody lag, and a message that everybody must get is not behind it.
func TestEphemeralMessagesGiveWayToOthers(t *testing.T) {
	s, c, r := aReader(Limits{QueueFrames: 4})
	for i := range 4 {
		c.Deliver(nil, offered(notify.ChangeEphemeral, i), false)
	}
	for i := range 4 {
		if !c.Deliver(nil, offered(notify.ChangeMessage, i+1), false) || c.lags {
			t.Fatalf("message %d was refused", i+1)
		}
	}
	if c.Deliver(nil, offered(notify.ChangeMessage, 5), false) || !c.lags {
		t.Error("a message for which there is no room was taken")
	}
	if got := counted(t, r, "allim_ephemeral_drops_total", "oldest"); got != 4 || s.out.len() != 4 {
		t.Errorf("%v were dropped and %d wait, want 4 and 4", got, s.out.len())
	}
}

// While its inbox is listed an own message is refused whatever the queue holds: nothing is thrown away for it.
func TestWhoIsRefusedForAnotherReasonDropsNothing(t *testing.T) {
	s, c, _ := aReader(Limits{QueueFrames: 4})
	s.own, s.listing = c, true
	for i := range 4 {
		c.Deliver(nil, offered(notify.ChangeEphemeral, i), false)
	}
	if c.Deliver(nil, offered(notify.ChangeMessage, 1), false) || s.out.len() != 4 {
		t.Errorf("taken, or %d wait", s.out.len())
	}
}

// The bound is met once, however much comes then, and again after the reader has caught up.
func TestAFullQueueIsCountedOnceUntilThereIsRoomAgain(t *testing.T) {
	s, c, r := aReader(Limits{QueueFrames: 4})
	hits := func() float64 { return counted(t, r, "allim_limit_hits_total", "queue") }
	for round := 1; round <= 2; round++ {
		for i := range 50 {
			c.lags = false
			c.Deliver(nil, offered(notify.ChangeMessage, i+1), false)
		}
		if got := hits(); got != float64(round) {
			t.Errorf("round %d: counted %v", round, got)
		}
		c.lags = false // nobody resumes it here
		for f, _ := s.Pull(); f != nil; f, _ = s.Pull() {
		}
	}
}

// Between the question whether there is a place and the taking of it others may come: a burst of handshakes.
func TestThereAreNeverMoreSessionsThanTheLimit(t *testing.T) {
	r := prometheus.NewRegistry()
	ss := New(Options{Limits: Limits{Sessions: 2}, Metrics: NewMetrics(r)})
	var open []*Session
	for range 3 {
		if ss.Full() && len(open) < 2 {
			t.Fatal("full too early")
		}
		open = append(open, ss.Open(deafConn{}, Hello{}, nil))
	}
	if ss.Len() != 2 || counted(t, r, "allim_limit_hits_total", "sessions") != 1 {
		t.Errorf("%d sessions", ss.Len())
	}
	frame, _ := open[2].Pull()
	if !strings.HasPrefix(string(frame), `{"type":"error","code":"unavailable"`) || !strings.Contains(string(frame), `"retry_after":`) {
		t.Errorf("the third is told %s", frame)
	}
	if frame, end := open[2].Pull(); frame != nil || end == nil || end.Code != wire.CloseOverload {
		t.Errorf("then %s, %+v", frame, end)
	}
	open[2].Gone()
	if open[0].Gone(); ss.Len() != 1 || ss.Full() {
		t.Errorf("%d sessions after one left", ss.Len())
	}
	if ss.Open(deafConn{}, Hello{}, nil); ss.Len() != 2 {
		t.Error("no place for the next")
	}
}
