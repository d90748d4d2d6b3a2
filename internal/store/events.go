package store

import (
	"cmp"
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"allim/pkg/notify"
)

// Events bounds what backends are told. A zero is the default of that field.
type Events struct {
	Entries  int           // of a tenant in a partition; 100,000. Beyond it events are left out, and a gap says so
	Bytes    int           // the same in bytes; 64 MiB
	Age      time.Duration // of an event, and of a group that nobody watches or acknowledges for; 24 h
	Again    time.Duration // after which what is not acknowledged goes to another watcher, or the same; 30 s
	Patience time.Duration // with a group that acknowledges nothing while there is no room; 10 min
	Lease    time.Duration // of a watcher that says nothing; 15 s
	Trim     time.Duration // between two looks for what nobody needs; 10 s
}

func (e Events) withDefaults() Events {
	return Events{Entries: cmp.Or(e.Entries, 100_000), Bytes: cmp.Or(e.Bytes, 64<<20), Age: cmp.Or(e.Age, 24*time.Hour), Again: cmp.Or(e.Again, 30*time.Second),
		Patience: cmp.Or(e.Patience, 10*time.Minute), Lease: cmp.Or(e.Lease, 15*time.Second), Trim: cmp.Or(e.Trim, 10*time.Second)}
}

const (
	maxGroups   = 64               // of a tenant
	maxAcks     = 1000             // in one call
	gapID       = "gap"            // what the ids of gaps of one group alone begin with
	joinsWithin = 30 * time.Second // of a group's beginning: its partitions may not have it yet
	consumer    = "w"              // of every group in Redis: which watcher has a partition, leases say
	renewals    = 24               // of a group's keys while it gets as old as it may: they live so much longer
)

// A registered is what is known of a group (lua/watcher.lua).
type registered struct {
	now      int64 // Redis' clock, as all of these in Unix milliseconds
	fresh    bool  // the group is new
	renew    bool  // the keys of its partitions are to be renewed
	lapsed   int64 // since when the group is over; 0: it is not
	from, to int64 // of a gap that it is owed; 0: none
	before   int64 // the last contact before this
	begun    int64
	watchers []string
}

// register has a say in a tenant's groups.
func (s *Store) register(ctx context.Context, tenant, what, group, watcher string, more ...any) (r registered, err error) {
	groups, watchers := s.keys.Groups(tenant)
	e := s.events
	args := append([]any{what, group, watcher, e.Lease.Milliseconds(), e.Age.Milliseconds(), (e.Age / renewals).Milliseconds(), maxGroups}, more...)
	v, err := s.one(ctx, opEvents, call{script: watcherScript, keys: []string{groups, watchers}, args: args}, 1)
	if err != nil {
		return r, err
	}
	if r.now = whole(v[0]); r.now < 0 {
		return r, fmt.Errorf("group %q: %w", group, &notify.FieldError{Field: "group", Want: fmt.Sprintf("one of those that there are: a tenant has %d at most", maxGroups)})
	}
	const fixed = 8
	if len(v) < fixed { // of lapse
		return r, nil
	}
	r.fresh, r.renew, r.lapsed, r.from, r.to, r.before = whole(v[1]) == 1, whole(v[2]) == 1, whole(v[3]), whole(v[4]), whole(v[5]), whole(v[6])
	r.begun = whole(v[7])
	r.watchers = texts(v[fixed:])
	return r, nil
}

// whole is a whole number of a script of ours, whichever way it answers it.
func whole(v any) int64 {
	n, _ := strconv.ParseInt(text(v), 10, 64)
	return n
}

// listen has all partitions keep what a tenant's backends are to be told, for as long as lives. Where a group is not there it begins after that id; began is how many
// partitions it was not there in. anew: it begins there also where it is.
func (s *Store) listen(ctx context.Context, tenant, group, after string, anew bool, lives time.Duration) (began int, err error) {
	calls, again := make([]call, s.keys.Partitions()), 0
	if anew {
		again = 1
	}
	for part := range calls {
		k := s.keys.Backend(part, tenant)
		calls[part] = call{script: listenScript, keys: []string{k.Events, k.Meta, k.Online}, args: []any{group, after, lives.Milliseconds(), s.events.Entries, s.events.Bytes, again}}
	}
	for _, c := range s.run(ctx, opEvents, calls) {
		n, err := c.Int64()
		if err != nil {
			return began, fmt.Errorf("listen to partitions: %w", classify(err))
		}
		began += int(n)
	}
	return began, nil
}

// say says until when somebody listens to a tenant, so that gateways tell who is online: a little longer than the partitions keep it.
func (s *Store) say(ctx context.Context, tenant string, now int64, lives time.Duration) error {
	start := time.Now()
	tenants, _ := s.keys.Listened()
	pipe := s.redis.Pipeline()
	pipe.ZAddArgs(ctx, tenants, redis.ZAddArgs{GT: true, Members: []redis.Z{{Score: float64(now + (lives + 2*s.events.Lease).Milliseconds()), Member: tenant}}})
	pipe.PExpire(ctx, tenants, 30*24*time.Hour)
	_, err := pipe.Exec(ctx)
	if err != nil {
		err = classify(err)
	}
	s.metrics.done(opEvents, start, err)
	if err != nil {
		return fmt.Errorf("say that a tenant is listened to: %w", err)
	}
	return nil
}

// AckEvents says for a group that events are done with. What is not known, or not any more, is passed over.
func (s *Store) AckEvents(ctx context.Context, tenant, group string, ids []string) error {
	if len(ids) > maxAcks {
		return &notify.FieldError{Field: "event_ids", Want: fmt.Sprintf("at most %d", maxAcks)}
	}
	if err := notify.CheckGroup(group); err != nil || group == "" { // who listens has nothing to acknowledge
		return err
	}
	r, err := s.register(ctx, tenant, "ack", group, "")
	if err != nil {
		return fmt.Errorf("acknowledge events: %w", err)
	}
	if r.renew {
		if _, err := s.join(ctx, tenant, group, r); err != nil {
			return fmt.Errorf("acknowledge events: %w", err)
		}
	}
	byPart := map[int][]string{}
	for _, id := range ids {
		if from, to, ok := parseGap(id); ok {
			if _, err := s.register(ctx, tenant, "told", group, "", from, to); err != nil {
				return fmt.Errorf("acknowledge a gap: %w", err)
			}
		} else if part, entry, ok := s.keys.ParseEventID(id); ok {
			byPart[part] = append(byPart[part], entry)
		}
	}
	if err := s.ackEntries(ctx, tenant, group, byPart); err != nil {
		return fmt.Errorf("acknowledge events: %w", err)
	}
	return nil
}

func (s *Store) ackEntries(ctx context.Context, tenant, group string, byPart map[int][]string) error {
	if len(byPart) == 0 {
		return nil
	}
	start, pipe := time.Now(), s.redis.Pipeline()
	for part, entries := range byPart {
		pipe.XAck(ctx, s.keys.Backend(part, tenant).Events, group, entries...)
	}
	_, err := pipe.Exec(ctx)
	if err != nil {
		err = classify(err)
	}
	s.metrics.done(opEvents, start, err)
	return err
}

// join has the partitions keep what a group is to be told for another while. Where Redis has lost some of it, the group goes on where it was spoken for last, and is owed
// a gap, since nobody knows what it had not acknowledged.
func (s *Store) join(ctx context.Context, tenant, group string, r registered) (registered, error) {
	lives, after := s.events.Age+s.events.Age/renewals, "$"
	lapsed := r.to != 0 && r.to == r.now // until now
	goesOn := !r.fresh && !lapsed
	if goesOn {
		after = strconv.FormatInt(r.before, 10) + "-0"
	}
	began, err := s.listen(ctx, tenant, group, after, lapsed, lives)
	if err != nil {
		return r, err
	}
	if began > 0 && goesOn && r.now-r.begun > joinsWithin.Milliseconds() {
		owed, err := s.register(ctx, tenant, "gap", group, "", r.before, r.now)
		if err != nil {
			return r, err
		}
		r.from, r.to = owed.from, owed.to
	}
	return r, s.say(ctx, tenant, r.now, lives)
}

func formatGap(from, to int64) string { return fmt.Sprintf("%s-%d-%d", gapID, from, to) }

func parseGap(id string) (from, to int64, ok bool) {
	rest, ok := strings.CutPrefix(id, gapID+"-")
	first, last, _ := strings.Cut(rest, "-")
	from, err := strconv.ParseInt(first, 10, 64)
	to, err2 := strconv.ParseInt(last, 10, 64)
	return from, to, ok && err == nil && err2 == nil
}
