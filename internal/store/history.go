package store

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"allim/internal/keyspace"
	"allim/pkg/notify"
)

// Recover returns at most limit messages, and about 128 KiB, after a position; limit 0 checks only. See notify.Recovery.
func (s *Store) Recover(ctx context.Context, st notify.Stream, from notify.Position, limit int) (notify.Recovery, error) {
	c := call{script: recoverScript, keys: s.keys.Event(st).All()}
	life := metaLife(s.history(st.Topic))
	if listed(st) {
		c.script, c.keys = forKind(st, recoverInboxScript, recoverSegmentScript), s.allKeys(st)
		_, _, life = s.boundsOf(st)
	}
	c.args = []any{from.Epoch, from.Offset, limit, pageBytes, newEpoch(), life.Milliseconds()}
	v, err := s.one(ctx, opRecover, c, 5)
	if err != nil {
		return notify.Recovery{}, fmt.Errorf("recover: %w", err)
	}
	r, err := recovery(st, v)
	if err != nil {
		return notify.Recovery{}, fmt.Errorf("recover: %w", err)
	}
	return r, nil
}

func recovery(st notify.Stream, v []any) (r notify.Recovery, err error) {
	epoch := text(v[1])
	if r.Position, err = placeOf(epoch, text(v[2]), text(v[4])); err != nil {
		return r, err
	}
	if r.Top, err = placeOf(epoch, text(v[3]), text(v[4])); err != nil {
		return r, err
	}
	switch text(v[0]) {
	case "empty":
		r.Outcome = notify.Empty
		if st.Topic.Kind() == notify.KindUser {
			r.Badge = &notify.Badge{Revision: r.Top}
		}
		return r, nil
	case "delta":
		r.Outcome = notify.Delta
	case "reset":
		r.Outcome = notify.Reset
		if len(v) > 8 {
			r.Why = notify.Why(text(v[8]))
		}
	}
	if r.Outcome == 0 || len(v) < 8 {
		return r, fmt.Errorf("script answered %q with %d values", text(v[0]), len(v))
	}
	if st.Topic.Kind() == notify.KindUser {
		r.Badge, err = keyspace.DecodeBadge(epoch, text(v[3]), text(v[5]), text(v[6]), text(v[7]))
		if err != nil {
			return r, err
		}
		r.Badge.Revision = r.Top // also where there is no epoch
	}
	if r.Outcome == notify.Reset {
		return r, nil
	}
	const fields = 4
	for rest := v[8:]; len(rest) >= fields; rest = rest[fields:] {
		m, err := keyspace.DecodeEntry(epoch, text(rest[0]), text(rest[1]), text(rest[2]), []byte(text(rest[3])))
		if err != nil {
			return r, err
		}
		r.Messages = append(r.Messages, *m)
	}
	return r, nil
}

// Tops returns the last position of each stream, the zero Position where a stream does not exist. At most a few hundred streams a call. Where some
// cannot be read the error wraps a notify.EachError, and the other positions count.
func (s *Store) Tops(ctx context.Context, streams []notify.Stream) ([]notify.Position, error) {
	start, pipe := time.Now(), s.redis.Pipeline()
	cmds := make([]*redis.SliceCmd, len(streams))
	for i, st := range streams {
		cmds[i] = pipe.HMGet(ctx, s.keys.Event(st).Meta, "e", "s")
	}
	execute(ctx, pipe)
	s.metrics.doneAll(opTops, start, len(cmds), func(i int) error { return cmds[i].Err() })
	tops, errs, failed := make([]notify.Position, len(streams)), make(notify.EachError, len(streams)), false
	for i, c := range cmds {
		tops[i], errs[i] = topOf(c)
		failed = failed || errs[i] != nil
	}
	if failed {
		return tops, fmt.Errorf("read tops: %w", errs)
	}
	return tops, nil
}

func topOf(c *redis.SliceCmd) (p notify.Position, err error) {
	v, err := c.Result()
	if err != nil {
		return p, classify(err)
	}
	if text(v[0]) == "" {
		return p, nil
	}
	if p.Offset, err = strconv.ParseUint(text(v[1]), 10, 53); err != nil {
		return p, err
	}
	p.Epoch = strings.Clone(text(v[0])) // go-redis reads replies into one shared buffer: a kept epoch must not keep it
	return p, nil
}

// Renew keeps the streams' memory of their positions alive. It creates nothing.
func (s *Store) Renew(ctx context.Context, streams []notify.Stream) error {
	calls := make([]call, 0, len(streams))
	renew := func(life time.Duration, keys ...string) {
		calls = append(calls, call{script: renewScript, keys: keys, args: []any{life.Milliseconds()}})
	}
	for _, st := range streams {
		if _, _, retention := s.boundsOf(st); listed(st) {
			renew(retention, s.allKeys(st)...)
		} else {
			renew(metaLife(s.history(st.Topic)), s.keys.Event(st).Meta)
		}
		if st.Topic.Kind() == notify.KindUser {
			k := s.keys.Audience(st)
			renew(s.memberLife(), k.Members, k.Exceptions)
		}
	}
	for _, c := range s.run(ctx, opRenew, calls) {
		if err := c.Err(); err != nil {
			return fmt.Errorf("renew: %w", classify(err))
		}
	}
	return nil
}
