package session

import (
	"strings"
	"testing"
	"time"

	"allim/internal/audience"
	"allim/internal/keyspace"
	"allim/internal/store"
	"allim/internal/wire"
	"allim/pkg/notify"
)

// noRedis is a store whose Redis is not there.
func noRedis(t *testing.T) *store.Store {
	t.Helper()
	rdb, err := store.Connect(store.Connection{URL: "redis://127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = rdb.Close() })
	keys, err := keyspace.NewMap(0)
	if err != nil {
		t.Fatal(err)
	}
	st, err := store.New(store.Options{Redis: rdb, Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// told is a notification of a segment.
func told(n uint64) *notify.Message {
	return &notify.Message{Change: notify.ChangeNotification, ID: "n", Position: place(n), Time: time.Now()}
}

// boardAt is a board with all items up to a place.
func boardAt(t *testing.T, n uint64) *audience.Board {
	t.Helper()
	b := &audience.Board{}
	for i := range n {
		next, ok := b.Apply(told(i + 1))
		if !ok {
			t.Fatal("a message in order is not applied")
		}
		b = next
	}
	return b
}

func (l *live) is(t *testing.T, top uint64, stale bool) {
	t.Helper()
	if b := l.board.Load(); b.Top != top || l.stale != stale {
		t.Errorf("the board stands at %d, stale %v; want %d, %v", b.Top, l.stale, top, stale)
	}
}

// What is read is of a moment: messages may have come since, or come before it is there. No board goes back, and none is taken for whole that lacks one.
func TestABoardThatWasReadIsNeitherOlderNorFullOfHoles(t *testing.T) {
	a := New(Options{}).audiences
	l := a.join(notify.Stream{Tenant: "default", Topic: "segment:org-7"})
	if got := a.stale(nil); len(got) != 1 || l.stale {
		t.Fatalf("%d to read, stale %v", len(got), l.stale)
	}
	l.takeLocked(boardAt(t, 2))
	l.is(t, 2, false)
	for range 3 { // members who have the same message
		l.apply(told(3))
	}
	l.is(t, 3, false)
	l.takeLocked(boardAt(t, 2)) // was read before the third came
	l.is(t, 3, false)
	l.apply(told(5))
	l.is(t, 3, true)
	a.stale(nil)
	l.apply(told(7)) // while it is read
	l.takeLocked(boardAt(t, 5))
	l.is(t, 5, true)
	a.stale(nil)
	l.takeLocked(boardAt(t, 7))
	l.is(t, 7, false)
}

// Where all who hear a segment lag, its board does too, and who begins to hear it notices.
func TestWhoBeginsAheadOfABoardHasItReadAnew(t *testing.T) {
	a := New(Options{}).audiences
	l := a.join(notify.Stream{Tenant: "default", Topic: "segment:org-7"})
	for _, c := range []struct {
		board uint64
		at    notify.Position
		stale bool
	}{
		{2, place(2), false}, {2, place(1), false}, {2, place(3), true}, {2, notify.Position{Epoch: "bbbbbb", Offset: 1}, true},
		{2, notify.EmptyAt(time.Now().UnixMilli()), true}, {0, notify.EmptyAt(time.Now().UnixMilli()), false}, {0, notify.Position{}, false}, {0, place(1), true},
	} {
		l.stale = false
		l.board.Store(boardAt(t, c.board))
		if l.begins(c.at); l.stale != c.stale {
			t.Errorf("board at %d, begins at %v: stale %v", c.board, c.at, l.stale)
		}
	}
}

// A storm of connections is told in parts, and what it needed is let go of.
func TestThoseWhoAskAreToldInParts(t *testing.T) {
	ss := New(Options{})
	a, n := ss.audiences, askMost+1
	for range n {
		a.ask(&Session{shared: ss})
	}
	if got, _ := a.take(); len(got) != askMost || len(a.asks) != 1 {
		t.Errorf("took %d, %d wait", len(got), len(a.asks))
	}
	if got, _ := a.take(); len(got) != 1 || len(a.asks) != 0 {
		t.Errorf("took %d, %d wait", len(got), len(a.asks))
	}
}

// Who can not be told what it is a member of asks again; whose welcome waits for that too long is sent away, to come back elsewhere.
func TestWhoseMembershipsRedisDoesNotTellIsSentAway(t *testing.T) {
	s, c := owned(t)
	s.shared.opt.Store = noRedis(t)
	a := s.shared.audiences
	s.batch = &batch{s: s, welcome: true, counting: true, wait: 1}
	a.ask(s)
	if a.tell() || s.end != nil || len(a.asks) != 0 || len(a.later) != 1 {
		t.Fatalf("ended %v, %d ask, %d later", s.end, len(a.asks), len(a.later))
	}
	if a.look(); len(a.asks) != 1 || len(a.later) != 0 {
		t.Fatalf("%d ask, %d later", len(a.asks), len(a.later))
	}
	a.asks[s] = time.Now().Add(-askWait - time.Second)
	if a.tell(); s.end == nil || s.end.Code != wire.CloseOverload || len(a.asks)+len(a.later) != 0 || !c.gone {
		t.Errorf("ended %v, %d ask, %d later", s.end, len(a.asks), len(a.later))
	}
}

// The first notification that there ever is for all makes everybody somebody to remember, which takes Redis a while. Bells do not wait for it.
func TestTheFirstNotificationForAllCountsAtOnce(t *testing.T) {
	s, _ := owned(t)
	s.shared.opt.Store = noRedis(t)
	c := &sub{s: s, topic: "segment:all", live: s.shared.audiences.join(notify.Stream{Tenant: "default", Topic: "segment:all"})}
	s.subs, s.members = append(s.subs, c), &nothing
	c.live.board.Store(boardAt(t, 1))
	s.mu.Lock()
	s.recount()
	s.mu.Unlock()
	if frame, _ := s.Pull(); !strings.Contains(string(frame), `"badge":{"unread":2,"unseen":1,`) {
		t.Errorf("got %s", frame)
	}
	if len(s.shared.audiences.asks) != 1 {
		t.Error("nobody asks Redis to remember who is there")
	}
}

// What Redis tells of the token before is not what the welcome of the next one waits for: it lacks where its segments begin.
func TestAWelcomeWaitsForWhatItsOwnTokenIsToldOf(t *testing.T) {
	s, _ := owned(t)
	was := s.identity
	is := *was
	s.identity, s.members = &is, nil
	b := &batch{s: s, welcome: true, counting: true, counted: true, wait: 1}
	s.batch = b
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.told(&nothing, was); !b.counting || b.done || s.members != nil {
		t.Error("it takes what the former token is told of")
	}
	if s.told(&nothing, s.identity); b.counting || !b.done || s.members == nil {
		t.Error("it does not take its own")
	}
}
