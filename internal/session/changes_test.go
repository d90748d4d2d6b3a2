package session

import (
	"testing"
	"time"

	"allim/pkg/auth"
	"allim/pkg/fanout"
	"allim/pkg/notify"
)

// ann is who a token of hers makes.
func ann(t *testing.T) *auth.Identity {
	t.Helper()
	secret := []byte("a secret of changes, 32 bytes long")
	keys, err := auth.NewKeys([]auth.Key{{Algorithm: "HS256", Secret: secret}})
	if err != nil {
		t.Fatal(err)
	}
	v, err := auth.NewVerifier(auth.Options{Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	token, err := auth.Sign(auth.SigningKey{Algorithm: "HS256", Secret: secret}, map[string]any{"sub": "ann", "exp": time.Now().Add(time.Hour).Unix()})
	if err != nil {
		t.Fatal(err)
	}
	id, err := v.Verify(token)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// owned is a session of ann's that stands at 1 of her stream, and its sub.
func owned(t *testing.T) (*Session, *sub) {
	t.Helper()
	s := &Session{shared: New(Options{}), conn: deafConn{}, identity: ann(t), origin: "p9Xk3vQ0aLr7Tz1e", begun: time.Now(), badge: &notify.Badge{Unread: 1, Revision: place(1)}}
	c := &sub{s: s, topic: "user:ann", queued: place(1)}
	s.own, s.subs = c, []*sub{c}
	return s, c
}

func place(n uint64) notify.Position { return notify.Position{Epoch: "aaaaaa", Offset: n} }

func wantFrames(t *testing.T, s *Session, want ...string) {
	t.Helper()
	for _, w := range want {
		if got, _ := s.Pull(); string(got) != w {
			t.Errorf("got  %s\nwant %s", got, w)
		}
	}
	if got, _ := s.Pull(); got != nil {
		t.Errorf("and %s", got)
	}
}

// What publishers and other devices do to items and preferences comes like marks do: in order, with the counts of that moment while it is live.
func TestWhatIsDoneToItemsAndPreferencesReachesTheClient(t *testing.T) {
	s, c := owned(t)
	n := uint64(1)
	deliver := func(m notify.Message, recovered bool) {
		t.Helper()
		n++
		m.Position, m.Badge = place(n), &notify.Badge{Unread: int(n), Revision: place(n)}
		if !c.Deliver(nil, &fanout.Delivery{Stream: notify.Stream{Tenant: "default", Topic: c.topic}, Message: &m}, recovered) || c.queued != place(n) {
			t.Errorf("change %d: the topic stands at %v", n, c.queued)
		}
	}
	noon := time.UnixMilli(1_795_406_706_789)
	deliver(notify.Message{Change: notify.ChangeNotification, ID: "n2", Replaces: "n1", Time: noon, ExpiresAt: noon.Add(time.Second), Data: []byte(`1`)}, false)
	deliver(notify.Message{Change: notify.ChangeUpdate, ID: "n2", Data: []byte(`{"a":1}`), Origin: s.origin}, false)
	deliver(notify.Message{Change: notify.ChangeRetract, ID: "n2"}, false)
	deliver(notify.Message{Change: notify.ChangeExpire, ID: "n3"}, true)
	deliver(notify.Message{Change: notify.ChangePreferences, IDs: []string{"a", "b"}}, false)
	deliver(notify.Message{Change: notify.ChangePreferences, Replayed: true}, false)
	wantFrames(t, s,
		`{"type":"notification","topic":"user:ann","pos":"aaaaaa.2","id":"n2","time":"2026-11-23T04:05:06.789Z","expires_at":"2026-11-23T04:05:07.789Z","replaces":"n1","data":1,"badge":{"unread":2,"unseen":0,"rev":"aaaaaa.2"}}`,
		`{"type":"update","topic":"user:ann","pos":"aaaaaa.3","id":"n2","data":{"a":1},"mine":true}`,
		`{"type":"retract","topic":"user:ann","pos":"aaaaaa.4","id":"n2","reason":"retracted","badge":{"unread":4,"unseen":0,"rev":"aaaaaa.4"}}`,
		`{"type":"retract","topic":"user:ann","pos":"aaaaaa.5","id":"n3","reason":"expired"}`,
		`{"type":"preferences","topic":"user:ann","pos":"aaaaaa.6","mute":["a","b"]}`,
		`{"type":"preferences","topic":"user:ann","pos":"aaaaaa.7","mute":[],"replayed":true}`)
}
