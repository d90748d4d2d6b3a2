//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	dialers = 32
	stuck   = 15 * time.Second // without a single delivery until what is missing is lost
)

// A stage is one product that runs, with a crowd that hears it. Every connection is a user of its own and hears its inbox and topics.
type stage struct {
	context.Context
	setup
	served  *served
	crowd   *crowd
	redis   *process
	product string
	topics  int          // load/0, load/1 …: the lines before those of the inboxes
	users   int          // one for each connection
	serial  atomic.Int64 // of messages, for their ids
	written atomic.Int64 // topics and inboxes that were written to
	deflate bool         // was negotiated with everybody
	empty   float64      // KiB that the gateways had before anybody came
}

// open starts the processes. hears says which topics each connection hears. close ends the stage.
func open(ctx context.Context, p product, o setup, topics int, hears [][]int) (s *stage, err error) {
	s = &stage{Context: ctx, setup: o, product: p.name, topics: topics, users: len(hears)}
	if s.setup.dir, err = os.MkdirTemp("", "allim-load-"); err != nil {
		return nil, fmt.Errorf("make directory: %w", err)
	}
	defer func() {
		if err != nil {
			_ = s.close() // the first error says why
		}
	}()
	if s.redis, s.setup.redis, err = startRedis(s.dir, o.cores); err != nil {
		return nil, err
	}
	if s.served, err = p.start(ctx, s.setup); err != nil {
		return nil, err
	}
	lines := make([][]int, len(hears))
	for i, heard := range hears {
		lines[i] = append(append(lines[i], heard...), s.inbox(i), s.group(i))
	}
	s.crowd, err = newCrowd(s.served.dialect, newJudge(s.group(len(hears)-1)+1, lines))
	return s, err
}

// close ends everything. The error is what the processes say of their run.
func (s *stage) close() (err error) {
	if s.served != nil {
		err = s.served.close()
	}
	if s.redis != nil {
		err = errors.Join(err, s.redis.stop())
	}
	if s.crowd != nil {
		s.crowd.close()
	}
	return errors.Join(err, os.RemoveAll(s.dir))
}

// inbox is the line of a user.
func (s *stage) inbox(user int) int { return s.topics + user }

// group is the line of what is sent to many users at once: to groupSize of them, a user and its neighbours.
func (s *stage) group(user int) int { return s.topics + s.users + user/groupSize }

const groupSize = 100

func user(i int) string { return fmt.Sprintf("u%d", i) }

// topic is the name of the line of a topic or an inbox, for publish.
func (s *stage) topic(line int) string {
	if line < s.topics {
		return fmt.Sprintf("load/%d", line)
	}
	return s.served.own(user(line - s.topics))
}

// connect brings everybody in, and returns when each hears what it came for.
func (s *stage) connect() error {
	hellos := make([]hello, s.users) // made before, so that signing tokens is not in the way
	for i := range hellos {
		var topics []string
		for _, line := range s.crowd.judge.readers[i].lines {
			if line < s.topics {
				topics = append(topics, s.topic(line))
			}
		}
		hellos[i] = s.served.hello(user(i), topics)
	}
	var (
		next  atomic.Int64
		all   sync.WaitGroup
		fault = make(chan error, dialers)
		flat  atomic.Int64
	)
	for range min(dialers, s.users) {
		all.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= s.users || s.Err() != nil {
					return
				}
				fd, rest, extensions, err := dial(s.served.clients[i%len(s.served.clients)], i, hellos[i])
				deflate := strings.HasPrefix(extensions, "permessage-deflate")
				if deflate {
					flat.Add(1)
				}
				if err == nil {
					err = s.crowd.join(i, fd, rest, deflate)
				}
				if err != nil {
					fault <- fmt.Errorf("connection %d: %w", i, err)
					return
				}
			}
		})
	}
	all.Wait()
	s.deflate = int(flat.Load()) == s.users
	select {
	case err := <-fault:
		return err
	default:
	}
	return s.wait("everybody is welcomed", func() (int, int) { return s.crowd.welcomed, s.users })
}

// wait waits until as much came as is wanted. It gives up when nothing more comes.
func (s *stage) wait(what string, progress func() (got, want int)) error {
	last, since := -1, time.Now()
	for {
		var got, want int
		s.crowd.state(func() { got, want = progress() })
		switch {
		case got >= want:
			return nil
		case got != last:
			last, since = got, time.Now()
		case time.Since(since) > stuck:
			return fmt.Errorf("%w: %d of %d when %s", errStuck, got, want, what)
		}
		select {
		case <-s.Done():
			return s.Err()
		case <-time.After(look / 5):
		}
	}
}

var errStuck = errors.New("nothing more came")

// delivered waits for all that was published. What does not come is found lost by the judge.
func (s *stage) delivered() error {
	err := s.wait("all is delivered", func() (int, int) { return s.crowd.judge.got, s.crowd.judge.due })
	if errors.Is(err, errStuck) {
		return nil
	}
	return err
}

// pause waits for d, up to a millisecond longer.
func (s *stage) pause(d time.Duration) error {
	select {
	case <-s.Done():
		return s.Err()
	case <-time.After(d):
		return nil
	}
}

// exactly waits for d. What a timer of Go's may be late is slept by the kernel, which is late by its slack of 50 µs, and by this thread: for one caller.
func (s *stage) exactly(d time.Duration) error {
	until := now() + d
	if d > roughly {
		if err := s.pause(d - roughly); err != nil {
			return err
		}
	}
	nap(until - now())
	return s.Err()
}

// restLooks are as many as Redis needs at most. Where its table of keys has grown, it moves them by itself while nobody asks, for 10 ms of each second
// (activerehashing), and looks each up in two tables: the cost of who is measured meanwhile. That is over in 15 s.
const restLooks = 15

// rest waits until Redis has done what growing left to do: from one look to the next, a second later, it was at work for less than a tick.
func (s *stage) rest(look time.Duration) error {
	for range restLooks {
		before, err := s.redis.usage()
		if err == nil {
			err = s.pause(look)
		}
		if err != nil {
			return err
		}
		if after, err := s.redis.usage(); err != nil || after == before {
			return err
		}
	}
	return nil
}

// roughly is more than a timer of Go's is late.
const roughly = 1500 * time.Microsecond

// nap sleeps, less where a signal comes.
func nap(d time.Duration) {
	if d > 0 {
		t := unix.NsecToTimespec(int64(d))
		_ = unix.Nanosleep(&t, nil) // an error means that it was shorter
	}
}

// verdict takes what the judge found since the last time. What comes late, and twice, gets a moment to do so.
func (s *stage) verdict() (found []string, err error) {
	if err := s.pause(s.settle); err != nil {
		return nil, err
	}
	s.crowd.state(func() {
		s.crowd.judge.lost()
		found = s.crowd.judge.faults.take()
	})
	return found, nil
}
