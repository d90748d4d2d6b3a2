package ws

import (
	"encoding/binary"
	"net"
	"runtime"
	"sync"
	"time"

	"allim/internal/session"
)

const (
	scratchSize    = 32 << 10                    // bytes that are written to a connection in one piece, but for a frame that is longer
	slowSize       = 8 << 10                     // and to one that could not take all of them the last time: what is left over is a copy of its own
	keepSize       = 256 << 10                   // of a flusher's buffer, which a long frame makes grow
	readSize       = 4 << 10                     // bytes that are read at once
	idleSize       = 512                         // of the buffer in which a connection under TLS waits for them
	maxControlWait = maxPings * (2 + maxControl) // bytes of pongs that wait; who does not read them gets no more
	yieldAfter     = 64                          // connections, so that those that publish go on meanwhile and several frames leave in one write (performance.md)
)

// What goroutines borrow: buffers to read into, and rooms in which they gather what they write.
var (
	buffers = sync.Pool{New: func() any { b := make([]byte, readSize); return &b }}
	rooms   = sync.Pool{New: func() any { b := make([]byte, 0, 2*slowSize); return &b }}
)

// A flusher writes to the connections that have something to say, one after the other. Under load several frames gather in a connection's outbox until
// its turn comes, and leave in one write. Make it with newFlusher; run it once.
type flusher struct {
	server *Server
	wake   chan struct{} // buffered 1: somebody waits; never closed
	pen    *pen
	buf    []byte // of scratchSize

	mu    sync.Mutex // guards the rest; a leaf
	dirty []*conn    // each at most once, so there are no more than connections
}

func newFlusher(s *Server) *flusher {
	return &flusher{server: s, wake: make(chan struct{}, 1), pen: newPen(), buf: make([]byte, 0, scratchSize)}
}

// add lets c have its turn. It never blocks.
func (f *flusher) add(c *conn) {
	if c.queued.Swap(true) {
		return
	}
	f.mu.Lock()
	f.dirty = append(f.dirty, c)
	first := len(f.dirty) == 1
	f.mu.Unlock()
	if first {
		select {
		case f.wake <- struct{}{}:
		default: // it is on already
		}
	}
}

// run writes until done is closed.
func (f *flusher) run(done <-chan struct{}) {
	var turn []*conn
	for {
		select {
		case <-f.wake:
		case <-done:
			return
		}
		for {
			f.mu.Lock()
			turn, f.dirty = f.dirty, turn[:0]
			f.mu.Unlock()
			if len(turn) == 0 {
				break
			}
			for i, c := range turn {
				turn[i] = nil
				c.queued.Store(false)
				c.flush(f)
				if i%yieldAfter == yieldAfter-1 {
					runtime.Gosched()
				}
			}
			if cap(turn) > 1024 && len(turn) < cap(turn)/8 {
				turn = nil // a storm is over
			}
		}
	}
}

// flush writes what waits for c, as far as the kernel has room.
func (c *conn) flush(f *flusher) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.blocked || c.cutting.Load() {
		return
	}
	if c.raw == nil {
		c.blocked = true
		f.server.wg.Go(c.drain)
		return
	}
	most := scratchSize
	if c.slow {
		most = slowSize
	}
	b, pinged := c.gather(f.buf[:0], most)
	if cap(b) <= keepSize {
		f.buf = b[:0]
	}
	if pinged {
		f.server.owes(c)
	}
	n := 0
	if len(b) > 0 {
		var err error
		if n, err = f.pen.write(c.raw, b); err != nil {
			c.cut()
			return
		}
		c.slow = n < len(b)
	}
	switch {
	case n < len(b) || c.over():
		tail := append([]byte(nil), b[n:]...)
		c.blocked = true
		f.server.wg.Go(func() { c.push(tail) })
	case len(b) >= most:
		f.add(c) // there may be more: after the others
	}
}

// gather appends to b what waits: control frames, what the peer has to say, and when that is all, a close frame.
func (c *conn) gather(b []byte, most int) (out []byte, pinged bool) {
	b = append(b, c.control...)
	c.control = nil
	if c.closing {
		return b, false
	}
	if c.asked.Swap(false) && c.pinged.Load() == 0 { // one at a time
		b, pinged = appendHead(b, opPing, 0), true
	}
	b, end := c.peer.Fill(b, most, c.framing)
	switch {
	case len(b) >= most: // there may be more
	case c.bye != nil:
		b, c.closing = append(b, c.bye...), true
	case end != nil:
		b, c.closing = appendClose(b, end.Code, end.Reason), true
	}
	return b, pinged
}

// over tells whether nothing will follow what was gathered, for the first time.
func (c *conn) over() bool { return !c.shut && (c.closing || c.ending && c.bye == nil) }

// settle is called when all is written that there was to say.
func (c *conn) settle() {
	c.mu.Lock()
	over := c.over()
	if over {
		c.shut = true
		c.tell()
	}
	ending, failed := c.ending, c.failed
	c.mu.Unlock()
	switch half, ok := c.net.(interface{ CloseWrite() error }); {
	case !over:
	case ending:
		c.cut()
	default:
		if failed && ok {
			_ = half.CloseWrite() // at once: clients wait for it (RFC 6455, section 7.1.1)
		}
		_ = c.net.SetReadDeadline(time.Now().Add(closeWait)) // for the client's answer; a socket that is no more is noticed by who reads
	}
}

// pushSize is how much a client has to take within Options.Write.
const pushSize = 4 << 10

// push writes what the kernel had no room for.
func (c *conn) push(tail []byte) {
	if !c.write(tail) {
		return
	}
	_ = c.net.SetWriteDeadline(time.Time{})
	c.settle()
	c.mu.Lock()
	c.blocked = false
	c.mu.Unlock()
	c.flusher.add(c)
}

// drain writes all that waits for a connection that cannot be written to without waiting. It borrows a buffer for that only.
func (c *conn) drain() {
	buf := rooms.Get().(*[]byte)
	defer func() {
		if cap(*buf) <= scratchSize {
			rooms.Put(buf)
		}
	}()
	for {
		c.mu.Lock()
		b, pinged := c.gather((*buf)[:0], slowSize)
		if len(b) == 0 && !c.over() || c.cutting.Load() {
			_ = c.net.SetWriteDeadline(time.Time{}) // before another one may begin
			c.blocked = false
			c.mu.Unlock()
			return
		}
		if pinged {
			c.server.owes(c)
		}
		c.mu.Unlock()
		if *buf = b[:0]; !c.write(b) {
			return
		}
		c.settle()
	}
}

// write writes b, however long the client takes for it within the bound. Else the connection is cut.
func (c *conn) write(b []byte) bool {
	began := c.server.now()
	for len(b) > 0 {
		part := b[:min(len(b), pushSize)]
		_ = c.net.SetWriteDeadline(time.Now().Add(c.server.opt.Write))
		if _, err := c.net.Write(part); err != nil {
			if isTimeout(err) {
				c.server.opt.Metrics.Limit("write")
			}
			c.cut()
			return false
		}
		b = b[len(part):]
	}
	c.took(began)
	return true
}

func isTimeout(err error) bool {
	ne, ok := err.(net.Error)
	return ok && ne.Timeout()
}

// appendHead appends the head of a server's frame with n bytes of payload (RFC 6455, section 5.2).
func appendHead(b []byte, op byte, n int) []byte {
	b = append(b, bitFin|op)
	switch {
	case n < 126:
		return append(b, byte(n))
	case n < 1<<16:
		return binary.BigEndian.AppendUint16(append(b, 126), uint16(n))
	}
	return binary.BigEndian.AppendUint64(append(b, 127), uint64(n))
}

func appendClose(b []byte, code int, reason string) []byte {
	reason = reason[:min(len(reason), maxControl-2)]
	b = binary.BigEndian.AppendUint16(appendHead(b, opClose, 2+len(reason)), uint16(code))
	return append(b, reason...)
}

// textFraming frames JSON as it is.
var textFraming = session.Framing{Append: func(b, payload []byte) []byte {
	return append(appendHead(b, opText, len(payload)), payload...)
}}
