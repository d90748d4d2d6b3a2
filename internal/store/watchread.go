package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"allim/internal/keyspace"
	"allim/pkg/notify"
)

// listenOn has the partitions keep what a listener is to be told, for four leases.
func (w *Watch) listenOn(ctx context.Context) error {
	lives := 4 * w.s.events.Lease
	if _, err := w.s.listen(ctx, w.tenant, "", "", false, lives); err != nil {
		return err
	}
	now, err := w.s.redis.Time(ctx).Result()
	if err != nil {
		return classify(err)
	}
	return w.s.say(ctx, w.tenant, now.UnixMilli(), lives)
}

// tails has a listener begin behind what there is.
func (w *Watch) tails(ctx context.Context) error {
	start, pipe := time.Now(), w.s.redis.Pipeline()
	cmds := make([]*redis.XMessageSliceCmd, len(w.parts))
	for part := range w.parts {
		cmds[part] = pipe.XRevRangeN(ctx, w.s.keys.Backend(part, w.tenant).Events, "+", "-", 1)
	}
	execute(ctx, pipe)
	w.s.metrics.doneAll(opEvents, start, len(cmds), func(i int) error { return cmds[i].Err() })
	for part, c := range cmds {
		last, err := c.Result()
		if err != nil {
			return classify(err)
		}
		w.parts[part].cursor = "0-0"
		if len(last) > 0 {
			w.parts[part].cursor = last[0].ID
		}
	}
	return nil
}

// read takes what is new in this watcher's partitions, as much as it has room for. Where Redis does not know the group the error is its own.
func (w *Watch) read(ctx context.Context, now time.Time) ([]notify.Event, error) {
	parts, each := w.choose(now)
	if len(parts) == 0 {
		return nil, nil
	}
	start, pipe := time.Now(), w.s.redis.Pipeline()
	cmds := make([]redis.Cmder, len(parts))
	for i, part := range parts {
		key := w.s.keys.Backend(part, w.tenant).Events
		if w.group == "" {
			cmds[i] = pipe.XRangeN(ctx, key, "("+w.parts[part].cursor, "+", int64(each))
		} else {
			cmds[i] = pipe.XReadGroup(ctx, &redis.XReadGroupArgs{Group: w.group, Consumer: consumer, Streams: []string{key, ">"}, Count: int64(each), Block: -1})
		}
	}
	execute(ctx, pipe)
	w.s.metrics.doneAll(opEvents, start, len(cmds), func(i int) error {
		if err := cmds[i].Err(); err != nil && !errors.Is(err, redis.Nil) && !redis.HasErrorPrefix(err, "NOGROUP") {
			return err
		}
		return nil
	})
	var out []notify.Event
	var failed error
	unwanted := map[int][]string{}
	for i, part := range parts {
		entries, err := entriesOf(cmds[i])
		switch {
		case redis.HasErrorPrefix(err, "NOGROUP"):
			failed = err
		case err != nil && failed == nil:
			failed = classify(err)
		}
		w.parts[part].more = len(entries) == each
		out = append(out, w.take(part, entries, unwanted)...)
	}
	if err := w.s.ackEntries(ctx, w.tenant, w.group, unwanted); err != nil && failed == nil {
		failed = err
	}
	return out, failed
}

// choose says which partitions are read, and how much of each.
func (w *Watch) choose(now time.Time) (parts []int, each int) {
	room, round := mostOpen, !now.Before(w.roundAt)
	var hot []int
	for i := range w.parts {
		part := (w.next + i) % len(w.parts)
		p := &w.parts[part]
		room -= p.open
		if p.ours && p.settled {
			if parts = append(parts, part); p.more {
				hot = append(hot, part)
			}
		}
	}
	if room <= 0 {
		w.lookAt = now // at the next look: some may be acknowledged
		return nil, 0
	}
	if len(hot) > 0 && !round {
		parts = hot
	} else {
		w.roundAt = now.Add(roundEvery)
	}
	if len(parts) > room {
		parts = parts[:room]
		w.next = (parts[room-1] + 1) % len(w.parts)
	}
	return parts, max(1, min(mostAtOnce, room)/max(len(parts), 1))
}

func entriesOf(c redis.Cmder) ([]redis.XMessage, error) {
	switch c := c.(type) {
	case *redis.XMessageSliceCmd:
		return c.Result()
	case *redis.XStreamSliceCmd:
		got, err := c.Result()
		if errors.Is(err, redis.Nil) {
			return nil, nil
		}
		if err != nil || len(got) == 0 {
			return nil, err
		}
		return got[0].Messages, nil
	}
	return nil, fmt.Errorf("a command of type %T", c)
}

// take makes events of entries. Those that are not wanted, or that nobody can read, are put among the unwanted.
func (w *Watch) take(part int, entries []redis.XMessage, unwanted map[int][]string) (out []notify.Event) {
	p := &w.parts[part]
	for _, one := range entries {
		p.cursor = one.ID
		fields := make(map[string]string, len(one.Values))
		for name, v := range one.Values {
			fields[name] = text(v)
		}
		e, err := keyspace.DecodeEvent(part, one.ID, fields)
		if err == nil && (e.Type == notify.EventGap || w.wants(e.Type)) {
			out = append(out, e)
			if w.group != "" {
				p.open++
			}
			if p.ours && !p.settled {
				if p.mine == nil {
					p.mine = map[string]bool{}
				}
				p.mine[one.ID] = true
			}
		} else if w.group != "" {
			unwanted[part] = append(unwanted[part], one.ID)
		}
	}
	return out
}

// again asks what was acknowledged, and takes what was given out too long ago, by this watcher or by another that has gone.
func (w *Watch) again(ctx context.Context) ([]notify.Event, error) {
	var parts []int
	for part, p := range w.parts {
		if p.ours && (!p.settled || p.open > 0) {
			parts = append(parts, part)
		}
	}
	if len(parts) == 0 {
		return nil, nil
	}
	each := max(1, mostAtOnce/len(parts))
	start, pipe := time.Now(), w.s.redis.Pipeline()
	held, open := make([]*redis.XPendingExtCmd, len(parts)), make([]*redis.XPendingCmd, len(parts))
	for i, part := range parts {
		key := w.s.keys.Backend(part, w.tenant).Events
		of := &redis.XPendingExtArgs{Stream: key, Group: w.group, Start: "-", End: "+", Idle: w.s.events.Again, Count: int64(each)}
		if !w.parts[part].settled {
			of.Idle, of.Count = 0, mostOpen
		}
		held[i], open[i] = pipe.XPendingExt(ctx, of), pipe.XPending(ctx, key, w.group)
	}
	execute(ctx, pipe)
	w.s.metrics.doneAll(opEvents, start, len(parts), func(i int) error { return groupOr(held[i].Err()) })
	var failed error
	late := map[int][]string{}
	for i, part := range parts {
		all, err := held[i].Result()
		left, err2 := open[i].Result()
		switch err := cmp.Or(err, err2); {
		case redis.HasErrorPrefix(err, "NOGROUP"):
			w.parts[part].settled = true // the next read finds it, too
		case err != nil:
			failed = classify(err)
		default:
			w.parts[part].open = int(left.Count)
			if ids := w.late(part, all, each); len(ids) > 0 {
				late[part] = ids
			}
		}
	}
	out, err := w.claim(ctx, late)
	return out, cmp.Or(failed, err)
}

// groupOr is an error of Redis, unless that is that it does not know the group.
func groupOr(err error) error {
	if redis.HasErrorPrefix(err, "NOGROUP") {
		return nil
	}
	return err
}

// late says which of what is not acknowledged in a partition are given out again now. Of what another watcher had that is in its order: what he was given again lately
// holds up what comes behind it. When all is this watcher's, the partition is settled.
func (w *Watch) late(part int, open []redis.XPendingExt, most int) (ids []string) {
	p := &w.parts[part]
	if p.settled {
		for _, one := range open {
			ids = append(ids, one.ID)
		}
		return ids
	}
	for _, one := range open {
		switch {
		case p.mine[one.ID]:
			continue
		case len(ids) == most:
			w.lookAt = time.Time{} // there is more
			return ids
		case one.Idle < w.s.events.Again:
			return ids
		}
		ids = append(ids, one.ID)
	}
	if len(ids) == 0 {
		p.settled, p.mine = true, nil
	}
	return ids
}

// claim takes what is to be given out again, unless somebody else did.
func (w *Watch) claim(ctx context.Context, late map[int][]string) (out []notify.Event, failed error) {
	if len(late) == 0 {
		return nil, nil
	}
	start, pipe := time.Now(), w.s.redis.Pipeline()
	var parts []int
	var cmds []*redis.XMessageSliceCmd
	for part, ids := range late {
		parts = append(parts, part)
		cmds = append(cmds, pipe.XClaim(ctx, &redis.XClaimArgs{Stream: w.s.keys.Backend(part, w.tenant).Events, Group: w.group, Consumer: consumer, MinIdle: w.s.events.Again, Messages: ids}))
	}
	execute(ctx, pipe)
	w.s.metrics.doneAll(opEvents, start, len(cmds), func(i int) error { return groupOr(cmds[i].Err()) })
	unwanted := map[int][]string{}
	for i, part := range parts {
		entries, err := cmds[i].Result()
		if groupOr(err) != nil {
			failed = classify(err)
		}
		open := w.parts[part].open // they were among them
		out = append(out, w.take(part, entries, unwanted)...)
		w.parts[part].open = open
	}
	return out, cmp.Or(failed, w.s.ackEntries(ctx, w.tenant, w.group, unwanted))
}

// An entryID is that of an entry of a stream: when, and the how many-th then.
type entryID struct{ ms, seq uint64 }

func parseEntryID(id string) (e entryID) {
	ms, seq, _ := strings.Cut(id, "-")
	e.ms, _ = strconv.ParseUint(ms, 10, 64) // of Redis: numbers
	e.seq, _ = strconv.ParseUint(seq, 10, 64)
	return e
}

func (e entryID) before(o entryID) bool { return e.ms < o.ms || e.ms == o.ms && e.seq < o.seq }

func (e entryID) String() string {
	return strconv.FormatUint(e.ms, 10) + "-" + strconv.FormatUint(e.seq, 10)
}
