package session

import (
	"context"
	"errors"
	"fmt"
	"slices"
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

// chosen keeps what a user has muted, as a store does.
type chosen struct {
	mute   []string
	n      uint64
	origin string
	err    error
}

func (c *chosen) Preferences(_ context.Context, own notify.Stream, mute *[]string, origin string) ([]string, notify.Position, bool, error) {
	if own != (notify.Stream{Tenant: "default", Topic: "user:ann"}) {
		return nil, notify.Position{}, false, fmt.Errorf("%v: %w", own, notify.ErrForbidden)
	}
	changed := mute != nil && !slices.Equal(*mute, c.mute)
	if changed {
		c.mute, c.origin = *mute, origin
		c.n++
	}
	return c.mute, place(c.n), changed, c.err
}

func TestPreferencesAreAskedForAndSet(t *testing.T) {
	s, _ := owned(t)
	kept := &chosen{mute: []string{"a"}, n: 3}
	s.shared.calls.chooser = kept
	for _, c := range []struct{ frame, want string }{
		{`{"type":"preferences","ref":1}`, `{"type":"preferences","ref":1,"topic":"user:ann","pos":"aaaaaa.3","mute":["a"]}`},
		{`{"type":"preferences","mute":["b","c"],"ref":2}`, `{"type":"ok","ref":2,"pos":"aaaaaa.4"}`},
		{`{"type":"preferences","mute":["b","c"],"ref":3}`, `{"type":"ok","ref":3}`}, // nothing new: no event
		{`{"type":"preferences","mute":[],"origin":"another-page-of-anns","ref":4}`, `{"type":"ok","ref":4,"pos":"aaaaaa.5"}`},
		{`{"type":"preferences","ref":5}`, `{"type":"preferences","ref":5,"topic":"user:ann","pos":"aaaaaa.5","mute":[]}`},
		{`{"type":"preferences","mute":["b","B"],"ref":6}`, `{"type":"error","ref":6,"code":"bad_frame","message":"mute[1]: expected 1 to 32 of a-z 0-9 _ . -"}`},
		{`{"type":"preferences","mute":["b"],"origin":"short","ref":7}`, `{"type":"error","ref":7,"code":"bad_frame","message":"origin: expected 16 to 32 of A-Z a-z 0-9 _ -"}`},
	} {
		s.Handle([]byte(c.frame))
		wantFrames(t, s, c.want)
		if c.want == `{"type":"ok","ref":2,"pos":"aaaaaa.4"}` && kept.origin != s.origin || kept.n == 5 && kept.origin != "another-page-of-anns" {
			t.Errorf("%s: is of %q", c.frame, kept.origin)
		}
	}
	if kept.n != 5 || len(kept.mute) != 0 {
		t.Errorf("kept %+v", kept)
	}
	kept.err = errors.New("no Redis")
	s.Handle([]byte(`{"type":"preferences","ref":8}`))
	wantFrames(t, s, `{"type":"error","ref":8,"code":"unavailable","message":"the service cannot answer right now: try again"}`)

	s.identity, _ = auth.Anonymous(auth.Grant{})
	s.Handle([]byte(`{"type":"preferences","ref":9}`))
	wantFrames(t, s, `{"type":"error","ref":9,"code":"forbidden","message":"the token does not allow it"}`)
}
