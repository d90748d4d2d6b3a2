package session

import (
	"context"
	"math/rand/v2"
	"time"

	"allim/internal/store"
	"allim/internal/wire"
	"allim/pkg/notify"
)

// listAnew lists the inbox without having been asked: after a welcome that wants it, and after a reset. It is tried until it succeeds or the
// session ends, and once more if another reason came meanwhile: one list at a time, so that none is older than what was sent before it.
func (s *Session) listAnew() {
	if s.listing {
		s.relist = true
		return
	}
	s.listing = true
	s.shared.wg.Go(func() {
		for {
			switch done, err := s.listOnce(); {
			case done:
				return
			case err != nil:
				s.shared.opt.Log.Warn("list_failed", "session", s.id, "error", err)
				if !s.shared.sleep(s.shared.opt.ListPause/2 + rand.N(s.shared.opt.ListPause)) {
					return
				}
			}
		}
	})
}

// listOnce takes a place and tries it once.
func (s *Session) listOnce() (done bool, err error) {
	select {
	case <-s.shared.stopping: // first of all: Budget counts on it
		return true, nil
	default:
	}
	select {
	case s.shared.lists <- struct{}{}:
		defer func() { <-s.shared.lists }()
	case <-s.shared.stopping:
		return true, nil
	}
	s.mu.Lock()
	if s.end != nil || s.own == nil {
		s.listed() // else who waits for the list, and the own stream where it is subscribed to again, would wait for ever
		s.mu.Unlock()
		return true, nil
	}
	stream, q := s.stream(s.own.topic), store.Query{Limit: s.page}
	s.relist = false
	r := s.reader(stream)
	s.mu.Unlock()
	p, err := s.shared.calls.page(context.Background(), r, q)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil || s.relist {
		return false, err
	}
	s.sendInbox(nil, stream, p)
	s.listed()
	return true, nil
}

// sleep waits; false: the sessions end.
func (ss *Sessions) sleep(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ss.stopping:
		return false
	}
}

// list answers a request for a page. The lock is held, but not while Redis is asked.
func (s *Session) list(stream notify.Stream, q store.Query, ref wire.Ref) {
	s.listing = true
	r := s.reader(stream)
	s.mu.Unlock()
	p, err := s.shared.calls.page(context.Background(), r, q)
	s.mu.Lock()
	if err != nil {
		s.refuse(ref, err)
	} else {
		s.sendInbox(ref, stream, p)
	}
	s.listed()
}

func (s *Session) reader(own notify.Stream) store.Reader { return readerOf(s.identity, own) }

func (s *Session) sendInbox(ref wire.Ref, stream notify.Stream, p store.Page) {
	own, sum := p.Own, p.Badge // a session keeps its counts, and must not keep the page
	if newer(&own, s.badge) {
		s.badge = &own
	}
	if s.shown = &sum; p.Audience != nil {
		s.members = p.Audience
	}
	f := inboxOf(ref, stream, &p)
	for _, c := range s.subs {
		if _, has := f.At[string(c.topic)]; !has && c.listed() && !c.waits { // it has no items, or it is none of the list's
			f.At[string(c.topic)] = c.queued.String()
		}
	}
	s.send(f, item{})
}

// listed ends a list: the messages come that waited for it, or the next list.
func (s *Session) listed() {
	again := s.relist && s.own != nil && s.end == nil
	s.listing, s.relist = false, false
	s.wakeWaiting()
	if again {
		s.listAnew()
		return
	}
	for _, c := range s.subs {
		if c.listed() {
			c.resume()
		}
	}
	if s.untold {
		s.recount()
	}
}
