package testkit

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
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

// given are the ports that this process has had: one that is between two servers, or
// not yet used, must not go to another.
var given struct {
	mu    sync.Mutex
	ports map[int]bool
}

// mine tells whether nobody here was given a port yet, and takes it.
func mine(port int) bool {
	given.mu.Lock()
	defer given.mu.Unlock()
	if given.ports[port] {
		return false
	}
	if given.ports == nil || len(given.ports) > (lastPort-firstPort)/2 { // a fuzz target that runs for long
		given.ports = map[int]bool{}
	}
	given.ports[port] = true
	return true
}

// freePort returns a loopback port that nobody listened on a moment ago, and nobody
// here had before. Whoever uses it must be ready to lose it to a parallel test process
// and ask again.
func freePort() (int, error) {
	var last error
	for range 100 {
		port := firstPort + rand.IntN(lastPort-firstPort)
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			last = err
			continue
		}
		if !mine(port) {
			_ = l.Close()
			last = fmt.Errorf("port %d was given before", port)
			continue
		}
		if err := l.Close(); err != nil {
			return 0, fmt.Errorf("close port %d: %w", port, err)
		}
		return port, nil
	}
	return 0, fmt.Errorf("find free port: %w", last)
}
