//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

const (
	startWithin = 60 * time.Second     // of a program on a machine that is busy
	look        = 5 * time.Millisecond // between two looks at something that is waited for
)

// A process is one program that is measured.
type process struct {
	name   string
	cmd    *exec.Cmd
	log    string        // path of what it writes
	exited chan struct{} // closed when it has ended
}

// launch starts a program on a core; stop ends it.
func launch(dir, name string, core int, path string, args ...string) (*process, error) {
	p := &process{name: name, cmd: exec.Command(path, args...), log: filepath.Join(dir, name+".log"), exited: make(chan struct{})}
	log, err := os.Create(p.log)
	if err != nil {
		return nil, fmt.Errorf("create log of %s: %w", name, err)
	}
	defer log.Close()
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.Env = untuned(os.Environ())
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := onCore(core, p.cmd.Start); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() { // ends with the process; stop waits for it
		_ = p.cmd.Wait()
		close(p.exited)
	}()
	return p, nil
}

// untuned is an environment without what tunes Go's runtime: every program that is measured has its defaults.
func untuned(env []string) []string {
	return slices.DeleteFunc(env, func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return slices.Contains([]string{"GOGC", "GOMEMLIMIT", "GODEBUG", "GOMAXPROCS"}, name)
	})
}

// stop ends the process at once: how long its clients take to leave is not what is measured. The error says what is wrong with what it wrote.
func (p *process) stop() error {
	early := p.ended()
	_ = p.cmd.Process.Kill() // an error means that it has ended
	<-p.exited
	if early {
		return fmt.Errorf("%s ended by itself: %v\n%s", p.name, p.cmd.ProcessState, p.tail())
	}
	for line := range bytes.Lines(p.text()) {
		if bytes.Contains(line, []byte(`"level":"ERROR"`)) || bytes.HasPrefix(line, []byte("panic: ")) {
			return fmt.Errorf("%s logged a fault: %s", p.name, bytes.TrimSpace(line))
		}
	}
	return nil
}

func (p *process) ended() bool {
	select {
	case <-p.exited:
		return true
	default:
		return false
	}
}

func (p *process) text() []byte {
	b, _ := os.ReadFile(p.log) // ours; what cannot be read says nothing
	return b
}

func (p *process) tail() string {
	b := p.text()
	return string(b[max(0, len(b)-2000):])
}

// until waits until done says so, or the process ends.
func (p *process) until(what string, done func() bool) error {
	for over := time.Now().Add(startWithin); time.Now().Before(over); time.Sleep(look) {
		if done() {
			return nil
		}
		if p.ended() {
			return fmt.Errorf("%s ended before %s: %s", p.name, what, p.tail())
		}
	}
	return fmt.Errorf("%s: waited %v in vain until %s: %s", p.name, startWithin, what, p.tail())
}

// addr is where the process says that it listens.
func (p *process) addr(port string) (addr string, err error) {
	err = p.until("it says where it listens", func() bool {
		for line := range bytes.Lines(p.text()) {
			var said map[string]any
			if json.Unmarshal(line, &said) == nil && (said["msg"] == "listening" || said["msg"] == "starting") {
				if at, ok := said[port].(string); ok {
					addr = at
				}
			}
		}
		return addr != ""
	})
	return addr, err
}

// ready waits until the process answers a GET with 200.
func (p *process) ready(url string) error {
	client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	return p.until(url+" answers", func() bool {
		r, err := client.Get(url)
		if err != nil {
			return false
		}
		_ = r.Body.Close()
		return r.StatusCode == http.StatusOK
	})
}

// stopAll ends processes, the last one first.
func stopAll(all []*process) (err error) {
	for i := len(all) - 1; i >= 0; i-- {
		err = errors.Join(err, all[i].stop())
	}
	return err
}

// usage is what a process used so far.
func (p *process) usage() (cpu time.Duration, err error) { return cpuOf(fmt.Sprint(p.cmd.Process.Pid)) }

// tick is the unit of /proc/<pid>/stat: USER_HZ is 100 on every Linux that Go runs on.
const tick = 10 * time.Millisecond

// cpuOf is user and system time of a process, by its number or "self".
func cpuOf(pid string) (time.Duration, error) {
	b, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return 0, fmt.Errorf("read cpu time: %w", err)
	}
	_, rest, _ := strings.Cut(string(b), ") ") // the name before may hold blanks
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0, fmt.Errorf("read cpu time: %q", b)
	}
	var user, system int64 // fields 14 and 15 of proc(5)
	if _, err := fmt.Sscan(fields[11]+" "+fields[12], &user, &system); err != nil {
		return 0, fmt.Errorf("read cpu time: %w", err)
	}
	return time.Duration(user+system) * tick, nil
}

// resident is how much memory the process has, in KiB.
func (p *process) resident() (kib float64, err error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, fmt.Errorf("read memory: %w", err)
	}
	_, rest, _ := strings.Cut(string(b), "\nVmRSS:")
	if _, err := fmt.Sscan(rest, &kib); err != nil {
		return 0, fmt.Errorf("read memory: %w", err)
	}
	return kib, nil
}
