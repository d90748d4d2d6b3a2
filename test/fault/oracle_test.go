package fault

import (
	"fmt"
	"time"
)

// Which resets a scenario lets happen.
const (
	noResets    = iota // nothing was lost, so nobody may be told to begin anew
	awayResets         // nothing was lost: only of users' streams, by whoever was away while more happened there than is kept
	lossResets         // exactly whoever had seen what Redis lost (events `kept`)
	someResets         // counted, not judged
	healedAfter = 20 * time.Second
)

// allowed is what a scenario lets happen; the zero value is the strictest.
type allowed struct {
	resets int
	late   time.Duration // the longest that 99 of 100 deliveries outside faults may take; 0: not judged
	healed time.Duration // the longest that any may take after a fault; 0: healedAfter
}

// A breach is one promise that was broken.
type breach struct {
	rule int
	text string
}

func (b breach) String() string { return fmt.Sprintf("rule %d: %s", b.rule, b.text) }

// rules are the promises, in the numbers that breaches have.
var rules = []struct {
	n     int
	check func(*view) []string
}{
	{1, acknowledgedStands},
	{2, shownOnceAndInOrder},
	{3, connectionsKeepTheirWord},
	{4, countsAgree},
	{5, nothingOfOthers},
	{6, resetsOnlyForLoss},
	{7, nothingRefused},
	{8, inTime},
	{9, backToBaseline},
	{10, ephemeralAtMostOnce},
}

// mostBreaches of a rule are told; a broken promise is seldom broken once.
const mostBreaches = 8

// judge holds a log against all rules.
func judge(events []Event, a allowed) (all []breach) {
	v := newView(events, a)
	for _, r := range rules {
		texts := r.check(v)
		for i, text := range texts {
			if i == mostBreaches {
				all = append(all, breach{r.n, fmt.Sprintf("and %d more", len(texts)-i)})
				break
			}
			all = append(all, breach{r.n, text})
		}
	}
	return all
}

// Rule 1: what was acknowledged stands in the inbox or the history, once, and nothing else does.
func acknowledgedStands(v *view) (wrong []string) {
	for _, stream := range v.streams() {
		truth := v.truth[stream]
		if truth == nil {
			wrong = append(wrong, fmt.Sprintf("nobody looked what stands in %s", stream))
			continue
		}
		times := map[string]int{}
		for _, it := range truth.Items {
			times[it.ID]++
			if v.written[key(stream, it.ID)] == nil {
				wrong = append(wrong, fmt.Sprintf("%s holds %s, which nobody wrote", stream, it.ID))
			}
		}
		for _, o := range v.on[stream] {
			switch n := times[o.id]; {
			case n > 1:
				wrong = append(wrong, fmt.Sprintf("%s holds %s %d times", stream, o.id, n))
			case n == 0 && o.acked && !v.excused(o):
				wrong = append(wrong, fmt.Sprintf("%s lacks %s, acknowledged at %v by %s", stream, o.id, o.at, o.by))
			}
		}
	}
	return wrong
}

// Rule 2: each reader was shown each message that was written after it came, once, and those that were not replayed in the order in which they were
// written, as those that one process wrote again, which had acknowledged them at their first attempt: else two may hold one. An inbox frame after a reset shows what is in it.
func shownOnceAndInOrder(v *view) (wrong []string) {
	for _, p := range v.places {
		shown, last := map[string]int{}, map[string]*op{} // by who wrote it again; "": nobody
		for _, f := range p.frames {
			if f.What == listed {
				for _, it := range f.Items {
					shown[it.ID] = max(shown[it.ID], 1)
				}
				continue
			}
			if !f.Shown || f.ID == "" {
				continue
			}
			shown[f.ID]++
			o := v.written[key(p.stream, f.ID)]
			if o == nil {
				wrong = append(wrong, fmt.Sprintf("%s was shown %s of %s, which nobody wrote", p.reader, f.ID, p.stream))
				continue
			}
			again := ""
			if f.Replayed {
				if again = o.by; again == "" || o.tries > 0 {
					continue
				}
			}
			if before := last[again]; before != nil && o.n < before.n && shown[f.ID] == 1 {
				wrong = append(wrong, fmt.Sprintf("%s was shown %s of %s after %s, at %v", p.reader, f.ID, p.stream, before.id, f.At))
			}
			last[again] = o
		}
		for _, o := range v.on[p.stream] {
			switch n := shown[o.id]; {
			case n > 1:
				wrong = append(wrong, fmt.Sprintf("%s was shown %s of %s %d times", p.reader, o.id, p.stream, n))
			case n == 0 && v.owes(p, o):
				wrong = append(wrong, fmt.Sprintf("%s was never shown %s of %s, acknowledged at %v", p.reader, o.id, p.stream, o.at))
			}
		}
	}
	return wrong
}

// Rule 3: on one connection each position of a stream is one more than the last, from where the stream began or was reset, and no id comes twice
// unless it is replayed, or the stream was begun anew.
func connectionsKeepTheirWord(v *view) (wrong []string) {
	type line struct {
		at   int
		open bool // it has begun
		seen map[string]bool
	}
	for _, p := range v.places {
		lines := map[int]*line{}
		for _, f := range p.frames {
			l := lines[f.Conn]
			if l == nil {
				l = &line{}
				lines[f.Conn] = l
			}
			switch f.What {
			case begins, reset:
				l.at, l.open, l.seen = offset(f.Pos), true, map[string]bool{}
			case got:
				if !l.open || offset(f.Pos) != l.at+1 {
					wrong = append(wrong, fmt.Sprintf("connection %d of %s: %s of %s after %d, at %v", f.Conn, p.reader, f.Pos, p.stream, l.at, f.At))
				}
				if f.ID != "" && l.seen[f.ID] && !f.Replayed {
					wrong = append(wrong, fmt.Sprintf("connection %d of %s: %s of %s came twice, again at %v", f.Conn, p.reader, f.ID, p.stream, f.At))
				}
				if l.at = offset(f.Pos); l.open && f.ID != "" {
					l.seen[f.ID] = true
				}
			}
		}
	}
	return wrong
}

// Rule 5: nothing of another user, topic or tenant, ever.
func nothingOfOthers(v *view) (wrong []string) {
	for _, p := range v.places {
		for _, f := range p.frames {
			if f.What == got && f.ID != "" && f.Owner != p.stream {
				wrong = append(wrong, fmt.Sprintf("%s got %s of %q in %s", p.reader, f.ID, f.Owner, p.stream))
			}
		}
	}
	return wrong
}

// Rule 7: no operation gets an answer that says it can not be done, and each that was begun was answered in the end: the callers repeat until then.
func nothingRefused(v *view) (wrong []string) {
	for i := range v.events {
		if e := &v.events[i]; e.What == refused {
			wrong = append(wrong, fmt.Sprintf("operation %d (%s %s of %s) was refused: %s", e.Op, e.Kind, e.ID, e.Stream, e.Text))
		}
	}
	for _, o := range v.ops {
		if item := v.written[key(o.stream, o.id)]; o.missing && !v.excused(item) {
			wrong = append(wrong, fmt.Sprintf("operation %d (%s %s of %s): the item is not there, and it is known who holds it", o.n, o.kind, o.id, o.stream))
		} else if !o.acked && !o.missing {
			wrong = append(wrong, fmt.Sprintf("operation %d (%s %s of %s) never got an answer", o.n, o.kind, o.id, o.stream))
		}
	}
	return wrong
}

// Rule 10: ephemeral messages come at most once and in order on a connection, and only where they belong. That they come at all is not promised, nor
// when one comes whose call had no good answer (Text).
func ephemeralAtMostOnce(v *view) (wrong []string) {
	type line struct {
		reader, stream string
		conn           int
	}
	order, unsure, last, had := map[string]int{}, map[string]bool{}, map[line]int{}, map[line]map[string]bool{}
	for i := range v.events {
		if e := &v.events[i]; e.What == sent && e.Text != "" {
			unsure[key(e.Stream, e.ID)] = true
		} else if e.What == sent {
			order[key(e.Stream, e.ID)] = len(order) + 1
		}
	}
	for i := range v.events {
		e := &v.events[i]
		if e.What != passed {
			continue
		}
		l, n := line{e.Reader, e.Stream, e.Conn}, order[key(e.Stream, e.ID)]
		if had[l] == nil {
			had[l] = map[string]bool{}
		}
		late := n < last[l] && !unsure[key(e.Stream, e.ID)]
		switch {
		case n == 0 || e.Owner != e.Stream:
			wrong = append(wrong, fmt.Sprintf("%s got %s of %q in %s, which nobody sent there", e.Reader, e.ID, e.Owner, e.Stream))
		case had[l][e.ID] || late:
			wrong = append(wrong, fmt.Sprintf("%s got %s of %s again or too late, on connection %d at %v", e.Reader, e.ID, e.Stream, e.Conn, e.At))
		}
		if had[l][e.ID] = true; !unsure[key(e.Stream, e.ID)] {
			last[l] = max(last[l], n)
		}
	}
	return wrong
}
