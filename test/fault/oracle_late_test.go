package fault

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Rule 4: the server's items are as the marks left them, the server's counts are those of its items, and every reader shows those.
func countsAgree(v *view) (wrong []string) {
	for _, stream := range v.streams() {
		truth := v.truth[stream]
		if truth == nil || truth.What != inbox {
			continue
		}
		unread, unseen := 0, 0
		for _, it := range truth.Items {
			if !it.Archived && !it.Read {
				unread++
			}
			if !it.Archived && !it.Seen {
				unseen++
			}
			if !v.mayBe(stream, it) {
				wrong = append(wrong, fmt.Sprintf("%s of %s: got seen %t read %t archived %t, which its marks do not make it", it.ID, stream, it.Seen, it.Read, it.Archived))
			}
		}
		if unread != truth.Unread || unseen != truth.Unseen {
			wrong = append(wrong, fmt.Sprintf("%s counts %d unread and %d unseen, its items say %d and %d", stream, truth.Unread, truth.Unseen, unread, unseen))
		}
		for _, e := range v.shown[stream] {
			if e.Unread != truth.Unread || e.Unseen != truth.Unseen {
				wrong = append(wrong, fmt.Sprintf("%s shows %d unread and %d unseen of %s, the server counts %d and %d", e.Reader, e.Unread, e.Unseen, stream, truth.Unread, truth.Unseen))
			}
			if e.Kind == "list" && !slices.Equal(e.Items, truth.Items) {
				wrong = append(wrong, fmt.Sprintf("%s lists %d items of %s, the server %d; the first that are not the same: %v", e.Reader, len(e.Items), stream, len(truth.Items), differ(e.Items, truth.Items)))
			}
		}
	}
	return wrong
}

// differ is the first pair of items that is none.
func differ(a, b []Item) []Item {
	for i := range max(len(a), len(b)) {
		pair := append(slices.Clone(a[min(i, len(a)):min(i+1, len(a))]), b[min(i, len(b)):min(i+1, len(b))]...)
		if len(pair) < 2 || pair[0] != pair[1] {
			return pair
		}
	}
	return nil
}

// fold is the states that an item may be in after its marks, all of one caller, one after the other. One that got no answer, or is unknown, was carried out
// or not.
func (v *view) fold(marks []*op) map[Item]bool {
	may := map[Item]bool{{}: true}
	for _, m := range marks {
		next := map[Item]bool{}
		for it := range may {
			next[marked(it, m.kind)] = true
			if !m.acked || v.excused(m) {
				next[it] = true
			}
		}
		may = next
	}
	return may
}

// mayBe tells whether the marks of an item may have left it so.
func (v *view) mayBe(stream string, it Item) bool {
	return v.fold(v.marks[key(stream, it.ID)])[Item{Seen: it.Seen, Read: it.Read, Archived: it.Archived}]
}

// marked is an item after a mark.
func marked(it Item, kind string) Item {
	switch kind {
	case "seen":
		it.Seen = true
	case "read":
		it.Read, it.Seen = true, true
	case "unread":
		it.Read = false
	case "archive":
		it.Archived, it.Seen = true, true
	case "unarchive":
		it.Archived = false
	}
	return it
}

// Rule 6: a reset says "I cannot continue from your position". Where Redis lost nothing there is none; where it did, who had seen what is lost gets
// one, and nobody else.
func resetsOnlyForLoss(v *view) (wrong []string) {
	switch v.allowed.resets {
	case someResets:
		return nil
	case awayResets:
		return resetsOnlyBehindTheWindow(v)
	}
	lost := map[string]*Event{}
	for i := range v.events {
		if e := &v.events[i]; e.What == kept {
			lost[e.Stream] = e
		}
	}
	for _, p := range v.places {
		var was *Event
		saw, at := false, lost[p.stream]
		for _, f := range p.frames {
			if f.What == reset && was == nil {
				was = f
			}
			saw = saw || at != nil && f.What == got && epoch(f.Pos) == epoch(at.Pos) && offset(f.Pos) > offset(at.Pos) // it may be handled after the loss
		}
		switch {
		case was != nil && v.allowed.resets == noResets:
			wrong = append(wrong, fmt.Sprintf("%s had %s reset to %s at %v (%s), where nothing was lost", p.reader, p.stream, was.Pos, was.At, was.Text))
		case was != nil && !saw:
			wrong = append(wrong, fmt.Sprintf("%s had %s reset to %s at %v (%s), and had seen nothing that was lost", p.reader, p.stream, was.Pos, was.At, was.Text))
		case was == nil && saw && v.allowed.resets == lossResets:
			wrong = append(wrong, fmt.Sprintf("%s had seen of %s what was lost after %s, and was told nothing", p.reader, p.stream, at.Pos))
		}
	}
	return wrong
}

// inboxWindow is how many events the stream of a user keeps (internal/store).
const inboxWindow = 128

// resetsOnlyBehindTheWindow wants resets of users' streams alone, and on connections of readers who had been away for longer than the stream reaches.
func resetsOnlyBehindTheWindow(v *view) (wrong []string) {
	for _, p := range v.places {
		for i, f := range p.frames {
			if f.What != reset {
				continue
			}
			was := 0
			for _, before := range p.frames[:i] {
				if before.Conn != f.Conn && before.What != listed {
					was = offset(before.Pos)
				}
			}
			if far := offset(f.Pos) - was; !strings.Contains(p.stream, " user:") || f.Text != "history_gone" || far <= inboxWindow {
				wrong = append(wrong, fmt.Sprintf("%s had %s reset to %s at %v (%s), %d events after it left", p.reader, p.stream, f.Pos, f.At, f.Text, far))
			}
		}
	}
	return wrong
}

// A delivery is how long an acknowledged message took to one reader.
type delivery struct {
	op    *op
	place *place
	at    time.Duration
	took  time.Duration // since it was asked for; since it was acknowledged where that took several attempts
	calm  bool          // no fault was near
}

// deliveries are the first time that each message was shown to each reader that was there when it was written.
func (v *view) deliveries() (all []delivery) {
	for _, p := range v.places {
		for _, f := range p.frames {
			o := v.written[key(p.stream, f.ID)]
			if f.What != got || !f.Shown || o == nil || !o.acked || o.invoked < p.since {
				continue
			}
			d := delivery{op: o, place: p, at: f.At, took: f.At - o.invoked, calm: true}
			if o.tries > 0 {
				d.took = max(f.At-o.at, 0)
			}
			for _, w := range v.windows {
				d.calm = d.calm && (f.At < w.from || o.invoked > w.to+healedAfter)
			}
			all = append(all, d)
		}
	}
	return all
}

// Rule 8: outside faults 99 of 100 deliveries are there at once; whatever happened, all are there 20 s after the fault's end.
func inTime(v *view) (wrong []string) {
	var calm []time.Duration
	healed := healedAfter
	if v.allowed.healed > 0 {
		healed = v.allowed.healed + 4*v.slack()
	}
	for _, d := range v.deliveries() {
		due := d.op.at
		for _, w := range v.windows {
			if w.from <= d.at {
				due = max(due, w.to)
			}
		}
		if d.at > due+healed {
			wrong = append(wrong, fmt.Sprintf("%s was shown %s of %s at %v, %v after it was asked for and %v after the fault", d.place.reader, d.op.id, d.place.stream, d.at, d.took, d.at-due))
		}
		if d.calm {
			calm = append(calm, d.took)
		}
	}
	if late, p99 := v.late(), percentile(calm, 99); late > 0 && p99 > late {
		wrong = append(wrong, fmt.Sprintf("of %d deliveries without a fault 1 of 100 took longer than %v, want at most %v", len(calm), p99, late))
	}
	return wrong
}

// percentile sorts all and is what n of 100 do not pass; 0 for none.
func percentile(all []time.Duration, n int) time.Duration {
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	return all[(len(all)*n+99)/100-1]
}

// late is what 99 of 100 deliveries may take: what is allowed, and what the machine itself was late by.
func (v *view) late() time.Duration {
	if v.allowed.late == 0 {
		return 0
	}
	return v.allowed.late + 4*v.slack()
}

// slack is the most that the machine was late by.
func (v *view) slack() (worst time.Duration) {
	for i := range v.events {
		if e := &v.events[i]; e.What == slack {
			worst = max(worst, time.Duration(e.Bytes))
		}
	}
	return worst
}

const (
	moreGoroutines  = 5
	moreDescriptors = 5
	moreBytes       = 48 << 20 // what Go's collector may hold in a process so small that a third of it is nothing
)

// Rule 9: processes that lived through it all are as they were, and Redis keeps nothing forever.
func backToBaseline(v *view) (wrong []string) {
	before := map[string]*Event{}
	for i := range v.events {
		e := &v.events[i]
		switch e.What {
		case endless:
			wrong = append(wrong, fmt.Sprintf("the key %s has no end", e.Text))
		case measured:
			b := before[e.Pod]
			if e.Kind == "before" {
				before[e.Pod] = e
				continue
			}
			if b == nil {
				continue
			}
			var more []string
			if e.Goroutines > b.Goroutines+moreGoroutines {
				more = append(more, fmt.Sprintf("%d goroutines, before %d", e.Goroutines, b.Goroutines))
			}
			if e.Descriptors > b.Descriptors+moreDescriptors {
				more = append(more, fmt.Sprintf("%d descriptors, before %d", e.Descriptors, b.Descriptors))
			}
			if e.Bytes > max(b.Bytes*13/10, b.Bytes+moreBytes) {
				more = append(more, fmt.Sprintf("%d MiB, before %d", e.Bytes>>20, b.Bytes>>20))
			}
			if len(more) > 0 {
				wrong = append(wrong, fmt.Sprintf("%s has %s", e.Pod, strings.Join(more, ", ")))
			}
		}
	}
	return wrong
}
