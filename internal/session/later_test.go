package session

import (
	"testing"

	"allim/pkg/auth"
	"allim/pkg/fanout"
	"allim/pkg/notify"
)

// In a rolling update a publisher writes what this gateway has no frame for.
func TestAChangeOfALaterBuildMovesItsPlaceAndShowsItsCounts(t *testing.T) {
	at := func(n uint64) notify.Position { return notify.Position{Epoch: "aaaaaa", Offset: n} }
	s := &Session{shared: New(Options{}), conn: deafConn{}, identity: &auth.Identity{User: "ann"}, badge: &notify.Badge{Unread: 1, Revision: at(1)}}
	c := &sub{s: s, topic: "user:ann", queued: at(1)}
	s.own = c
	deliver := func(n uint64, b *notify.Badge, recovered bool) {
		t.Helper()
		m := &notify.Message{Change: notify.ChangeUnknown, Position: at(n), Badge: b}
		if !c.Deliver(nil, &fanout.Delivery{Stream: notify.Stream{Tenant: "default", Topic: c.topic}, Message: m}, recovered) || c.queued != at(n) {
			t.Errorf("change %d: the topic stands at %v", n, c.queued)
		}
	}
	deliver(2, &notify.Badge{Unread: 2, Revision: at(2)}, false)
	deliver(3, &notify.Badge{Unread: 3, Revision: at(3)}, true)
	deliver(4, nil, false)
	i, _ := s.out.pop()
	if want := `{"type":"badge","topic":"user:ann","badge":{"unread":2,"unseen":0,"rev":"aaaaaa.2"}}`; string(i.own) != want || s.out.len() != 0 {
		t.Errorf("got %s and %d more, want %s alone", i.own, s.out.len(), want)
	}
}
