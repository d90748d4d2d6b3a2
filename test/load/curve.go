//go:build linux

package main

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"text/tabwriter"
)

// A curve is what one unit of something costs us at several sizes.
type curve struct {
	Scenario string  `json:"scenario"`
	Value    string  `json:"value"`
	Of       string  `json:"of"` // what grows
	Points   []point `json:"points"`
	Growth   float64 `json:"growth"`  // the dearest to the cheapest of the smaller ones before it; 1 where it only falls
	Verdict  string  `json:"verdict"` // flat, falls, rises
}

// A point is the median at one size.
type point struct {
	Size   int     `json:"size"`
	Cost   float64 `json:"cost"`
	Spread float64 `json:"spread"` // the widest distance between two rounds, as a share of the median
}

// flat is how much more a unit may cost at a larger size than at a smaller one.
const flat = 1.2

// curves are the figures that must stay flat as something grows, and what that is.
var curves = []struct{ scenario, value, of string }{
	{sGrowConnect, connectCPU, connections}, {sGrowIdle, memory, connections}, {sGrowFan, gatewayCPU, connections},
	{sGrowUnicast, gatewayCPU, connections}, {sGrowUnicast, publisherCPU, connections}, {sGrowUnicast, redisCPU, connections},
	{sGrowHot, gatewayCPU, otherTopics}, // sGrowSpread has other listeners at every point: its units are not alike
}

const (
	connections = "connections"
	otherTopics = "topics"
)

// curvesOf are the curves of rows that have at least two points.
func curvesOf(rows []row) (all []curve) {
	for _, c := range curves {
		one := curve{Scenario: c.scenario, Value: c.value, Of: c.of}
		for _, r := range rows {
			cost, ok := r.Median[allim.name]
			if !ok || r.Scenario != c.scenario || r.Value != c.value {
				continue
			}
			size := r.Conns
			if c.of == otherTopics {
				size = r.Topics - 1
			}
			one.Points = append(one.Points, point{size, cost, r.Spread[allim.name]})
		}
		if len(one.Points) > 1 {
			one.judge()
			all = append(all, one)
		}
	}
	return all
}

// judge says whether a unit costs the same at every size. One that gets cheaper is no fault: what does not grow is shared by more.
func (c *curve) judge() {
	slices.SortFunc(c.Points, func(a, b point) int { return a.Size - b.Size })
	least, most := math.Inf(1), 0.0
	c.Growth = 1
	for _, p := range c.Points {
		if p.Cost <= 0 { // less than the clock of processes tells
			continue
		}
		c.Growth = max(c.Growth, p.Cost/least)
		least, most = min(least, p.Cost), max(most, p.Cost)
	}
	switch {
	case c.Growth > flat:
		c.Verdict = "rises"
	case most > flat*least:
		c.Verdict = "falls"
	default:
		c.Verdict = "flat"
	}
}

func (c *curve) gate() gate {
	return gate{What: c.Scenario + " " + c.Value + ": a unit at more " + c.Of + " to one at fewer", Most: flat, Got: c.Growth, Passed: c.Verdict != "rises"}
}

// costs are the points for people.
func (c *curve) costs() string {
	var list []string
	for _, p := range c.Points {
		list = append(list, fmt.Sprintf("%d: %s ±%.0f %%", p.Size, number(p.Cost), 50*p.Spread))
	}
	return strings.Join(list, " · ")
}

const curveHead = "growth\tcost of a unit\tat so many\tby size, and between rounds\tgrowth\tflat within 20 %"

func (c *curve) cells() []string {
	return []string{c.Scenario, c.Value, c.Of, c.costs(), number(c.Growth), c.Verdict}
}

func curvesText(w io.Writer, all []curve) {
	if len(all) == 0 {
		return
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "\n%s\n", curveHead)
	for _, c := range all {
		fmt.Fprintln(t, strings.Join(c.cells(), "\t"))
	}
	_ = t.Flush() // to a terminal
}

func curvesTable(b *strings.Builder, all []curve) {
	if len(all) == 0 {
		return
	}
	fmt.Fprintf(b, "<table><tr><th>%s</tr>", strings.ReplaceAll(curveHead, "\t", "<th>"))
	for _, c := range all {
		cells := c.cells()
		fmt.Fprintf(b, `<tr><td>%s<td class="%s">%s</tr>`, strings.Join(cells[:len(cells)-1], `<td class="l">`), verdict(c.Verdict != "rises"), c.Verdict)
	}
	b.WriteString("</table>")
}
