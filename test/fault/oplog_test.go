//go:build fault

package fault

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"allim/test/pods"
)

// An oplog only grows. It stands in a file, for who looks for a fault afterwards, and in memory for the rules.
type oplog struct {
	path  string
	start time.Time

	mu     sync.Mutex // guards the fields below
	file   *os.File
	buffer *bufio.Writer
	events []Event
	ops    int
}

// openLog begins a log of that name in the directory for them, over an older one.
func openLog(name string) (*oplog, error) {
	dir, err := logs()
	if err != nil {
		return nil, err
	}
	l := &oplog{path: filepath.Join(dir, name+".jsonl"), start: time.Now()}
	if l.file, err = os.Create(l.path); err != nil {
		return nil, fmt.Errorf("create log: %w", err)
	}
	l.buffer = bufio.NewWriterSize(l.file, 64<<10)
	return l, nil
}

// logs is the directory of all logs: ALLIM_FAULT_LOGS, or one that git does not see.
func logs() (dir string, err error) {
	if dir = os.Getenv("ALLIM_FAULT_LOGS"); dir == "" {
		root, err := pods.Root()
		if err != nil {
			return "", err
		}
		dir = filepath.Join(root, "dist", "fault")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("make directory of logs: %w", err)
	}
	return dir, nil
}

// add writes one event, now.
func (l *oplog) add(e Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.addLocked(e)
}

func (l *oplog) addLocked(e Event) {
	e.At = time.Since(l.start)
	l.events = append(l.events, e)
	if b, err := json.Marshal(e); err == nil {
		_, _ = l.buffer.Write(append(b, '\n')) // the rules judge what is in memory
	}
}

// begin writes that an operation begins, and is its number.
func (l *oplog) begin(kind, stream, id string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ops++
	l.addLocked(Event{What: invoked, Op: l.ops, Kind: kind, Stream: stream, ID: id})
	return l.ops
}

// now is the time of the log.
func (l *oplog) now() time.Duration { return time.Since(l.start) }

// all is a copy of the events so far.
func (l *oplog) all() []Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.events)
}

// count is how many events so far are good.
func (l *oplog) count(good func(*Event) bool) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.events {
		if good(&l.events[i]) {
			n++
		}
	}
	return n
}

// close ends the file.
func (l *oplog) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	_ = l.buffer.Flush()
	_ = l.file.Close()
}
