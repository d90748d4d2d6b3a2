package presence

import "github.com/prometheus/client_golang/prometheus"

// Metrics count what Keepers do. No label holds a name that a caller chose.
type Metrics struct {
	told    prometheus.Counter
	renamed *prometheus.CounterVec
}

// NewMetrics makes Metrics and registers them; with nil, nobody sees them.
func NewMetrics(r prometheus.Registerer) *Metrics {
	m := &Metrics{
		told: prometheus.NewCounter(prometheus.CounterOpts{Name: "allim_presence_told_total", Help: "Users who came or left here, as far as a backend listens to their tenant."}),
		renamed: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "allim_presence_renewals_total",
			Help: "Times that all users here were told again. unknown: the lease was over, or Redis had lost it; full: more changed than is held."}, []string{"why"}),
	}
	for _, why := range []string{"unknown", "full"} {
		m.renamed.WithLabelValues(why)
	}
	if r != nil {
		r.MustRegister(m.told, m.renamed)
	}
	return m
}
