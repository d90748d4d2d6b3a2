package session

import (
	"cmp"
	"context"
	"errors"
	"time"

	"allim/internal/wire"
	"allim/pkg/auth"
	"allim/pkg/fanout"
	"allim/pkg/notify"
)

// Client frames per second and at once, and refused ones before the connection ends.
const (
	frameRate, frameBurst = 50, 200
	abuseRate, abuseBurst = 1, 30
)

// Handle takes one frame of the client. It is called by one goroutine of the transport, one frame after the other; it waits where
// the client asks faster than it reads, and for Redis.
func (s *Session) Handle(frame []byte) {
	c, err := wire.Decode(frame)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.await(func() bool { // the welcome comes first, and one list at a time
		return s.full() || s.batch != nil && (s.batch.welcome || needsPlace[c.Type]) || s.listing && c.Type == "inbox"
	})
	if s.end != nil {
		return
	}
	s.shared.metrics.command(c.Type)
	switch {
	case !s.bucket.take(s.age(), float64(WeightOf(&c)), frameRate, frameBurst):
		s.refuse(c.Ref, s.tooFast())
	case s.identity == nil && c.Type != "auth":
		s.refuse(c.Ref, notify.ErrUnauthorized)
	case err != nil:
		s.refuse(c.Ref, err)
	default:
		s.do(&c)
	}
}

func (s *Session) tooFast() error {
	return &notify.RetryError{Err: s.limit("frames"), After: time.Second}
}

// needsPlace are the commands that wait for a welcome or subscribed under way: they build on where topics begin.
var needsPlace = map[string]bool{"auth": true, "subscribe": true, "unsubscribe": true, "inbox": true}

// await lets go of the lock while the condition holds and the session lives.
func (s *Session) await(cond func() bool) {
	for s.end == nil && cond() {
		if s.waiting == nil {
			s.waiting = make(chan struct{})
		}
		ch := s.waiting
		s.mu.Unlock()
		<-ch
		s.mu.Lock()
	}
}

func (s *Session) do(c *wire.Command) {
	switch c.Type {
	case "ping":
		s.send(&wire.Pong{Ref: c.Ref}, item{})
	case "auth":
		s.auth(c)
	case "subscribe":
		s.subscribe(c)
	case "unsubscribe":
		s.unsubscribe(c)
	case "inbox":
		s.inbox(c)
	case "send":
		s.sendUp(c)
	case "preferences":
		s.preferences(c)
	case "visible":
		s.ok(c.Ref)
	default:
		if notify.Marks[c.Type] != 0 {
			s.mark(c)
		} // else a frame of a later version: passed over
	}
}

// ok answers who asked for an answer.
func (s *Session) ok(ref wire.Ref) {
	if ref != nil {
		s.send(&wire.OK{Ref: ref}, item{})
	}
}

// refuse answers what could not be done.
func (s *Session) refuse(ref wire.Ref, err error) {
	f, _ := wire.ErrorOf(err)
	f.Ref = ref
	s.shared.metrics.refuse(f.Code)
	if f.Code == wire.CodeUnavailable {
		s.shared.opt.Log.Warn("command_failed", "session", s.id, "error", err)
	}
	s.send(f, item{})
	s.strike()
}

// strike counts a frame that could not be done; who does nothing else is sent away.
func (s *Session) strike() {
	if !s.abuse.take(s.age(), 1, abuseRate, abuseBurst) {
		s.shared.metrics.limit("abuse")
		s.finish(wire.CloseTooMany, "too many bad frames")
	}
}

func (s *Session) limit(name string) error {
	s.shared.metrics.limit(name)
	return notify.ErrLimit
}

// auth shows a token: the first one, or the next. A wrong one never makes a connection anonymous.
func (s *Session) auth(c *wire.Command) {
	if err := notify.CheckOrigin(c.Origin); err != nil {
		s.refuse(c.Ref, err)
		return
	}
	s.mu.Unlock() // a signature takes a while
	id, err := s.shared.opt.Verify(c.Token)
	s.mu.Lock()
	switch {
	case s.end != nil:
	case errors.Is(err, notify.ErrUnavailable): // too many at once
		s.refuse(c.Ref, err)
	case err != nil:
		s.shared.opt.Log.Info("token_refused", "session", s.id, "why", WhyRefused(err))
		s.refuse(c.Ref, notify.ErrUnauthorized)
		s.finish(wire.CloseExpired, "unauthorized")
	case s.identity != nil && !sameClient(s.identity, id):
		s.refuse(c.Ref, notify.ErrForbidden)
	default:
		if c.Origin != "" {
			s.origin = c.Origin
		}
		s.send(&wire.OK{Ref: c.Ref}, item{})
		s.open(id)
		s.plan()
	}
}

// sameClient tells whether a connection may go from one identity to the next: the same user, or an anonymous one of the same tenant becoming somebody.
func sameClient(was, is *auth.Identity) bool {
	return was.Tenant == is.Tenant && (was.Anonymous || was.User == is.User)
}

func (s *Session) subscribe(c *wire.Command) {
	if err := cmp.Or(s.namesWithin(len(c.Topics)), notify.CheckOrigin(c.Origin)); err != nil {
		s.refuse(c.Ref, err)
		return
	}
	if c.Origin != "" {
		s.origin = c.Origin
	}
	var cursor *notify.Cursor
	if c.Cursor != nil {
		cursor = readCursor(*c.Cursor)
	}
	b := &batch{s: s, ref: c.Ref, known: map[notify.Topic]string{}}
	s.batch = b
	for name, text := range c.Topics {
		if err := s.subscribeOne(b, name, text, cursor); err != nil {
			b.fail(name, err)
		}
	}
	if len(b.errs) > 0 {
		s.strike()
	}
	b.finish()
}

func (s *Session) subscribeOne(b *batch, name string, text *string, cursor *notify.Cursor) error {
	t, err := s.topic(name)
	if err != nil {
		return err
	}
	from, here := s.from(t, cursor), s.find(t)
	if text != nil {
		pos, err := notify.ParsePosition(*text)
		if err != nil {
			return err
		}
		from = fanout.From{Position: pos}
	}
	switch {
	case here != nil && here.waits: // named twice, as me and in full: the first one counts
	case here != nil && text == nil: // heard already: it stays where it is
		b.known[t] = here.queued.String()
	case here == nil && len(s.subs) >= s.shared.opt.Limits.Topics:
		return s.limit("topics")
	case !s.bucket.take(s.age(), 1, frameRate, frameBurst): // each costs Redis a subscription and a look at history
		return s.tooFast()
	case here != nil:
		b.move(here, from)
	default:
		b.attach(t, from)
	}
	return nil
}

func (s *Session) unsubscribe(c *wire.Command) {
	if err := s.namesWithin(len(c.Leave)); err != nil {
		s.refuse(c.Ref, err)
		return
	}
	refused := false
	for _, name := range c.Leave {
		t, err := s.topic(name)
		if err == nil && s.isGiven(t) {
			err = &notify.FieldError{Field: "topics", Want: "topics that you subscribed to: this one is heard without asking"}
		}
		if err != nil {
			f, _ := wire.ErrorOf(err)
			f.Ref, f.Topic = c.Ref, name
			s.send(f, item{})
			refused = true
			continue
		}
		if here := s.find(t); here != nil {
			s.leave(here)
		}
	}
	if refused {
		s.strike()
	}
	s.ok(c.Ref)
}

// isGiven tells whether a topic is heard without asking.
func (s *Session) isGiven(t notify.Topic) bool {
	for _, given := range s.identity.Heard() {
		if given == t {
			return true
		}
	}
	return false
}

// inbox lists a page. While it is under way no message of the own stream overtakes it.
func (s *Session) inbox(c *wire.Command) {
	own, q, err := asked(s.identity, c)
	if err != nil || s.own == nil {
		s.refuse(c.Ref, errors.Join(err, s.noStream()))
		return
	}
	s.list(own, q, c.Ref)
}

func (s *Session) noStream() error {
	if s.own == nil && !s.identity.Anonymous {
		return notify.ErrUnavailable
	}
	return nil
}

func (s *Session) mark(c *wire.Command) {
	id, origin := s.identity, s.origin
	s.mu.Unlock()
	ok, err := s.shared.calls.Mark(context.Background(), id, c, origin)
	s.mu.Lock()
	if err != nil {
		s.refuse(c.Ref, err)
		return
	}
	s.send(ok, item{})
}

// preferences tells what the user has muted, or has it changed: that comes to all devices, this one included, on the own stream.
func (s *Session) preferences(c *wire.Command) {
	id, origin := s.identity, s.origin
	s.mu.Unlock()
	f, err := s.shared.calls.Preferences(context.Background(), id, c, origin)
	s.mu.Lock()
	if err != nil {
		s.refuse(c.Ref, err)
		return
	}
	s.send(f, item{})
}

// sendUp is a message for the backends. None listens yet: there is no group to store it for.
func (s *Session) sendUp(c *wire.Command) {
	err := notify.ErrUnavailable
	if !s.identity.MaySend(c.Event) {
		err = notify.ErrForbidden
	}
	f, _ := wire.ErrorOf(err)
	f.Ref = c.Ref
	if errors.Is(err, notify.ErrUnavailable) {
		f.Message = "no backend listens for client messages"
	}
	s.send(f, item{})
}

// A bucket is a token bucket in 16 bytes. The zero value is full.
type bucket struct {
	used float64
	at   time.Duration
}

// take takes n, if there are as many. now is of a clock that never goes back.
func (b *bucket) take(now time.Duration, n, perSecond, burst float64) bool {
	b.used = max(0, b.used-(now-b.at).Seconds()*perSecond)
	b.at = now
	if b.used+n > burst {
		return false
	}
	b.used += n
	return true
}
