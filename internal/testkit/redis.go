// Package testkit holds what the tests of every room need: a real Redis per
// test, a TCP proxy that breaks on demand, waits with a deadline, and the check
// that a package leaves no goroutine and no descriptor behind.
//
// It imports nothing of ours, so any room's tests may import it without a
// cycle; production code never does. It needs a Unix system.
package testkit

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"
)

const (
	redisStart    = 10 * time.Second // longest wait for a new server to answer; it takes about 10 ms alone
	redisAttempts = 20               // ports tried before a test gives up
	redisPoll     = time.Millisecond
)

var errPortTaken = errors.New("port is taken")

// A RedisServer is a redis-server process of one test, under the users of
// deploy/redis/users.acl. It keeps nothing on disk unless told to, and listens
// on the loopback only. Its methods fail the test instead of returning errors, so they are for
// the test's own goroutine.
type RedisServer struct {
	Addr string // host:port; the same for the server's whole life, restarts included

	tb   testing.TB
	bin  string
	dir  string
	port int
	bus  int         // where a cluster's nodes talk to one another; 0: it is no node
	conf []string    // its file, or what the tests want besides: the first arguments
	args []string    // as given to Redis
	tls  *tls.Config // for clients; nil: no TLS

	mu     sync.Mutex // guards the fields below; held while a process starts or ends
	cmd    *exec.Cmd  // nil while stopped
	exited chan struct{}
}

// Redis starts a redis-server that lives as long as the test. args are further
// arguments of redis-server, which win over all defaults but where it listens
// and keeps its files, for example "--maxmemory", "1mb". A missing binary fails the test: it never skips.
func Redis(t testing.TB, args ...string) *RedisServer {
	t.Helper()
	return startRedis(t, nil, "", args)
}

// RedisDeployed is Redis as deploy/redis has it: its settings and the users that its script makes. It keeps its data on disk, so that
// Restart is a crash and a return.
func RedisDeployed(t testing.TB) *RedisServer {
	t.Helper()
	return startRedis(t, nil, deployed(t), nil)
}

// RedisTLS is Redis with TLS only, and only for clients that show a certificate
// of a. Its own certificate is of a, too.
func RedisTLS(t testing.TB, a *Authority, args ...string) *RedisServer {
	t.Helper()
	cert, key := a.Pair("redis-server")
	return startRedis(t, a.Config("admin"), "", append([]string{"--tls-cert-file", cert, "--tls-key-file", key,
		"--tls-ca-cert-file", a.CAFile, "--tls-auth-clients", "yes"}, args...))
}

func startRedis(t testing.TB, secure *tls.Config, deployed string, args []string) *RedisServer {
	t.Helper()
	s := newRedis(t)
	s.tls = secure
	if deployed != "" {
		s.conf, s.args = []string{filepath.Join(deployed, "redis.conf")}, []string{"--aclfile", usersMade(t, deployed, s.dir)}
	} else {
		s.conf, s.args = []string{"--save", "", "--appendonly", "no"}, append([]string{"--aclfile", userFile(t, s.dir)}, args...)
	}
	return s.launch()
}

// newRedis is a server that is not started yet.
func newRedis(t testing.TB) *RedisServer {
	t.Helper()
	bin, err := binary()
	if err != nil {
		t.Fatalf("find redis-server: %v (scripts/deps installs it; Debian: apt-get install redis-server)", err)
	}
	return &RedisServer{tb: t, bin: bin, dir: t.TempDir()}
}

// launch starts a new server on a port of its own.
func (s *RedisServer) launch() *RedisServer {
	s.tb.Helper()
	s.tb.Cleanup(s.Stop)
	s.mu.Lock()
	defer s.mu.Unlock()
	var err error
	for range redisAttempts {
		if s.port, err = freePort(); err != nil {
			break
		}
		if s.bus > 0 {
			if s.bus, err = freePort(); err != nil {
				break
			}
		}
		s.Addr = net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port))
		if err = s.startLocked(); !errors.Is(err, errPortTaken) {
			break
		}
	}
	if err != nil {
		s.tb.Fatalf("start redis-server: %v", err)
	}
	return s
}

// Stop kills the server as a crash would and waits until it is gone. Stopping a
// stopped server does nothing.
func (s *RedisServer) Stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopLocked()
}

// Restart kills the server if it runs and starts it on the same port: empty,
// unless it keeps its data on disk; its scripts and its replication id are new.
func (s *RedisServer) Restart() {
	s.tb.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopLocked()
	deadline := time.Now().Add(redisStart)
	err := s.startLocked()
	for errors.Is(err, errPortTaken) && time.Now().Before(deadline) {
		time.Sleep(redisPoll)
		err = s.startLocked()
	}
	if err != nil {
		s.tb.Fatalf("restart redis-server: %v", err)
	}
}

// Logged is how often the log of the server, since its last start, has that text.
func (s *RedisServer) Logged(text string) int {
	s.tb.Helper()
	log, err := os.ReadFile(filepath.Join(s.dir, "redis.log"))
	if err != nil {
		s.tb.Fatalf("read log of redis-server: %v", err)
	}
	return bytes.Count(log, []byte(text))
}

// Pause freezes the process: its connections stay open and nothing answers, as
// with a stalled machine. Resume or Stop ends it.
func (s *RedisServer) Pause() { s.tb.Helper(); s.signal(syscall.SIGSTOP) }

// Resume lets a paused server go on.
func (s *RedisServer) Resume() { s.tb.Helper(); s.signal(syscall.SIGCONT) }

// stopped is whether there is no process: it need not be asked.
func (s *RedisServer) stopped() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cmd == nil
}

func (s *RedisServer) signal(sig syscall.Signal) {
	s.tb.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd == nil {
		s.tb.Fatalf("signal redis-server %v: it is stopped", sig)
	}
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.tb.Fatalf("signal redis-server: %v", err)
	}
}

// startLocked starts the process and returns when it answers. The error is
// errPortTaken when another process was faster to take the port.
func (s *RedisServer) startLocked() error {
	logPath := filepath.Join(s.dir, "redis.log")
	log, err := os.Create(logPath)
	if err != nil {
		return fmt.Errorf("create log: %w", err)
	}
	defer log.Close()
	plain, secure := s.port, 0 // 0: none
	if s.tls != nil {
		plain, secure = secure, plain
	}
	args := append(slices.Concat(s.conf, s.args), "--port", strconv.Itoa(plain), "--tls-port", strconv.Itoa(secure), "--bind", "127.0.0.1", "--dir", s.dir, "--daemonize", "no")
	if s.bus > 0 {
		args = append(args, "--cluster-port", strconv.Itoa(s.bus))
	}
	cmd := exec.Command(s.bin, args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = dieWithParent()
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", s.bin, err)
	}
	exited := make(chan struct{})
	s.cmd, s.exited = cmd, exited
	go func() { // ends with the process; stopLocked waits for it
		_ = cmd.Wait()
		close(exited)
	}()
	deadline := time.Now().Add(redisStart)
	for time.Now().Before(deadline) {
		if s.answersAs(cmd.Process.Pid) {
			return nil
		}
		select {
		case <-exited:
			s.stopLocked()
			text, _ := os.ReadFile(logPath)
			if bytes.Contains(text, []byte("bind: Address already in use")) {
				return errPortTaken
			}
			return fmt.Errorf("redis-server ended: %s", text)
		case <-time.After(redisPoll):
		}
	}
	s.stopLocked()
	text, _ := os.ReadFile(logPath)
	return fmt.Errorf("no answer within %v: %s", redisStart, text)
}

func (s *RedisServer) stopLocked() {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Kill() // an error means that it has ended by itself
	<-s.exited
	s.cmd, s.exited = nil, nil
}

// answersAs reports whether the server at our address answers and is the process pid.
// Two parallel tests may have chosen one port; the pid tells which of them got it.
func (s *RedisServer) answersAs(pid int) bool {
	c, err := net.DialTimeout("tcp", s.Addr, time.Second)
	if err != nil {
		return false
	}
	if s.tls != nil {
		c = tls.Client(c, s.tls)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return false
	}
	if _, err := fmt.Fprintf(c, "HELLO 2 AUTH admin %s\r\nINFO server\r\nQUIT\r\n", password()); err != nil {
		return false
	}
	info, _ := io.ReadAll(c) // an answer that is cut short lacks the line and is asked again
	return bytes.Contains(info, fmt.Appendf(nil, "\r\nprocess_id:%d\r\n", pid))
}
