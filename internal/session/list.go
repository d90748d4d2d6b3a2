package session

import (
	"context"
	"math/rand/v2"
	"time"

	"allim/internal/store"
	"allim/internal/wire"
	"allim/pkg/notify"
)

// listAnew lists the inbox without having been asked: after a welcome that wants it, and after a reset. Until the frame is in the
// outbox no message of the own stream is, so it is tried until it succeeds or the session ends.
func (s *Session) listAnew() {
	own, q := s.own, store.Query{Limit: s.page}
	stream := s.stream(own.topic)
	own.holds++
	s.shared.wg.Go(func() {
		for !s.listOnce(own, stream, q) {
			pause := time.NewTimer(s.shared.opt.ListPause/2 + rand.N(s.shared.opt.ListPause))
			select {
			case <-pause.C:
			case <-s.shared.stopping:
				pause.Stop()
				return
			}
		}
	})
}

// listOnce tries it once; false: again after a pause.
func (s *Session) listOnce(own *sub, stream notify.Stream, q store.Query) (done bool) {
	s.mu.Lock()
	over := s.end != nil || own.gone
	s.mu.Unlock()
	if over {
		return true
	}
	s.shared.lists <- struct{}{}
	p, err := s.readPage(stream, q)
	<-s.shared.lists
	if err != nil {
		s.shared.opt.Log.Warn("list_failed", "session", s.id, "error", err)
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sendInbox(nil, stream, p)
	s.release(own)
	return true
}

func (s *Session) readPage(stream notify.Stream, q store.Query) (store.Page, error) {
	ctx, cancel := context.WithTimeout(context.Background(), s.shared.opt.RedisWait)
	defer cancel()
	return s.shared.opt.Store.List(ctx, stream, q)
}

// list answers a request for a page. The lock is held, but not while Redis is asked; no message of the own stream overtakes the page.
func (s *Session) list(own *sub, stream notify.Stream, q store.Query, ref wire.Ref) {
	own.holds++
	s.mu.Unlock()
	p, err := s.readPage(stream, q)
	s.mu.Lock()
	if err != nil {
		s.refuse(ref, err)
	} else {
		s.sendInbox(ref, stream, p)
	}
	s.release(own)
}

func (s *Session) sendInbox(ref wire.Ref, stream notify.Stream, p store.Page) {
	if newer(&p.Badge, s.badge) {
		s.badge = &p.Badge
	}
	f := &wire.Inbox{Ref: ref, Items: make([]wire.Item, len(p.Items)), Before: p.Before,
		At: map[string]string{string(stream.Topic): p.At.String()}, Badge: wire.BadgeOf(&p.Badge)}
	for i := range p.Items {
		f.Items[i] = wire.ItemOf(&p.Items[i])
	}
	s.send(f, item{})
}

// release lets the messages come that waited for a list.
func (s *Session) release(own *sub) {
	if own.holds--; own.holds == 0 && own.lags && s.out.low() {
		own.lags = false
		own.feed.Resume()
	}
}
