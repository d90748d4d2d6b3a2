package publish

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"allim/pkg/notify"
)

// receiveWithin is how long a request may take to come, its turn included. A caller that is slower is cut off.
const receiveWithin = 15 * time.Second

// An intake bounds the requests that are being read, each of which may hold Limits.Request bytes that nothing has checked yet, and
// the calls that wait for a turn, which hold no more than a stream's window. The bounds are shared: a sender gets a place while
// it has fewer than are free, so one alone takes half, and those who hold places with slow requests leave some to the others.
type intake struct {
	within time.Duration // receiveWithin; constant
	gauge  prometheus.Gauge

	mu      sync.Mutex // guards the fields below; nothing is locked while it is held
	reading share
	waiting share
	queue   []*turn // of those who wait, in the order they came
}

// A turn is a place in the queue.
type turn struct {
	sender string
	come   chan struct{} // closed when it is this sender's turn
}

func newIntake(reading, waiting int, gauge prometheus.Gauge) *intake {
	return &intake{within: receiveWithin, gauge: gauge, reading: newShare(reading), waiting: newShare(waiting)}
}

// receive runs read when the sender has a place, and calls giveUp, which must make read return, where that takes too long or ctx
// ends. No place in time is notify.ErrBusy.
func (i *intake) receive(ctx context.Context, sender string, giveUp func(), read func() error) error {
	ctx, cancel := context.WithTimeout(ctx, i.within)
	defer cancel()
	if err := i.enter(ctx, sender); err != nil {
		return err
	}
	defer i.leave(sender)
	defer context.AfterFunc(ctx, giveUp)()
	return read()
}

func (i *intake) enter(ctx context.Context, sender string) error {
	t, err := i.place(sender)
	if t == nil {
		return err
	}
	select {
	case <-t.come:
		return nil
	case <-ctx.Done():
	}
	i.mu.Lock()
	at := slices.Index(i.queue, t)
	if at >= 0 {
		i.queue = slices.Delete(i.queue, at, at+1)
		i.waiting.free(sender, 1)
	}
	i.mu.Unlock()
	if at < 0 { // the turn came at the same time
		i.leave(sender)
	}
	return &limited{busy(fmt.Errorf("wait to be read: %w", ctx.Err())), "receiving"}
}

// place takes a place at once, or one in the queue, or says that there is none.
func (i *intake) place(sender string) (*turn, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	switch {
	case i.reading.take(sender, 1):
		i.gauge.Set(float64(i.reading.used))
		return nil, nil
	case !i.waiting.take(sender, 1):
		return nil, &limited{busy(nil), "receiving"}
	}
	t := &turn{sender, make(chan struct{})}
	i.queue = append(i.queue, t)
	return t, nil
}

// leave gives a place back, and to those who waited for it. No more than two can follow: the next of any sender, and of this one.
func (i *intake) leave(sender string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.reading.free(sender, 1)
	i.queue = slices.DeleteFunc(i.queue, func(t *turn) bool {
		if !i.reading.take(t.sender, 1) {
			return false
		}
		i.waiting.free(t.sender, 1)
		close(t.come)
		return true
	})
	i.gauge.Set(float64(i.reading.used))
}

// A share is a number of places, or bytes, that senders share. It has no lock of its own.
type share struct {
	most, used int
	of         map[string]int // by sender, who has some
}

func newShare(most int) share { return share{most: most, of: map[string]int{}} }

// may tells whether a sender may have n more: all that he has then is no more than what was free. One alone gets half, by ones.
func (s *share) may(sender string, n int) bool { return s.of[sender]+n <= s.most-s.used }

// take takes n for a sender who may have them.
func (s *share) take(sender string, n int) bool {
	if !s.may(sender, n) {
		return false
	}
	s.used += n
	s.of[sender] += n
	return true
}

func (s *share) free(sender string, n int) {
	s.used -= n
	if s.of[sender] -= n; s.of[sender] == 0 {
		delete(s.of, sender)
	}
}

// busy is notify.ErrBusy with a pause that spreads those who come again. The cause may be nil.
func busy(cause error) error {
	err := error(notify.ErrBusy)
	if cause != nil {
		err = fmt.Errorf("%w: %w", notify.ErrBusy, cause)
	}
	return &notify.RetryError{Err: err, After: 100*time.Millisecond + rand.N(400*time.Millisecond)}
}
