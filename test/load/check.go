//go:build linux

package main

import "fmt"

// A judge holds what each connection received against what was published: nothing lost, nothing twice, everything in order. A line is a topic or an
// inbox; its messages are numbered from 0. The order of a line is the one in which its first receiver got it, and all others must have the same;
// where the messages were published one after the other (strict), it must be that of the numbers.
//
// It has no lock: the crowd's guards it.
type judge struct {
	lines   []line
	readers []reader
	due     int // deliveries of what was published
	got     int // deliveries that came
	faults  faults
}

type line struct {
	sent      uint32   // messages that were published
	strict    bool     // since the last change of it, each was published after the one before was acknowledged
	order     []uint32 // numbers in the order in which they were received
	listeners int
}

// A reader is one connection, in the order of the crowd's.
type reader struct {
	lines []int    // that it hears
	at    []uint32 // how many messages of each it had
}

// newJudge makes a judge of so many lines; hears names those of each reader.
func newJudge(lines int, hears [][]int) *judge {
	j := &judge{lines: make([]line, lines), readers: make([]reader, len(hears))}
	for i, list := range hears {
		j.readers[i] = reader{lines: list, at: make([]uint32, len(list))}
		for _, k := range list {
			j.lines[k].listeners++
		}
	}
	return j
}

// publish gives out the next number of a line.
func (j *judge) publish(k int, strict bool) uint32 {
	l := &j.lines[k]
	l.strict = strict
	l.sent++
	j.due += l.listeners
	return l.sent - 1
}

// receive judges one message that came to a reader.
func (j *judge) receive(who int, m mark) {
	r := &j.readers[who]
	for slot, k := range r.lines {
		if k == int(m.line) {
			j.got++
			j.place(who, &j.lines[k], &r.at[slot], m)
			return
		}
	}
	j.faults.add("stray", "connection %d got message %d of line %d, which it does not hear", who, m.n, m.line)
}

func (j *judge) place(who int, l *line, at *uint32, m mark) {
	place := *at
	*at++
	switch {
	case m.n >= l.sent:
		j.faults.add("stray", "connection %d got message %d of line %d, of which %d were published", who, m.n, m.line, l.sent)
	case int(place) < len(l.order):
		if want := l.order[place]; want != m.n {
			j.faults.add("order", "connection %d got message %d of line %d in place %d, where others got %d", who, m.n, m.line, place, want)
		}
	case l.strict && m.n != place:
		j.faults.add("order", "connection %d got message %d of line %d in place %d", who, m.n, m.line, place)
		l.order = append(l.order, m.n)
	case !l.strict && had(l.order, m.n):
		j.faults.add("duplicate", "connection %d got message %d of line %d again in place %d", who, m.n, m.line, place)
	default:
		l.order = append(l.order, m.n)
	}
}

// recent is how far back a line's order is searched for a number: the most messages that are under way at once.
const recent = 4096

func had(order []uint32, n uint32) bool {
	for _, other := range order[max(0, len(order)-recent):] {
		if other == n {
			return true
		}
	}
	return false
}

// lost takes down who has less than was published, at the end of a run.
func (j *judge) lost() {
	for i := range j.readers {
		for slot, k := range j.readers[i].lines {
			if had, sent := j.readers[i].at[slot], j.lines[k].sent; had < sent {
				j.faults.add("lost", "connection %d got %d messages of line %d, of which %d were published", i, had, k, sent)
			} else if had > sent {
				j.faults.add("duplicate", "connection %d got %d messages of line %d, of which %d were published", i, had, k, sent)
			}
		}
	}
}

// faults are what went wrong: the first of each kind in words, all of them in numbers.
type faults struct {
	kinds []string // in the order of their first
	first map[string]string
	count map[string]int
}

func (f *faults) add(kind, format string, args ...any) {
	if f.count == nil {
		f.first, f.count = map[string]string{}, map[string]int{}
	}
	if f.count[kind]++; f.count[kind] == 1 {
		f.kinds = append(f.kinds, kind)
		f.first[kind] = fmt.Sprintf(format, args...)
	}
}

// take empties them into lines for people.
func (f *faults) take() (list []string) {
	for _, kind := range f.kinds {
		list = append(list, fmt.Sprintf("%s ×%d: %s", kind, f.count[kind], f.first[kind]))
	}
	*f = faults{}
	return list
}
