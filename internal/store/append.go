package store

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"fmt"
	"strings"
	"time"

	"allim/internal/keyspace"
	"allim/pkg/notify"
)

const (
	inboxEvents = 128  // the resume window of a user's stream: a mark of 10,000 items is 20 events, and so many expire one by one
	dedupeIDs   = 1000 // ids remembered per stream
)

// A Pending is a Write that was begun. Its caller asks for its Results once, or has its context end.
type Pending struct {
	w   *writer
	ctx context.Context // the write's own: its caller has left when it ends
	ops []*op
	b   *batch

	failed []Result // where nothing was begun
}

// Begin is Write without the wait: when it returns, the message has its place in the order of each of its streams. It does not keep to. then is
// called once, when all of it is decided, perhaps before Begin returns: it must not wait for anything, nor call the Store. nil: nothing is called, as
// where the caller left before that (see Results).
func (s *Store) Begin(ctx context.Context, to []notify.Stream, m *notify.Message, level Level, then func()) *Pending {
	failed := func(err error) *Pending {
		if then != nil {
			then()
		}
		return &Pending{failed: failAll(to, err)}
	}
	w, err := writeOf(m)
	if err != nil {
		return failed(err)
	}
	ephemeral := w.kind() == opEphemeral
	if ephemeral {
		w.body = keyspace.Ephemeral(m.ID, w.body)
	} else if s.ring.full() {
		return failed(busyFor("replicas are behind"))
	}
	ops := make([]*op, len(to))
	for i, st := range to {
		k := st.Topic.Kind()
		alone := k == notify.KindEvent && w.kind() != opNotify || k == notify.KindSegment && w.change == notify.ChangeNotification && w.escalate == ""
		if w.single() || k != notify.KindUser && !alone {
			return failed(fmt.Errorf("write to a topic of kind %c: %w", k, notify.ErrInvalid))
		}
		ops[i] = &op{stream: st, write: w, level: level, share: len(to)}
	}
	p := &Pending{w: s.writer, ctx: ctx, ops: ops, b: s.writer.batch(ctx, ops, then)}
	if ephemeral {
		s.writer.pass(ops)
	} else {
		s.writer.enqueue(ops)
	}
	return p
}

// decided is closed; never written to.
var decided = func() chan struct{} { c := make(chan struct{}); close(c); return c }()

// Done is closed when all of it is decided. That it is not does not keep Results from returning: the end of the write's context does.
func (p *Pending) Done() <-chan struct{} {
	if p.b == nil {
		return decided
	}
	return p.b.done
}

// Results waits until all of it is decided or the write's context ends. It is called once.
func (p *Pending) Results() []Result {
	if p.b == nil {
		return p.failed
	}
	p.w.end(p.ctx, p.b, p.ops)
	results := make([]Result, len(p.ops))
	for i, o := range p.ops {
		if results[i].Err = o.err; o.err == nil {
			results[i] = o.reply.result(o.short)
		}
	}
	return results
}

func failAll(to []notify.Stream, err error) []Result {
	r := make([]Result, len(to))
	for i := range r {
		r[i].Err = err
	}
	return r
}

// history is the class of an event topic: the one with the longest prefix.
func (s *Store) history(t notify.Topic) History {
	h, longest := DefaultHistory, -1
	for _, c := range s.classes {
		if strings.HasPrefix(string(t), c.Prefix) && len(c.Prefix) > longest {
			h, longest = c.History, len(c.Prefix)
		}
	}
	if h.Size == 0 {
		h.Size = DefaultHistory.Size
	}
	if h.TTL == 0 {
		h.TTL = DefaultHistory.TTL
	}
	return h
}

// metaLife is how long an event topic's epoch and top are remembered after its last write or listener.
func metaLife(h History) time.Duration { return max(24*time.Hour, 4*h.TTL) }

var epochs = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// newEpoch is what a script takes if it has to begin one: 30 random bits.
func newEpoch() string {
	var b [4]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return epochs.EncodeToString(b[:])[:notify.EpochLen]
}
