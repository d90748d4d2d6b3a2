package deliver

import (
	"github.com/prometheus/client_golang/prometheus"

	"allim/pkg/fanout"
)

// hubMetrics shows the hub's own counters to Prometheus.
type hubMetrics struct {
	hub  *fanout.Hub
	desc map[string]*prometheus.Desc
}

func newHubMetrics(h *fanout.Hub) *hubMetrics {
	m := &hubMetrics{hub: h, desc: map[string]*prometheus.Desc{}}
	for name, d := range map[string]struct{ help, label string }{
		"topics":                 {"Topics heard now.", ""},
		"topics_waiting":         {"Topics whose subscription is not acknowledged now.", ""},
		"subscriptions":          {"Subscriptions of sessions now.", ""},
		"subscriptions_lagging":  {"Subscriptions whose session took no more, now.", ""},
		"ring_bytes":             {"Bytes of recent messages kept for those who come back.", ""},
		"messages_total":         {"Messages received from Redis.", ""},
		"deliveries_total":       {"Messages offered to sessions.", ""},
		"drops_total":            {"Messages not handed on, by reason; event and inbox messages come again from history.", "reason"},
		"resyncs_total":          {"Topics read anew from history, by reason.", "reason"},
		"attach_failures_total":  {"Subscriptions that could not begin in time.", ""},
		"history_errors_total":   {"Failed reads of history.", ""},
		"link_generations_total": {"Links to Redis pub/sub that were begun.", ""},
		"link_ends_total":        {"Links that ended, by cause.", "cause"},
		"links":                  {"Links to Redis pub/sub: one, or on a cluster one per partition.", "state"},
		"link_up":                {"1 while every link to Redis pub/sub is up.", ""},
		"probe_age_seconds":      {"Since a probe came back through Redis, on the link for which that is longest; -1: on some none ever did.", ""},
		"probe_failures_total":   {"Probes that Redis did not take, or that did not come back in time.", ""},
		"lag_messages":           {"Messages that the session furthest behind lacks.", ""},
		"epochs_total":           {"Topics that Redis has in another epoch, by what became of what was heard.", "what"},
		"regressions_total":      {"Tops of an epoch below what was heard of it. Must stay 0.", ""},
	} {
		var labels []string
		if d.label != "" {
			labels = []string{d.label}
		}
		m.desc[name] = prometheus.NewDesc("allim_feed_"+name, d.help, labels, nil)
	}
	return m
}

// Describe lists the metrics.
func (m *hubMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range m.desc {
		ch <- d
	}
}

// Collect reads them.
func (m *hubMetrics) Collect(ch chan<- prometheus.Metric) {
	s := m.hub.Stats()
	up := 0.0
	if s.LinkUp {
		up = 1
	}
	age := s.ProbeAge.Seconds()
	if s.ProbeAge < 0 {
		age = -1
	}
	for name, v := range map[string]float64{"topics": float64(s.Topics), "topics_waiting": float64(s.Waiting), "subscriptions": float64(s.Subscriptions),
		"subscriptions_lagging": float64(s.Lagging), "ring_bytes": float64(s.RingBytes), "link_up": up, "probe_age_seconds": age,
		"lag_messages": float64(s.Lag)} {
		ch <- prometheus.MustNewConstMetric(m.desc[name], prometheus.GaugeValue, v)
	}
	for state, n := range map[string]int{"up": s.LinksUp, "down": s.Links - s.LinksUp} {
		ch <- prometheus.MustNewConstMetric(m.desc["links"], prometheus.GaugeValue, float64(n), state)
	}
	for name, v := range map[string]float64{"messages_total": float64(s.Messages), "deliveries_total": float64(s.Offered), "attach_failures_total": float64(s.Unanswered),
		"history_errors_total": float64(s.HistoryErrors), "link_generations_total": float64(s.Generation), "probe_failures_total": float64(s.ProbeFailures),
		"regressions_total": float64(s.Regressions)} {
		ch <- prometheus.MustNewConstMetric(m.desc[name], prometheus.CounterValue, v)
	}
	for name, by := range map[string]map[string]uint64{"drops_total": s.Dropped, "resyncs_total": s.Resyncs, "link_ends_total": s.LinkEnds, "epochs_total": s.Epochs} {
		for reason, n := range by {
			ch <- prometheus.MustNewConstMetric(m.desc[name], prometheus.CounterValue, float64(n), reason)
		}
	}
}
