//go:build unix

package ws

import (
	"io"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// A raw is a socket that is read and written without waiting for it. Under TLS, and where the system has none, there is none.
type raw struct{ conn syscall.RawConn }

// rawOf returns the raw socket of c, nil where there is none.
func rawOf(c net.Conn) *raw {
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return nil
	}
	rc, err := tcp.SyscallConn()
	if err != nil {
		return nil
	}
	return &raw{rc}
}

// A pen writes to one raw socket after the other, and allocates nothing for it. Make it with newPen; one goroutine uses it.
type pen struct {
	b   []byte
	n   int
	err error
	do  func(fd uintptr) bool
}

func newPen() *pen {
	p := &pen{}
	p.do = func(fd uintptr) bool {
		p.n, p.err = send(fd, p.b)
		return true
	}
	return p
}

// write writes what the kernel has room for. The error is that of a socket that is no more.
func (p *pen) write(r *raw, b []byte) (n int, err error) {
	p.b = b
	err = r.conn.Write(p.do)
	p.b = nil
	if err != nil {
		return 0, err
	}
	if p.err != nil && p.err != unix.EAGAIN && p.err != unix.EINTR {
		return 0, p.err
	}
	return max(p.n, 0), nil
}

// each hands on what comes, until the stream ends or take fails, which is its error. It holds a buffer only from when there are bytes until they are taken.
func (r *raw) each(take func(b []byte) error) error {
	var buf *[]byte
	var n int
	var err error
	try := func(fd uintptr) bool {
		buf = buffers.Get().(*[]byte)
		for {
			if n, err = unix.Read(int(fd), *buf); err != unix.EINTR {
				break
			}
		}
		if err == unix.EAGAIN {
			buffers.Put(buf)
			return false
		}
		return true
	}
	for {
		if err := r.conn.Read(try); err != nil {
			return err
		}
		if err == nil && n > 0 {
			err = take((*buf)[:n])
		} else if err == nil {
			err = io.EOF
		}
		buffers.Put(buf)
		if err != nil {
			return err
		}
	}
}
