//go:build unix && !linux

package ws

import "golang.org/x/sys/unix"

// send writes what the kernel has room for.
func send(fd uintptr, b []byte) (int, error) { return unix.Write(int(fd), b) }
