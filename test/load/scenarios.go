//go:build linux

package main

import "time"

// fan sends one message at a time to everybody, at a rate that makes so many deliveries in a second.
func (t tempo) fan(name string, seconds, size int) step {
	return t.wide(name, seconds, func(s *stage, lasts time.Duration) error {
		return s.steady([]int{0}, t.delivered/float64(s.users), lasts, 1, size)
	})
}

// hot is fan on topic 0, which a part of the crowd hears, beside all the other topics.
func (t tempo) hot(name string, seconds, listeners int) step {
	return t.wide(name, seconds, func(s *stage, lasts time.Duration) error {
		return s.steady([]int{0}, t.delivered/float64(listeners), lasts, 1, small)
	})
}

// spread sends to all topics but 0 in turn: as many messages in a second as unicast has, but no more deliveries than fan.
func (t tempo) spread(name string, seconds int) step {
	return t.measured(name, seconds, func(s *stage, lasts time.Duration) error {
		lines := make([]int, s.topics-1)
		for i := range lines {
			lines[i] = 1 + i
		}
		heard := max(1, float64(s.users)/float64(len(lines)))
		return s.steady(lines, min(t.unicast, t.delivered/heard), lasts, t.callers, small)
	})
}

func (t tempo) burstOf(name string, seconds int) step {
	return t.wide(name, seconds, func(s *stage, lasts time.Duration) error { return s.bursts(0, t.burst, lasts) })
}

// unicastTo sends to one inbox after the other. Each has had its first before, and Redis has rested from it: that makes the inbox, and would be most of
// what a large crowd gets.
func (t tempo) unicastTo(name string, seconds int) step {
	sent := t.measured(name, seconds, func(s *stage, lasts time.Duration) error {
		return s.steady(s.inboxes(), t.unicast, lasts, t.callers, small)
	})
	return step{name, sent.lasts + 3*t.second, func(s *stage) (figure, error) {
		if err := s.once(s.inboxes(), t.callers); err != nil {
			return figure{}, err
		}
		if err := s.rest(t.second); err != nil {
			return figure{}, err
		}
		return sent.do(s)
	}}
}

// flat is unicast as fast as it goes.
func (t tempo) flat(name string, seconds int) step {
	return t.measured(name, seconds, func(s *stage, lasts time.Duration) error { return s.flatOut(s.inboxes(), lasts, t.callers) })
}

// inbox notifies a hundred users with each call: what Redis can take of it is compared with the bare script.
func (t tempo) inbox(name string, seconds int) step {
	return t.measured(name, seconds, func(s *stage, lasts time.Duration) error {
		if s.served.notify == nil {
			return errLacks("it has no call for many users")
		}
		var groups []int
		for i := 0; i < s.users; i += groupSize {
			groups = append(groups, s.group(i))
		}
		return s.flatOut(groups, lasts, batchCallers)
	})
}

func (t tempo) streamed(name string, seconds int) step {
	return t.measured(name, seconds, func(s *stage, lasts time.Duration) error { return s.streamed(streamWindow, lasts) })
}

const (
	batchCallers = 4
	streamWindow = 512
)

// compressed is fan with larger messages, at a third of the rate, since compressing costs the baseline three times as much.
func (t tempo) compressed(name string, seconds int) step {
	return t.wide(name, seconds, func(s *stage, lasts time.Duration) error {
		if !s.deflate {
			return errLacks("permessage-deflate is not offered")
		}
		return s.steady([]int{0}, t.delivered/3/float64(s.users), lasts, 1, large)
	})
}

func (t tempo) measured(name string, seconds int, load func(*stage, time.Duration) error) step {
	lasts := time.Duration(seconds) * t.second
	return step{name, lasts, func(s *stage) (figure, error) {
		return s.measure(func() error { return load(s, lasts) })
	}}
}

// wide is a measured load of which many hear each message.
func (t tempo) wide(name string, seconds int, load func(*stage, time.Duration) error) step {
	return t.measured(name, seconds, func(s *stage, lasts time.Duration) error {
		s.crowd.wide.Store(true)
		defer s.crowd.wide.Store(false)
		return load(s, lasts)
	})
}

// inboxes are the lines of all users.
func (s *stage) inboxes() []int {
	lines := make([]int, s.users)
	for i := range lines {
		lines[i] = s.inbox(i)
	}
	return lines
}
