package ws

import (
	"bufio"
	"errors"
	"net"
	"net/http"
	"time"
)

// A socket is the net.Conn that coder/websocket gets: it reads what the parser let through, and what it writes, control frames all, waits in line with
// everything else. Its other methods are never called.
type socket struct {
	net.Conn // nil until hijacked
	c        *conn
}

// errPast is never seen: every frame that is fed is whole, and the library reads not beyond it.
var errPast = errors.New("ws: read past a frame")

// Read gives what was fed.
func (s *socket) Read(p []byte) (int, error) {
	if len(s.c.fed) == 0 {
		return 0, errPast
	}
	n := copy(p, s.c.fed)
	s.c.fed = s.c.fed[n:]
	return n, nil
}

// Write takes one control frame.
func (s *socket) Write(p []byte) (int, error) {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closing || c.bye != nil:
		return 0, net.ErrClosed
	case p[0]&0x0F == opClose:
		c.bye = append([]byte(nil), p...)
	default:
		c.control = append(c.control, p...)
	}
	c.flusher.add(c)
	return len(p), nil
}

// Close lets what waits go out first. When all is out already, nobody else will come to end the connection.
func (s *socket) Close() error {
	c := s.c
	c.mu.Lock()
	c.ending = true
	shut := c.shut
	c.mu.Unlock()
	if shut {
		c.cut()
	} else {
		c.flusher.add(c)
	}
	return nil
}

// A hijacker gives coder/websocket a socket of ours instead of the connection, with buffers of just the size that keeps each control frame in one Write.
type hijacker struct {
	http.ResponseWriter
	socket *socket
	early  []byte // what the client sent before it had our answer
}

// Hijack is called by websocket.Accept.
func (h *hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(h.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	if err := conn.SetDeadline(time.Time{}); err != nil { // those of the HTTP server
		_ = conn.Close()
		return nil, nil, err
	}
	if n := rw.Reader.Buffered(); n > 0 {
		b, _ := rw.Reader.Peek(n)
		h.early = append([]byte(nil), b...)
	}
	h.socket.Conn = conn
	return h.socket, bufio.NewReadWriter(bufio.NewReaderSize(h.socket, 16), bufio.NewWriterSize(h.socket, 2+maxControl)), nil
}
