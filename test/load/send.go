//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

const (
	small = 150  // bytes of data of an ordinary message
	large = 1024 // of one that is worth compressing

	callLimit = 30 * time.Second
	underWay  = 4096 // deliveries that nobody got yet, at most, of who publishes flat out
)

// next is the next message of a line, published now or when it was due.
func (s *stage) next(line int, strict bool, at time.Duration, size int) (id string, data []byte) {
	var n uint32
	s.crowd.state(func() { n = s.crowd.judge.publish(line, strict) })
	s.written.Add(1)
	return fmt.Sprintf("m%d", s.serial.Add(1)), mark{uint32(line), n, at}.data(size)
}

// put publishes one message on a line and waits until it is acknowledged: on a topic by publish, in an inbox by unicast, for a group by notify.
func (s *stage) put(line int, strict bool, at time.Duration, size int) (err error) {
	id, data := s.next(line, strict, at, size)
	ctx, cancel := context.WithTimeout(s, callLimit)
	defer cancel()
	switch {
	case line < s.topics:
		err = s.served.publish(ctx, s.topic(line), id, data)
	case line < s.group(0):
		err = s.served.unicast(ctx, user(line-s.topics), id, data)
	default:
		var users []string
		for i := (line - s.group(0)) * groupSize; i < s.users && s.group(i) == line; i++ {
			users = append(users, user(i))
		}
		s.written.Add(int64(len(users)) - 1)
		err = s.served.notify(ctx, users, id, data)
	}
	if err != nil {
		return fmt.Errorf("publish %s on line %d: %w", id, line, err)
	}
	return nil
}

// steady publishes on lines in turn, so many messages in a second, for a time. Each of the callers has lines of its own and publishes on them one after
// the other. A message's time is when it was due, so that a server that holds up its callers does not look fast by it.
func (s *stage) steady(lines []int, rate float64, lasts time.Duration, callers, size int) error {
	callers = min(callers, len(lines))
	start, total := now(), max(int(rate*lasts.Seconds()), callers)
	wait := s.pause
	if callers == 1 {
		wait = s.exactly
	}
	return together(callers, func(caller int) error {
		for i := caller; i < total; i += callers {
			due := start + time.Duration(float64(i)/rate*1e9)
			if err := wait(due - now()); err != nil {
				return err
			}
			if err := s.put(lines[s.owned(i, caller, callers, len(lines))], true, due, size); err != nil {
				return err
			}
		}
		return nil
	})
}

// owned is the place of the i-th message among n lines: of those that a caller has, the next.
func (*stage) owned(i, caller, callers, n int) int {
	mine := (n - caller + callers - 1) / callers
	return caller + (i/callers)%mine*callers
}

// flatOut publishes on lines as fast as callers do that wait for each acknowledgement, and for room, for a time.
func (s *stage) flatOut(lines []int, lasts time.Duration, callers int) error {
	callers = min(callers, len(lines))
	end := now() + lasts
	return together(callers, func(caller int) error {
		for i := caller; s.room(end); i += callers {
			if err := s.put(lines[s.owned(i, caller, callers, len(lines))], true, now(), small); err != nil {
				return err
			}
		}
		return s.Err()
	})
}

// once publishes one message on each line and waits until all are delivered.
func (s *stage) once(lines []int, callers int) error {
	callers = min(callers, len(lines))
	if err := together(callers, func(caller int) error {
		for i := caller; i < len(lines) && s.Err() == nil; i += callers {
			if err := s.put(lines[i], true, now(), small); err != nil {
				return err
			}
		}
		return s.Err()
	}); err != nil {
		return err
	}
	return s.delivered()
}

// bursts publishes many messages on one line at once, and again when all of them were delivered, for a time.
func (s *stage) bursts(line, many int, lasts time.Duration) error {
	for end := now() + lasts; now() < end; {
		at := now()
		if err := together(many, func(int) error { return s.put(line, false, at, small) }); err != nil {
			return err
		}
		if err := s.delivered(); err != nil {
			return err
		}
	}
	return nil
}

// streamed publishes to all inboxes in turn by one stream, with at most window messages that are not acknowledged, for a time.
func (s *stage) streamed(window int, lasts time.Duration) error {
	stream, err := s.served.stream(s)
	if err != nil {
		return err
	}
	open, fault := make(chan struct{}, window), make(chan error, 1)
	go func() { // ends when all that was sent is acknowledged, or the stream is broken; awaited below
		defer close(fault)
		for range open {
			if err := stream.acknowledged(); err != nil {
				fault <- err
				return
			}
		}
	}()
	for i, end := 0, now()+lasts; s.room(end); i++ {
		line := s.inbox(i % s.users)
		select {
		case open <- struct{}{}: // one more than it can hold waits
		case err := <-fault:
			return errors.Join(err, stream.close())
		}
		id, data := s.next(line, true, now(), small)
		if err := stream.send(s.topic(line), id, data); err != nil {
			close(open)
			return errors.Join(<-fault, fmt.Errorf("send on stream: %w", err))
		}
	}
	close(open)
	return errors.Join(<-fault, stream.close())
}

// room waits until few enough deliveries are under way, and is false when the end came first. Without it whoever acknowledges before it delivers would
// be given more and more, until Redis ends the connection of who is behind: what is measured is what arrives.
func (s *stage) room(end time.Duration) bool {
	for now() < end && s.Err() == nil {
		var under int
		s.crowd.state(func() { under = s.crowd.judge.due - s.crowd.judge.got })
		if under < underWay {
			return true
		}
		time.Sleep(look / 5)
	}
	return false
}

// together runs so many callers and is their first error.
func together(callers int, call func(caller int) error) error {
	var all sync.WaitGroup
	fault := make(chan error, callers)
	for i := range callers {
		all.Go(func() {
			if err := call(i); err != nil {
				fault <- err
			}
		})
	}
	all.Wait()
	close(fault)
	return <-fault
}
