package store

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"hash/fnv"
	"time"

	"github.com/redis/go-redis/v9"

	"allim/pkg/notify"
)

const (
	mostOpen    = 1000                   // events of a watcher that are not acknowledged
	mostAtOnce  = 256                    // that it takes in one round trip
	leastPause  = 20 * time.Millisecond  // between two looks for news
	longPause   = 500 * time.Millisecond // the same when there is none for a while; well below a lease
	roundEvery  = 100 * time.Millisecond // all partitions are looked at, while some have more than a look takes
	lookEvery   = time.Second            // for what was acknowledged, and what was not
	beatsALease = 3
)

// A Watch is one watcher of a group, or a listener of its own. It is one goroutine's. Which partitions it reads the leases of the group's watchers say: each is one
// watcher's, so that the events of a user stay in order. One that changes hands waits until the former watcher's events were acknowledged, or are given out again.
type Watch struct {
	s             *Store
	tenant, group string
	id            string
	wants         func(notify.EventType) bool // gaps are wanted always

	parts []watched
	heard int64 // Redis' clock when the group's registry answered last, in ms
	beat  time.Time
	owed  []notify.Event
	next  int // the partition to begin with

	beatAt, lookAt, trimAt, roundAt time.Time
	pause, rest                     time.Duration // between two looks: now, and at most
}

// A watched is what a watcher knows of a partition.
type watched struct {
	since   time.Time // since when it would be this watcher's; zero: it is another's
	ours    bool
	settled bool            // nobody else has anything of it that is not acknowledged
	open    int             // not acknowledged, as far as is known
	mine    map[string]bool // of what is not acknowledged, before it is settled
	more    bool            // there was more than the last look took
	cursor  string          // of a listener: what it has had
}

// News is what a look came to.
type News struct {
	Events []notify.Event // in order for each user
	Lapsed []string       // groups that this watcher found over
	Open   int            // events that this watcher has and that were not acknowledged, as far as is known
}

// Watch begins to watch in a group of a tenant, which begins with its first Watch: created; group "" is a listener of its own, without memory. wants says which events
// are given out; the others are done with for the group. Errors: ErrInvalid, also where the tenant has too many groups.
func (s *Store) Watch(ctx context.Context, tenant, group string, wants func(notify.EventType) bool) (w *Watch, created bool, err error) {
	if err := notify.CheckGroup(group); err != nil {
		return nil, false, err
	}
	w = &Watch{s: s, tenant: tenant, group: group, id: rand.Text(), wants: wants, parts: make([]watched, s.keys.Partitions()), pause: leastPause, rest: min(longPause, s.events.Lease/8)}
	created, err = w.begin(ctx)
	if err != nil {
		return nil, false, fmt.Errorf("watch events: %w", err)
	}
	return w, created, nil
}

// Next waits until there is something, or for so long. What Redis' absence causes it sits out; other errors end the Watch.
func (w *Watch) Next(ctx context.Context, wait time.Duration) (News, error) {
	until := time.Now().Add(wait)
	for {
		n, err := w.look(ctx)
		if err != nil && (ctx.Err() != nil || !errors.Is(err, notify.ErrUnavailable) && !errors.Is(err, notify.ErrBusy)) {
			return n, fmt.Errorf("watch events: %w", err)
		}
		if len(n.Events)+len(n.Lapsed) > 0 {
			w.pause = leastPause
			return n, nil
		}
		left := time.Until(until)
		if left <= 0 {
			return n, nil
		}
		if w.pause = min(2*w.pause, w.rest); err != nil {
			w.pause = w.rest
		}
		timer := time.NewTimer(min(w.pause, left))
		select {
		case <-ctx.Done():
			timer.Stop()
			return n, ctx.Err()
		case <-timer.C:
		}
	}
}

// Close lets the group's other watchers have its partitions at once. What was given out can still be acknowledged.
func (w *Watch) Close(ctx context.Context) error {
	if w.group == "" {
		return nil
	}
	if _, err := w.s.register(ctx, w.tenant, "leave", w.group, w.id); err != nil {
		return fmt.Errorf("leave group: %w", err)
	}
	return nil
}

// begin is the beginning, and a new one where the group has lapsed or Redis has lost it.
func (w *Watch) begin(ctx context.Context) (created bool, err error) {
	now := time.Now()
	if w.group == "" {
		if err := w.listenOn(ctx); err != nil {
			return false, err
		}
		if err := w.tails(ctx); err != nil {
			return false, err
		}
		for part := range w.parts {
			w.parts[part].ours, w.parts[part].settled = true, true
		}
		w.beatAt, w.beat = now.Add(w.s.events.Lease), now
		return false, nil
	}
	r, err := w.s.register(ctx, w.tenant, "begin", w.group, w.id)
	if err != nil {
		return false, err
	}
	if r.fresh && w.heard > 0 { // it was not new before: Redis has lost all
		r.fresh, r.begun, r.before = false, 0, w.heard
	}
	watchers := r.watchers
	if r, err = w.s.join(ctx, w.tenant, w.group, r); err != nil {
		return false, err
	}
	w.heard, w.beat, w.beatAt = r.now, now, now.Add(w.s.events.Lease/beatsALease)
	if r.to > 0 {
		w.owed = []notify.Event{{ID: formatGap(r.from, r.to), Type: notify.EventGap, Time: time.UnixMilli(r.now).UTC(), From: time.UnixMilli(r.from).UTC(), To: time.UnixMilli(r.to).UTC()}}
	}
	clear(w.parts)
	w.lookAt = now
	w.divide(now, watchers)
	return r.fresh, nil
}

// look is one look at everything whose time has come. News may be there also where there is an error.
func (w *Watch) look(ctx context.Context) (n News, err error) {
	now := time.Now()
	if !now.Before(w.beatAt) {
		if err := w.stay(ctx, now); err != nil {
			return n, err
		}
	}
	n.Events, w.owed = w.owed, nil
	if w.group != "" && !now.Before(w.lookAt) {
		w.lookAt = now.Add(min(lookEvery, w.s.events.Lease/beatsALease))
		again, err := w.again(ctx)
		if n.Events = append(n.Events, again...); err != nil {
			return n, err
		}
	}
	if !now.Before(w.trimAt) {
		w.trimAt = now.Add(w.s.events.Trim)
		if n.Lapsed, err = w.trim(ctx); err != nil {
			return n, err
		}
	}
	news, err := w.read(ctx, now)
	n.Events = append(n.Events, news...)
	for _, p := range w.parts {
		n.Open += p.open
	}
	if redis.HasErrorPrefix(err, "NOGROUP") {
		w.beatAt = time.Time{} // it says what to do
		if _, err = w.begin(ctx); err == nil {
			n.Events, w.owed = append(n.Events, w.owed...), nil
		}
	}
	return n, err
}

// stay tells the group's registry that this watcher is there, and learns from it who else is.
func (w *Watch) stay(ctx context.Context, now time.Time) error {
	lease := w.s.events.Lease
	if w.group == "" {
		w.beatAt = now.Add(lease)
		return w.listenOn(ctx)
	}
	r, err := w.s.register(ctx, w.tenant, "stay", w.group, w.id)
	if err != nil {
		return err
	}
	if r.fresh || r.lapsed > 0 {
		_, err := w.begin(ctx)
		return err
	}
	if r.renew {
		watchers := r.watchers
		if r, err = w.s.join(ctx, w.tenant, w.group, r); err != nil {
			return err
		}
		r.watchers = watchers
	}
	if now.Sub(w.beat) >= lease { // others have had its partitions meanwhile
		clear(w.parts)
		w.lookAt = now
	}
	w.heard, w.beat, w.beatAt = r.now, now, now.Add(lease/beatsALease)
	w.divide(now, r.watchers)
	return nil
}

// divide says which partitions are this watcher's. What another one may have he keeps until he must have heard that it is not his any more.
func (w *Watch) divide(now time.Time, watchers []string) {
	alone := len(watchers) == 1 && watchers[0] == w.id
	for part := range w.parts {
		p := &w.parts[part]
		switch {
		case ownerOf(part, watchers) != w.id:
			*p = watched{}
		case p.since.IsZero():
			p.since, p.ours = now, alone
		case !p.ours && (alone || now.Sub(p.since) >= w.s.events.Lease/2):
			p.since, p.ours = now, true
		}
	}
}

// ownerOf is the watcher who has a partition: the one with the highest hash of both, so that one who comes or goes moves no more than his share.
func ownerOf(part int, watchers []string) (owner string) {
	var best uint64
	for _, one := range watchers {
		h := fnv.New64a()
		h.Write([]byte{byte(part), byte(part >> 8)})
		h.Write([]byte(one))
		h.Write([]byte{byte(part), byte(part >> 8)}) // behind the name, too: the last bytes of FNV move the high bits least
		if sum := h.Sum64(); owner == "" || sum > best {
			owner, best = one, sum
		}
	}
	return owner
}
