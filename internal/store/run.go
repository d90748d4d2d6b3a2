package store

import (
	"context"
	"strconv"
	"strings"
	"time"
)

const (
	pollEvery   = 2 * time.Second        // the replication of servers that hold something of the ring
	pollWait    = 2 * time.Second        // for their answers: one that stands still holds up the others' polls no longer
	remarkEvery = 500 * time.Millisecond // marks that wait for their items are looked at
	finishWait  = 2 * time.Second        // for replicas, at the end

	// StopBudget is how long Run goes on after its context has ended.
	StopBudget = finishWait + time.Second
)

// Run is what the Store does beside its callers' work, until ctx ends: it asks how far the replicas are, so that the ring lets go what they have; it
// has written again what was lost of streams that nobody writes to; and at the end it waits, StopBudget at the most, until what is on its way is
// decided and the replicas have all of it. It is called once, and ends last of all that writes through the Store.
//
// A Store whose Run is not called reads and writes all the same, in order and with all retries. What a failover loses of a stream is written again
// with the next write to that stream, not before; the ring keeps everything for its full life; and nobody waits for replicas at the end.
func (s *Store) Run(ctx context.Context) error {
	polls, remarks := time.NewTicker(pollEvery), time.NewTicker(remarkEvery)
	defer polls.Stop()
	defer remarks.Stop()
	for {
		s.poll(ctx)
	next:
		for {
			select {
			case <-ctx.Done():
				s.finish()
				return nil
			case now := <-remarks.C:
				s.remarkDue(now)
			case <-polls.C:
				break next
			}
		}
	}
}

// poll asks the servers of what the ring holds about their replication; one of them at least, to know whether it tells its history.
func (s *Store) poll(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, pollWait)
	defer cancel()
	parts := s.ring.held()
	if len(parts) == 0 {
		parts = []int{0}
	}
	asked := parts
	if !s.cluster { // one server has them all
		asked = parts[:1]
	}
	found := s.replication(ctx, asked)
	for i, part := range parts {
		got := found[min(i, len(found)-1)]
		if got.at.IsZero() {
			continue // it did not answer
		}
		behind, stuck := s.ring.polled(part, got)
		if len(behind) > 0 {
			s.writer.look(behind)
		}
		if stuck > 0 {
			s.log.Error("ring_stuck", "writes", stuck)
		}
	}
}

// replication asks the servers of partitions; who does not answer leaves a zero poll.
func (s *Store) replication(ctx context.Context, parts []int) []poll {
	calls, found := make([]call, len(parts)), make([]poll, len(parts))
	for i, part := range parts {
		_, tick := s.keys.ChangeIndex(part)
		calls[i] = call{script: replicasScript, keys: []string{tick}}
	}
	at := time.Now()
	for i, cmd := range s.run(ctx, opPoll, calls) {
		if v, err := slice(cmd); err == nil && len(v) == 4 {
			found[i] = pollOf(at, v)
			s.tellHistory(found[i].history != "")
		}
	}
	return found
}

func pollOf(at time.Time, v []any) poll {
	p := poll{at: at, history: strings.Clone(text(v[0])), replicas: number(v[2])}
	if p.history == unknownHistory {
		p.history = ""
	}
	p.offset, _ = strconv.ParseInt(text(v[1]), 10, 64) // of our script: numbers
	p.lowest, _ = strconv.ParseInt(text(v[3]), 10, 64)
	return p
}

// tellHistory says whether Redis tells the id of its history; where it hides it, nothing that a failover loses can be noticed.
func (s *Store) tellHistory(told bool) {
	s.metrics.historyTold(told)
	if !told && s.hidden.CompareAndSwap(false, true) {
		s.log.Warn("history_hidden")
	} else if told {
		s.hidden.Store(false)
	}
}

// finish looks a last time for what was lost, waits until what is on its way is decided, and then for the replicas.
func (s *Store) finish() {
	ctx, cancel := context.WithTimeout(context.Background(), StopBudget-finishWait)
	defer cancel()
	if len(s.ring.held()) > 0 {
		s.poll(ctx)
	}
	s.remarkDue(time.Now().Add(time.Hour)) // all: their turn does not come any more
	s.writer.idle(ctx)
	s.remarkDue(time.Time{}) // none is due: it tells which wait no more
	unanswered, missing := s.remarksLeft()
	if missing > 0 {
		s.log.Warn("items_missing", "marks", missing)
	}
	if writes := s.ring.unsettled() + unanswered; writes > 0 {
		s.log.Error("ring_unsettled", "writes", writes)
	}
	s.flushReplicas()
}
