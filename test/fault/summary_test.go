package fault

import "time"

// A summary is what a log says in numbers.
type summary struct {
	operations, deliveries int
	tried                  int // attempts without an answer
	duplicates             int // operations that an earlier attempt had carried out
	resets, replays        int
	ephemeral              int           // came
	unknown                int           // acknowledged, and nobody can say what became of them
	p99, slowest           time.Duration // of deliveries that no fault was near
	slowestEver            time.Duration // since the acknowledgement or, where that was later, the end of the fault
}

func summarize(events []Event) (s summary) {
	v := newView(events, allowed{})
	s.operations = len(v.ops)
	for i := range events {
		switch e := &events[i]; {
		case e.What == tried:
			s.tried++
		case e.What == passed:
			s.ephemeral++
		case e.What == reset:
			s.resets++
		case e.What == got && e.Replayed:
			s.replays++
		}
	}
	for _, o := range v.ops {
		if o.duplicate {
			s.duplicates++
		}
		if v.excused(o) && (o.isMark() || !v.stands(o)) {
			s.unknown++
		}
	}
	var calm []time.Duration
	for _, d := range v.deliveries() {
		s.deliveries++
		after := d.op.at
		for _, w := range v.windows {
			if w.from <= d.at && w.to <= d.at {
				after = max(after, w.to)
			} else if w.from <= d.at {
				after = d.at
			}
		}
		s.slowestEver = max(s.slowestEver, d.at-after)
		if d.calm {
			calm = append(calm, d.took)
			s.slowest = max(s.slowest, d.took)
		}
	}
	s.p99 = percentile(calm, 99)
	return s
}
