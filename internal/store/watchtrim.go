package store

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// A stood is where a group stands in a partition.
type stood struct {
	name  string
	needs entryID // the first one that it still needs
}

// trim takes away, in this watcher's partitions, what all groups have done with and what is too old, and ends the groups that hold up the others. It returns the groups
// that are over since then.
func (w *Watch) trim(ctx context.Context) (lapsed []string, err error) {
	groups, err := w.s.groups(ctx, w.tenant)
	if err != nil {
		return nil, err
	}
	now, err := w.s.redis.Time(ctx).Result()
	if err != nil {
		return nil, classify(err)
	}
	over := map[string]bool{}
	for name, g := range groups {
		if over[name] = g.lapsed > 0; over[name] || now.UnixMilli()-g.contact < w.s.events.Age.Milliseconds() {
			continue
		}
		if over[name], err = w.lapse(ctx, name, 0); err != nil {
			return lapsed, err
		} else if over[name] {
			lapsed = append(lapsed, name)
		}
	}
	var parts []int
	for part, p := range w.parts {
		if p.ours {
			parts = append(parts, part)
		}
	}
	stands, err := w.stand(ctx, parts, over)
	if err != nil {
		return lapsed, err
	}
	full, err := w.cut(ctx, parts, stands)
	for _, part := range full {
		last := ""
		var needs entryID
		for _, g := range stands[part] {
			if last == "" || g.needs.before(needs) {
				last, needs = g.name, g.needs
			}
		}
		since := now.Add(-w.s.events.Patience).UnixMilli()
		if g, known := groups[last]; !known || over[last] || max(g.begun, g.ack) >= since {
			continue
		}
		if over[last], err = w.lapse(ctx, last, since); err != nil {
			return lapsed, err
		} else if over[last] {
			lapsed = append(lapsed, last)
			w.trimAt = time.Time{} // there is room now
		}
	}
	return lapsed, err
}

// A groupKept is what the registry says of a group.
type groupKept struct{ begun, contact, ack, lapsed int64 } // in Unix milliseconds of Redis' clock

// groups are a tenant's.
func (s *Store) groups(ctx context.Context, tenant string) (map[string]groupKept, error) {
	start := time.Now()
	key, _ := s.keys.Groups(tenant)
	all, err := s.redis.HGetAll(ctx, key).Result()
	if err != nil {
		err = classify(err)
	}
	s.metrics.done(opEvents, start, err)
	if err != nil {
		return nil, fmt.Errorf("read groups: %w", err)
	}
	out := make(map[string]groupKept, len(all))
	for name, kept := range all {
		if f := strings.Fields(kept); len(f) >= 5 {
			out[name] = groupKept{whole(f[0]), whole(f[1]), whole(f[2]), whole(f[4])}
		}
	}
	return out, nil
}

// lapse ends a group that nobody speaks for, or that has had no ack since then, and takes it out of all partitions. It tells whether it did.
func (w *Watch) lapse(ctx context.Context, name string, since int64) (bool, error) {
	r, err := w.s.register(ctx, w.tenant, "lapse", name, "", since)
	if err != nil || r.now != 1 {
		return false, err
	}
	parts := make(map[int][]string, len(w.parts))
	for part := range w.parts {
		parts[part] = []string{name}
	}
	return true, w.destroy(ctx, parts)
}

func (w *Watch) destroy(ctx context.Context, parts map[int][]string) error {
	if len(parts) == 0 {
		return nil
	}
	start, pipe := time.Now(), w.s.redis.Pipeline()
	var cmds []*redis.IntCmd
	for part, names := range parts {
		for _, name := range names {
			cmds = append(cmds, pipe.XGroupDestroy(ctx, w.s.keys.Backend(part, w.tenant).Events, name))
		}
	}
	execute(ctx, pipe)
	gone := func(i int) error {
		if err := cmds[i].Err(); err != nil && !noKey(err) {
			return err
		}
		return nil
	}
	w.s.metrics.doneAll(opEvents, start, len(cmds), gone)
	for i := range cmds {
		if err := gone(i); err != nil {
			return classify(err)
		}
	}
	return nil
}

// noKey tells whether Redis says that there is no such stream.
func noKey(err error) bool {
	return strings.Contains(err.Error(), "no such key") || strings.Contains(err.Error(), "requires the key to exist")
}

// stand asks where the groups stand in partitions; those that are over leave.
func (w *Watch) stand(ctx context.Context, parts []int, over map[string]bool) (map[int][]stood, error) {
	start, pipe := time.Now(), w.s.redis.Pipeline()
	infos := make([]*redis.XInfoGroupsCmd, len(parts))
	for i, part := range parts {
		infos[i] = pipe.XInfoGroups(ctx, w.s.keys.Backend(part, w.tenant).Events)
	}
	execute(ctx, pipe)
	failed := func(i int) error {
		if err := infos[i].Err(); err != nil && !noKey(err) {
			return err
		}
		return nil
	}
	w.s.metrics.doneAll(opEvents, start, len(infos), failed)
	out, leave, pipe := map[int][]stood{}, map[int][]string{}, w.s.redis.Pipeline()
	pending := map[int]map[int]*redis.XPendingCmd{}
	for i, part := range parts {
		if err := failed(i); err != nil {
			return nil, classify(err)
		}
		for _, g := range infos[i].Val() {
			if over[g.Name] {
				leave[part] = append(leave[part], g.Name)
				continue
			}
			last := parseEntryID(g.LastDeliveredID)
			last.seq++
			if out[part] = append(out[part], stood{g.Name, last}); g.Pending > 0 {
				if pending[part] == nil {
					pending[part] = map[int]*redis.XPendingCmd{}
				}
				pending[part][len(out[part])-1] = pipe.XPending(ctx, w.s.keys.Backend(part, w.tenant).Events, g.Name)
			}
		}
	}
	if len(pending) > 0 {
		execute(ctx, pipe)
	}
	for part, of := range pending {
		for i, c := range of {
			got, err := c.Result()
			if err != nil {
				return nil, classify(err)
			}
			if got.Count > 0 {
				out[part][i].needs = parseEntryID(got.Lower)
			}
		}
	}
	return out, w.destroy(ctx, leave)
}

// cut trims partitions, and tells which are as good as full.
func (w *Watch) cut(ctx context.Context, parts []int, stands map[int][]stood) (full []int, err error) {
	calls := make([]call, len(parts))
	for i, part := range parts {
		k, first := w.s.keys.Backend(part, w.tenant), ""
		var needs entryID
		for _, g := range stands[part] {
			if first == "" || g.needs.before(needs) {
				needs = g.needs
				first = needs.String()
			}
		}
		calls[i] = call{script: trimScript, keys: []string{k.Events, k.Meta}, args: []any{first, w.s.events.Age.Milliseconds(), (4 * w.s.events.Lease).Milliseconds()}}
	}
	for i, c := range w.s.run(ctx, opEvents, calls) {
		v, err := replyOf(c, 2)
		if err != nil {
			return full, fmt.Errorf("trim events: %w", err)
		}
		if whole(v[0]) >= int64(w.s.events.Entries) || whole(v[1]) >= int64(w.s.events.Bytes) {
			full = append(full, parts[i])
		}
	}
	return full, nil
}
