//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	readSize  = 64 << 10
	readyMost = 512 // connections that one look at the kernel's list takes

	// between two looks while anything comes that many hear. A reader that waits for each message has to be woken for each, at the cost of the server that
	// writes it: on one machine that is a tenth of its CPU, and over a network nothing of it. So latencies have this much of blur.
	gather = 100 * time.Microsecond
)

// dialect is what a crowd has to know of the server it talks to.
type dialect struct {
	welcome []byte // part of the frame that says that a connection hears what it came for
	ping    []byte // a text frame that is a ping, answered by itself; nil: there is none
}

// A crowd is many WebSocket connections of one process: one goroutine waits for all of them (epoll) and reads with one buffer. A connection that is
// idle costs a few dozen bytes.
type crowd struct {
	dialect
	poll *os.File // an epoll of our own; Go's runtime waits until it has something
	done chan struct{}
	read [readSize]byte // the loop's
	wide atomic.Bool    // what many hear is under way

	mu       sync.Mutex // guards the fields below and all of members but fd; held while a batch is read
	members  []member
	judge    *judge
	late     latency
	welcomed int
	pinged   int // connections that were
	inflater inflater
}

type member struct {
	fd                        int // -1: not yet open, or closed
	welcomed, pinged, deflate bool
	partial                   []byte // of a frame; nil: none
	message                   []byte // fragments so far; nil: none
	compressed                bool   // they are
}

// newCrowd makes a crowd of nobody and starts its loop, which close ends.
func newCrowd(d dialect, j *judge) (*crowd, error) {
	c := &crowd{dialect: d, judge: j, done: make(chan struct{}), members: make([]member, len(j.readers))}
	for i := range c.members {
		c.members[i].fd = -1
	}
	poll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err == nil {
		err = unix.SetNonblock(poll, true)
	}
	if err != nil {
		return nil, fmt.Errorf("make epoll: %w", err)
	}
	c.poll = os.NewFile(uintptr(poll), "epoll")
	go c.loop() // until close
	return c, nil
}

// join takes a socket that dial made as connection i.
func (c *crowd) join(i, fd int, rest []byte, deflate bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.members[i] = member{fd: fd, deflate: deflate}
	c.take(i, rest, now())
	if c.members[i].fd < 0 {
		return nil // and it stands among the faults
	}
	poll, err := c.poll.SyscallConn()
	if err != nil {
		return fmt.Errorf("watch socket: %w", err)
	}
	var refused error
	err = poll.Control(func(poll uintptr) {
		refused = unix.EpollCtl(int(poll), unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(i)})
	})
	if err = errors.Join(err, refused); err != nil {
		return fmt.Errorf("watch socket: %w", err)
	}
	return nil
}

// close ends all connections and the loop. The servers may be gone already.
func (c *crowd) close() {
	_ = c.poll.Close() // which ends the loop
	<-c.done
	for i := range c.members {
		if c.members[i].fd >= 0 {
			_ = unix.Close(c.members[i].fd)
		}
	}
}

func (c *crowd) loop() {
	defer close(c.done)
	ready := make([]unix.EpollEvent, readyMost)
	poll, err := c.poll.SyscallConn()
	if err != nil {
		return // it was closed at once
	}
	_ = poll.Read(func(poll uintptr) (ended bool) { // until it is closed; false waits until there is more
		for {
			n, err := unix.EpollWait(int(poll), ready, 0)
			if err == unix.EINTR {
				continue
			}
			if err != nil {
				panic(fmt.Sprintf("epoll_wait: %v", err)) // the descriptor is ours: a bug
			}
			if n == 0 {
				return false
			}
			c.mu.Lock()
			for _, e := range ready[:n] {
				c.readable(int(e.Fd))
			}
			c.mu.Unlock()
			if n < len(ready) && c.wide.Load() {
				nap(gather)
			}
		}
	})
}

// readable reads once; what is left makes the socket readable again.
func (c *crowd) readable(i int) {
	m := &c.members[i]
	n, err := unix.Read(m.fd, c.read[:])
	switch {
	case err == unix.EAGAIN || err == unix.EINTR:
	case err != nil || n == 0:
		c.drop(i, "connection %d ended: %v", i, err)
	default:
		c.take(i, c.read[:n], now())
	}
}

// drop takes down why a connection is no more.
func (c *crowd) drop(i int, format string, args ...any) {
	c.judge.faults.add("closed", format, args...)
	_ = unix.Close(c.members[i].fd) // which takes it out of the list
	c.members[i].fd = -1
}

// take handles what came on a connection.
func (c *crowd) take(i int, b []byte, at time.Duration) {
	m := &c.members[i]
	if m.partial != nil {
		b = append(m.partial, b...)
	}
	for {
		f, size, err := cut(b)
		if err != nil {
			c.drop(i, "connection %d: %v", i, err)
			return
		}
		if size == 0 {
			break
		}
		b = b[size:]
		if c.handle(i, f, at); m.fd < 0 {
			return
		}
	}
	m.partial = nil
	if len(b) > 0 {
		m.partial = slices.Clone(b)
	}
}

func (c *crowd) handle(i int, f frame, at time.Duration) {
	m := &c.members[i]
	switch f.op {
	case opPing:
		c.answer(i, opPong, f.payload)
	case opPong:
	case opClose:
		c.drop(i, "connection %d was closed: %q", i, f.payload)
	case opText, opBinary:
		m.compressed = f.compressed
		if f.fin {
			c.whole(i, f.payload, at)
			return
		}
		m.message = append([]byte{}, f.payload...)
	case opContinuation:
		if m.message == nil {
			c.drop(i, "connection %d got a continuation of nothing", i)
			return
		}
		m.message = append(m.message, f.payload...)
		if f.fin {
			text := m.message
			m.message = nil
			c.whole(i, text, at)
		}
	default:
		c.drop(i, "connection %d got opcode %d", i, f.op)
	}
}

// whole handles a message.
func (c *crowd) whole(i int, text []byte, at time.Duration) {
	m := &c.members[i]
	if m.compressed {
		var err error
		if text, err = c.inflater.inflate(text); err != nil || !m.deflate {
			c.drop(i, "connection %d got a compressed frame: negotiated %v, %v", i, m.deflate, err)
			return
		}
	}
	if c.ping != nil && bytes.Equal(bytes.TrimSpace(text), c.ping) {
		c.answer(i, opText, c.ping)
		return
	}
	if !m.welcomed && bytes.Contains(text, c.welcome) {
		m.welcomed = true
		c.welcomed++
	}
	if !marks(text, func(k mark) {
		c.judge.receive(i, k)
		c.late.add(at - k.at)
	}) {
		c.judge.faults.add("unreadable", "connection %d got %.200q", i, text)
	}
}

// answer answers a ping with a short frame. A socket that takes none of it is stuck, and its server will tell.
func (c *crowd) answer(i int, op byte, payload []byte) {
	if m := &c.members[i]; !m.pinged {
		m.pinged = true
		c.pinged++
	}
	if _, err := unix.Write(c.members[i].fd, masked(op, payload)); err != nil && err != unix.EAGAIN {
		c.drop(i, "connection %d: write: %v", i, err)
	}
}

// state runs f with the crowd's lock.
func (c *crowd) state(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f()
}
