//go:build linux

package main

import (
	"fmt"
	"math"
	"slices"
)

// A gate is what a figure is to reach. It is told, not enforced: a machine that is busy reaches none.
type gate struct {
	What   string  `json:"what"`
	Most   float64 `json:"at_most,omitempty"`
	Least  float64 `json:"at_least,omitempty"`
	Got    float64 `json:"got"`
	Passed bool    `json:"passed"`
	Open   bool    `json:"open,omitempty"` // it was played, and no round of it counts
	Note   string  `json:"note,omitempty"` // what must be known to read it
}

func (g gate) wants() string {
	if g.Least > 0 {
		return fmt.Sprintf("≥ %.3g", g.Least)
	}
	return fmt.Sprintf("≤ %.3g", g.Most)
}

func (g gate) verdict() string {
	if g.Open {
		return "open"
	}
	return verdict(g.Passed)
}

func (g gate) got() string {
	if g.Open {
		return number(math.NaN())
	}
	return number(g.Got)
}

// ratios are the gates against others, measured in the same run.
var ratios = []struct {
	scenario, value, against string
	most                     float64
}{
	{sIdle, memory, naive.name, 1.0 / 3},
	{sFan, gatewayCPU, naive.name, 1 / 1.6},
	{sFanWide, gatewayCPU, naive.name, 1 / 1.4},
	{sBurst, gatewayCPU, naive.name, 1.0 / 4},
	{sFan, p99, naive.name, 0.6},
	{sFanWide, p99, naive.name, 0.6},

	{sIdle, memory, centrifugo.name, 1.0 / 4},
	{sIdle, idleCPU, centrifugo.name, 1.0 / 6},
	{sFan, gatewayCPU, centrifugo.name, 1 / 1.5},
	{sFanWide, gatewayCPU, centrifugo.name, 1 / 1.5},
	{sBurst, gatewayCPU, centrifugo.name, 1.0 / 3},
	{sCompressed, gatewayCPU, centrifugo.name, 1 / 2.5},
	{sFan, p99, centrifugo.name, 0.6},
	{sConnect, connectCPU, centrifugo.name, 1 / 1.1},
}

// farther is what p99 gates are read with: the two ways from publish to receipt are not equally long.
var farther = map[string]string{
	naive.name: "ours goes by gRPC through the publisher (rights, dedupe, history, counts) and a script; the baseline's is a bare PUBLISH straight into Redis",
}

const (
	mostMemory   = 12  // KiB
	leastOfBare  = 0.6 // notifications for one run of the bare script
	ofConnection = "idle rss_kib_per_connection of allim"
)

// judged are the gates of which both sides were measured.
func judged(rows []row) (gates []gate) {
	find := func(scenario, value string) (row, bool) {
		i := slices.IndexFunc(rows, func(r row) bool { return r.Scenario == scenario && r.Value == value })
		if i < 0 {
			return row{}, false
		}
		return rows[i], true
	}
	played := func(scenario, against string) bool {
		return slices.ContainsFunc(rows, func(r row) bool { return r.Scenario == scenario && !math.IsNaN(r.ratio(against)) })
	}
	for _, g := range ratios {
		if r, ok := find(g.scenario, g.value); (!ok || math.IsNaN(r.ratio(g.against))) && played(g.scenario, g.against) {
			gates = append(gates, gate{What: g.scenario + " " + g.value + " against " + g.against, Most: g.most, Open: true, Note: "no round counts"})
		} else if ok && !math.IsNaN(r.ratio(g.against)) {
			got := r.ratio(g.against)
			one := gate{What: g.scenario + " " + g.value + " against " + g.against, Most: g.most, Got: got, Passed: got <= g.most}
			if g.value == p99 {
				one.Note = farther[g.against]
			}
			gates = append(gates, one)
		}
	}
	if r, ok := find(sIdle, memory); ok {
		if got, ok := r.Median[allim.name]; ok {
			gates = append(gates, gate{What: ofConnection, Most: mostMemory, Got: got, Passed: got <= mostMemory})
		}
	}
	for _, like := range []struct{ ours, bare string }{{sInbox, sScript}, {sFlat, sScriptOne}} {
		notified, ok := find(like.ours, perRedisCore)
		scripted, too := find(like.bare, perRedisCore)
		if ours, bare := notified.Median[allim.name], scripted.Median[redisAlone]; ok && too && ours > 0 && bare > 0 {
			gates = append(gates, gate{What: like.ours + " per Redis core against " + like.bare, Least: leastOfBare, Got: ours / bare, Passed: ours/bare >= leastOfBare})
		}
	}
	return gates
}
