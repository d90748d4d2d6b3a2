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

const (
	claimLease = 30 * time.Second // Options.Lease where it is 0
	claimsMost = 50               // of a stream in one call
	dueRounds  = 8                // of calls in one look
	dueMembers = 64               // streams of a partition in one of them (lua/duepoll.lua)
	duePolled  = 128              // partitions that one script asks
	dueWait    = 2 * time.Second  // for the answer to a pipeline of a look
	dueMost    = time.Second      // after which a look begins no other: what it has claimed waits for its end
)

// Due ends what has expired, delivers what was scheduled, and claims what is to be told; slots bound the claims. Whatever several programs do at once comes about once.
// Of a stream that fails, and of Redis that does, the others are done all the same. Time is Redis' own.
func (s *Store) Due(ctx context.Context, slots Slots) (Due, error) {
	d := Due{Cancelled: map[notify.Via]int{}}
	var failed error
	looked := map[notify.Stream]bool{} // at these; true: there was more than one call takes
	over, stop := context.WithTimeout(ctx, s.dueMost)
	defer stop()
	for round := range dueRounds {
		streams, full, lag, err := s.dueStreams(ctx)
		if failed == nil {
			failed = err
		}
		if round == 0 {
			d.Lag = lag
		}
		todo := map[notify.Stream]int{} // with so many places for claims
		for _, st := range streams {
			switch more, before := looked[st]; {
			case !before:
				todo[st] = 1 // what has more waits for the next round, in which it may have all that are left
			case more:
				todo[st] = claimsMost
			} // else it fails, or is just due: the next look's
		}
		if err = s.doDue(ctx, over, todo, looked, slots, &d); failed == nil {
			failed = err
		}
		d.More = full && len(todo) > 0
		for st := range todo {
			more, done := looked[st]
			d.More = d.More || more || !done
		}
		if !d.More || over.Err() != nil {
			break
		}
	}
	return d, failed
}

// dueStreams asks which streams have something that is due, whether there may be more of them, and how long the oldest has been so.
func (s *Store) dueStreams(ctx context.Context) (streams []notify.Stream, full bool, lag time.Duration, failed error) {
	calls := make([]call, 0, s.keys.Partitions())
	for part := range s.keys.Partitions() {
		if key := s.keys.Due(part); s.cluster || part%duePolled == 0 {
			calls = append(calls, call{script: duePollScript, keys: []string{key}})
		} else {
			last := &calls[len(calls)-1]
			last.keys = append(last.keys, key)
		}
	}
	for i, c := range s.runDue(ctx, calls) {
		v, err := replyOf(c, 1+len(calls[i].keys))
		if err != nil {
			failed = fmt.Errorf("look at deadlines: %w", err)
			continue
		}
		now, _ := strconv.ParseInt(text(v[0]), 10, 64) // of our script: a number
		for _, part := range v[1:] {
			members, _ := part.([]any)
			full = full || len(members) >= 2*dueMembers
			for ; len(members) >= 2; members = members[2:] {
				if st, ok := keyspace.ParseMember(strings.Clone(text(members[0]))); ok && listed(st) {
					streams = append(streams, st)
					lag = max(lag, time.Duration(now-score(members[1]))*time.Millisecond)
				}
			}
		}
	}
	return streams, full, lag, failed
}

// runDue runs the calls of a look in a pipeline. ctx ends it at its deadline alone, which is not too far away: whoever ends waits for it.
func (s *Store) runDue(ctx context.Context, calls []call) []*redis.Cmd {
	ctx, cancel := context.WithTimeout(ctx, dueWait)
	defer cancel()
	return s.run(ctx, opDue, calls)
}

// score is a sorted set's, of whole milliseconds, as Redis writes it.
func score(v any) int64 {
	f, _ := strconv.ParseFloat(text(v), 64)
	return int64(f)
}

// doDue has the scripts of streams run, some in a pipeline, until over ends, with so many places for claims each; what finds none is put off, where there were more than one.
// looked then says of each whether it has more that is due.
func (s *Store) doDue(ctx, over context.Context, todo map[notify.Stream]int, looked map[notify.Stream]bool, slots Slots, d *Due) (failed error) {
	var of []notify.Stream
	var most []int
	var calls []call
	claimer := s.program + "." + newEpoch()
	do := func() {
		for i, c := range s.runDue(ctx, calls) {
			before := len(d.Claims)
			again, err := s.readDue(of[i], claimer, c, d)
			slots.Free(of[i].Tenant, most[i]-(len(d.Claims)-before))
			if err != nil {
				failed = fmt.Errorf("do what is due: %w", err)
			}
			looked[of[i]] = again
		}
		of, most, calls = nil, nil, nil
	}
	for st, places := range todo {
		if over.Err() != nil && len(looked) > 0 {
			break
		}
		wait := time.Duration(0)
		if places > 1 {
			wait = s.putOff.wait(st.Tenant, len(calls), between(st.Tenant, d.Claims))
		}
		n := slots.Take(st.Tenant, places)
		of, most = append(of, st), append(most, n)
		items, ids, retention := s.boundsOf(st)
		calls = append(calls, call{script: forKind(st, dueScript, dueSegmentScript), keys: s.termKeys(st), args: []any{newEpoch(), inboxEvents, ids, retention.Milliseconds(), s.publishCmd,
			items, keyspace.Member(st), n, s.lease.Milliseconds(), claimer, wait.Milliseconds()}})
		if len(calls) == batchWrites {
			do()
		}
	}
	do()
	return failed
}

// readDue reads what lua/due.lua answered to a claimer, and tells whether more is due.
func (s *Store) readDue(st notify.Stream, claimer string, c *redis.Cmd, d *Due) (again bool, err error) {
	const fixed, fields = 6, 11
	v, err := replyOf(c, fixed)
	if err != nil {
		return false, err
	}
	expired, came := number(v[0]), number(v[1])
	d.Expired, d.Scheduled = d.Expired+expired, d.Scheduled+came
	for _, via := range text(v[2]) {
		d.Cancelled[notify.Via(via)]++
	}
	s.putOff.add(st.Tenant, number(v[5]), between(st.Tenant, d.Claims))
	d.PutOff += number(v[5])
	epoch := strings.Clone(text(v[4]))
	for f := v[fixed:]; len(f) >= fields; f = f[fields:] {
		one, err := claimOf(st, epoch, f)
		if err != nil {
			return false, err
		}
		one.claimer = claimer
		d.Claims = append(d.Claims, one)
	}
	return number(v[3]) == 1, nil
}

func claimOf(st notify.Stream, epoch string, f []any) (Claim, error) {
	id, how, head := strings.Clone(text(f[0])), text(f[1]), text(f[8])
	item, err := keyspace.DecodeItem(id, head, []byte(text(f[9])), []byte(text(f[10])))
	if err != nil {
		return Claim{}, err
	}
	h, err := keyspace.ParseHead(head)
	if err != nil {
		return Claim{}, err
	}
	offset, err := parseOffset(f[5])
	if err != nil || len(how) != 2 {
		return Claim{}, fmt.Errorf("claim of %q: script answered %q at %q", id, how, text(f[5]))
	}
	item.Topic, item.Position = st.Topic, notify.Position{Epoch: epoch, Offset: offset}
	item.Seen, item.Read = number(f[6]) == 1, number(f[7]) == 1
	one := Claim{Stream: st, Item: *item, Collapse: strings.Clone(h.Collapse), Via: notify.Via(how[1]), Unless: notify.ChangeSeen,
		Done: strings.Fields(strings.Clone(text(f[4])))}
	if how[0] == 'R' {
		one.Unless = notify.ChangeRead
	}
	one.Attempt, _ = strconv.Atoi(text(f[2])) // of our script: numbers
	since, _ := strconv.ParseInt(text(f[3]), 10, 64)
	one.Since = time.UnixMilli(since)
	return one, nil
}

// Escalated says what became of a claim. Nothing happens where its lease has ended.
func (s *Store) Escalated(ctx context.Context, c Claim, o Outcome) error {
	after, attempts := "", c.Attempt
	if o.Again {
		after = strconv.FormatInt(max(o.After, time.Millisecond).Milliseconds(), 10)
	}
	if o.Same {
		attempts--
	}
	cmd := s.run(ctx, opDue, []call{{script: doneScript, keys: s.termKeys(c.Stream),
		args: []any{keyspace.Member(c.Stream), c.Item.ID, c.claimer, after, attempts, strings.Join(o.Done, " ")}}})[0]
	if err := cmd.Err(); err != nil {
		return fmt.Errorf("say what became of a claim: %w", classify(err))
	}
	return nil
}
