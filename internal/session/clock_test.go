package session

import (
	"strings"
	"testing"
	"time"

	"allim/pkg/auth"
)

// The end of a token is a time of day. When a session is looked at again is not: a clock that is set back would put off its pings.
func TestWhenASessionIsLookedAtIsSaidByAClockThatNobodyCanSet(t *testing.T) {
	now := time.Now()
	s := &Session{shared: New(Options{}), begun: now, accepted: now, ping: now.Add(time.Hour), identity: &auth.Identity{User: "ann", Expires: now.Round(0).Add(Warn + time.Minute)}}
	if s.plan(); !strings.Contains(s.due.String(), " m=") || s.due.Sub(now) > time.Minute+time.Second || s.due.Sub(now) < 50*time.Second {
		t.Errorf("looked at again at %v, after %v", s.due, s.due.Sub(now))
	}
}

func TestABucketFillsWithTime(t *testing.T) {
	var b bucket
	for i := range 5 {
		if !b.take(time.Hour, 1, 2, 5) {
			t.Fatalf("the first five are there: not number %d", i+1)
		}
	}
	if b.take(time.Hour, 1, 2, 5) || !b.take(time.Hour+time.Second, 2, 2, 5) || b.take(time.Hour+time.Second, 1, 2, 5) {
		t.Error("want none left, two after a second, and no third")
	}
}
