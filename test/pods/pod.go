package pods

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"allim/internal/testkit"
)

const (
	readyWithin = 60 * time.Second // a loaded machine with the race detector
	stopWithin  = 60 * time.Second // of SIGTERM; above the sum of a program's own budgets
	maxLog      = 8 << 20          // bytes of a process' log that are kept
)

// A Pod is one process.
type Pod struct {
	Name string // gateway-1

	tb     testing.TB
	cmd    *exec.Cmd
	log    *journal
	exited chan struct{} // closed when the process has ended

	mu     sync.Mutex
	killed bool // by Kill: how it ended says nothing
	judged bool
}

// launch starts a program with the test's variables and env.
func launch(t testing.TB, name, path string, args []string, env ...string) *Pod {
	t.Helper()
	cmd := exec.Command(path, args...)
	cmd.Env = append(os.Environ(), env...)
	return launchCommand(t, name, cmd)
}

func launchCommand(t testing.TB, name string, cmd *exec.Cmd) *Pod {
	t.Helper()
	p := &Pod{Name: name, tb: t, cmd: cmd, log: newJournal(), exited: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	p.cmd.SysProcAttr = dieWithParent()
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", name, err)
	}
	go func() { // ends with the process; the cleanup waits for it
		_ = p.cmd.Wait()
		close(p.exited)
	}()
	t.Cleanup(func() {
		p.Stop()
		if t.Failed() {
			t.Logf("log of %s:\n%s", name, p.log.text())
		}
	})
	return p
}

// Addr is where the process listens: "public" and "ops" of a gateway, "grpc", "http" and "ops" of a publisher. It waits until the process says so.
func (p *Pod) Addr(port string) string {
	p.tb.Helper()
	addr := ""
	testkit.Eventually(p.tb, readyWithin, func() bool {
		addr = p.log.addr(port)
		return addr != "" || p.ended()
	}, p.Name+" says where it listens")
	if addr == "" {
		p.tb.Fatalf("%s ended before it listened", p.Name)
	}
	return addr
}

// WaitReady waits until /healthz/ready says so.
func (p *Pod) WaitReady() {
	p.tb.Helper()
	testkit.EventuallyNil(p.tb, readyWithin, func() error {
		status, body, err := fetch("http://" + p.Addr("ops") + "/healthz/ready")
		if err == nil && status != http.StatusOK {
			err = fmt.Errorf("%d %s", status, body)
		}
		return err
	}, p.Name+" is ready")
}

// Ready tells what /healthz/ready says at the moment.
func (p *Pod) Ready() bool {
	status, _, err := fetch("http://" + p.Addr("ops") + "/healthz/ready")
	return err == nil && status == http.StatusOK
}

// Stop ends the process by SIGTERM and fails the test if it does not end well: in time, with exit code 0, without an error or a data race in its log. Stopping a
// stopped process does nothing.
func (p *Pod) Stop() {
	p.tb.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.judged {
		return
	}
	p.judged = true
	if !p.killed {
		_ = p.cmd.Process.Signal(syscall.SIGTERM) // an error means that it has ended
	}
	select {
	case <-p.exited:
	case <-time.After(stopWithin):
		_ = p.cmd.Process.Kill()
		<-p.exited
		p.tb.Errorf("%s did not end within %v of SIGTERM", p.Name, stopWithin)
	}
	if code := p.cmd.ProcessState.ExitCode(); !p.killed && code != 0 {
		p.tb.Errorf("%s ended with %v, want exit code 0", p.Name, p.cmd.ProcessState)
	}
	if line := p.log.fault(); line != "" {
		p.tb.Errorf("%s logged a fault: %s", p.Name, line)
	}
}

// Kill ends the process as kill -9 does.
func (p *Pod) Kill() {
	p.mu.Lock()
	p.killed = true
	p.mu.Unlock()
	_ = p.cmd.Process.Kill() // an error means that it has ended
	<-p.exited
}

func (p *Pod) ended() bool {
	select {
	case <-p.exited:
		return true
	default:
		return false
	}
}

// Metric is the sum of the samples of a metric whose labels contain those given, as name and value in turn. A metric without a sample is 0.
func (p *Pod) Metric(name string, labels ...string) float64 {
	p.tb.Helper()
	_, body, err := fetch("http://" + p.Addr("ops") + "/metrics")
	if err != nil {
		p.tb.Fatalf("read metrics of %s: %v", p.Name, err)
	}
	sum := 0.0
	for line := range strings.Lines(body) {
		head, value, ok := cutLast(strings.TrimSpace(line), " ")
		metric, set, _ := strings.Cut(head, "{")
		if !ok || metric != name {
			continue
		}
		all := true
		for i := 0; i+1 < len(labels); i += 2 {
			all = all && strings.Contains(","+set, fmt.Sprintf(`,%s=%q`, labels[i], labels[i+1]))
		}
		if v, err := strconv.ParseFloat(value, 64); err == nil && all {
			sum += v
		}
	}
	return sum
}

func cutLast(s, sep string) (before, after string, ok bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

func fetch(url string) (status int, body string, err error) {
	client := http.Client{Timeout: 5 * time.Second}
	r, err := client.Get(url)
	if err != nil {
		return 0, "", err
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	return r.StatusCode, string(b), err
}

// A journal keeps what a process writes.
type journal struct {
	mu       sync.Mutex // guards the fields below
	b        bytes.Buffer
	expected []string // events that are no fault
}

func newJournal() *journal { return &journal{} }

// Write keeps p; what is beyond maxLog is dropped.
func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.b.Len() < maxLog {
		j.b.Write(p)
	}
	return len(p), nil
}

func (j *journal) text() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.String()
}

// addr is the address that a line of the log names.
func (j *journal) addr(port string) string {
	for line := range strings.Lines(j.text()) {
		var at map[string]any
		if json.Unmarshal([]byte(line), &at) != nil {
			continue
		}
		if msg := at["msg"]; msg != "listening" && msg != "starting" {
			continue
		}
		if s, ok := at[port].(string); ok {
			return s
		}
	}
	return ""
}

// faults are what no log of a good run has. Our logs are JSON; what is none comes from the Go runtime.
var faults = regexp.MustCompile(`"level":"ERROR"|WARNING: DATA RACE|^panic: |^fatal error: |^\[signal `)

// fault is the first line that tells of a fault, "" where there is none.
func (j *journal) fault() string {
	for line := range strings.Lines(j.text()) {
		if faults.MatchString(line) && !j.expects(line) {
			return strings.TrimSpace(line)
		}
	}
	return ""
}

func (j *journal) expects(line string) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.ContainsFunc(j.expected, func(event string) bool { return strings.Contains(line, fmt.Sprintf(`"msg":%q`, event)) })
}
