package ws

import (
	"cmp"
	"context"
	"log/slog"
	"net/http"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"allim/internal/session"
)

// Options say how connections are kept. Limits need Frame and Pong; a message over Frame closes with 1009.
type Options struct {
	Limits  *session.Limits
	Metrics *session.Metrics
	Write   time.Duration // how long a client may take for 4 KiB; 0: 35 s, more than the hub lets a slow reader lag
	Pings   int           // of a client's that are answered in 10 s; 0: 20
	Log     *slog.Logger  // faults of ours; nil: none
	Deflate int           // bytes, LeastDeflate or more, from which what many receive is compressed for those who agreed to it (RFC 7692); 0: nobody is offered it
}

// A Server serves WebSockets. Make it with New; Run must be running for them to live.
type Server struct {
	opt       Options
	deflating session.Framing
	flushers  []*flusher
	next      atomic.Uint64
	began     time.Time      // what its clock counts from: no clock that is set harms
	done      chan struct{}  // closed when Run ends
	wg        sync.WaitGroup // of goroutines of connections, and of the tidier
	tidier    tidier

	mu      sync.Mutex // guards the rest; a leaf
	waiting []sign     // for pongs, in the order in which they are due
	conns   map[*conn]struct{}
	ended   bool
}

// A sign is one that a client owes us.
type sign struct {
	c  *conn
	at int64 // when it was asked for
}

// New makes a server.
func New(o Options) *Server {
	o.Write, o.Pings = cmp.Or(o.Write, 35*time.Second), cmp.Or(o.Pings, maxPings)
	s := &Server{opt: o, began: time.Now(), done: make(chan struct{}), conns: map[*conn]struct{}{}}
	if s.opt.Log == nil {
		s.opt.Log = slog.New(slog.DiscardHandler)
	}
	s.deflating = deflating(o.Deflate)
	for range runtime.GOMAXPROCS(0) {
		s.flushers = append(s.flushers, newFlusher(s))
	}
	return s
}

// Run serves until ctx ends, then cuts what is left, and returns when every connection is gone. End the sessions before: they say goodbye.
func (s *Server) Run(ctx context.Context) error {
	var flushers sync.WaitGroup
	for _, f := range s.flushers {
		flushers.Go(func() { f.run(s.done) })
	}
	tick := time.NewTicker(min(time.Second, max(s.opt.Limits.Pong/8, time.Millisecond)))
	defer tick.Stop()
	var after afterStorm
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-tick.C:
			s.sweep()
			if after.calm(s.next.Load(), s.len()) {
				s.tidier.tidy(s)
			}
		}
	}
	s.mu.Lock()
	s.ended = true
	for c := range s.conns {
		c.cut()
	}
	s.mu.Unlock()
	s.wg.Wait()
	close(s.done)
	flushers.Wait()
	return nil
}

func (s *Server) len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// now is a clock that nobody sets, in nanoseconds, and never 0.
func (s *Server) now() int64 { return int64(time.Since(s.began)) + 1 }

// Serve accepts the upgrade and asks open for who is behind the connection, which goes on when Serve has returned: nothing of the HTTP server stays
// with it. Who may connect from where was decided before.
func (s *Server) Serve(w http.ResponseWriter, r *http.Request, open func(session.Conn) Peer) {
	c, early := s.accept(w, r)
	if c == nil {
		return
	}
	begun := false
	defer func() {
		if !begun { // open panicked, which the HTTP server takes
			_ = c.net.Close()
		}
	}()
	p := open(c)
	c.mu.Lock()
	c.peer = p
	c.mu.Unlock()
	begun = true
	s.begin(c, early)
}

// accept upgrades a request; nil: it was answered already. early is what the client sent before it had our answer.
func (s *Server) accept(w http.ResponseWriter, r *http.Request) (c *conn, early []byte) {
	c = &conn{server: s, framing: &textFraming, flusher: s.flushers[s.next.Add(1)%uint64(len(s.flushers))], blocked: true}
	c.in.most = s.opt.Limits.Frame
	mode := websocket.CompressionDisabled
	if s.opt.Deflate > 0 {
		mode = websocket.CompressionNoContextTakeover
	}
	if slices.Contains(protocols(r), Subprotocol) {
		r.Header.Set("Sec-WebSocket-Protocol", Subprotocol) // the library keeps a piece of the header, and with it the token that stands there
	}
	h := &hijacker{ResponseWriter: w, socket: &socket{c: c}}
	lib, err := websocket.Accept(h, r, &websocket.AcceptOptions{
		Subprotocols:       []string{Subprotocol},
		InsecureSkipVerify: true, // the front door checks Origin and Host: the library lets every Host of its own choosing pass (pitfalls C27)
		CompressionMode:    mode,
	})
	if err != nil {
		return nil, nil // the library has answered
	}
	lib.SetReadLimit(int64(c.in.most))
	if w.Header().Get("Sec-WebSocket-Extensions") != "" {
		c.in.deflate, c.framing = true, &s.deflating
	}
	c.lib, c.net, c.raw = lib, h.socket.Conn, rawOf(h.socket.Conn)
	return c, h.early
}

// begin lets a connection live, whose peer is set.
func (s *Server) begin(c *conn, early []byte) {
	s.mu.Lock()
	if s.ended { // a request outlived the door: nobody waits for what it begins
		s.mu.Unlock()
		c.cutting.Store(true)
		c.who().Gone()
		_ = c.lib.CloseNow()
		_ = c.net.Close()
		return
	}
	s.conns[c] = struct{}{}
	s.wg.Go(func() { c.serve(early) })
	s.mu.Unlock()
	c.mu.Lock()
	c.blocked = false
	c.mu.Unlock()
	c.flusher.add(c)
}

// forget lets go of a connection that has ended.
func (s *Server) forget(c *conn) {
	s.mu.Lock()
	delete(s.conns, c)
	s.mu.Unlock()
}

// owes notes that a client was asked for a sign of life.
func (s *Server) owes(c *conn) {
	now := s.now()
	c.pinged.Store(now)
	s.mu.Lock()
	s.waiting = append(s.waiting, sign{c, now})
	s.mu.Unlock()
}

// sweep cuts the connections that gave no sign of life in time. A ping behind bytes that the client has not taken yet says nothing: then the bound of
// those is the sign of life, or that they were taken at last (decision 0020). Nor does a pong behind a message of the client's own that waits for Redis:
// nobody reads it meanwhile.
func (s *Server) sweep() {
	before := s.now() - int64(s.opt.Limits.Pong)
	s.mu.Lock()
	n := 0
	for n < len(s.waiting) && s.waiting[n].at <= before {
		n++
	}
	late := s.waiting[:n]
	s.waiting = s.waiting[n:]
	s.mu.Unlock()
	for _, l := range late {
		c := l.c
		if c.pinged.Load() != l.at {
			continue
		}
		if c.isBlocked() || c.reading.Load() || c.waited.Load() >= l.at {
			c.pinged.Store(0) // the next one counts
			continue
		}
		s.opt.Metrics.Limit("pong")
		c.cut()
	}
	clear(late)
}

func (c *conn) isBlocked() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.blocked
}
