package store

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"allim/internal/keyspace"
	"allim/pkg/notify"
)

const usersAtOnce = 500 // in one run of a script

// A Presence is that a user's stream begins to be heard at a gateway, or ends to be.
type Presence struct {
	Stream notify.Stream
	Here   bool
}

// Present says that a gateway is there, for as long as lease, and which tenants' backends want to know who is online. Where the answer is that it is not known, it takes
// a new name, with begins set, and says all of its users again; until then its former name is kept alive, where there is one. Where nobody listens nothing is written.
func (s *Store) Present(ctx context.Context, gateway string, lease time.Duration, begins bool, former string) (known bool, tenants []string, err error) {
	listened, gateways := s.keys.Listened()
	fresh := ""
	if begins {
		fresh = "1"
	}
	v, err := s.one(ctx, opPresence, call{script: presentScript, keys: []string{listened, gateways}, args: []any{gateway, lease.Milliseconds(), fresh, former}}, 1)
	if err != nil {
		return false, nil, fmt.Errorf("say that a gateway is there: %w", err)
	}
	return whole(v[0]) == 1, texts(v[1:]), nil
}

// Absent says that a gateway's name is not used any more: who is still told under it has left.
func (s *Store) Absent(ctx context.Context, gateway string) error {
	start := time.Now()
	_, gateways := s.keys.Listened()
	pipe := s.redis.Pipeline()
	pipe.ZAdd(ctx, gateways, redis.Z{Score: 1, Member: gateway}) // also one that is not there: more may have been told under it since
	pipe.PExpire(ctx, gateways, 24*time.Hour)
	_, err := pipe.Exec(ctx)
	if err != nil {
		err = classify(err)
	}
	s.metrics.done(opPresence, start, err)
	if err != nil {
		return fmt.Errorf("say that a gateway is gone: %w", err)
	}
	return nil
}

// SayPresence says who came to a gateway and who left it, in their order for each user. A user of whom nobody knew is told at once; one who has no gateway any more when
// debounce is over. Where there is an error all may be said again.
func (s *Store) SayPresence(ctx context.Context, gateway string, debounce time.Duration, all []Presence) (err error) {
	type place struct {
		part   int
		tenant string
	}
	at := map[place][]any{}
	var calls []call
	add := func(p place, users []any) {
		calls = append(calls, call{script: presenceScript, keys: s.onlineKeys(p.part, p.tenant), args: append([]any{gateway, debounce.Milliseconds(), p.tenant}, users...)})
	}
	for _, one := range all {
		p, sign := place{s.keys.Partition(one.Stream), one.Stream.Tenant}, "-"
		if one.Here {
			sign = "+"
		}
		if at[p] = append(at[p], sign+one.Stream.Topic.Name()); len(at[p]) == usersAtOnce {
			add(p, at[p])
			delete(at, p)
		}
	}
	for p, users := range at {
		add(p, users)
	}
	for _, c := range s.run(ctx, opPresence, calls) {
		if e := c.Err(); e != nil {
			err = fmt.Errorf("say who is online: %w", classify(e))
		}
	}
	return err
}

func (s *Store) onlineKeys(part int, tenant string) []string {
	k := s.keys.Backend(part, tenant)
	return []string{k.Online, s.keys.Offline(part), k.Events, k.Meta}
}

// Reaped is what a look at who is gone came to.
type Reaped struct {
	Gateways int // that were gone
	Offline  int // users whom that was told of
}

// Reap has the users of gateways that are gone leave, and tells of the users who did not come back in time. Any number of programs may do it at once: what one does is done.
func (s *Store) Reap(ctx context.Context, debounce time.Duration) (r Reaped, err error) {
	start := time.Now()
	listened, _ := s.keys.Listened()
	tenants, err := s.redis.ZRange(ctx, listened, 0, -1).Result()
	if err != nil {
		err = classify(err)
	}
	s.metrics.done(opPresence, start, err)
	if err != nil {
		return r, fmt.Errorf("look who listens: %w", err)
	}
	if len(tenants) == 0 {
		return r, nil
	}
	gone, users, over, err := s.overdue(ctx)
	if err != nil {
		return r, err
	}
	for _, gateway := range gone {
		if err := s.reap(ctx, gateway, tenants, debounce); err != nil {
			return r, err
		}
		r.Gateways++
	}
	if r.Offline, err = s.sayOffline(ctx, users); err != nil {
		return r, err
	}
	return r, s.forgetTenants(ctx, over)
}

// overdue asks which gateways' leases are over, which users did not come back, and which tenants nobody listens to any more: some of each.
func (s *Store) overdue(ctx context.Context) (gateways, users, tenants []string, err error) {
	listened, leases := s.keys.Listened()
	calls := []call{{script: duePollScript, keys: []string{leases, listened}}}
	for part := range s.keys.Partitions() {
		if key := s.keys.Offline(part); s.cluster && part > 0 {
			calls = append(calls, call{script: duePollScript, keys: []string{key}})
		} else {
			calls[0].keys = append(calls[0].keys, key)
		}
	}
	for i, c := range s.run(ctx, opPresence, calls) {
		v, err := replyOf(c, 1+len(calls[i].keys))
		if err != nil {
			return nil, nil, nil, fmt.Errorf("look who is gone: %w", err)
		}
		for key, members := range v[1:] {
			list, _ := members.([]any)
			for ; len(list) >= 2; list = list[2:] {
				name := strings.Clone(text(list[0]))
				switch {
				case i == 0 && key == 0:
					gateways = append(gateways, name)
				case i == 0 && key == 1:
					tenants = append(tenants, name)
				default:
					users = append(users, name)
				}
			}
		}
	}
	return gateways, users, tenants, nil
}

// reap goes through all users of the tenants. Only when it is through is the gateway forgotten: who dies in between leaves it to the next.
func (s *Store) reap(ctx context.Context, gateway string, tenants []string, debounce time.Duration) error {
	type scan struct {
		part           int
		tenant, cursor string
	}
	var left []scan
	for _, tenant := range tenants {
		for part := range s.keys.Partitions() {
			left = append(left, scan{part, tenant, "0"})
		}
	}
	for len(left) > 0 { // as long as ctx lasts: a bound here would leave out the same tenants in every look
		if ctx.Err() != nil {
			return fmt.Errorf("have the users of a gateway leave: %w", ctx.Err())
		}
		some := left[:min(len(left), s.keys.Partitions())]
		left = left[len(some):]
		calls := make([]call, len(some))
		for i, one := range some {
			calls[i] = call{script: reapScript, keys: s.onlineKeys(one.part, one.tenant), args: []any{gateway, debounce.Milliseconds(), one.tenant, one.cursor}}
		}
		for i, c := range s.run(ctx, opPresence, calls) {
			next, err := c.Text()
			if err != nil {
				return fmt.Errorf("have the users of a gateway leave: %w", classify(err))
			}
			if next != "0" {
				left = append(left, scan{some[i].part, some[i].tenant, next})
			}
		}
	}
	start := time.Now()
	_, leases := s.keys.Listened()
	err := s.redis.ZRem(ctx, leases, gateway).Err()
	if err != nil {
		err = classify(err)
	}
	s.metrics.done(opPresence, start, err)
	if err != nil {
		return fmt.Errorf("forget a gateway: %w", err)
	}
	return nil
}

// sayOffline tells of users, named as members, that they are gone.
func (s *Store) sayOffline(ctx context.Context, members []string) (told int, err error) {
	type place struct {
		part   int
		tenant string
	}
	at := map[place][]any{}
	for _, member := range members {
		if st, ok := keyspace.ParseMember(member); ok {
			p := place{s.keys.Partition(st), st.Tenant}
			at[p] = append(at[p], st.Topic.Name())
		}
	}
	var calls []call
	for p, users := range at {
		calls = append(calls, call{script: offlineScript, keys: s.onlineKeys(p.part, p.tenant), args: append([]any{p.tenant}, users...)})
	}
	for _, c := range s.run(ctx, opPresence, calls) {
		n, e := c.Int()
		if e != nil {
			err = fmt.Errorf("tell who is gone: %w", classify(e))
		}
		told += n
	}
	return told, err
}

// forgetTenants drops tenants that nobody listens to any more, unless somebody does by now.
func (s *Store) forgetTenants(ctx context.Context, tenants []string) error {
	if len(tenants) == 0 {
		return nil
	}
	start := time.Now()
	listened, _ := s.keys.Listened()
	now, err := s.redis.Time(ctx).Result()
	if err == nil {
		err = s.redis.ZRemRangeByScore(ctx, listened, "-inf", fmt.Sprint(now.UnixMilli())).Err()
	}
	if err != nil {
		err = classify(err)
	}
	s.metrics.done(opPresence, start, err)
	if err != nil {
		return fmt.Errorf("forget who listens: %w", err)
	}
	return nil
}
