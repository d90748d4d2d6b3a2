package archtest

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// The runbook's tables are what operators search: they name every event and every metric that there is, and no other.
func TestTheRunbookNamesEveryEventAndMetricAndNoOther(t *testing.T) {
	files := goFiles(t)
	page := readPage(t, "docs/operations.md")
	for _, b := range checkEvents(files, page) {
		t.Error(b)
	}
	for _, b := range append(checkTable(section(page, "Log events"), eventsIn(files), "event"), checkTable(section(page, "Metrics"), metricsIn(t, files), "metric")...) {
		t.Error(b)
	}
	for _, name := range []string{"docs/operations.md", "docs/security.md", "README.md"} {
		for _, b := range checkMentions(readPage(t, name), metricsIn(t, files)) {
			t.Errorf("%s %s", name, b)
		}
	}
}

func readPage(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(name)))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// section is what stands below a heading, up to the next of its kind.
func section(page, heading string) string {
	_, rest, _ := strings.Cut(page, "\n## "+heading+"\n")
	text, _, _ := strings.Cut(rest, "\n## ")
	return text
}

var firstCell = regexp.MustCompile("(?m)^\\| `([^`]+)` \\|")

// checkTable holds the first cells of a section's tables against the names that there are, both ways.
func checkTable(text string, names map[string]bool, what string) (breaches []string) {
	rows := map[string]bool{}
	for _, m := range firstCell.FindAllStringSubmatch(text, -1) {
		if rows[m[1]] {
			breaches = append(breaches, fmt.Sprintf("the table has the %s %s twice", what, m[1]))
		}
		if rows[m[1]] = true; !names[m[1]] {
			breaches = append(breaches, fmt.Sprintf("the table has the %s %s, which does not exist", what, m[1]))
		}
	}
	for _, n := range slices.Sorted(maps.Keys(names)) {
		if !rows[n] {
			breaches = append(breaches, fmt.Sprintf("the table lacks the %s %s", what, n))
		}
	}
	return breaches
}

var metricWord = regexp.MustCompile(`\ballim_[a-z_]+`)

// checkMentions finds metrics that a page speaks of and nobody makes. A histogram's series are its own.
func checkMentions(page string, metrics map[string]bool) (breaches []string) {
	for _, m := range metricWord.FindAllString(page, -1) {
		of := m
		for _, end := range []string{"_bucket", "_sum", "_count"} {
			of = strings.TrimSuffix(of, end)
		}
		if !metrics[m] && !metrics[of] {
			breaches = append(breaches, "speaks of "+m+", which does not exist")
		}
	}
	return breaches
}

// production are the files whose words operators meet.
func production(files map[string][]byte) (names []string) {
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if !strings.HasSuffix(name, "_test.go") && (strings.HasPrefix(name, "cmd/") || strings.HasPrefix(name, "internal/") || strings.HasPrefix(name, "pkg/")) &&
			!strings.HasPrefix(name, "internal/testkit/") {
			names = append(names, name)
		}
	}
	return names
}

// eventsIn are the events that are written as such; checkEvents finds messages that are not.
func eventsIn(files map[string][]byte) map[string]bool {
	events := map[string]bool{}
	for _, name := range production(files) {
		file, err := parser.ParseFile(token.NewFileSet(), name, files[name], parser.SkipObjectResolution)
		if err != nil {
			continue // checkFiles says it
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if message, ok := logged(n); ok {
				if text, ok := text(message); ok {
					events[text] = true
				}
			}
			return true
		})
	}
	return events
}

func text(e ast.Expr) (string, bool) {
	if l, ok := e.(*ast.BasicLit); ok && l.Kind == token.STRING {
		s, err := strconv.Unquote(l.Value)
		return s, err == nil
	}
	return "", false
}

// metricsIn are the full names of all metrics. One whose name can not be followed to where it is written fails the test: operators search the
// sources for it, too.
func metricsIn(t *testing.T, files map[string][]byte) map[string]bool {
	t.Helper()
	metrics := map[string]bool{}
	for _, name := range production(files) {
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, name, files[name], parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		f := &following{file: file}
		ast.Inspect(file, func(n ast.Node) bool {
			if n == nil {
				f.around = f.around[:len(f.around)-1]
				return true
			}
			f.around = append(f.around, n)
			found, is := f.metric(n)
			if is && len(found) == 0 {
				t.Errorf("%s makes a metric whose name is not to be found in the file", set.Position(n.Pos()))
			}
			for _, m := range found {
				metrics[m] = true
			}
			return true
		})
	}
	return metrics
}

// following finds what names can be within a file: of what encloses the place that is looked at.
type following struct {
	file   *ast.File
	around []ast.Node
}

// metric is the names that prometheus.NewDesc gives, or the options of a metric.
func (f *following) metric(n ast.Node) (names []string, is bool) {
	switch n := n.(type) {
	case *ast.CallExpr:
		if isCall(n, "prometheus", "NewDesc") {
			return f.values(n.Args[0]), true
		}
	case *ast.CompositeLit:
		of, ok := n.Type.(*ast.SelectorExpr)
		if !ok || !strings.HasSuffix(of.Sel.Name, "Opts") || fmt.Sprint(of.X) != "prometheus" || len(n.Elts) == 0 {
			return nil, false
		}
		names = []string{""}
		for _, part := range []string{"Namespace", "Subsystem", "Name"} {
			for _, e := range n.Elts {
				if pair, ok := e.(*ast.KeyValueExpr); ok && fmt.Sprint(pair.Key) == part {
					names = join2(names, f.values(pair.Value), "_")
				}
			}
		}
		return names, true
	}
	return nil, false
}

// join2 is each of a with each of b.
func join2(a, b []string, between string) (all []string) {
	for _, x := range a {
		for _, y := range b {
			if x == "" {
				all = append(all, y)
			} else {
				all = append(all, x+between+y)
			}
		}
	}
	return all
}

// values are what an expression can be: text, a sum of such, a key of a table that is ranged over, or what a function is called with.
func (f *following) values(e ast.Expr) (all []string) {
	switch e := e.(type) {
	case *ast.BasicLit:
		if s, ok := text(e); ok {
			return []string{s}
		}
	case *ast.BinaryExpr:
		return join2(f.values(e.X), f.values(e.Y), "")
	case *ast.Ident:
		for i := len(f.around) - 1; i >= 0; i-- {
			switch by := f.around[i].(type) {
			case *ast.RangeStmt:
				if table, ok := by.X.(*ast.CompositeLit); ok && by.Key != nil && fmt.Sprint(by.Key) == e.Name {
					for _, row := range table.Elts {
						if pair, ok := row.(*ast.KeyValueExpr); ok {
							all = append(all, f.values(pair.Key)...)
						}
					}
					return all
				}
			case *ast.FuncDecl:
				if at := param(by.Type, e.Name); at >= 0 {
					return f.calledWith(by.Name.Name, at)
				}
			case *ast.FuncLit:
				if at := param(by.Type, e.Name); at >= 0 && i > 0 {
					if to, ok := f.around[i-1].(*ast.AssignStmt); ok {
						return f.calledWith(fmt.Sprint(to.Lhs[0]), at)
					}
				}
			}
		}
	}
	return nil
}

// param is the place of a parameter; -1: there is none of that name.
func param(of *ast.FuncType, name string) (at int) {
	for _, field := range of.Params.List {
		for _, n := range field.Names {
			if n.Name == name {
				return at
			}
			at++
		}
	}
	return -1
}

// calledWith are the texts at a place in all calls of a function in the file.
func (f *following) calledWith(function string, at int) (all []string) {
	ast.Inspect(f.file, func(n ast.Node) bool {
		if call, ok := n.(*ast.CallExpr); ok && len(call.Args) > at && fmt.Sprint(call.Fun) == function {
			if s, ok := text(call.Args[at]); ok {
				all = append(all, s)
			}
		}
		return true
	})
	return all
}

func TestNamesOfMetricsAreFollowed(t *testing.T) {
	const code = `package x
func a() { prometheus.NewGauge(prometheus.GaugeOpts{Name: "allim_one"}) }
func b() { prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "allim", Subsystem: "b", Name: "two"}) }
func c() {
	counter := func(help, name string) { prometheus.NewCounter(prometheus.CounterOpts{Namespace: "allim", Name: name}) }
	counter("h", "three")
	counter("h", "four")
}
func d(name string) { prometheus.NewCounterVec(prometheus.CounterOpts{Name: name}, nil) }
func e() { d("allim_five") }
func g() { for name, h := range map[string]string{"six": "", "seven": ""} { prometheus.NewDesc("allim_g_"+name, h, nil, nil) } }
`
	got := metricsIn(t, map[string][]byte{"internal/x/a.go": []byte(code), "internal/x/a_test.go": []byte(strings.ReplaceAll(code, "allim", "other"))})
	want := []string{"allim_b_two", "allim_five", "allim_four", "allim_g_seven", "allim_g_six", "allim_one", "allim_three"}
	if !slices.Equal(slices.Sorted(maps.Keys(got)), want) {
		t.Errorf("got %q, want %q", slices.Sorted(maps.Keys(got)), want)
	}
}

func TestTablesThatAreNotTrueAreFound(t *testing.T) {
	page := "\n## Metrics\n\n| `allim_a` | gauge |\n| `allim_c` | gauge |\n\n## Other\n\n| `allim_d` | gauge |\n"
	names := map[string]bool{"allim_a": true, "allim_b": true}
	got := checkTable(section(page, "Metrics"), names, "metric")
	want := []string{"the table has the metric allim_c, which does not exist", "the table lacks the metric allim_b"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	wantBreach(t, checkMentions("rate(allim_a_count[5m]) and allim_nobody", names), "allim_nobody")
	wantBreach(t, checkTable("| `a` | x |\n| `a` | y |\n", map[string]bool{"a": true}, "event"), "twice")
	wantBreach(t, checkMentions("rate(allim_b)", names), "")
}
