package testkit

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"testing"
)

// Ports are taken from below the range from which the kernels of Linux and macOS
// give outgoing connections theirs (32768 and up), so a stopped server finds its
// port free again: only another test can have taken it.
const (
	firstPort = 20000
	lastPort  = 32000
)

// Address is a loopback address for a program that the test starts, and starts again
// at the same place.
func Address(t testing.TB) string {
	t.Helper()
	port, err := freePort()
	if err != nil {
		t.Fatal(err)
	}
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
}

// freePort returns a loopback port that nobody listened on a moment ago. Whoever
// uses it must be ready to lose it to a parallel test and ask again.
func freePort() (int, error) {
	var last error
	for range 100 {
		port := firstPort + rand.IntN(lastPort-firstPort)
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			last = err
			continue
		}
		if err := l.Close(); err != nil {
			return 0, fmt.Errorf("close port %d: %w", port, err)
		}
		return port, nil
	}
	return 0, fmt.Errorf("find free port: %w", last)
}
