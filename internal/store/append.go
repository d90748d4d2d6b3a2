package store

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"allim/pkg/notify"
)

const (
	inboxEvents = 64   // the resume window of a user's stream
	dedupeIDs   = 1000 // ids remembered per stream
)

// append writes w to each stream.
func (s *Store) append(ctx context.Context, to []notify.Stream, w *write, level Level) []Result {
	if s.ring.full() {
		return failAll(to, busyFor("replicas are behind"))
	}
	ops := make([]*op, len(to))
	for i, st := range to {
		k := st.Topic.Kind()
		if w.kind() == opMark || k != notify.KindUser && (k != notify.KindEvent || w.change != notify.ChangeMessage) {
			return failAll(to, fmt.Errorf("write to a topic of kind %c: %w", k, notify.ErrInvalid))
		}
		ops[i] = &op{stream: st, write: w, call: s.callOf(st, w, ackedAs{}), level: level, share: len(to)}
	}
	s.writer.do(ctx, ops)
	results := make([]Result, len(to))
	for i, o := range ops {
		if results[i].Err = o.err; o.err == nil {
			results[i] = Result{Ack: o.reply.ack(), Err: o.short}
		}
	}
	return results
}

func (s *Store) ephemeral(ctx context.Context, to []notify.Stream, payload []byte) []Result {
	start, pipe := time.Now(), s.redis.Pipeline()
	cmds := make([]*redis.IntCmd, len(to))
	for i, st := range to {
		if s.cluster {
			cmds[i] = pipe.SPublish(ctx, s.keys.Channel(st), payload)
		} else {
			cmds[i] = pipe.Publish(ctx, s.keys.Channel(st), payload)
		}
	}
	execute(ctx, pipe)
	s.metrics.doneAll(opEphemeral, start, len(cmds), func(i int) error { return cmds[i].Err() })
	results := make([]Result, len(to))
	for i, c := range cmds {
		if err := c.Err(); err != nil {
			results[i].Err = classify(err)
		} else {
			results[i].Receivers = int(c.Val())
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
