package fanout

import "errors"

// On a cluster a node may stand still while the others are well. A lane is in doubt when an answer did not come in time, until one does or a new link
// comes up. All that is in doubt shares a quarter of the workers, lane by lane in turn.

// A standing is what the recoverer knows of a lane. The zero value is trusted.
type standing struct {
	trust trust
	down  bool          // it has no link: nothing of it is live, and nobody needs an answer now
	gen   uint32        // of its link
	slow  fifo[*ticket] // its questions in doubt that found no place
}

// errOutdated answers what history is not asked any more.
var errOutdated = errors.New("its link ended")

type trust uint8

const (
	trusted trust = iota
	doubted       // an answer was late, which may have been us
	tried         // and it was asked since
)

// pickLocked is the next ticket that is ready and has a place, now running; nil: none, or none among so many that loops must have the lock first.
func (r *recoverer) pickLocked() *ticket {
	for range chore {
		place, from := r.doubts < r.doubtful, &r.ready
		if place && r.slow > 0 {
			from = &r.lanes[r.turnLocked()].slow
			r.slow--
		}
		if from.len() == 0 {
			return nil
		}
		k := from.pop()
		q := &k.query
		if q.sub != nil && q.sub.gone.Load() { // nobody is there for the answer
			k.state, k.query = idle, query{}
			r.pending--
			continue
		}
		lane := &r.lanes[q.lane]
		k.void = q.oneLane() && lane.outdates(q)
		k.doubt = q.oneLane() && !k.void && lane.trust != trusted
		if k.doubt && !place {
			lane.slow.push(k)
			r.slow++
			continue
		}
		if k.doubt {
			lane.trust = tried
			r.doubts++
		}
		k.state = isRunning
		return k
	}
	return nil
}

// outdates tells whether q, which is all of the lane, need not be asked: its topics are not live, or it is of before they were not, and a newer one
// follows or followed. Only memory is renewed all the same.
func (s *standing) outdates(q *query) bool {
	return s.down && q.why != renewing || q.why == resyncing && q.gen != s.gen
}

// turnLocked is the lane in doubt whose turn it is, of those with questions that wait: one that was not asked yet since it was late, for that takes no
// time if it is well; else the next.
func (r *recoverer) turnLocked() int {
	next := -1
	for i := range r.lanes {
		lane := (r.turn + 1 + i) % len(r.lanes)
		switch s := &r.lanes[lane]; {
		case s.slow.len() == 0:
		case s.trust == doubted:
			return lane
		case next < 0:
			next = lane
		}
	}
	r.turn = next
	return next
}

// endedLocked notes how a question went.
func (r *recoverer) endedLocked(k *ticket, inTime bool) {
	if k.doubt {
		k.doubt = false
		r.doubts--
	}
	if k.void || !k.query.oneLane() {
		return
	}
	switch lane := &r.lanes[k.query.lane]; {
	case inTime:
		r.trustLocked(lane)
	case lane.trust == trusted:
		lane.trust = doubted
	}
}

// lose says that a lane's link ended: what its topics wait for is outdated.
func (r *recoverer) lose(lane uint16) {
	r.mu.Lock()
	r.lanes[lane].down = true
	r.mu.Unlock()
}

// trust ends the doubt in a lane: a node answers its new link, of that generation.
func (r *recoverer) trust(lane uint16, gen uint32) {
	r.mu.Lock()
	s := &r.lanes[lane]
	s.down, s.gen = false, gen
	r.trustLocked(s)
	r.mu.Unlock()
	r.rouse()
}

// trustLocked has what waited asked: what is paced in a new turn, since its own is over.
func (r *recoverer) trustLocked(lane *standing) {
	lane.trust = trusted
	r.slow -= lane.slow.len()
	for lane.slow.len() > 0 {
		k := lane.slow.pop()
		if k.query.paced && !lane.outdates(&k.query) {
			r.pending--
			r.placeLocked(k, k.query)
		} else {
			r.ready.push(k)
		}
	}
}
