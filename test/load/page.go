//go:build linux

package main

import (
	"cmp"
	"fmt"
	"html"
	"maps"
	"math"
	"slices"
	"strings"
)

const style = `body{font:15px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:1180px;padding:0 1rem;color:#1c2321}
h1,h2{font-weight:600}svg{width:560px;max-width:100%;font:11px system-ui,sans-serif;margin:0 12px 12px 0}
.title{font-size:13px;font-weight:600}.grid{stroke:#ddd}.value{font-size:9px;fill:#444}
table{border-collapse:collapse;font-size:13px}td,th{padding:2px 10px;text-align:right;border-bottom:1px solid #e4e4e4}
td:first-child,th:first-child,td.l{text-align:left}.missed{color:#a4262c}.reached{color:#0b7a75}.quick{background:#fff3cd;padding:.5rem 1rem}`

// page writes the report for people: one file that needs no other.
func (r *report) page(b *strings.Builder) {
	fmt.Fprintf(b, `<!doctype html><html lang="en"><meta charset="utf-8"><title>Allim under load, %s</title><style>%s</style>`, r.Started.Format("2006-01-02"), style)
	fmt.Fprintf(b, "<h1>Allim under load, %s</h1>", r.Started.Format("2006-01-02 15:04 UTC"))
	if r.Quick {
		b.WriteString(`<p class="quick">A tiny run, to see that everything works. Its figures say nothing.</p>`)
	}
	b.WriteString("<p>")
	for _, name := range slices.Sorted(maps.Keys(r.Machine)) {
		if value := r.Machine[name]; value != "" {
			fmt.Fprintf(b, "%s: %s · ", name, html.EscapeString(value))
		}
	}
	fmt.Fprintf(b, "%d rounds, medians, %.0f s in all. The gateways and the publisher share one core, the generator and Redis another.</p>", r.Rounds, r.Seconds)
	if err := r.wrong(); err != nil {
		fmt.Fprintf(b, "<h2>What was wrong</h2><pre class=missed>%s</pre>", html.EscapeString(err.Error()))
	}
	r.gatesTable(b)
	b.WriteString("<h2>Side by side</h2>")
	drawAll(b, r.barCharts())
	b.WriteString("<h2>Growth</h2>")
	curvesTable(b, r.Curves)
	drawAll(b, r.growthCharts())
	b.WriteString("<h2>From publish to receipt</h2>")
	drawAll(b, r.latencyCharts())
	b.WriteString("<h2>All medians</h2>")
	r.rowsTable(b)
	if remarks := r.remarks(); len(remarks) > 0 {
		fmt.Fprintf(b, "<h2>Notes</h2><ul><li>%s</ul>", strings.Join(escaped(remarks), "<li>"))
	}
	b.WriteString("</html>\n")
}

func drawAll(b *strings.Builder, plots []plot) {
	for _, p := range plots {
		b.WriteString(p.svg)
	}
}

func escaped(list []string) (safe []string) {
	for _, s := range list {
		safe = append(safe, html.EscapeString(s))
	}
	return safe
}

func (r *report) gatesTable(b *strings.Builder) {
	if len(r.Gates) == 0 {
		return
	}
	b.WriteString("<h2>Gates</h2><table><tr><th>what<th>got<th>wanted<th><th></tr>")
	for _, g := range r.Gates {
		fmt.Fprintf(b, `<tr><td>%s<td>%s<td>%s<td class="%[4]s">%[4]s<td class="l">%[5]s</tr>`, html.EscapeString(g.What), g.got(), g.wants(), g.verdict(), html.EscapeString(g.Note))
	}
	b.WriteString("</table>")
}

func (r *report) rowsTable(b *strings.Builder) {
	names := r.products()
	fmt.Fprintf(b, "<table><tr><th>%s</tr>", strings.Join(append([]string{"scenario", "connections", "topics", "value"}, heads(names)...), "<th>"))
	for _, row := range r.Rows {
		fmt.Fprintf(b, `<tr><td>%s<td>%d<td>%d<td class="l">%s<td>%s</tr>`, row.Scenario, row.Conns, row.Topics, row.Value, strings.Join(row.cells(names), "<td>"))
	}
	b.WriteString("</table>")
}

// barCharts are one chart for each value, with a group for each scenario that has it.
func (r *report) barCharts() (plots []plot) {
	loads := []string{sFan, sFanWide, sBurst, sUnicast, sFlat, sInbox, sStream, sTwoFan, sTwoUnicast, sCompressed}
	for _, c := range []struct {
		title, unit, value string
		of                 []string
	}{
		{"Memory per idle connection", "KiB", memory, []string{sIdle}},
		{"CPU of idle connections", "% of a core", idleCPU, []string{sIdle}},
		{"Connect, authenticate, subscribe", "CPU s for 10,000", connectCPU, []string{sConnect}},
		{"CPU of the gateway", "s per million deliveries", gatewayCPU, loads},
		{"CPU of the publisher", "s per million deliveries", publisherCPU, loads},
		{"CPU of Redis", "s per million deliveries", redisCPU, loads},
		{"Publish to receipt, p99", "ms", p99, loads},
		{"Writes per second and Redis core", "1/s", perRedisCore, []string{sUnicast, sFlat, sInbox, sStream}},
	} {
		var groups []string
		drawn := chart{title: c.title, y: c.unit}
		for _, name := range r.products() {
			drawn.series = append(drawn.series, series{name: name})
		}
		for _, row := range r.Rows {
			if row.Value != c.value || !slices.Contains(c.of, row.Scenario) {
				continue
			}
			groups = append(groups, row.Scenario)
			for i := range drawn.series {
				v, ok := row.Median[drawn.series[i].name]
				if !ok {
					v = math.NaN()
				}
				drawn.series[i].points = append(drawn.series[i].points, [2]float64{float64(len(groups)), v})
			}
		}
		if len(groups) > 0 {
			plots = append(plots, plot{c.value, drawn.bars(groups)})
		}
	}
	return plots
}

func (r *report) growthCharts() (plots []plot) {
	conns, topics := func(r row) float64 { return float64(r.Conns) }, func(r row) float64 { return float64(r.Topics - 1) }
	for _, c := range []struct {
		title, unit, x, scenario, value string
		of                              func(row) float64
	}{
		{"Connect, authenticate, subscribe", "CPU s for 10,000", "connections", sGrowConnect, connectCPU, conns},
		{"Memory per idle connection", "KiB", "connections", sGrowIdle, memory, conns},
		{"CPU of idle connections", "% of a core", "connections", sGrowIdle, idleCPU, conns},
		{"Fan-out to all: CPU of the gateway", "s per million deliveries", "connections", sGrowFan, gatewayCPU, conns},
		{"Unicast: CPU of the gateway", "s per million deliveries", "connections", sGrowUnicast, gatewayCPU, conns},
		{"Unicast: p99", "ms", "connections", sGrowUnicast, p99, conns},
		{"One topic among others: CPU of the gateway", "s per million deliveries", "other topics", sGrowHot, gatewayCPU, topics},
		{"All topics in turn: CPU of the gateway", "s per million deliveries", "topics", sGrowSpread, gatewayCPU, topics},
		{"All topics in turn: CPU of the publisher", "µs per message", "topics", sGrowSpread, perPublish, topics},
	} {
		drawn := chart{title: c.title, y: c.unit, x: c.x, logX: true}
		for _, name := range r.products() {
			one := series{name: name}
			for _, row := range r.Rows {
				if v, ok := row.Median[name]; ok && row.Scenario == c.scenario && row.Value == c.value {
					one.points = append(one.points, [2]float64{c.of(row), v})
				}
			}
			if len(one.points) > 0 {
				slices.SortFunc(one.points, func(a, b [2]float64) int { return cmp.Compare(a[0], b[0]) })
				drawn.series = append(drawn.series, one)
			}
		}
		if len(drawn.series) > 0 {
			plots = append(plots, plot{c.scenario + "-" + c.value, drawn.lines()})
		}
	}
	return plots
}

// latencyCharts show, for each scenario and product, the round whose p99 is the median.
func (r *report) latencyCharts() (plots []plot) {
	for _, scenario := range []string{sFan, sFanWide, sBurst, sUnicast, sTwoFan, sCompressed} {
		drawn := chart{title: scenario, y: "share of deliveries", x: "ms", logX: true}
		for _, name := range r.products() {
			var rounds []figure
			for _, f := range r.Figures {
				if f.Scenario == scenario && f.Product == name && len(f.Curve) > 0 && !f.busy() {
					rounds = append(rounds, f)
				}
			}
			if len(rounds) > 0 {
				slices.SortFunc(rounds, func(a, b figure) int { return cmp.Compare(a.Values[p99], b.Values[p99]) })
				drawn.series = append(drawn.series, series{name: name, points: rounds[len(rounds)/2].Curve})
			}
		}
		if len(drawn.series) > 0 {
			plots = append(plots, plot{"latency-" + scenario, drawn.lines()})
		}
	}
	return plots
}
