//go:build linux

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// A report is what a run found. It is written as JSON, and as a page for people.
type report struct {
	Started time.Time         `json:"started"`
	Seconds float64           `json:"seconds"`
	Quick   bool              `json:"quick"` // its figures say nothing
	Rounds  int               `json:"rounds"`
	Command string            `json:"command"`
	Machine map[string]string `json:"machine"`
	Notes   []string          `json:"notes,omitempty"`
	Figures []figure          `json:"figures"`
	Rows    []row             `json:"medians"`
	Curves  []curve           `json:"growth,omitempty"`
	Gates   []gate            `json:"gates"`

	root string
}

// A row is one value of one scenario: the median of its rounds, for each product that has it.
type row struct {
	Scenario string             `json:"scenario"`
	Conns    int                `json:"connections"`
	Topics   int                `json:"topics"`
	Value    string             `json:"value"`
	Median   map[string]float64 `json:"median"` // by product
	Spread   map[string]float64 `json:"spread"` // by product: the widest distance between two rounds, as a share of the median
}

func newReport(o options, root string) *report {
	return &report{Started: time.Now().UTC(), Quick: o.quick, Rounds: o.rounds, Command: o.command, Machine: facts(root), root: root}
}

func (r *report) note(format string, args ...any) {
	r.Notes = append(r.Notes, fmt.Sprintf(format, args...))
}

// add keeps a figure. What a product lacks is a note of it, any other error a fault.
func (r *report) add(f figure, err error) {
	var lacks errLacks
	if errors.As(err, &lacks) {
		f.Note, f.Values = lacks.Error(), nil
	} else if err != nil {
		f.Faults, f.Values = append(f.Faults, err.Error()), nil
	}
	r.Figures = append(r.Figures, f)
}

// wrong is everything that was lost, came twice or out of order, or did not work; nil: nothing.
func (r *report) wrong() error {
	var all []error
	for _, f := range r.Figures {
		for _, fault := range f.Faults {
			all = append(all, fmt.Errorf("%s, %s, %d connections, round %d: %s", f.Scenario, f.Product, f.Conns, f.Round, fault))
		}
	}
	return errors.Join(all...)
}

// end makes what follows from the figures.
func (r *report) end() {
	r.Seconds = time.Since(r.Started).Round(time.Second).Seconds()
	r.Rows = medians(r.Figures)
	if !r.Quick {
		r.Gates, r.Curves = judged(r.Rows), curvesOf(r.Rows)
		for _, c := range r.Curves {
			r.Gates = append(r.Gates, c.gate())
		}
	}
}

// latencies are the values that say something of the generator where it was busy.
var latencies = []string{median, p99, longest}

// busiest is how much of the core of generator and Redis may be used before they are what is measured, in percent.
const busiest = 85

// busy tells whether f's latencies count for nothing.
func (f *figure) busy() bool { return f.Values[restCore] > busiest }

// medians are the rows of figures, in the order in which their scenarios were first played. A figure with faults counts for nothing, nor does a latency that
// is the generator's.
func medians(figures []figure) (rows []row) {
	at, all := map[string]int{}, []map[string][]float64{}
	for _, f := range figures {
		if len(f.Faults) > 0 {
			continue
		}
		for _, value := range headlines {
			v, ok := f.Values[value]
			if !ok || f.busy() && slices.Contains(latencies, value) {
				continue
			}
			key := fmt.Sprint(f.Scenario, f.Conns, f.Topics, value)
			i, known := at[key]
			if !known {
				i = len(rows)
				at[key] = i
				rows = append(rows, row{Scenario: f.Scenario, Conns: f.Conns, Topics: f.Topics, Value: value, Median: map[string]float64{}, Spread: map[string]float64{}})
				all = append(all, map[string][]float64{})
			}
			all[i][f.Product] = append(all[i][f.Product], v)
		}
	}
	for i := range rows {
		for p, list := range all[i] {
			slices.Sort(list)
			m := (list[(len(list)-1)/2] + list[len(list)/2]) / 2
			rows[i].Median[p] = m
			if m != 0 {
				rows[i].Spread[p] = (list[len(list)-1] - list[0]) / m
			}
		}
	}
	slices.SortStableFunc(rows, func(a, b row) int { return order(a) - order(b) })
	return rows
}

// order keeps the values of one scenario together.
func order(r row) int {
	return slices.Index(scenarios, r.Scenario)*1_000_000 + min(r.Conns, 99_999)*10 + min(r.Topics, 9)
}

// headlines are the values that are summed up, in the order in which they are shown.
var headlines = []string{memory, idleCPU, connectCPU, connectsPer, gatewayCPU, publisherCPU, redisCPU, generatorCPU, gatewayPerMsg, perPublish, perRedisCore, perSecond, median, p99, serversCore, restCore}

var scenarios = []string{sConnect, sIdle, sFan, sFanWide, sBurst, sUnicast, sFlat, sInbox, sScript, sScriptOne, sStream, sTwoFan, sTwoUnicast, sCompressed,
	sGrowConnect, sGrowIdle, sGrowFan, sGrowUnicast, sGrowHot, sGrowSpread}

// redisAlone is the product of what is measured without one.
const redisAlone = "redis"

// ratio is ours against another's; NaN where one of them has no value.
func (r row) ratio(other string) float64 {
	a, ok := r.Median[allim.name]
	b, too := r.Median[other]
	if !ok || !too || b == 0 {
		return math.NaN()
	}
	return a / b
}

// write writes both forms and returns their path without what it ends in.
func (r *report) write(dir string) (path string, err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("make directory of reports: %w", err)
	}
	text, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return "", fmt.Errorf("encode report: %w", err)
	}
	path = filepath.Join(dir, r.Started.Format("2006-01-02T150405"))
	if err := os.WriteFile(path+".json", text, 0o644); err != nil {
		return "", fmt.Errorf("write report: %w", err)
	}
	var page strings.Builder
	r.page(&page)
	if err := os.WriteFile(path+".html", []byte(page.String()), 0o644); err != nil {
		return "", fmt.Errorf("write page: %w", err)
	}
	return path, nil
}
