package store

import (
	"container/list"
	"slices"
	"sync"
	"time"

	"allim/pkg/notify"
)

const (
	ringBytes  = 64 << 20
	ringLife   = 120 * time.Second // of a write, where no replica says that it has it
	ringStuck  = 300               // polls that find a stream behind, ten minutes of them: it cannot be compared with Redis, or not be written again
	entryBytes = 512               // of an entry besides its body and ids: names, list, map
	pollMost   = 64                // polls that replicas have yet to reach
)

// A ring holds the writes that were acknowledged and that a replica may not have yet, so that what a failover loses can be written again. A
// write leaves when every replica of its server has it, when it is ringLife old, or, where there are no replicas, when the ring is full.
type ring struct {
	most    int // bytes; constant
	metrics *Metrics

	mu     sync.Mutex // guards the fields below; nothing is locked while it is held
	bytes  int
	bodies map[*byte]int // entries by their body: it is held, and counted, as long as any of them is
	parts  []ringPart    // by partition
}

type ringPart struct {
	entries  list.List // of *entry, in the order in which it was last known that Redis has them
	streams  map[notify.Stream]*kept
	history  string // that the last poll found
	replicas int    // that are past their first synchronisation, at the last poll
	polls    []poll // that not all replicas have reached, of that history
}

// A poll is what Run learned of a partition's server.
type poll struct {
	at       time.Time // before it was asked
	history  string    // "": it does not tell
	offset   int64     // of its replication
	replicas int
	lowest   int64 // offset that a replica has
}

// kept is what the ring holds of a stream. Who changes it has the stream's lane, or takes the oldest away.
type kept struct {
	history string // of the Redis that has all of it; "": of several, or it is not sure
	entries []*entry
	behind  int // polls in a row that found Redis to be of another one
}

// An entry is one acknowledged write.
type entry struct {
	write
	ackedAs
	stream notify.Stream
	since  time.Time // when Redis was last known to have it
	gone   bool      // Redis lost it, and has refused it since
	size   int
	place  *list.Element // in its part; nil: it has left
}

func newRing(partitions int, m *Metrics) *ring {
	return &ring{most: ringBytes, metrics: m, bodies: map[*byte]int{}, parts: make([]ringPart, partitions)}
}

// add takes a write that Redis has answered. A mark of many ids is several entries, so that each can be made again by one call.
func (r *ring) add(part int, st notify.Stream, w write, was ackedAs, got reply, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := &r.parts[part]
	if p.streams == nil {
		p.streams = map[notify.Stream]*kept{}
	}
	k := p.streams[st]
	if k == nil {
		k = &kept{history: got.history}
		p.streams[st] = k
	}
	if k.history != got.history {
		k.history = ""
	}
	if was.at = got.proof(&w); was.firstUS == 0 {
		was.first, was.firstUS = got.at, got.us
	}
	ids := w.ids
	for {
		w.ids = ids[:min(maxMarkIDs, len(ids))]
		ids = ids[len(w.ids):]
		e := &entry{write: w, ackedAs: was, stream: st, since: now, size: entryBytes + idsBytes(w.ids)}
		e.place = p.entries.PushBack(e)
		k.entries = append(k.entries, e)
		r.countLocked(e, 1)
		if len(ids) == 0 {
			break
		}
	}
	if first := p.entries.Front().Value.(*entry); p.streams[first.stream].history == got.history { // else the next poll does: not each write goes past much that is stuck
		r.trimLocked(part, got.history, now.Add(-ringLife), leftByAge)
	}
	for r.bytes > r.most && !r.replicatedLocked() { // with replicas, what was on its way when it was full has its place, too
		r.dropOldestLocked()
	}
}

// countLocked counts an entry that comes, 1, or goes, -1.
func (r *ring) countLocked(e *entry, one int) {
	size := one * e.size
	if len(e.body) > 0 {
		body := &e.body[0]
		r.bodies[body] += one
		switch n := r.bodies[body]; {
		case n == 0:
			delete(r.bodies, body)
			size -= len(e.body)
		case n == 1 && one == 1:
			size += len(e.body)
		}
	}
	r.bytes += size
	r.metrics.ringHolds(one, size)
}

// full tells whether a write must wait: there is no room, and replicas that are behind will make some.
func (r *ring) full() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.bytes >= r.most && r.replicatedLocked()
}

// replicatedLocked tells whether replicas let some of it go one day.
func (r *ring) replicatedLocked() bool {
	for i := range r.parts {
		if p := &r.parts[i]; p.replicas > 0 && p.entries.Len() > 0 {
			return true
		}
	}
	return false
}

// behind tells whether some of what is held of a stream may not be in the Redis of that history.
func (r *ring) behind(part int, st notify.Stream, history string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	k := r.parts[part].streams[st]
	return k != nil && history != "" && k.history != history
}

// of is what is held of a stream, the oldest first.
func (r *ring) of(part int, st notify.Stream) []*entry {
	r.mu.Lock()
	defer r.mu.Unlock()
	if k := r.parts[part].streams[st]; k != nil {
		return slices.Clone(k.entries)
	}
	return nil
}

// confirm says that the Redis of that history has all that is held of a stream, where ats has what was written anew; "": only some of that.
func (r *ring) confirm(part int, st notify.Stream, history string, ats map[*entry]notify.Position, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := &r.parts[part]
	k := p.streams[st]
	if k == nil {
		return
	}
	k.history = history
	for _, e := range k.entries {
		if at, ok := ats[e]; ok {
			e.at = at
		}
		if history != "" {
			e.since = now
			p.entries.MoveToBack(e.place)
		}
	}
}

// polled takes what a poll found. It returns the streams of which the partition's Redis may have lost something, and how many writes it has let go of
// streams that are stuck.
func (r *ring) polled(part int, got poll) (behind []notify.Stream, stuck int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := &r.parts[part]
	if got.history != p.history {
		p.history, p.polls = got.history, nil
	}
	p.replicas = got.replicas
	if got.history == "" {
		return nil, 0
	}
	if got.replicas > 0 {
		for len(p.polls) > 0 && p.polls[0].offset <= got.lowest {
			r.trimLocked(part, got.history, p.polls[0].at, leftReplicated)
			p.polls = p.polls[1:]
		}
	}
	if len(p.polls) < pollMost {
		p.polls = append(p.polls, got)
	}
	r.trimLocked(part, got.history, got.at.Add(-ringLife), leftByAge)
	for st, k := range p.streams {
		switch {
		case k.history == got.history:
			k.behind = 0
			continue
		case k.behind == ringStuck:
			for range len(k.entries) {
				r.dropLocked(p, k.entries[0], leftStuck)
				stuck++
			}
			continue
		}
		k.behind++
		behind = append(behind, st)
	}
	return behind, stuck
}

// unsettled is the number of writes that Redis may have lost, as the last polls found.
func (r *ring) unsettled() (writes int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.parts {
		for _, k := range r.parts[i].streams {
			if h := r.parts[i].history; h != "" && k.history != h {
				writes += len(k.entries)
			}
		}
	}
	return writes
}

// held lists the partitions of which something is held.
func (r *ring) held() (parts []int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.parts {
		if len(r.parts[i].streams) > 0 {
			parts = append(parts, i)
		}
	}
	return parts
}

// trimLocked lets go what the Redis of that history was known to have at a time. What another one has stays: it is looked at first, and holds up nothing behind it.
func (r *ring) trimLocked(part int, history string, until time.Time, why ringLeft) {
	p := &r.parts[part]
	for at := p.entries.Front(); at != nil; {
		e := at.Value.(*entry)
		if e.since.After(until) {
			return
		}
		if at = at.Next(); p.streams[e.stream].history == history {
			r.dropLocked(p, e, why)
		}
	}
}

func (r *ring) dropOldestLocked() {
	var oldest *entry
	var of *ringPart
	for i := range r.parts {
		if front := r.parts[i].entries.Front(); front != nil {
			if e := front.Value.(*entry); oldest == nil || e.since.Before(oldest.since) {
				oldest, of = e, &r.parts[i]
			}
		}
	}
	r.dropLocked(of, oldest, leftFull)
}

// dropLocked lets the first entry of a stream go.
func (r *ring) dropLocked(p *ringPart, e *entry, why ringLeft) {
	p.entries.Remove(e.place)
	e.place = nil
	k := p.streams[e.stream]
	k.entries[0] = nil
	if k.entries = k.entries[1:]; len(k.entries) == 0 {
		delete(p.streams, e.stream)
	}
	r.countLocked(e, -1)
	r.metrics.ringLeft(why)
}

func idsBytes(ids []string) (n int) {
	for _, id := range ids {
		n += 16 + len(id)
	}
	return n
}
