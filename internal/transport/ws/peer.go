package ws

import (
	"net/http"
	"sync"

	"allim/internal/session"
)

// A Peer is who is behind a connection: a session, or the echo of a conformance suite. Handle and Gone are called by the goroutine that reads, Fill by
// one at a time of those that write.
type Peer interface {
	// Handle takes one message, which is the peer's only until it returns.
	Handle(message []byte, binary bool)
	// Fill appends frames that wait, encoded by f, to dst until that has most bytes or more. end is set when none is left and none will follow.
	Fill(dst []byte, most int, f *session.Framing) (out []byte, end *session.End)
	// End asks for the close of the connection, after what waits.
	End(code int, reason string)
	// Gone says that the connection is no more.
	Gone()
}

// Of is a session as the peer of a connection.
func Of(s *session.Session) Peer { return speaks{s} }

type speaks struct{ *session.Session }

func (s speaks) Handle(message []byte, binary bool) {
	if binary {
		message = []byte("binary frames are not spoken here")
	}
	s.Session.Handle(message)
}

// Echo answers each message with the same, for conformance suites: the way of the bytes is that of every connection.
func (s *Server) Echo(w http.ResponseWriter, r *http.Request) {
	s.Serve(w, r, func(c session.Conn) Peer {
		e := &echo{conn: c, most: s.opt.Limits.Frame}
		e.room.L = &e.mu
		return e
	})
}

// An echo holds what it has heard until the client takes it, and hears no more beyond most bytes.
type echo struct {
	conn session.Conn
	most int

	mu    sync.Mutex // guards the rest
	room  sync.Cond  // there is, or the connection ends
	waits [][]byte   // whole frames
	bytes int
	end   *session.End
}

func (e *echo) Handle(message []byte, binary bool) {
	op := byte(opText)
	if binary {
		op = opBinary
	}
	frame := append(appendHead(make([]byte, 0, maxHead+len(message)), op, len(message)), message...)
	e.mu.Lock()
	for e.bytes > e.most && e.end == nil {
		e.room.Wait()
	}
	e.waits, e.bytes = append(e.waits, frame), e.bytes+len(frame)
	e.mu.Unlock()
	e.conn.Wake()
}

func (e *echo) Fill(b []byte, most int, _ *session.Framing) ([]byte, *session.End) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for len(b) < most && len(e.waits) > 0 {
		b = append(b, e.waits[0]...)
		e.bytes -= len(e.waits[0])
		e.waits[0], e.waits = nil, e.waits[1:]
		e.room.Signal()
	}
	if len(e.waits) > 0 {
		return b, nil
	}
	return b, e.end
}

func (e *echo) End(code int, reason string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.end == nil {
		e.end = &session.End{Code: code, Reason: reason}
		e.room.Signal()
	}
}

func (e *echo) Gone() { e.End(0, "gone") }
