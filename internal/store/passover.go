package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"allim/pkg/notify"
)

const passOver = time.Minute // for which what cannot be done is put off

// A look is what Due comes to, with what it can do nothing with.
type look struct {
	Due
	passed map[int][]any // members of partitions' deadlines that would hide others
}

// fails takes a stream whose script failed. What Redis refuses to all is nothing of the stream's.
func (l *look) fails(part int, member string, err error) {
	if err = classify(err); !errors.Is(err, notify.ErrUnavailable) && !errors.Is(err, notify.ErrBusy) {
		l.passed[part] = append(l.passed[part], member)
	}
}

// passOver puts off what the look can do nothing with, and tells whether there was some of it.
func (s *Store) passOver(ctx context.Context, l *look) (some bool, failed error) {
	var calls []call
	for part, members := range l.passed {
		calls = append(calls, call{script: passOverScript, keys: []string{s.keys.Due(part)}, args: append([]any{passOver.Milliseconds()}, members...)})
	}
	clear(l.passed)
	before := l.Failed
	for _, c := range s.runDue(ctx, calls) {
		if err := c.Err(); err != nil {
			failed = fmt.Errorf("put off what fails: %w", classify(err))
			continue
		}
		l.Failed += number(c.Val())
	}
	return l.Failed > before, failed
}
