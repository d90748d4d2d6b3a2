//go:build fault

package fault

import (
	"context"
	"net"
	"net/http"
	"time"
)

// narrow is a client whose kernel takes little for it: what it does not read soon waits at the gateway.
func narrow(r *reader) {
	dialer := net.Dialer{}
	r.client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := dialer.DialContext(ctx, network, addr)
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetReadBuffer(32 << 10) // with more the scenario takes longer; with much less, window and packets of loopback do not fit, and catching up takes forever
		}
		return c, err
	}}}
}

// readersStopped has a fifth of the readers read nothing: half of them for a while, half of them until they are given up. The others notice nothing.
func readersStopped(start start) {
	users := most(100, 10)
	w := start(options{settings: "limits: {queue: 16KiB, queue_frames: 16}\n"})
	w.begin(load{users: users, notified: 3, seldom: true, devices: 5, topics: 1, every: 200 * time.Millisecond, data: 4 << 10, reader: narrow})
	var away, gone, fast []*reader
	for i, r := range w.readers {
		switch i % 10 {
		case 3:
			away = append(away, r)
		case 6:
			gone = append(gone, r)
		default:
			fast = append(fast, r)
		}
	}
	w.pause(most(4*time.Second, time.Second)) // to compare with
	stopped, lagging := w.log.now(), 0
	closed4408 := func() int { return w.metric(w.gateways, "allim_session_closes_total", "code", "4408") }
	for _, r := range append(away[:len(away):len(away)], gone...) {
		r.stop()
		w.tb.Cleanup(r.resume) // whatever happens: who waits for the end of its connection waits for it
	}
	w.say("%d of %d readers stop", len(away)+len(gone), len(w.readers))
	w.log.add(Event{What: faultOn, Text: "readers stopped"})
	w.eventually(time.Minute, "all of them lag", func() bool { // how soon depends on what the kernel takes for them; the first may have been given up
		lagging = max(lagging, w.metric(w.gateways, "allim_feed_subscriptions_lagging"))
		return w.metric(w.gateways, "allim_feed_subscriptions_lagging")+closed4408() >= len(away)+len(gone)
	})
	for _, r := range away {
		r.resume()
	}
	w.say("%d subscriptions lag; half of the readers go on", lagging)
	if !short {
		w.eventually(time.Minute, "the others are given up", func() bool { return w.metric(w.gateways, "allim_sessions") <= len(w.readers)-len(gone) })
	} else {
		w.pause(2 * time.Second)
	}
	for _, r := range gone {
		r.resume()
	}
	w.log.add(Event{What: faultOff, Text: "readers stopped"})
	w.say("all go on")
	w.pause(3 * time.Second)
	w.finish(allowed{})
	w.proves("subscriptions that lagged", lagging)
	if !short {
		w.proves("closed with 4408", closed4408()) // the others of them were cut in the middle of a frame, which takes as long
	}
	w.others(fast, stopped)
}

// others holds the deliveries to readers that nothing happened to against those before it happened.
func (w *world) others(readers []*reader, at time.Duration) {
	w.tb.Helper()
	fast := map[string]bool{}
	for _, r := range readers {
		fast[r.name] = true
	}
	v := newView(w.log.all(), allowed{late: 2 * atOnce})
	var before, after []time.Duration
	for _, d := range v.deliveries() {
		switch {
		case !fast[d.place.reader]:
		case d.at < at:
			before = append(before, d.took)
		default:
			after = append(after, d.took)
		}
	}
	was, is := percentile(before, 99), percentile(after, 99)
	w.say("99 of 100 deliveries to the others took at most %v, before %v", is, was)
	if is > max(2*was, v.late()) {
		w.tb.Errorf("the others' deliveries took %v, before %v", is, was)
	}
	w.proves("deliveries to the others", len(after))
}

// awayTooLong has some readers away while more happens to their users than a stream keeps, and others for a moment. Who comes back late is told so, and
// fetches list and counts; the others go on.
func awayTooLong(start start) {
	w := start(options{})
	w.begin(load{lists: true})
	var late []*reader
	w.fault("readers away", func() {
		soon, back := make(chan struct{}), make(chan struct{})
		left := map[string]int{}
		for _, r := range w.readers {
			left[r.stream("user:"+r.user)] = w.top(r.stream("user:" + r.user))
			switch r.user {
			case "user-1":
				r.goAway(soon)
			case "user-2":
				r.goAway(back)
				late = append(late, r)
			}
		}
		for _, c := range w.callers {
			c.hurries.Store(c.user == "user-2")
		}
		for _, c := range w.callers {
			switch c.user {
			case "user-1":
				w.eventually(healedAfter, "something happens", func() bool { return w.top(c.stream()) > left[c.stream()]+2 })
			case "user-2":
				w.eventually(healedAfter, "more happens than is kept", func() bool { return w.top(c.stream()) > left[c.stream()]+inboxWindow+40 })
				c.hurries.Store(false)
			}
		}
		close(soon)
		close(back)
	})
	w.pause(2 * time.Second)
	w.finish(allowed{resets: awayResets, late: time.Second})
	resets := map[string]int{}
	for _, e := range w.log.all() {
		if e.What == reset {
			resets[e.Reader]++
		}
	}
	for _, r := range late {
		if resets[r.name] != 1 {
			w.tb.Errorf("%s was reset %d times, want once", r.name, resets[r.name])
		}
	}
	w.proves("resets", len(resets))
	w.proves("missed while away", w.missed())
	w.proves("streams continued", w.log.count(func(e *Event) bool { return e.What == begins && e.Recovered }))
}

// halfOpenWithin: a ping comes each 25 s ± 20 %, and 10 s are for the answer; sessions are looked at each second.
const halfOpenWithin = 42 * time.Second

// halfOpen loses every packet between clients and their gateway, for good: neither side is told.
func halfOpen(start start) {
	w := start(options{clients: true})
	g, other := w.gateways[0], w.gateways[1]
	w.begin(load{devices: 20, seldom: true})
	there := w.metric([]*node{g}, "allim_sessions")
	w.fault("half-open clients", func() {
		since := w.log.now()
		g.front.Blackhole(true)
		for _, r := range w.readers {
			r.comeTo(other)
		}
		left := there
		w.eventually(2*time.Minute, "the gateway gives them up", func() bool {
			now := w.metric([]*node{g}, "allim_sessions")
			if at := w.log.now() - since; now != left && (now == 0 || at > halfOpenWithin) {
				w.say("%d of %d connections are left after %v", now, there, at)
			}
			left = now
			return now == 0
		})
		if took := w.log.now() - since; took > halfOpenWithin+4*w.slack() {
			w.tb.Errorf("half-open connections were given up after %v, want at most %v", took, halfOpenWithin)
		}
		if bytes := g.now().Metric("process_resident_memory_bytes"); bytes > 200<<20 {
			w.tb.Errorf("the gateway held %.0f bytes meanwhile", bytes)
		}
		g.front.Cut() // the clients' machines notice at last
	})
	w.pause(2 * time.Second)
	g.front.Heal()
	w.finish(allowed{late: time.Second})
	w.proves("connections given up", there)
	w.proves("missed while away", w.missed())
}

// storm kills one of two gateways that many clients are on: all of them come to the other at once.
func storm(start start) {
	w := start(options{settings: most("limits: {upgrades: 500}\n", "limits: {upgrades: 40}\n")})
	w.begin(load{users: most(1250, 75), notified: 3, seldom: true, topics: 1, every: time.Second, apart: most(2*time.Millisecond, 15*time.Millisecond)}) // else they wait to be let in
	steady, at := w.on(w.gateways[1]), w.log.now()
	w.fault("reconnect storm", func() {
		w.gateways[0].drain(true)
		w.kill(w.gateways[0])
		w.eventually(time.Minute, "everybody is back", func() bool { return w.metric(w.gateways[1:], "allim_sessions") >= len(w.readers) })
		w.say("all %d are back after %v", len(w.readers), w.log.now()-at)
	})
	w.pause(2 * time.Second)
	w.again(w.gateways[0])
	w.finish(allowed{})
	w.proves("connections cut", w.log.count(func(e *Event) bool {
		return e.What == closed && e.Code == -1 && e.At > at && e.Pod == w.gateways[0].name
	}))
	w.proves("turned away with Retry-After", w.log.count(func(e *Event) bool { return e.What == turned && e.Code == 503 && e.Kind == "retry-after" && e.At > at }))
	w.others(steady, at)
}

// on are the readers that are on a gateway now.
func (w *world) on(n *node) (there []*reader) {
	for _, r := range w.readers {
		r.mu.Lock()
		if r.live != nil && r.live.to == n {
			there = append(there, r)
		}
		r.mu.Unlock()
	}
	return there
}

// rolling stops one gateway after the other, as an update does. Whoever knows `move` is somewhere else before its old connection ends.
func rolling(start start) {
	w := start(options{gateways: 3, settings: most("drain: {pause: 5s, window: 20s}\n", "drain: {pause: 500ms, window: 2s}\n")})
	plain := 0
	w.begin(load{users: most(250, 38), notified: 5, devices: 4, topics: 1, every: time.Second, reader: func(r *reader) {
		if w.rng.IntN(20) == 0 {
			r.stays, plain = true, plain+1
		}
	}})
	asked := 0
	for _, g := range w.gateways {
		asked += w.metric([]*node{g}, "allim_sessions")
		w.say("%s stops, with %v connections", g.name, g.now().Metric("allim_sessions"))
		g.drain(true)
		g.now().Stop()
		w.again(g)
		g.drain(false)
	}
	w.pause(2 * time.Second)
	w.finish(allowed{late: time.Second})
	moved := w.frames("move")
	w.proves("moves", moved)
	w.proves("two connections at once", w.frames("overlap"))
	if moved < asked {
		w.tb.Errorf("%d connections were asked to move, of %d", moved, asked)
	}
	staying := map[string]bool{}
	for _, r := range w.readers {
		staying[r.name] = r.stays
	}
	restarts := 0
	for _, e := range w.log.all() {
		if e.What != closed || e.Code != 1012 {
			continue
		}
		if restarts++; !staying[e.Reader] {
			w.tb.Errorf("connection %d of %s, which knows how to move, was closed with 1012 at %v", e.Conn, e.Reader, e.At)
		}
	}
	w.proves("closed with 1012", restarts)
}
