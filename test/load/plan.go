//go:build linux

package main

import (
	"slices"
	"strings"
	"time"
)

// options are what a run is asked for.
type options struct {
	quick  bool
	only   []string // scenarios; none: all
	rounds int      // alternating
	conns  int      // of the scenarios with many; others have a tenth of it
	most   int      // that the machine allows
	rivals bool

	command string // as it was given; for the report
}

// A scene is a stage with the scenarios that are played on it, one after the other.
type scene struct {
	conns, topics, gateways int
	compress                bool
	grow                    bool              // a point of a curve, on which others than we are played once, in the first round
	alone                   bool              // is of us alone
	ping                    time.Duration     // between two pings of a connection; 0: as elsewhere
	hears                   func(i int) []int // topics; nil: everybody hears topic 0
	steps                   []step
}

// A step is one scenario.
type step struct {
	name  string
	lasts time.Duration // by estimate
	do    func(*stage) (figure, error)
}

// A tempo is how much there is to do and for how long.
type tempo struct {
	second    time.Duration // what a second of the plan lasts
	delivered float64       // deliveries in a second at a steady load
	unicast   float64       // messages in a second
	callers   int
	burst     int
	ping      time.Duration
	quiet     time.Duration // for which idle CPU is measured
	settle    time.Duration
}

func (o options) tempo() tempo {
	if o.quick {
		return tempo{second: 25 * time.Millisecond, delivered: 2000, unicast: 200, callers: 8, burst: 20, ping: time.Second, quiet: 100 * time.Millisecond, settle: 20 * time.Millisecond}
	}
	// A third of what one core could do. A burst stays below the queue of the baseline, of 256 messages.
	return tempo{second: time.Second, delivered: 30_000, unicast: 1000, callers: 64, burst: 100, ping: 10 * time.Second, quiet: 10 * time.Second, settle: 300 * time.Millisecond}
}

// The scenarios.
const (
	sConnect    = "connect"
	sIdle       = "idle"
	sFan        = "fanout"
	sFanWide    = "fanout-wide"
	sBurst      = "burst"
	sUnicast    = "unicast"
	sFlat       = "unicast-flat-out"
	sInbox      = "inbox-batches"
	sStream     = "stream"
	sTwoFan     = "two-gateways-fanout"
	sTwoUnicast = "two-gateways-unicast"
	sCompressed = "compressed"
	sScript     = "script"            // in pipelines, as calls for many users are
	sScriptOne  = "script-one-by-one" // as calls for one are, when few of them are under way

	sGrowConnect = "growth-connect"
	sGrowIdle    = "growth-idle"
	sGrowFan     = "growth-fanout"
	sGrowUnicast = "growth-unicast"
	sGrowHot     = "growth-topics-one"
	sGrowSpread  = "growth-topics-all"
)

// scenes are all of a run.
func (o options) scenes() (all []scene) {
	t, n := o.tempo(), min(o.conns, o.most)
	tenth := max(n/10, 1)
	arrive := func(name string, conns int) step {
		return step{name, time.Duration(conns) * 500 * time.Microsecond, (*stage).arrive}
	}
	all = append(all,
		scene{conns: tenth, steps: []step{arrive("", tenth), t.fan(sFan, 10, small), t.burstOf(sBurst, 6)}},
		scene{conns: n, steps: []step{arrive(sConnect, n), t.idles(sIdle), t.fan(sFanWide, 10, small), t.unicastTo(sUnicast, 8),
			t.flat(sFlat, 6), t.inbox(sInbox, 6), t.streamed(sStream, 6)}},
		scene{conns: n, gateways: 2, steps: []step{arrive("", n), t.fan(sTwoFan, 8, small), t.unicastTo(sTwoUnicast, 6)}},
		scene{conns: tenth, compress: true, steps: []step{arrive("", tenth), t.compressed(sCompressed, 8)}})
	for _, conns := range o.growth(n) {
		all = append(all, scene{conns: conns, grow: true, ping: unpinged, steps: []step{arrive(sGrowConnect, conns), t.fan(sGrowFan, 4, small), t.unicastTo(sGrowUnicast, 4)}})
		if often := t.often(); !o.quick {
			all = append(all, scene{conns: conns, grow: true, alone: true, ping: often.ping, steps: []step{arrive("", conns), often.idles(sGrowIdle)}})
		}
	}
	for _, topics := range o.topics(n) {
		all = append(all, scene{conns: n, topics: topics + 1, grow: true, ping: unpinged, hears: beside(tenth, n, topics),
			steps: []step{arrive("", n), t.hot(sGrowHot, 4, tenth), t.spread(sGrowSpread, 4)}})
	}
	return o.chosen(all)
}

// unpinged is between two pings where the cost of a message is compared between crowds: pings cost by connection and second, and would make it grow with
// them. It is the most that a gateway can be set to.
const unpinged = 10 * time.Minute

// often is a tempo at which everybody is pinged sooner: idle connections are measured over one whole interval, whatever it is.
func (t tempo) often() tempo {
	t.ping, t.quiet = t.ping/2, t.quiet/2
	return t
}

func (t tempo) idles(name string) step {
	return step{name, t.ping + t.ping/5 + t.quiet + t.quiet/5, func(s *stage) (figure, error) { return s.idle(t.quiet) }}
}

// plays tells whether a product is played on s in a round.
func (s *scene) plays(p product, round int) bool {
	return p.name == allim.name || !s.alone && (!s.grow || round == 1)
}

// growth are the numbers of connections of the curves.
func (o options) growth(n int) []int {
	if o.quick {
		return []int{n}
	}
	list := []int{n / 10, n / 2, n, min(n*19/10, o.most)}
	return slices.Compact(list)
}

// topics are the numbers of other topics of the curves.
func (o options) topics(n int) []int {
	if o.quick {
		return []int{n}
	}
	return []int{1, max(n/100, 2), n}
}

// beside has the first connections hear topic 0, and all others one of so many others, or several, so that each has a listener.
func beside(first, n, topics int) func(i int) []int {
	return func(i int) (list []int) {
		if i < first {
			return []int{0}
		}
		rest := n - first
		for k := (i - first) % topics; k < topics; k += rest {
			list = append(list, 1+k)
		}
		return list
	}
}

// chosen are the scenes with a step that was asked for, without the others.
func (o options) chosen(all []scene) (chosen []scene) {
	for _, s := range all {
		s.topics, s.gateways = max(s.topics, 1), max(s.gateways, 1)
		if s.hears == nil {
			s.hears = func(int) []int { return []int{0} }
		}
		asked := func(name string) bool {
			return name != "" && (len(o.only) == 0 || slices.ContainsFunc(o.only, func(p string) bool { return strings.HasPrefix(name, p) }))
		}
		if !slices.ContainsFunc(s.steps, func(one step) bool { return asked(one.name) }) {
			continue
		}
		arrival := s.steps[0]
		if !asked(arrival.name) {
			arrival.name = "" // everybody must come all the same
		}
		rest := slices.DeleteFunc(slices.Clone(s.steps[1:]), func(one step) bool { return !asked(one.name) })
		s.steps = append([]step{arrival}, rest...)
		chosen = append(chosen, s)
	}
	return chosen
}

// wantsScript tells whether the bare script is to be measured: by itself, and beside what is compared with it.
func (o options) wantsScript() bool {
	return len(o.only) == 0 || slices.ContainsFunc(o.only, func(p string) bool {
		return strings.HasPrefix(sScript, p) || strings.HasPrefix(sScriptOne, p) || strings.HasPrefix(sInbox, p) || strings.HasPrefix(sFlat, p)
	})
}

// scripts are the forms in which the bare script is measured.
var scripts = []struct {
	name      string
	pipelined int
}{{sScript, 64}, {sScriptOne, 1}}

// starting is what a stage takes besides its steps.
const starting = 1500 * time.Millisecond

// estimate is how long scenes take with so many products.
func (o options) estimate(scenes []scene, products []product) (sum time.Duration) {
	for _, s := range scenes {
		one := starting
		for _, step := range s.steps {
			one += step.lasts + o.tempo().settle
		}
		for round := 1; round <= o.rounds; round++ {
			for _, p := range products {
				if s.plays(p, round) {
					sum += one
				}
			}
		}
	}
	if o.wantsScript() {
		sum += time.Duration(o.rounds*len(scripts)) * (scriptLasts + starting/3)
	}
	return sum
}
