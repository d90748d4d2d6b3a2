package ws

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/coder/websocket"

	"allim/internal/session"
	"allim/internal/wire"
)

// A conn is one WebSocket. One goroutine reads, and is the only one that calls into coder/websocket; a flusher writes, or, while the kernel has no room,
// one goroutine that waits for it. Nothing else touches the socket, so no frame can stand within another:
//
//   - what a peer has to say is copied from shared frames into one piece; what the kernel did not take of it stays in tail, before all else;
//   - coder/websocket writes control frames only (it is never asked for another), each in one Write, which puts it behind the tail;
//   - after a close frame nothing is written.
type conn struct {
	server  *Server
	net     net.Conn
	raw     *raw // nil: written and read by goroutines that wait
	flusher *flusher
	framing *session.Framing
	lib     *websocket.Conn
	in      parser
	fed     []byte // what lib may read now
	pings   pingLimit

	queued  atomic.Bool  // stands in the flusher's list
	asked   atomic.Bool  // for a ping
	reading atomic.Bool  // a message of the client's is at work
	cutting atomic.Bool  // the socket is being closed, whatever waits
	pinged  atomic.Int64 // when the ping was written that has no answer yet, by the server's clock; 0: none
	waited  atomic.Int64 // when something ended that took long, by the server's clock

	mu      sync.Mutex    // guards the rest; the peer's locks may be taken while it is held, never the other way
	peer    Peer          // set before the connection begins
	control []byte        // control frames that wait
	blocked bool          // a goroutine waits until the client has taken what the kernel had no room for
	slow    bool          // it had to, the last time
	bye     []byte        // the close frame of coder/websocket's, which goes after what the peer has to say; nil: none
	closing bool          // a close frame was written: nothing follows
	failed  bool          // by the client's fault: it hears no more after the close frame
	ending  bool          // coder/websocket has closed it: the socket ends once all is written
	shut    bool          // all was written, and our side of the connection has ended
	told    chan struct{} // closed, once, when it is shut or cut; nil: nobody waits for that
}

// Wake says that the peer has something to send. Like Ping and Abort it is called with the peer's locks held.
func (c *conn) Wake() { c.flusher.add(c) }

// Ping asks the client for a sign of life.
func (c *conn) Ping() {
	c.asked.Store(true)
	c.flusher.add(c)
}

// Abort cuts the connection without a word.
func (c *conn) Abort() { c.cut() }

// cut closes the socket, and tells the peer: a message of the client's that waits for room in what it does not read waits no more. The goroutine that
// reads notices, and does the rest.
func (c *conn) cut() {
	if c.cutting.Swap(true) {
		return
	}
	c.server.wg.Go(func() { // not with the peer's locks held
		_ = closeSocket(c.net)
		c.mu.Lock()
		c.tell()
		c.mu.Unlock()
		if p := c.who(); p != nil {
			p.End(wire.CloseGoingAway, "gone") // it is gone when nothing of it is at work any more
		}
	})
}

// closeSocket closes without a word: what TLS would say may have to wait.
func closeSocket(n net.Conn) error {
	if t, is := n.(*tls.Conn); is {
		return t.NetConn().Close()
	}
	return n.Close()
}

func (c *conn) who() Peer {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.peer
}

// serve reads until the connection ends. early has come already.
func (c *conn) serve(early []byte) {
	defer c.leave()
	err := c.take(early)
	if err == nil {
		err = c.receive(c.take)
	}
	var f *fault
	if errors.As(err, &f) {
		c.fail(f)
	}
	if c.lingers(errors.Is(err, errAnswered)) {
		c.linger()
	}
}

// leave ends what is left of a connection. A fault of ours in what a message led to costs that connection alone.
func (c *conn) leave() {
	if p := recover(); p != nil {
		c.server.opt.Log.Error("request_panicked", "error", fmt.Sprint(p), "stack", string(debug.Stack()))
	}
	c.who().Gone()
	c.cut()
	c.mu.Lock() // what flushes has seen that, or begun before: whom it started, Server.Run waits for
	c.control = nil
	c.mu.Unlock()
	_ = c.lib.CloseNow() // always: it leaves some errors without closing (pitfalls C24)
	c.server.forget(c)
}

// errAnswered ends a connection whose client answered our close frame.
var errAnswered = errors.New("closed by both")

// receive hands on what comes until the stream ends or take does not want more.
func (c *conn) receive(take func([]byte) error) error {
	if c.raw != nil {
		return c.raw.each(take)
	}
	buf := make([]byte, idleSize)
	for {
		n, err := c.net.Read(buf)
		if n > 0 {
			if terr := take(buf[:n]); terr != nil {
				return terr
			}
		}
		if err != nil {
			return err
		}
	}
}

func (c *conn) take(b []byte) error { return c.in.feed(b, c) }

// fail closes the connection for a fault of the client's, after what waits.
func (c *conn) fail(f *fault) {
	if f.code == wire.CloseTooBig {
		c.server.opt.Metrics.Limit("frame_bytes")
	}
	c.who().End(f.code, f.reason)
	c.mu.Lock()
	c.failed = true
	c.mu.Unlock()
	c.flusher.add(c)
}

// lingers tells whether a close frame is still on its way to the client, with what stands before it. settle says how long it is waited for. answered: the
// client knows already that this is the end, and need not have read why.
func (c *conn) lingers(answered bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if answered {
		c.ending = !c.shut
		return c.ending
	}
	return c.failed || c.ending
}

// linger hears no more, but reads until the client has what is on its way, and ends: else the kernel resets the connection, and the client never sees our
// close frame. A client that has ended its side alone reads on: then what is left is written first. All that takes no longer than Options.Write and closeWait
// twice, however often the client takes a little.
func (c *conn) linger() {
	until := time.Now().Add(c.server.opt.Write + closeWait)
	c.mu.Lock()
	if !c.shut { // from then on settle says how long
		_ = c.net.SetReadDeadline(until)
	}
	c.mu.Unlock()
	err := c.receive(func([]byte) error { return nil })
	if errors.Is(err, io.EOF) {
		c.settled(until)
	}
	c.mu.Lock()
	late := !c.shut && (isTimeout(err) || errors.Is(err, io.EOF)) && !c.cutting.Load()
	c.mu.Unlock()
	if late {
		c.server.opt.Metrics.Limit("write")
	}
}

// settled waits until all is written or the connection is cut, or until then.
func (c *conn) settled(until time.Time) {
	c.mu.Lock()
	if c.shut || c.cutting.Load() { // else cut takes the lock later
		c.mu.Unlock()
		return
	}
	told := make(chan struct{})
	c.told = told
	c.mu.Unlock()
	end := time.NewTimer(time.Until(until))
	defer end.Stop()
	select {
	case <-told:
	case <-end.C:
	}
}

// tell ends the waiting of settled. The lock is held.
func (c *conn) tell() {
	if c.told != nil {
		close(c.told)
		c.told = nil
	}
}

// closeWait bounds the closing handshake once all is written: the library alone would wait 5 + 5 s (pitfalls C22).
const closeWait = 2 * time.Second

// ping answers a client's, as often as a client may ask.
func (c *conn) ping(payload []byte) error {
	if !c.pings.take(c.server.now(), c.server.opt.Pings) {
		return nil
	}
	c.mu.Lock()
	if !c.closing && len(c.control) < maxControlWait {
		c.control = append(appendHead(c.control, opPong, len(payload)), payload...)
	}
	c.mu.Unlock()
	c.flusher.add(c)
	return nil
}

// pong is a sign of life.
func (c *conn) pong([]byte) error {
	c.pinged.Store(0)
	return nil
}

// frame lets coder/websocket read a message or a close frame: it unpacks the one and answers the other.
func (c *conn) frame(op byte, b []byte) error {
	if op == opClose && c.closed() {
		return errAnswered
	}
	message, err := c.read(op, b)
	if op == opClose {
		c.who().End(wire.CloseGoingAway, "gone") // nothing new is said; what waits goes out before the answer
	}
	if err != nil {
		return err
	}
	c.during(&c.reading, func() { c.who().Handle(message, op == opBinary) })
	return nil
}

// read lets coder/websocket read one frame, which is inflated before. The error after a close frame is that of its end.
func (c *conn) read(op byte, b []byte) (message []byte, err error) {
	if b[0]&bitRSV1 != 0 {
		u := unpackers.Get().(*unpacker)
		defer u.release()
		if f := u.unpack(payload(b), c.in.most); f != nil {
			return nil, f
		}
		if b = u.out; op == opText && !utf8.Valid(b[maxHead:]) {
			return nil, notUTF8
		}
		b = head(b, op, false)
	}
	c.fed = b
	_, message, err = c.lib.Read(context.Background())
	c.fed = nil
	return message, err
}

func (c *conn) closed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closing
}

// short is how long bytes take that the kernel has room for, and a command that waits for nobody, and much more, on a busy machine too.
const short = time.Second

// during does something that what says, and remembers when it ended if it took long.
func (c *conn) during(what *atomic.Bool, do func()) {
	began := c.server.now()
	what.Store(true)
	do()
	c.took(began)
	what.Store(false)
}

func (c *conn) took(began int64) {
	if now := c.server.now(); time.Duration(now-began) > short {
		c.waited.Store(now)
	}
}
