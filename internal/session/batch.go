package session

import (
	"slices"
	"time"

	"allim/internal/wire"
	"allim/pkg/auth"
	"allim/pkg/fanout"
	"allim/pkg/notify"
)

// A batch is a welcome or a subscribed that waits until the hub has said where each of its topics begins. It holds nothing but
// that: no message comes before the frame is in the outbox.
type batch struct {
	s        *Session
	welcome  bool
	ref      wire.Ref
	inbox    int  // items to list after the welcome
	wait     int  // topics without an answer, and one where Redis has to tell what the user is a member of
	counting bool // it has
	counted  bool // it was asked
	done     bool
	begins   []begin
	known    map[notify.Topic]string // topics that go on where they are
	again    []string                // recovered
	resets   []reset
	errs     []*wire.Error
}

// A reset is a topic that could not be continued.
type reset struct {
	sub *sub
	why notify.Why
}

// fail notes what could not be subscribed.
func (b *batch) fail(topic string, err error) {
	f, _ := wire.ErrorOf(err)
	f.Ref, f.Topic = b.ref, topic
	b.s.shared.metrics.refuse(f.Code)
	b.errs = append(b.errs, f)
}

// attach adds a topic to the batch. The session's lock is held; Begin comes from a loop, after it.
func (b *batch) attach(t notify.Topic, from fanout.From) {
	c := &sub{s: b.s, topic: t, waits: true}
	b.wait++
	b.s.subs = append(b.s.subs, c)
	if own, ok := b.s.identity.Own(); ok && own == t {
		b.s.own = c
	}
	of := b.s.stream(t)
	if t.Kind() == notify.KindSegment {
		c.live = b.s.shared.audiences.join(of)
		of = c.live.segment // whose name all who hear it share
		c.topic = of.Topic
	}
	c.feed = b.s.shared.opt.Hub.Attach(of, from, c)
}

// move takes a topic that is heard already to another place.
func (b *batch) move(c *sub, from fanout.From) {
	b.wait++
	c.waits = true
	c.feed.Move(from)
}

// begun is the hub's answer for one topic.
func (b *batch) begun(c *sub, at fanout.Begin) {
	b.wait--
	if at.Err != nil {
		own := c == b.s.own
		b.s.leave(c)
		b.fail(string(c.topic), at.Err)
		if b.welcome && own { // without its own stream a connection is of no use
			b.s.sendErrors(b.errs)
			b.s.finish(wire.CloseOverload, "unavailable")
			return
		}
		b.finish()
		return
	}
	c.queued = at.Position
	b.begins = append(b.begins, begin{c, at.Position})
	if at.Recovered {
		b.again = append(b.again, string(c.topic))
	}
	if at.Reset {
		b.resets = append(b.resets, reset{c, at.Why})
	}
	if b.welcome && c == b.s.own && at.Badge != nil && newer(at.Badge, b.s.badge) {
		b.s.badge = at.Badge // the welcome carries it; a subscribed would not, and CaughtUp then does
	}
	b.finish()
}

// finish sends the frame once every topic has its place, and lets the messages come.
func (b *batch) finish() {
	s := b.s
	if b.wait > 0 || b.done || s.end != nil {
		return
	}
	if b.welcome && !b.counted && s.own != nil {
		b.counted = true
		s.shared.audiences.ask(s)
		if s.counts() {
			b.counting = true
			b.wait++
			return
		}
	}
	b.done = true
	s.batch = nil
	s.wakeWaiting()
	topics := make(map[string]string, len(b.begins)+len(b.known))
	for t, pos := range b.known {
		topics[string(t)] = pos
	}
	for _, at := range b.begins {
		if !at.sub.gone {
			topics[string(at.sub.topic)] = at.pos.String()
		}
	}
	slices.Sort(b.again) // the loops answer in any order
	carry := item{begins: &begins{b.begins}}
	if b.welcome {
		for _, c := range s.subs { // those that go on
			if _, ok := topics[string(c.topic)]; !ok && !c.waits {
				topics[string(c.topic)] = c.queued.String()
			}
		}
		s.sendWelcome(topics, b.again, carry)
		s.sendErrors(b.errs)
		s.tellDegraded()
	} else {
		s.sendErrors(b.errs)
		s.send(&wire.Subscribed{Ref: b.ref, Topics: topics, Recovered: b.again}, carry)
	}
	if b.inbox > 0 {
		s.page = b.inbox
	}
	relist := false
	for _, r := range b.resets {
		if !r.sub.gone {
			relist = relist || r.sub.listed()
			r.sub.reset(r.sub.queued, r.why)
		}
	}
	if b.inbox > 0 && s.own != nil && !relist {
		s.listAnew()
	}
	for _, at := range b.begins {
		if !at.sub.gone {
			at.sub.feed.Go()
		}
	}
	if s.untold {
		s.recount()
	}
}

// counts tells whether the welcome needs to know what the user is a member of: where there is nothing but a segment of all without any item it does not.
func (s *Session) counts() bool {
	for _, c := range s.subs {
		_, empty := c.queued.Empty()
		if c.live != nil && (c.topic.Name() != notify.All || c.queued.Epoch != "" && !empty) {
			return true
		}
	}
	return false
}

func (s *Session) sendErrors(errs []*wire.Error) {
	for _, e := range errs {
		s.send(e, item{})
	}
}

// unreadable is a position that no stream has: a topic that begins there is reset.
var unreadable = notify.Position{Epoch: "000000"}

// from is where a topic begins for a client that named no position of its own.
func (s *Session) from(t notify.Topic, cursor *notify.Cursor) fanout.From {
	if cursor == nil {
		return fanout.From{Live: true}
	}
	if pos, known := cursor.Position(t); known {
		return fanout.From{Position: pos}
	}
	if cursor.Complete() {
		return fanout.From{Live: true}
	}
	return fanout.From{Position: unreadable}
}

// readCursor decodes a cursor; one that cannot be read is incomplete and knows nothing, so everything is reset.
func readCursor(text string) *notify.Cursor {
	c, _ := notify.DecodeCursor(text)
	return &c
}

// open begins the first life of a connection, or its next one with another identity: what is no longer allowed ends, what is new begins,
// the rest goes on.
func (s *Session) open(id *auth.Identity) {
	first, was := s.identity == nil, s.identity
	s.identity, s.accepted, s.expiring = id, time.Now(), false
	b := &batch{s: s, welcome: true, known: map[notify.Topic]string{}}
	s.batch = b
	for _, c := range append([]*sub(nil), s.subs...) {
		if !id.MayHear(c.topic) {
			s.leave(c)
			b.fail(string(c.topic), notify.ErrForbidden)
		}
	}
	var cursor *notify.Cursor
	if s.hello.HasCursor {
		cursor = readCursor(s.hello.Cursor)
	}
	for _, t := range id.Heard() {
		switch {
		case s.find(t) != nil:
		case len(s.subs) >= s.shared.opt.Limits.Topics: // with those that were subscribed before
			b.fail(string(t), s.limit("topics"))
		default:
			b.attach(t, s.from(t, cursor))
		}
	}
	if first {
		b.inbox = s.hello.Inbox
		s.askURL(b, cursor)
	}
	s.hello.Topics = nil
	if !id.Anonymous { // the URL has been used up
		b.inbox = s.hello.Inbox
		s.hello = Hello{HasCursor: s.hello.HasCursor}
	}
	if !first && s.page > 0 && !slices.Equal(segmentsOf(was), segmentsOf(id)) { // the list that was given has others' items, or lacks some
		b.inbox = s.page
	}
	b.finish()
}

// askURL subscribes the topics of the URL.
func (s *Session) askURL(b *batch, cursor *notify.Cursor) {
	for _, name := range s.hello.Topics {
		t, err := s.topic(name)
		switch {
		case err == nil && s.find(t) != nil: // heard without asking, or named twice
		case err != nil:
			b.fail(name, err)
		case len(s.subs) >= s.shared.opt.Limits.Topics:
			b.fail(name, s.limit("topics"))
		default:
			b.attach(t, s.from(t, cursor))
		}
	}
}

// topic is the topic a client names, if it may hear it.
func (s *Session) topic(name string) (notify.Topic, error) {
	if own, ok := s.identity.Own(); ok && name == notify.Me {
		return own, nil
	}
	t, err := notify.ParseTopic(name)
	if err != nil {
		return "", err
	}
	if !s.identity.MayHear(t) {
		return "", notify.ErrForbidden
	}
	return t, nil
}
