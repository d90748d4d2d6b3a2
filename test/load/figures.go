//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// document writes the figures of a report that lies at path.
func document(path, dir string) error {
	r, err := readReport(path)
	if err != nil {
		return err
	}
	return r.figures(dir)
}

// readReport reads what write wrote.
func readReport(path string) (*report, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read report: %w", err)
	}
	r := &report{}
	if err := json.Unmarshal(text, r); err != nil {
		return nil, fmt.Errorf("read report %s: %w", filepath.Base(path), err)
	}
	return r, nil
}

// alone is the style of a plot that stands in a page of somebody else's.
const alone = `<style>svg{font:11px system-ui,sans-serif;background:#fff}.title{font-size:13px;font-weight:600}.grid{stroke:#ddd}.value{font-size:9px;fill:#444}</style>`

// figures writes the report for the documentation: a page in Markdown, and its plots. What an earlier run left there goes.
func (r *report) figures(dir string) error {
	if r.Quick {
		return fmt.Errorf("write figures: those of a tiny run say nothing")
	}
	if err := r.wrong(); err != nil {
		return fmt.Errorf("write figures of a run in which something was wrong: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make directory of figures: %w", err)
	}
	old, err := filepath.Glob(filepath.Join(dir, "*.svg"))
	if err != nil {
		return fmt.Errorf("find older plots: %w", err)
	}
	for _, path := range old {
		if err := os.Remove(path); err != nil {
			return fmt.Errorf("remove an older plot: %w", err)
		}
	}
	var b strings.Builder
	r.markdown(&b)
	for _, p := range slices.Concat(r.barCharts(), r.growthCharts(), r.latencyCharts()) {
		svg := strings.Replace(p.svg, ">", ">"+alone, 1)
		if err := os.WriteFile(filepath.Join(dir, p.name+".svg"), []byte(svg+"\n"), 0o644); err != nil {
			return fmt.Errorf("write plot: %w", err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "README.md"), []byte(b.String()), 0o644); err != nil {
		return fmt.Errorf("write figures: %w", err)
	}
	return nil
}

// markdown is the page of figures.
func (r *report) markdown(b *strings.Builder) {
	fmt.Fprintf(b, "# Figures of one run\n\nWritten by `go run ./test/load -figures <report>.json`; [what they mean](../benchmarks.md).\n\n")
	fmt.Fprintf(b, "%s, `%s`, %d rounds, medians, %.0f minutes in all.\n\n", r.Started.Format("2006-01-02 15:04 UTC"), r.Command, r.Rounds, r.Seconds/60)
	for _, name := range slices.Sorted(maps.Keys(r.Machine)) {
		if value := r.Machine[name]; value != "" {
			fmt.Fprintf(b, "* %s: %s\n", name, value)
		}
	}
	if len(r.Gates) > 0 {
		b.WriteString("\n## Gates\n\n")
		markdownRow(b, "", "what", "got", "wanted", "")
		markdownRow(b, "---", "---", "---:", "---:", "---")
		for _, g := range r.Gates {
			markdownRow(b, g.verdict(), g.What, g.got(), g.wants(), g.Note)
		}
	}
	plots(b, "Side by side", r.barCharts())
	if len(r.Curves) > 0 {
		b.WriteString("\n## Growth\n\n")
		heads := strings.Split(curveHead, "\t")
		markdownRow(b, heads...)
		markdownRow(b, slices.Repeat([]string{"---"}, len(heads))...)
		for _, c := range r.Curves {
			markdownRow(b, c.cells()...)
		}
	}
	plots(b, "Plots of growth", r.growthCharts())
	plots(b, "From publish to receipt", r.latencyCharts())
	b.WriteString("\n## Medians\n\n")
	names := r.products()
	heads := append([]string{"scenario", "connections", "topics", "value"}, heads(names)...)
	markdownRow(b, heads...)
	markdownRow(b, slices.Repeat([]string{"---"}, len(heads))...)
	for _, row := range r.Rows {
		markdownRow(b, append([]string{row.Scenario, fmt.Sprint(row.Conns), fmt.Sprint(row.Topics), row.Value}, row.cells(names)...)...)
	}
	if remarks := r.remarks(); len(remarks) > 0 {
		fmt.Fprintf(b, "\n## Notes\n\n* %s\n", strings.Join(remarks, "\n* "))
	}
}

func markdownRow(b *strings.Builder, cells ...string) {
	fmt.Fprintf(b, "| %s |\n", strings.ReplaceAll(strings.Join(cells, " | "), "||", "|"))
}

func plots(b *strings.Builder, title string, all []plot) {
	if len(all) == 0 {
		return
	}
	fmt.Fprintf(b, "\n## %s\n\n", title)
	for _, p := range all {
		fmt.Fprintf(b, "![%[1]s](%[1]s.svg)\n", p.name)
	}
}
