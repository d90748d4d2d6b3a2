package certs

import "github.com/prometheus/client_golang/prometheus"

// Collector shows the pair to Prometheus: when its certificate ends, to be warned before, and how often its files were not to be used. of
// is a word of ours for the ports that it is on, such as public.
func (p *Pair) Collector(of string) prometheus.Collector {
	labels := prometheus.Labels{"of": of}
	return &collector{pair: p,
		notAfter: prometheus.NewDesc("allim_tls_certificate_not_after_seconds", "When the certificate in use ends, in Unix time.", nil, labels),
		failures: prometheus.NewDesc("allim_tls_certificate_reload_failures_total", "Times that the certificate's files were read again and could not be used.", nil, labels)}
}

type collector struct {
	pair               *Pair
	notAfter, failures *prometheus.Desc
}

func (c *collector) Describe(ch chan<- *prometheus.Desc) { ch <- c.notAfter; ch <- c.failures }

func (c *collector) Collect(ch chan<- prometheus.Metric) {
	ch <- prometheus.MustNewConstMetric(c.notAfter, prometheus.GaugeValue, float64(c.pair.NotAfter().Unix()))
	ch <- prometheus.MustNewConstMetric(c.failures, prometheus.CounterValue, float64(c.pair.failures.Load()))
}
