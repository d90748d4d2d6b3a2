package session

import (
	"testing"

	"allim/pkg/auth"
	"allim/pkg/fanout"
	"allim/pkg/notify"
)

// deafConn is the connection of somebody of whom only the session counts.
type deafConn struct{}

func (deafConn) Wake()  {}
func (deafConn) Ping()  {}
func (deafConn) Abort() {}

// A page that comes back by positions moves its own stream behind what is recovered. Counts that changed between its welcome and that move
// were taken for sent (found by test/e2e, seed 22).
func TestCountsThatASubscribedDoesNotCarryComeAfterTheBatch(t *testing.T) {
	at := func(n uint64) notify.Position { return notify.Position{Epoch: "aaaaaa", Offset: n} }
	s := &Session{shared: New(Options{}), conn: deafConn{}, identity: &auth.Identity{User: "ann"}, badge: &notify.Badge{Unread: 1, Revision: at(1)}}
	s.batch = &batch{s: s, wait: 2}
	c := &sub{s: s, topic: "user:ann", waits: true}
	s.own = c
	now := &notify.Badge{Unread: 2, Revision: at(2)}
	c.Begin(nil, fanout.Begin{Position: at(1), Recovered: true, Badge: now})
	c.CaughtUp(nil, now)
	if s.out.len() != 1 {
		t.Errorf("got %d frames, want one badge", s.out.len())
	}
}
