package store

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
)

// The pools of a client: single commands, pipelines, and pub/sub links, which are never idle.
var (
	poolConnections = prometheus.NewDesc("allim_redis_pool_connections", "Connections to Redis.", []string{"pool", "state"}, nil)
	poolWaits       = prometheus.NewDesc("allim_redis_pool_waits_total", "Commands that waited for a connection.", []string{"pool"}, nil)
	poolWaited      = prometheus.NewDesc("allim_redis_pool_wait_seconds_total", "How long they waited together.", []string{"pool"}, nil)
	poolTimeouts    = prometheus.NewDesc("allim_redis_pool_timeouts_total", "Commands that got no connection in time.", []string{"pool"}, nil)
	poolStale       = prometheus.NewDesc("allim_redis_pool_stale_total", "Connections that were found too old or broken and closed.", []string{"pool"}, nil)
)

// pools shows the pools of the client of m. Before there is one, all is zero.
type pools struct{ m *Metrics }

// Describe is of prometheus.Collector.
func (pools) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{poolConnections, poolWaits, poolWaited, poolTimeouts, poolStale} {
		ch <- d
	}
}

// Collect is of prometheus.Collector.
func (p pools) Collect(ch chan<- prometheus.Metric) {
	stats := &redis.PoolStats{}
	if c := p.m.client.Load(); c != nil {
		stats = (*c).PoolStats()
	}
	pipelines := redis.PoolStats{}
	if stats.PipelineStats != nil {
		pipelines = redis.PoolStats(*stats.PipelineStats)
	}
	collect(ch, "commands", stats)
	collect(ch, "pipelines", &pipelines)
	gauge(ch, stats.PubSubStats.Active, "pubsub", "used")
}

func collect(ch chan<- prometheus.Metric, pool string, s *redis.PoolStats) {
	idle := min(s.IdleConns, s.TotalConns) // the two are not read at the same moment
	gauge(ch, idle, pool, "idle")
	gauge(ch, s.TotalConns-idle, pool, "used")
	counter := func(d *prometheus.Desc, v float64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, pool)
	}
	counter(poolWaits, float64(s.WaitCount))
	counter(poolWaited, time.Duration(s.WaitDurationNs).Seconds())
	counter(poolTimeouts, float64(s.Timeouts))
	counter(poolStale, float64(s.StaleConns))
}

func gauge(ch chan<- prometheus.Metric, n uint32, pool, state string) {
	ch <- prometheus.MustNewConstMetric(poolConnections, prometheus.GaugeValue, float64(n), pool, state)
}
