package store

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"allim/internal/keyspace"
	"allim/pkg/notify"
)

// Preferences are the categories that a user's inbox takes no notifications of, but for mandatory ones, sorted. Where mute is not nil it is what holds from now on,
// which every device of the user hears of; at is then where that stands, zero where nothing changed. Else nothing is written, and at is the stream's top. A change is
// idempotent, and tried again until ctx ends.
func (s *Store) Preferences(ctx context.Context, st notify.Stream, mute *[]string, origin string) (muted []string, at notify.Position, changed bool, err error) {
	if mute == nil {
		muted, at, err = s.readPreferences(ctx, st)
		return muted, at, false, err
	}
	if err := notify.CheckMute(*mute); err != nil {
		return nil, at, false, err
	}
	if s.ring.full() {
		return nil, at, false, busyFor("replicas are behind")
	}
	muted = slices.Compact(slices.Sorted(slices.Values(*mute)))
	body, err := keyspace.EncodeBody(&notify.Message{Origin: origin})
	if err != nil {
		return nil, at, false, err
	}
	w := &write{change: notify.ChangePreferences, ids: muted, body: body}
	ops := []*op{{stream: st, write: w, call: s.preferencesCall(st, w, ackedAs{}), share: 1}}
	s.writer.do(ctx, ops)
	o := ops[0]
	if o.err == nil && o.reply.code == codeLateMark {
		o.err = fmt.Errorf("too late: %w", notify.ErrUnavailable)
	}
	if o.err != nil {
		return nil, at, false, fmt.Errorf("set preferences: %w", o.err)
	}
	if o.reply.code == codeWritten {
		return muted, o.reply.at, true, nil
	}
	return muted, at, false, nil
}

func (s *Store) readPreferences(ctx context.Context, st notify.Stream) (muted []string, at notify.Position, err error) {
	start := time.Now()
	v, err := s.redis.HMGet(ctx, s.keys.Event(st).Meta, "e", "s", "f").Result()
	if err != nil {
		err = classify(err)
	}
	s.metrics.done(opPreferences, start, err)
	if err != nil {
		return nil, at, fmt.Errorf("read preferences: %w", err)
	}
	if f := strings.Trim(text(v[2]), ","); f != "" { // ",a,b,"
		muted = strings.Split(strings.Clone(f), ",")
	}
	if text(v[0]) == "" {
		return muted, notify.EmptyAt(start.UnixMilli()), nil
	}
	at, err = placeOf(strings.Clone(text(v[0])), text(v[1]), "")
	return muted, at, err
}
