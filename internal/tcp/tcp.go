// Package tcp sets the socket options that decide how long a dead peer holds us and how much memory a slow one takes. Where the
// system does not know an option, nothing is set: production runs on Linux.
package tcp

import (
	"errors"
	"net"
	"syscall"
	"time"
)

// Options of a socket; zero fields are left as the system has them.
type Options struct {
	UserTimeout time.Duration // how long sent bytes may stay unacknowledged before the connection ends (RFC 5482)
	SendBuffer  int           // bytes that the kernel holds for a peer that does not read
}

// KeepAlive notices a peer that vanished while nothing was sent.
var KeepAlive = net.KeepAliveConfig{Enable: true, Idle: 30 * time.Second, Interval: 10 * time.Second, Count: 3}

// Control is for net.Dialer and net.ListenConfig; accepted connections inherit what their listener has.
func (o Options) Control(network, _ string, c syscall.RawConn) error {
	if network == "unix" {
		return nil
	}
	var err error
	cerr := c.Control(func(fd uintptr) { err = o.set(fd) })
	return errors.Join(cerr, err)
}
