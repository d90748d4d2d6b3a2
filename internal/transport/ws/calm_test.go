package ws

import (
	"testing"
	"time"

	"allim/internal/session"
	"allim/internal/testkit"
)

// Memory is given back once for each storm, when it is over.
func TestAfterAStorm(t *testing.T) {
	var a afterStorm
	for i, c := range []struct {
		came uint64
		all  int
		want bool
	}{
		{0, 0, false}, {stormSize - 1, stormSize - 1, false}, {stormSize - 1, stormSize - 1, false}, // few
		{9000, 9000, false}, {10_000, 10_000, false}, // under way
		{10_000, 10_000, true}, {10_000, 10_000, false},
		{11_200, 11_200, false}, {11_200, 11_200, false}, // few beside those that there are
		{12_500, 10_000, false}, {12_500, 10_000, true}, // as many as a quarter, though others have left
		{12_501, 0, false}, {12_501, 0, false},
		{20_000, 10_000, false}, {20_000 + fewPerSecond + 1, 10_000, false}, {20_001 + 2*fewPerSecond, 10_000, true}, // a few come always
	} {
		if got := a.calm(c.came, c.all); got != c.want {
			t.Errorf("%d: %v of %+v", i, got, c)
		}
	}
}

// While memory is given back, which takes long on a large heap, dead connections are cut as ever, and it is not begun a second time.
func TestTidyingIsInNobodysWay(t *testing.T) {
	limits := *session.New(session.Options{}).Limits()
	limits.Pong = 400 * time.Millisecond
	begun, hold := make(chan struct{}, 10), make(chan struct{})
	s, dial := serveLines(t, Options{Limits: &limits}, false, func(s *Server) {
		s.tidier.give = func() { begun <- struct{}{}; <-hold }
	})
	defer close(hold)
	for range 2 {
		s.next.Add(2 * stormSize)
		l := dial()
		l.peer.conn.Ping()
		testkit.Closed(t, 5*time.Second, l.peer.gone, "the end of a client that gives no sign of life")
	}
	testkit.Receive(t, 5*time.Second, begun, "it is given back")
	if len(begun) > 0 {
		t.Error("twice at once")
	}
}
