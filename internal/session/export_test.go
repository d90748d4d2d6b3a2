package session

import (
	"context"
	"time"

	"allim/internal/store"
	"allim/pkg/notify"
)

// drains tells whether everybody is asked to move.
func (ss *Sessions) drains() bool {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	return ss.closing && ss.opt.Window > 0
}

// Closed tells whether the sessions take no new ones and have done what they do at once.
func Closed(ss *Sessions) bool {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	return ss.closing && (ss.opt.Window > 0 || len(ss.all) == 0)
}

// Late is the hub's word that the session reads too slowly.
func Late(s *Session, again time.Duration) {
	s.mu.Lock()
	c := s.subs[0]
	s.mu.Unlock()
	c.TooSlow(c.feed, again)
}

// Settled tells whether the session waits for nothing: every topic that it hears stands where Redis stands, and every frame was pulled.
func Settled(ctx context.Context, s *Session, st *store.Store) bool {
	s.mu.Lock()
	if s.end != nil {
		defer s.mu.Unlock()
		return s.out.len() == 0 && s.gone
	}
	busy := s.batch != nil || s.out.len() > 0 || s.listing || s.shared.opt.Degraded != nil && s.degraded != s.shared.opt.Degraded() || s.shared.audiences.busy(s) ||
		s.shared.drains() && !s.moved
	streams := make([]notify.Stream, len(s.subs))
	at := make([]notify.Position, len(s.subs))
	for i, c := range s.subs {
		busy = busy || c.lags || c.waits
		streams[i], at[i] = s.stream(c.topic), c.queued
	}
	badge := s.badge
	s.mu.Unlock()
	if busy {
		return false
	}
	tops, err := st.Tops(ctx, streams)
	if err != nil {
		return false
	}
	for i, top := range tops {
		if _, empty := at[i].Empty(); empty && top == (notify.Position{}) {
			continue
		}
		if at[i] != top {
			return false
		}
		if streams[i].Topic.Kind() == notify.KindUser && badge.Revision != top {
			return false
		}
	}
	return true
}

// Pull returns the next frame, or nil when there is none; end is set once, after the last frame.
func (s *Session) Pull() (frame []byte, end *End) {
	return s.Fill(nil, 1, &Framing{Append: func(b, json []byte) []byte { return append(b, json...) }})
}
