package store

import (
	"context"
	"fmt"
	"time"

	"allim/pkg/notify"
)

// A Level is what a write's acknowledgement means. Whatever it is, the write is acknowledged only after it was committed.
type Level byte

// The levels, in the order of the public enum.
const (
	Committed  Level = iota // it is in Redis' memory and on its way into the append file
	Replicated              // at least one replica has it
	Disk                    // the append file was synchronised with it
)

// StopBudget is how long Run goes on after its context has ended.
const StopBudget = 3 * time.Second

// Write does with m what its Change says (Publish, or Notify for a notification), and answers a stream when the write has reached level.
// An ephemeral message knows no level.
func (s *Store) Write(ctx context.Context, to []notify.Stream, m *notify.Message, level Level) []Result {
	if level != Committed {
		return failAll(to, fmt.Errorf("write: level %d: %w", level, notify.ErrInvalid))
	}
	if m.Change == notify.ChangeNotification {
		return s.Notify(ctx, to, m)
	}
	return s.Publish(ctx, to, m)
}

// Run is what the Store does beside its callers' work, until ctx ends. It is called once, and ends last of all that writes through the Store.
// A Store whose Run is not called reads and writes all the same.
func (s *Store) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}
