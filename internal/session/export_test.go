package session

import (
	"context"

	"allim/internal/store"
	"allim/pkg/notify"
)

// Settled tells whether the session waits for nothing: every topic that it hears stands where Redis stands, and every frame was pulled.
func Settled(ctx context.Context, s *Session, st *store.Store) bool {
	s.mu.Lock()
	if s.end != nil {
		defer s.mu.Unlock()
		return s.out.len() == 0
	}
	busy := s.batch != nil || s.out.len() > 0 || s.listing
	streams := make([]notify.Stream, len(s.subs))
	at := make([]notify.Position, len(s.subs))
	for i, c := range s.subs {
		busy = busy || c.lags || c.batch != nil
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
