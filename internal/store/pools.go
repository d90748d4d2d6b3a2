package store

import (
	"slices"
	"sync"
	"time"
	"weak"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
)

// The pools of a client: single commands and pipelines. A link of pub/sub has a client of its own (fanout).
var (
	poolConnections = prometheus.NewDesc("allim_redis_pool_connections", "Connections to Redis.", []string{"pool", "state"}, nil)
	poolWaits       = prometheus.NewDesc("allim_redis_pool_waits_total", "Commands that waited for a connection.", []string{"pool"}, nil)
	poolWaited      = prometheus.NewDesc("allim_redis_pool_wait_seconds_total", "How long they waited together.", []string{"pool"}, nil)
	poolTimeouts    = prometheus.NewDesc("allim_redis_pool_timeouts_total", "Commands that got no connection in time.", []string{"pool"}, nil)
	poolStale       = prometheus.NewDesc("allim_redis_pool_stale_total", "Connections that were found too old or broken and closed.", []string{"pool"}, nil)
)

// pools shows the pools of a client, those of a cluster's nodes together. Before there is one, all is zero.
type pools struct {
	mu    sync.Mutex                   // guards nodes
	nodes []weak.Pointer[redis.Client] // a cluster's client lets go of nodes that are gone, and tells nobody
}

// watch has the pools of a new client shown. go-redis' own sum over a cluster leaves out links, and asks Redis before it answers.
func (m *Metrics) watch(c redis.UniversalClient) {
	if m == nil {
		return
	}
	m.pools.mu.Lock()
	m.pools.nodes = nil
	m.pools.mu.Unlock()
	switch c := c.(type) {
	case *redis.ClusterClient:
		c.OnNewNode(m.pools.add)
	case *failover:
		m.pools.add(c.Client)
	case *redis.Client:
		m.pools.add(c)
	}
}

func (p *pools) add(c *redis.Client) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.nodes = append(p.nodes, weak.Make(c))
}

// all are the clients there are.
func (p *pools) all() (clients []*redis.Client) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.nodes = slices.DeleteFunc(p.nodes, func(w weak.Pointer[redis.Client]) bool {
		c := w.Value()
		if c != nil {
			clients = append(clients, c)
		}
		return c == nil
	})
	return clients
}

// Describe is of prometheus.Collector.
func (*pools) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{poolConnections, poolWaits, poolWaited, poolTimeouts, poolStale} {
		ch <- d
	}
}

// Collect is of prometheus.Collector.
func (p *pools) Collect(ch chan<- prometheus.Metric) {
	var commands, pipelines redis.PoolStats
	for _, c := range p.all() {
		stats := c.PoolStats()
		sum(&commands, stats)
		if stats.PipelineStats != nil {
			pipe := redis.PoolStats(*stats.PipelineStats)
			sum(&pipelines, &pipe)
		}
	}
	collect(ch, "commands", &commands)
	collect(ch, "pipelines", &pipelines)
}

// sum adds what is shown.
func sum(to, s *redis.PoolStats) {
	to.IdleConns, to.TotalConns, to.StaleConns = to.IdleConns+s.IdleConns, to.TotalConns+s.TotalConns, to.StaleConns+s.StaleConns
	to.WaitCount, to.WaitDurationNs, to.Timeouts = to.WaitCount+s.WaitCount, to.WaitDurationNs+s.WaitDurationNs, to.Timeouts+s.Timeouts
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
