//go:build linux

package main

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	sources     = 8    // loopback addresses that connections come from: one has 28,000 ports
	dialLimit   = 60   // seconds until a server must have answered a connection
	answerLimit = 8192 // bytes of the head of its answer
)

// A hello is what a client says when it comes.
type hello struct {
	path    string
	headers []string // whole lines besides those of every WebSocket
	first   []byte   // a text frame's payload after the upgrade; nil: none
}

// dial opens a WebSocket from the n-th source address and returns its socket, not blocking, with what came after the head of the answer. extensions
// are those that the server took.
func dial(addr string, n int, h hello) (fd int, rest []byte, extensions string, err error) {
	to, err := netip.ParseAddrPort(addr)
	if err != nil {
		return -1, nil, "", fmt.Errorf("dial: %w", err)
	}
	fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, nil, "", fmt.Errorf("make socket: %w", err)
	}
	defer func() {
		if err != nil {
			_ = unix.Close(fd)
			fd = -1
		}
	}()
	for _, o := range []struct{ level, name, value int }{
		{unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1}, // a port is chosen for the pair of addresses, not for ours alone
		{unix.IPPROTO_TCP, unix.TCP_NODELAY, 1},
	} {
		if err = unix.SetsockoptInt(fd, o.level, o.name, o.value); err != nil {
			return fd, nil, "", fmt.Errorf("set option of socket: %w", err)
		}
	}
	_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: dialLimit}) // it has no other way to fail than the ones above
	_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})           // whoever closes leaves no port behind
	if err = unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, byte(2 + n%sources)}}); err != nil {
		return fd, nil, "", fmt.Errorf("bind: %w", err)
	}
	if err = unix.Connect(fd, &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}); err != nil {
		return fd, nil, "", fmt.Errorf("connect to %s: %w", addr, err)
	}
	if _, err = unix.Write(fd, h.request(addr)); err != nil {
		return fd, nil, "", fmt.Errorf("ask for an upgrade: %w", err)
	}
	rest, extensions, err = upgraded(fd)
	if err == nil && h.first != nil {
		_, err = unix.Write(fd, masked(opText, h.first))
	}
	if err == nil {
		err = unix.SetNonblock(fd, true)
	}
	return fd, rest, extensions, err
}

func (h hello) request(addr string) []byte {
	lines := append([]string{"GET " + h.path + " HTTP/1.1", "Host: " + addr, "Connection: Upgrade", "Upgrade: websocket",
		"Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="}, h.headers...)
	return []byte(strings.Join(lines, "\r\n") + "\r\n\r\n")
}

// upgraded reads the head of the answer, which must be 101.
func upgraded(fd int) (rest []byte, extensions string, err error) {
	b := make([]byte, 0, answerLimit)
	for {
		n, err := unix.Read(fd, b[len(b):cap(b)])
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return nil, "", fmt.Errorf("read answer to an upgrade: %w", err)
		}
		b = b[:len(b)+n]
		head, rest, whole := bytes.Cut(b, []byte("\r\n\r\n"))
		if !whole && n > 0 && len(b) < cap(b) {
			continue
		}
		status, fields, _ := strings.Cut(string(head), "\r\n")
		if !whole || !strings.HasPrefix(status, "HTTP/1.1 101 ") {
			return nil, "", fmt.Errorf("refused: %.300q", b)
		}
		for field := range strings.SplitSeq(fields, "\r\n") {
			if name, value, _ := strings.Cut(field, ":"); strings.EqualFold(name, "Sec-WebSocket-Extensions") {
				extensions = strings.TrimSpace(value)
			}
		}
		return bytes.Clone(rest), extensions, nil
	}
}
