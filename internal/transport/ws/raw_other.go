//go:build !unix

package ws

import (
	"errors"
	"net"
)

// A raw is a socket that is read and written without waiting for it. This system has none: every connection is served as one under TLS is.
type raw struct{}

func rawOf(net.Conn) *raw { return nil }

func (*raw) each(func([]byte) error) error { return errors.ErrUnsupported }

type pen struct{}

func newPen() *pen { return &pen{} }

func (*pen) write(*raw, []byte) (int, error) { return 0, errors.ErrUnsupported }
