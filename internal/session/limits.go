package session

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"allim/internal/wire"
	"allim/pkg/auth"
	"allim/pkg/notify"
)

// Limits bound one connection, but for Sessions and Requests. They are settings of the gateway; a zero is the contract's default (section 4), which stands
// at each. Each has a name in LimitNames, under which it is counted when it is met.
type Limits struct {
	Sessions    int           // at once; 100,000
	Topics      int           // heard, those it never asked for included, and named in one frame; 100
	Frame       int           // bytes of a client's frame; 16 KiB
	Queue       int           // bytes that wait to be written; 256 KiB
	QueueFrames int           // and frames; 512
	MarkIDs     int           // ids in one mark; 500, and no more: the store takes no more at once
	Header      int           // bytes of request line and headers; 8 KiB
	Token       int           // bytes; 4 KiB, and no more: auth.MaxToken
	AuthTimeout time.Duration // to show a token; 5 s
	Ping        time.Duration // between two pings, ± 20 %; 25 s
	Pong        time.Duration // for the answer to one; 10 s
	Requests    int           // of a user over HTTP in a second, four times as many at once; 50
}

func (l Limits) withDefaults() Limits {
	return Limits{Sessions: cmp.Or(l.Sessions, 100_000), Topics: cmp.Or(l.Topics, 100), Frame: cmp.Or(l.Frame, 16<<10), Queue: cmp.Or(l.Queue, 256<<10),
		QueueFrames: cmp.Or(l.QueueFrames, 512), MarkIDs: cmp.Or(l.MarkIDs, 500), Header: cmp.Or(l.Header, 8<<10), Token: cmp.Or(l.Token, auth.MaxToken),
		AuthTimeout: cmp.Or(l.AuthTimeout, 5*time.Second), Ping: cmp.Or(l.Ping, 25*time.Second), Pong: cmp.Or(l.Pong, 10*time.Second), Requests: cmp.Or(l.Requests, 50)}
}

// Limits are those of the options, with the defaults for what they left out. They are constant and shared: a connection holds none of its own.
func (ss *Sessions) Limits() *Limits { return &ss.opt.Limits }

// Within verifies tokens within the limits: in bytes before, in the topics that it makes heard after. What it refuses is counted; its errors
// are for logs (see WhyRefused).
func (ss *Sessions) Within(verify func(token string) (*auth.Identity, error)) func(token string) (*auth.Identity, error) {
	return func(token string) (*auth.Identity, error) {
		if most := ss.opt.Limits.Token; len(token) > most {
			ss.metrics.limit("token_bytes")
			return nil, &notify.FieldError{Field: "token", Want: fmt.Sprintf("at most %d bytes, not %d", most, len(token)), Kind: notify.ErrTooLarge}
		}
		id, err := verify(token)
		if err == nil && len(id.Heard()) > ss.opt.Limits.Topics {
			err = &notify.FieldError{Field: "hear", Want: fmt.Sprintf("at most %d topics with the own stream and the segments, all among them, not %d", ss.opt.Limits.Topics, len(id.Heard())), Kind: notify.ErrLimit}
		}
		if errors.Is(err, notify.ErrLimit) {
			ss.metrics.limit("token_topics")
		}
		if err != nil {
			return nil, err
		}
		return id, nil
	}
}

// WhyRefused says in a log why a token was refused. It holds no part of it.
func WhyRefused(err error) string { return cmp.Or(auth.Why(err), err.Error()) }

// full tells whether messages must wait elsewhere.
func (s *Session) full() bool { return s.out.full(&s.shared.opt.Limits) }

// room makes room for another message, if it can: what is of its moment gives way. It counts each time that the bound is met, not what meets it then.
func (s *Session) room() bool {
	if !s.full() {
		return true
	}
	if !s.met {
		s.met = true
		s.shared.metrics.limit("queue")
	}
	s.shared.metrics.dropped(s.out.yield(&s.shared.opt.Limits))
	return !s.full()
}

// low tells whether those that wait elsewhere can come again.
func (s *Session) low() bool { return s.out.low(&s.shared.opt.Limits) }

// noPlace tells who found none when to come again: spread over ten seconds, as the front door does.
func noPlace() *wire.Error {
	f, _ := wire.ErrorOf(&notify.RetryError{Err: notify.ErrUnavailable, After: time.Second + rand.N(10*time.Second)})
	return f
}

// namesWithin tells whether a frame names no more topics than a connection may hear.
func (s *Session) namesWithin(n int) error {
	most := s.shared.opt.Limits.Topics
	if n <= most {
		return nil
	}
	s.shared.metrics.limit("topics")
	return &notify.FieldError{Field: "topics", Want: fmt.Sprintf("at most %d topics in one frame", most), Kind: notify.ErrLimit}
}
