package ws

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/coder/websocket"

	"allim/internal/session"
	"allim/internal/wire"
)

// A conn is one WebSocket. The handler's goroutine reads; one goroutine writes; a third lives while a ping waits for its pong.
// serve waits for all of them.
type conn struct {
	ws      *websocket.Conn
	opt     Options
	session *session.Session
	wake    chan struct{} // buffered 1: the outbox has something; never closed
	ping    chan struct{} // buffered 1: send a ping; never closed
	born    time.Time
	writing atomic.Bool  // a frame is under way
	reading atomic.Bool  // a frame of the client's is at work
	waited  atomic.Int64 // when the last of these ended that took long, nanoseconds since born
	ctx     context.Context
	cancel  context.CancelFunc // ends everything; the connection is cut
	wg      sync.WaitGroup
}

func newConn(c *websocket.Conn, o Options) *conn {
	if o.Write == 0 {
		o.Write = 35 * time.Second
	}
	// Never the request's context: its end would cut the connection without a close frame (pitfalls C21).
	ctx, cancel := context.WithCancel(context.Background())
	return &conn{ws: c, opt: o, wake: make(chan struct{}, 1), ping: make(chan struct{}, 1), born: time.Now(), ctx: ctx, cancel: cancel}
}

// Wake, Ping and Abort are what the session asks for.
func (c *conn) Wake() { signal(c.wake) }

func (c *conn) Ping() { signal(c.ping) }

func (c *conn) Abort() { c.cancel() }

func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default: // it is on already
	}
}

func (c *conn) serve() {
	stop := context.AfterFunc(c.ctx, func() { _ = c.ws.CloseNow() })
	c.wg.Go(c.write)
	c.read()
	c.session.Gone()
	c.cancel()
	c.wg.Wait()
	stop()
	_ = c.ws.CloseNow() // always: the library leaves some errors without closing (pitfalls C24)
}

// read hands frames to the session until the connection ends.
func (c *conn) read() {
	for {
		typ, frame, err := c.ws.Read(context.Background())
		if err != nil {
			if errors.Is(err, websocket.ErrMessageTooBig) {
				c.opt.Metrics.Limit("frame_bytes")
			}
			return
		}
		switch {
		case typ == websocket.MessageBinary:
			frame = []byte("binary frames are not spoken here")
		case !utf8.Valid(frame): // the library does not look (pitfalls C25; RFC 6455, section 8.1)
			c.session.End(wire.CloseNotUTF8, "text that is not UTF-8")
			continue
		}
		c.during(&c.reading, func() { c.session.Handle(frame) })
	}
}

// write pulls frames from the session until it says that this is the end.
func (c *conn) write() {
	for {
		frame, end := c.session.Pull()
		switch {
		case frame != nil:
			if err := c.send(frame); err != nil {
				c.session.Gone() // a reader that waits for room in the outbox goes on
				c.cancel()
				return
			}
		case end != nil:
			c.close(end)
			return
		default:
			select {
			case <-c.wake:
			case <-c.ping:
				c.wg.Go(c.pong)
			case <-c.ctx.Done():
				return
			}
		}
	}
}

// send writes one frame. Who does not take it within Options.Write is gone.
func (c *conn) send(frame []byte) error {
	ctx, cancel := context.WithTimeout(c.ctx, c.opt.Write)
	defer cancel()
	var err error
	c.during(&c.writing, func() { err = c.ws.Write(ctx, websocket.MessageText, frame) })
	if err != nil && c.ctx.Err() == nil && ctx.Err() != nil {
		c.opt.Metrics.Limit("write")
	}
	return err
}

// short is how long a frame takes that the kernel has room for, and a command that waits for nobody, and much more, on a busy machine too.
const short = time.Second

// during does something that what says, and remembers when it ended if it took long.
func (c *conn) during(what *atomic.Bool, do func()) {
	began := time.Now()
	what.Store(true)
	do()
	if time.Since(began) > short {
		c.waited.Store(int64(time.Since(c.born)))
	}
	what.Store(false)
}

// pong sends a ping and cuts the connection if it is not answered in time. A ping behind a frame that the client has not taken yet says nothing:
// then the bound of that frame is the sign of life, or that it was taken at last (decision 0020). Nor does a pong behind a frame of the client's own
// that waits for Redis: nobody reads it meanwhile.
func (c *conn) pong() {
	ctx, cancel := context.WithTimeout(c.ctx, c.opt.Sessions.Limits().Pong)
	defer cancel()
	began := int64(time.Since(c.born))
	if err := c.ws.Ping(ctx); err != nil && c.ctx.Err() == nil && !c.writing.Load() && !c.reading.Load() && c.waited.Load() < began {
		c.opt.Metrics.Limit("pong")
		c.cancel()
	}
}

// closeWait bounds the closing handshake: the library alone would wait 5 + 5 s (pitfalls C22).
const closeWait = 2 * time.Second

func (c *conn) close(end *session.End) {
	over := time.AfterFunc(closeWait, c.cancel)
	defer over.Stop()
	_ = c.ws.Close(websocket.StatusCode(end.Code), end.Reason)
	c.cancel()
}

// A pingLimit bounds the pings of a client: the library answers each with a write of its own and counts none (pitfalls C23).
type pingLimit struct {
	since time.Time
	n     int
}

// Pings answered per pingWindow; the rest stay without a pong.
const (
	pingWindow = 10 * time.Second
	maxPings   = 20
)

func newPingLimit() *pingLimit { return &pingLimit{} }

// take is called by the reader alone.
func (p *pingLimit) take() bool {
	if now := time.Now(); now.Sub(p.since) > pingWindow {
		p.since, p.n = now, 0
	}
	p.n++
	return p.n <= maxPings
}
