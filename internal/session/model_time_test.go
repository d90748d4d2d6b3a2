package session_test

import (
	"fmt"
	"slices"
	"time"
)

// What expires does so by the clock, in tens of milliseconds. An operation that a deadline passes in may have come before or behind it: both are tried on the model.

// next is the deadline that comes next; zero: there is none. Those that have passed for long are forgotten.
func (p *play) next() time.Time {
	p.deadlines = slices.DeleteFunc(p.deadlines, func(d time.Time) bool { return time.Since(d) > time.Minute })
	slices.SortFunc(p.deadlines, time.Time.Compare)
	for _, d := range p.deadlines {
		if time.Until(d) > 0 {
			return d
		}
	}
	return time.Time{}
}

// calm waits until no deadline is near, so that it hardly ever passes within an operation.
func (p *play) calm() {
	for d := p.next(); !d.IsZero() && time.Until(d) < 4*time.Millisecond; d = p.next() {
		<-time.After(time.Until(d))
	}
}

// during is when something was done.
func (p *play) during(do func()) (from, to time.Time) {
	p.calm()
	from = time.Now()
	do()
	return from, time.Now()
}

// moments are the times of a while that may make a difference.
func (p *play) moments(from, to time.Time) []time.Time {
	out := []time.Time{from}
	for _, d := range p.deadlines {
		if d.After(from) && !d.After(to) {
			out = append(out, d)
		}
	}
	return out
}

// in is a time from now on, as Redis keeps it.
func (p *play) in(d time.Duration) time.Time {
	at := time.Now().Add(d).Truncate(time.Millisecond).UTC()
	for p.spans[at.UnixMilli()] != "" { // one time, one name
		at = at.Add(time.Millisecond)
	}
	p.spans[at.UnixMilli()] = fmt.Sprintf("in %v (%d)", d, len(p.spans))
	p.deadlines = append(p.deadlines, at)
	return at
}
