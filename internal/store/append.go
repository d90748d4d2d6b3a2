package store

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"allim/internal/keyspace"
	"allim/pkg/notify"
)

const (
	inboxEvents = 64   // the resume window of a user's stream
	dedupeIDs   = 1000 // ids remembered per stream
)

// Publish appends m to each stream (event topics and users' streams), or sends it on their channels alone if it is ephemeral. The
// results are in the order of the streams; one failing does not stop the others.
func (s *Store) Publish(ctx context.Context, to []notify.Stream, m *notify.Message) []Result {
	body, err := keyspace.EncodeBody(m)
	if err != nil {
		return failAll(to, err)
	}
	if m.Change == notify.ChangeEphemeral {
		return s.ephemeral(ctx, to, keyspace.Ephemeral(m.ID, body))
	}
	calls := make([]call, len(to))
	for i, st := range to {
		switch st.Topic.Kind() {
		case notify.KindUser:
			calls[i] = s.appendUser(st, m.ID, notify.ChangeMessage, "", body, "")
		case notify.KindEvent:
			calls[i] = s.appendEvent(st, m.ID, body)
		default:
			return failAll(to, fmt.Errorf("publish to %q: %w", st.Topic, notify.ErrInvalid))
		}
	}
	return s.append(ctx, opPublish, calls)
}

// Notify puts m into the inbox of each user's stream.
func (s *Store) Notify(ctx context.Context, to []notify.Stream, m *notify.Message) []Result {
	body, err := keyspace.EncodeBody(m)
	if err != nil {
		return failAll(to, err)
	}
	head := keyspace.EncodeHead(m.Category)
	calls := make([]call, len(to))
	for i, st := range to {
		if st.Topic.Kind() != notify.KindUser {
			return failAll(to, fmt.Errorf("notify %q: %w", st.Topic, notify.ErrInvalid))
		}
		calls[i] = s.appendUser(st, m.ID, notify.ChangeNotification, m.Category, body, head)
	}
	return s.append(ctx, opNotify, calls)
}

func (s *Store) appendEvent(st notify.Stream, id string, body []byte) call {
	k, p := s.keys.Event(st), s.keys.Partition(st)
	index, tick := s.keys.ChangeIndex(p)
	h := s.history(st.Topic)
	return call{publishScript, append(k.All(), index, tick, s.keys.Channel(st)), []any{
		id, body, newEpoch(), h.Size, dedupeIDs, h.TTL.Milliseconds(), metaLife(h).Milliseconds(), s.publishCmd, keyspace.Member(st)}}
}

func (s *Store) appendUser(st notify.Stream, id string, c notify.Change, category string, body []byte, head string) call {
	return call{notifyScript, s.inboxKeys(st), []any{
		id, body, newEpoch(), inboxEvents, max(dedupeIDs, s.inbox.Size), s.inbox.Retention.Milliseconds(), s.publishCmd, keyspace.Member(st),
		string(rune(c)), head, category, s.inbox.Size}}
}

// inboxKeys are the keys of the scripts that write a user's stream.
func (s *Store) inboxKeys(st notify.Stream) []string {
	index, tick := s.keys.ChangeIndex(s.keys.Partition(st))
	return append(s.keys.Inbox(st).All(), index, tick, s.keys.Channel(st))
}

func (s *Store) append(ctx context.Context, op operation, calls []call) []Result {
	results := make([]Result, len(calls))
	for i, c := range s.run(ctx, op, calls) {
		v, err := reply(c, 4)
		if err != nil {
			results[i].Err = err
			continue
		}
		r := &results[i]
		r.Duplicate, r.Receivers = number(v[0]) == 1, number(v[3])
		r.Position.Epoch = text(v[2])
		if r.Position.Offset, r.Err = strconv.ParseUint(text(v[1]), 10, 53); r.Err != nil {
			r.Err = fmt.Errorf("script answered offset %q: %w", text(v[1]), r.Err)
		}
		if len(v) > 4 {
			r.Unread = number(v[4])
		}
	}
	return results
}

func (s *Store) ephemeral(ctx context.Context, to []notify.Stream, payload []byte) []Result {
	start, pipe := time.Now(), s.redis.Pipeline()
	cmds := make([]*redis.IntCmd, len(to))
	for i, st := range to {
		cmds[i] = pipe.Publish(ctx, s.keys.Channel(st), payload)
	}
	_, _ = pipe.Exec(ctx) // each command has its own error
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
