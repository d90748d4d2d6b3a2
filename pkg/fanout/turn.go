package fanout

// A turn of a loop does so much at most of each kind: a message waits for one turn of what happens to other topics, however many of them begin and end, are
// compared, or are answered at once. What is left over follows in the next turns, in its order. Two things are not bounded: how many sinks one topic
// has, and the new link of a lane, on which nothing is live yet.
const (
	burst = 64  // frames, and calls of sessions
	chore = 256 // topics; and what answers of history are about, at least one of them
)

// chores goes on with what was due at the last sweep and with what is to be compared. True: there is more.
func (x *shard) chores() bool {
	more := x.unanswered(x.swept)
	for i := range x.lingering {
		more = x.forget(&x.lingering[i], x.swept) || more
	}
	more = x.settle(x.swept) || more
	return x.scan() || more
}

// miss tells topics that frames of them did not fit.
func (l *loop) miss() (more bool) {
	n := 0
	for channel, gen := range l.missed {
		if n++; n > chore {
			return true
		}
		delete(l.missed, channel)
		l.lost(gen, channel)
	}
	return false
}

// heed takes answers of history.
func (l *loop) heed() (more bool) {
	for about := 0; l.heeded < len(l.replies) && about < chore; l.heeded++ {
		a := l.replies[l.heeded]
		l.replies[l.heeded] = nil
		about += 1 + len(a.batch) + len(a.recovery.Messages)
		l.answered(*a)
	}
	return l.heeded < len(l.replies)
}

// serve makes calls of sessions. Those that they lead to come after them.
func (l *loop) serve() (more bool) {
	for range burst {
		l.mu.Lock()
		c := l.first
		if c == nil {
			l.mu.Unlock()
			return false
		}
		ops, from := c.ops, c.from
		if l.first = c.next; l.first == nil {
			l.last = nil
		}
		c.next, c.ops, c.from = nil, 0, From{}
		l.mu.Unlock()
		l.called(c, ops, from)
	}
	return true
}

// handOn gives frames to their topics.
func (l *loop) handOn() (more bool) {
	for end := min(l.next+burst, len(l.batch)); l.next < end; l.next++ {
		l.receive(l.batch[l.next])
	}
	if l.next < len(l.batch) {
		return true
	}
	if l.taken > 0 {
		l.hub.frames.Add(-int64(l.taken))
		l.taken = 0
	}
	return false
}
