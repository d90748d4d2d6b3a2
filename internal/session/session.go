package session

import (
	"crypto/rand"
	"sync"
	"time"

	"allim/internal/store"
	"allim/internal/wire"
	"allim/pkg/auth"
	"allim/pkg/notify"
)

// A Session is one client. A transport makes it with Sessions.Open, feeds it with Handle, empties it with Fill, and calls Gone at the end.
type Session struct {
	shared *Sessions // constant
	conn   Conn      // constant
	id     string    // constant
	begun  time.Time // constant

	mu       sync.Mutex // guards the rest
	identity *auth.Identity
	origin   string
	page     int // items of an inbox that is listed anew; 0: the store's default
	hello    Hello
	subs     []*sub
	own      *sub           // of subs: the user's own stream; nil for the anonymous
	badge    *notify.Badge  // the newest counts of the own stream in the outbox or beyond it
	shown    *notify.Badge  // those of segments with them that were told last
	members  *store.Members // what the user is a member of, as far as Redis has told; nil: it has not yet
	out      outbox
	end      *End          // set once: what is pulled after the last frame
	batch    *batch        // the welcome or subscribed under way
	waiting  chan struct{} // closed when the outbox is low, the batch is done or the session ends; nil: nobody waits
	due      time.Time     // of the next look of the sweep
	ping     time.Time     // of the next ping
	accepted time.Time     // of the identity
	listing  bool          // an inbox is being listed: no message of the own stream may overtake it
	relist   bool          // and must be listed once more
	lagging  bool          // a sub may lag
	untold   bool          // counts must be told when there is room
	met      bool          // the outbox was full, and not low since
	expiring bool          // was told so
	moved    bool          // was asked to move
	degraded bool          // was told that messages may come late
	gone     bool          // Gone was called
	bucket   bucket        // of client frames
	abuse    bucket        // of frames that were refused
}

// Open begins a session. identity is nil where no token was found: then the anonymous identity counts, or the client has until
// Limits.AuthTimeout to show one. It never blocks.
func (ss *Sessions) Open(conn Conn, h Hello, identity *auth.Identity) *Session {
	now := time.Now()
	s := &Session{shared: ss, conn: conn, id: rand.Text()[:16], begun: now, hello: h, accepted: now, origin: h.Origin}
	if s.origin == "" {
		s.origin = rand.Text()[:20]
	}
	if identity == nil {
		identity = ss.opt.Anonymous
	}
	s.ping = now.Add(jitter(ss.opt.Limits.Ping))
	s.mu.Lock()
	defer s.mu.Unlock()
	switch ss.add(s) {
	case refusedClosing:
		s.finish(wire.CloseRestart, "shutting down")
		return s
	case refusedFull: // others came while this one shook hands: else it would have been told so before
		s.sendErrors([]*wire.Error{noPlace()})
		s.finish(wire.CloseOverload, "full")
		return s
	}
	if identity != nil {
		s.open(identity)
	}
	s.plan()
	return s
}

// age is how long there has been the session, by a clock that nobody can set.
func (s *Session) age() time.Duration { return time.Since(s.begun) }

// ID names the session.
func (s *Session) ID() string { return s.id }

// Gone ends the session when its connection is no more. It may be called several times.
func (s *Session) Gone() {
	s.mu.Lock()
	if s.gone {
		s.mu.Unlock()
		return
	}
	s.gone = true
	s.finish(wire.CloseGoingAway, "gone")
	code := s.end.Code
	s.out = outbox{}
	s.mu.Unlock()
	s.shared.audiences.forget(s)
	s.shared.remove(s, code)
}

// finish ends the session: nothing new is taken, what waits is still pulled, then the end.
func (s *Session) finish(code int, reason string) {
	if s.end != nil {
		return
	}
	s.end = &End{Code: code, Reason: reason}
	for len(s.subs) > 0 {
		s.leave(s.subs[len(s.subs)-1])
	}
	s.wakeWaiting()
	s.conn.Wake()
}

// tooSlow ends a session that lags and does not get nearer. What waits for it is let go of: it handled nothing of that, and comes back to it by its
// positions. again is how long it should stay away at least.
func (s *Session) tooSlow(again time.Duration) {
	s.out = outbox{}
	if again > 0 {
		f, _ := wire.ErrorOf(&notify.RetryError{Err: notify.ErrBusy, After: again})
		f.Message = "you read more slowly than messages come: come back in a while"
		s.send(f, item{})
	}
	s.finish(wire.CloseTooSlow, "too slow")
	s.due = time.Now().Add(cutAfter)
}

// cutAfter is how long a session that was too slow has for taking its close: a frame under way that it does not read is in front of it.
const cutAfter = 2 * time.Second

// leave ends one topic.
func (s *Session) leave(c *sub) {
	c.gone, c.waits = true, false
	for i, x := range s.subs {
		if x == c {
			s.subs = append(s.subs[:i], s.subs[i+1:]...)
			break
		}
	}
	if c == s.own {
		s.own = nil
	}
	if c.live != nil {
		c.live.leave()
	}
	if c.feed != nil {
		c.feed.Detach()
	}
}

func (s *Session) find(t notify.Topic) *sub {
	for _, c := range s.subs {
		if c.topic == t {
			return c
		}
	}
	return nil
}

func (s *Session) stream(t notify.Topic) notify.Stream {
	return notify.Stream{Tenant: s.identity.Tenant, Topic: t}
}

// send puts a frame of the session's own into the outbox; with says what it moves.
func (s *Session) send(f wire.Frame, with item) {
	b, err := wire.Encode(f)
	if err != nil { // a frame of ours that does not encode is a fault of ours
		s.shared.opt.Log.Error("frame_lost", "session", s.id, "error", err)
		return
	}
	with.own = b
	s.enqueue(with)
}

func (s *Session) enqueue(i item) {
	if s.end != nil {
		return
	}
	empty := s.out.len() == 0
	s.out.push(i)
	if empty {
		s.conn.Wake()
	}
}

func (s *Session) sendWelcome(topics map[string]string, recovered []string, carry item) {
	w := &wire.Welcome{Session: s.id, User: s.identity.User, Origin: s.origin, Ping: int(s.shared.opt.Limits.Ping / time.Second),
		Topics: topics, Recovered: recovered}
	if !s.identity.Anonymous {
		in := max(0, int(time.Until(s.identity.Expires)/time.Second))
		w.ExpiresIn = &in
		s.shown, _ = s.sum()
		w.Badge = wire.BadgeOf(s.shown)
	}
	s.send(w, carry)
}

// cursorAfter moves the positions that a frame moves, and is the cursor after it.
func (s *Session) cursorAfter(i *item) string {
	if i.sub != nil {
		i.sub.sent = i.d.Message.Position
	}
	if i.begins != nil {
		for _, at := range i.begins.at {
			at.sub.sent = at.pos
		}
	}
	at := make([]notify.TopicPosition, 0, len(s.subs))
	for _, c := range s.subs {
		if c.sent != (notify.Position{}) {
			at = append(at, notify.TopicPosition{Topic: c.topic, Position: c.sent})
		}
	}
	return notify.EncodeCursor(at)
}

func (s *Session) wakeWaiting() {
	if s.waiting != nil {
		close(s.waiting)
		s.waiting = nil
	}
}
