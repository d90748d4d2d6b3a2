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
}

func (g gate) wants() string {
	if g.Least > 0 {
		return fmt.Sprintf("≥ %.3g", g.Least)
	}
	return fmt.Sprintf("≤ %.3g", g.Most)
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

// curves are the values that must stay flat as something grows, within flat.
var curves = []struct{ scenario, value string }{
	{sGrowConnect, connectCPU}, {sGrowIdle, memory}, {sGrowFan, gatewayCPU}, {sGrowUnicast, gatewayCPU}, {sGrowUnicast, publisherCPU}, {sGrowHot, gatewayCPU},
}

const (
	flat         = 1.2
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
	for _, g := range ratios {
		if r, ok := find(g.scenario, g.value); ok && !math.IsNaN(r.ratio(g.against)) {
			got := r.ratio(g.against)
			gates = append(gates, gate{What: g.scenario + " " + g.value + " against " + g.against, Most: g.most, Got: got, Passed: got <= g.most})
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
	for _, c := range curves {
		if least, most := extremes(rows, c.scenario, c.value); least > 0 && most > least {
			gates = append(gates, gate{What: c.scenario + " " + c.value + ": most to least", Most: flat, Got: most / least, Passed: most/least <= flat})
		}
	}
	return gates
}

// extremes are our least and most on a curve.
func extremes(rows []row, scenario, value string) (least, most float64) {
	least = math.Inf(1)
	for _, r := range rows {
		if v, ok := r.Median[allim.name]; ok && r.Scenario == scenario && r.Value == value {
			least, most = min(least, v), max(most, v)
		}
	}
	return least, most
}
