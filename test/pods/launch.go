package pods

import (
	"encoding/json"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"allim/internal/testkit"
)

// Launch starts a program by its path with arguments of the test's own and no variables but env. It is stopped when the test ends, which fails if the
// process does not end well, as with a Stage.
func Launch(t testing.TB, name, path string, args, env []string) *Pod {
	t.Helper()
	cmd := exec.Command(path, args...)
	cmd.Env = append([]string{"PATH=/nowhere"}, env...)
	return launchCommand(t, name, cmd)
}

// Log is what the process has written, up to maxLog bytes.
func (p *Pod) Log() string { return p.log.text() }

// Said is the newest line of the log with that event name in which field has a value that begins with value; nil where there is none.
// A field that is "" is not looked at.
func (p *Pod) Said(event, field, value string) map[string]any {
	lines := slices.Collect(strings.Lines(p.log.text()))
	for _, line := range slices.Backward(lines) {
		var said map[string]any
		if json.Unmarshal([]byte(line), &said) != nil || said["msg"] != event {
			continue
		}
		if got, _ := said[field].(string); field == "" || strings.HasPrefix(got, value) {
			return said
		}
	}
	return nil
}

// Expect lets an event stand in the log that would else be a fault: the test causes it.
func (p *Pod) Expect(event string) {
	p.log.mu.Lock()
	defer p.log.mu.Unlock()
	p.log.expected = append(p.log.expected, event)
}

// Signal sends a signal and waits for nothing.
func (p *Pod) Signal(s syscall.Signal) {
	p.tb.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.tb.Fatalf("signal %s %v: %v", p.Name, s, err)
	}
}

// Died waits until the process has ended, by whatever the test did to it, and is how it ended. What Stop wants of its end is not asked of it any more.
func (p *Pod) Died(within time.Duration) *os.ProcessState {
	p.tb.Helper()
	testkit.Closed(p.tb, within, p.exited, "the end of "+p.Name)
	p.mu.Lock()
	p.killed = true
	p.mu.Unlock()
	return p.cmd.ProcessState
}
