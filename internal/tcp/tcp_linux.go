package tcp

import (
	"errors"

	"golang.org/x/sys/unix"
)

func (o Options) set(fd uintptr) (err error) {
	if o.UserTimeout > 0 {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(o.UserTimeout.Milliseconds()))
	}
	if o.SendBuffer > 0 {
		err = errors.Join(err, unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUF, o.SendBuffer))
	}
	return err
}
