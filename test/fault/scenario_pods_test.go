//go:build fault

package fault

import "time"

// gatewayKilled kills gateways while their readers hear, and starts them again.
func gatewayKilled(start start) {
	w := start(options{gateways: 3})
	w.begin(load{devices: most(10, 4)})
	w.fault("gateways killed", func() {
		for i := range most(10, 2) {
			w.pause(w.drawn(300*time.Millisecond, 1500*time.Millisecond))
			g := w.gateways[w.rng.IntN(len(w.gateways))]
			w.say("kill %d: %s", i+1, g.name)
			w.kill(g)
			w.pause(w.drawn(300*time.Millisecond, time.Second))
			w.again(g)
		}
	})
	w.pause(2 * time.Second)
	w.finish(allowed{late: time.Second})
	w.proves("connections cut", w.log.count(func(e *Event) bool { return e.What == closed && e.Code == -1 }))
	w.proves("missed while away", w.missed())
	w.proves("streams continued", w.log.count(func(e *Event) bool { return e.What == begins && e.Recovered }))
}

// publisherKilled kills publishers in the middle of calls, whose callers repeat them at the other one.
func publisherKilled(start start) {
	w := start(options{})
	for _, p := range w.publishers {
		p.proxy.Delay(30 * time.Millisecond) // so that calls are under way most of the time
	}
	w.begin(load{topics: 8, every: 20 * time.Millisecond})
	w.fault("publishers killed", func() {
		for i := range most(10, 3) {
			w.pause(w.drawn(200*time.Millisecond, time.Second))
			p := w.publishers[w.rng.IntN(len(w.publishers))]
			w.say("kill %d: %s", i+1, p.name)
			w.kill(p)
			w.pause(w.drawn(200*time.Millisecond, time.Second))
			w.again(p)
		}
	})
	w.pause(2 * time.Second)
	w.finish(allowed{late: time.Second})
	w.proves("calls without an answer", w.row.sum.tried)
	w.proves("answered as duplicates", w.row.sum.duplicates)
}

// missed is how many messages were written to streams of a reader while it was away, and shown to it afterwards.
func (w *world) missed() (n int) {
	v := newView(w.log.all(), allowed{})
	away := map[string][]window{}
	for i := range v.events {
		e := &v.events[i]
		switch e.What {
		case closed:
			away[e.Reader] = append(away[e.Reader], window{from: e.At})
		case connected:
			if all := away[e.Reader]; len(all) > 0 && all[len(all)-1].to == 0 {
				all[len(all)-1].to = e.At
			}
		}
	}
	for _, d := range v.deliveries() {
		for _, gap := range away[d.place.reader] {
			if d.op.invoked > gap.from && d.op.at < gap.to {
				n++
			}
		}
	}
	return n
}
