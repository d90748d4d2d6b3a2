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

// table prints medians, ratios, gates and notes.
func (r *report) table(w io.Writer) {
	if r.Quick {
		fmt.Fprintln(w, "a tiny run: its figures say nothing")
	}
	names := r.products()
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "scenario\tconns\ttopics\tvalue\t%s\n", strings.Join(heads(names), "\t"))
	for _, row := range r.Rows {
		if !row.brief() {
			continue
		}
		fmt.Fprintf(t, "%s\t%d\t%d\t%s\t%s\n", row.Scenario, row.Conns, row.Topics, row.Value, strings.Join(row.cells(names), "\t"))
	}
	_ = t.Flush() // to a terminal
	curvesText(w, r.Curves)
	if len(r.Gates) > 0 {
		fmt.Fprintln(w)
		for _, g := range r.Gates {
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", g.verdict(), g.What, g.got(), g.wants(), g.Note)
		}
		_ = t.Flush()
	}
	for _, note := range r.remarks() {
		fmt.Fprintln(w, "note:", note)
	}
}

// brief tells whether a row stands in the table, too, and not only in the report.
func (r row) brief() bool {
	growth, flatOut := strings.HasPrefix(r.Scenario, "growth"), slices.Contains([]string{sFlat, sInbox, sStream, sScript, sScriptOne}, r.Scenario)
	switch r.Value {
	case memory, idleCPU, connectCPU, gatewayCPU:
		return true
	case publisherCPU, redisCPU, median, p99:
		return !growth
	case perPublish:
		return r.Scenario == sGrowSpread
	case perRedisCore:
		return flatOut
	case perSecond:
		return flatOut || r.Scenario == sBurst
	}
	return false
}

func verdict(passed bool) string {
	if passed {
		return "reached"
	}
	return "missed"
}

// products are those with a figure, ours first; the bare script is none.
func (r *report) products() (names []string) {
	for _, p := range []product{allim, naive, centrifugo} {
		if slices.ContainsFunc(r.Figures, func(f figure) bool { return f.Product == p.name }) {
			names = append(names, p.name)
		}
	}
	return names
}

// heads are the titles of the columns that cells fills.
func heads(names []string) (heads []string) {
	for _, name := range names {
		heads = append(heads, name)
		if name != allim.name {
			heads = append(heads, "ratio")
		}
	}
	return heads
}

// cells are one row's medians, each with what our own is to it.
func (r row) cells(names []string) (cells []string) {
	for _, name := range names {
		v, ok := r.Median[name]
		if bare, is := r.Median[redisAlone]; is && name == names[0] { // the script has no product
			v, ok = bare, true
		}
		if !ok {
			v = math.NaN()
		}
		cells = append(cells, number(v))
		if name != allim.name {
			cells = append(cells, number(r.ratio(name)))
		}
	}
	return cells
}

// number has three digits that count.
func number(v float64) string {
	switch {
	case math.IsNaN(v):
		return "–"
	case math.Abs(v) >= 100:
		return fmt.Sprintf("%.0f", v)
	case math.Abs(v) >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

// remarks are the notes of the run and of what could not be measured, each once.
func (r *report) remarks() []string {
	list := slices.Clone(r.Notes)
	for _, f := range r.Figures {
		if f.busy() {
			list = append(list, fmt.Sprintf("%s, %s, %d connections, round %d: the core of generator and Redis was busy to %.0f %%, so its latencies do not count", f.Scenario, f.Product, f.Conns, f.Round, f.Values[restCore]))
		}
		if note := fmt.Sprintf("%s, %s: %s", f.Scenario, f.Product, f.Note); f.Note != "" && !slices.Contains(list, note) {
			list = append(list, note)
		}
	}
	return list
}
