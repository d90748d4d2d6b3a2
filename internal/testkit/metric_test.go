package testkit

import (
	"fmt"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

func TestAMetricIsTheSumOfWhatHasTheLabels(t *testing.T) {
	r := prometheus.NewRegistry()
	calls := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "calls"}, []string{"field", "reason"})
	open := prometheus.NewGauge(prometheus.GaugeOpts{Name: "open"})
	took := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "took"})
	r.MustRegister(calls, open, took)
	calls.WithLabelValues("", "busy").Add(1)
	calls.WithLabelValues("id", "busy").Add(2)
	calls.WithLabelValues("id", "invalid").Add(4)
	open.Set(8)
	took.Observe(0.5)
	for _, c := range []struct {
		name   string
		labels []string
		want   float64
	}{
		{"calls", nil, 7}, {"calls", []string{"busy"}, 3}, {"calls", []string{"busy", "id"}, 2}, {"calls", []string{"", "busy"}, 1},
		{"calls", []string{"nobody"}, 0}, {"nothing", nil, 0}, {"open", nil, 8}, {"took", nil, 1},
	} {
		t.Run(fmt.Sprint(c.name, c.labels), func(t *testing.T) {
			if got := Metric(t, r, c.name, c.labels...); got != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}
