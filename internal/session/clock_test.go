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

// A pingedConn counts pings.
type pingedConn struct {
	Conn
	pings int
}

func (c *pingedConn) Ping() { c.pings++ }

// Pings of thousands at once would hold messages up.
func TestEverySessionHasItsTurnOnceInATickAndFewHaveItAtOnce(t *testing.T) {
	ss := New(Options{})
	conns := make([]*pingedConn, 10*steps+1)
	all := make([]*Session, len(conns))
	for i := range conns {
		conns[i] = &pingedConn{}
		all[i] = &Session{shared: ss, conn: conns[i], identity: &auth.Identity{Anonymous: true}}
	}
	pinged := func() (n int) {
		for _, c := range conns {
			n += c.pings
		}
		return n
	}
	now := time.Now()
	for n := steps; n > 0; n-- {
		before := pinged()
		all = ss.step(now, all, n)
		if few := pinged() - before; few < 10 || few > 11 {
			t.Errorf("%d were pinged at once, want 10 or 11 of %d", few, len(conns))
		}
	}
	for i, c := range conns {
		if c.pings != 1 {
			t.Errorf("session %d was pinged %d times, want once", i, c.pings)
		}
	}
	if len(all) != 0 {
		t.Errorf("%d had no turn", len(all))
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
