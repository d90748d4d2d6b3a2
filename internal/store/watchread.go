package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
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
	start, pipe := time.Now(), w.s.redis.Pipeline()
	claims, held, open := make([]*redis.XAutoClaimCmd, len(parts)), make([]*redis.XPendingExtCmd, len(parts)), make([]*redis.XPendingCmd, len(parts))
	for i, part := range parts {
		key := w.s.keys.Backend(part, w.tenant).Events
		claims[i] = pipe.XAutoClaim(ctx, &redis.XAutoClaimArgs{Stream: key, Group: w.group, Consumer: consumer, MinIdle: w.s.events.Again, Start: "0-0", Count: int64(max(1, mostAtOnce/len(parts)))})
		most := int64(1)
		if !w.parts[part].settled {
			most = mostOpen
		}
		held[i] = pipe.XPendingExt(ctx, &redis.XPendingExtArgs{Stream: key, Group: w.group, Start: "-", End: "+", Count: most})
		open[i] = pipe.XPending(ctx, key, w.group)
	}
	execute(ctx, pipe)
	w.s.metrics.doneAll(opEvents, start, len(parts), func(i int) error {
		if err := claims[i].Err(); err != nil && !redis.HasErrorPrefix(err, "NOGROUP") {
			return err
		}
		return nil
	})
	var out []notify.Event
	var failed error
	unwanted := map[int][]string{}
	for i, part := range parts {
		entries, _, err := claims[i].Result()
		all, err2 := held[i].Result()
		left, err3 := open[i].Result()
		if err := errors.Join(err, err2, err3); err != nil {
			if !redis.HasErrorPrefix(claims[i].Err(), "NOGROUP") { // else the next read finds it, too
				failed = classify(err)
			} else {
				w.parts[part].settled = true
			}
			continue
		}
		out = append(out, w.take(part, entries, unwanted)...)
		w.settle(part, all)
		w.parts[part].open = int(left.Count)
	}
	if err := w.s.ackEntries(ctx, w.tenant, w.group, unwanted); err != nil && failed == nil {
		failed = err
	}
	return out, failed
}

// settle looks whether what is not acknowledged of a partition is all this watcher's.
func (w *Watch) settle(part int, open []redis.XPendingExt) {
	p := &w.parts[part]
	if p.settled || slices.ContainsFunc(open, func(one redis.XPendingExt) bool { return !p.mine[one.ID] }) {
		return
	}
	p.settled, p.mine = true, nil
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
