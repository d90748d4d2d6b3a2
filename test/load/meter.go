//go:build linux

package main

import "time"

// A figure is what one scenario of one product gave in one round.
type figure struct {
	Scenario string             `json:"scenario"`
	Product  string             `json:"product"`
	Round    int                `json:"round"` // from 1
	Conns    int                `json:"connections"`
	Topics   int                `json:"topics"`
	Gateways int                `json:"gateways"`
	Note     string             `json:"note,omitempty"` // why there are no values
	Values   map[string]float64 `json:"values,omitempty"`
	Curve    [][2]float64       `json:"latency_curve,omitempty"` // milliseconds, share of deliveries
	Faults   []string           `json:"faults,omitempty"`        // what was lost, came twice or in another order
}

// The values, by name. "1m" is a million deliveries.
const (
	gatewayCPU    = "gateway_cpu_s_per_1m"
	publisherCPU  = "publisher_cpu_s_per_1m"
	redisCPU      = "redis_cpu_s_per_1m"
	generatorCPU  = "generator_cpu_s_per_1m"
	perSecond     = "deliveries_per_s"
	deliveries    = "deliveries"
	published     = "published"
	median        = "p50_ms"
	p99           = "p99_ms"
	longest       = "max_ms"
	memory        = "rss_kib_per_connection"
	idleCPU       = "idle_cpu_percent"
	connectCPU    = "connect_cpu_s_per_10k"
	connectsPer   = "connects_per_s"
	perRedisCore  = "writes_per_s_and_redis_core"
	perPublish    = "publish_cpu_us" // of the publisher, for one acknowledged message
	gatewayPerMsg = "gateway_cpu_us_per_message"
	serversCore   = "servers_core_percent"   // how busy the core of gateways and publisher was with them
	restCore      = "generator_core_percent" // and that of generator and Redis
)

// A sample is what everything used up to a moment.
type sample struct {
	at                                time.Time
	gateways, publishers, redis, self time.Duration
	got, due                          int
	published                         int
}

func (s *stage) sample() (m sample, err error) {
	sum := func(into *time.Duration, all ...*process) {
		for _, p := range all {
			used, e := p.usage()
			*into += used
			if e != nil {
				err = e
			}
		}
	}
	sum(&m.gateways, s.served.gateways...)
	sum(&m.publishers, s.served.publishers...)
	sum(&m.redis, s.redis)
	self, e := cpuOf("self")
	if e != nil {
		err = e
	}
	m.self, m.at = self, time.Now()
	s.crowd.state(func() { m.got, m.due = s.crowd.judge.got, s.crowd.judge.due })
	m.published = int(s.written.Load())
	return m, err
}

// measure runs a load and says what it cost until the last of it was delivered.
func (s *stage) measure(load func() error) (f figure, err error) {
	s.crowd.state(func() { s.crowd.late = latency{} })
	before, err := s.sample()
	if err != nil {
		return f, err
	}
	if err := load(); err != nil {
		return f, err
	}
	if err := s.delivered(); err != nil {
		return f, err
	}
	after, err := s.sample()
	if err != nil {
		return f, err
	}
	if f.Faults, err = s.verdict(); err != nil {
		return f, err
	}
	got, writes, took := float64(after.got-before.got), float64(after.published-before.published), after.at.Sub(before.at).Seconds()
	f.Values = map[string]float64{
		deliveries: got, published: writes, perSecond: got / took,
		gatewayCPU:    per(after.gateways-before.gateways, got, 1e6),
		publisherCPU:  per(after.publishers-before.publishers, got, 1e6),
		redisCPU:      per(after.redis-before.redis, got, 1e6),
		generatorCPU:  per(after.self-before.self, got, 1e6),
		perPublish:    per(after.publishers-before.publishers, writes, 1e6),
		gatewayPerMsg: per(after.gateways-before.gateways, writes, 1e6),
	}
	f.Values[serversCore] = 100 * (after.gateways + after.publishers - before.gateways - before.publishers).Seconds() / took
	f.Values[restCore] = 100 * (after.redis + after.self - before.redis - before.self).Seconds() / took
	if used := after.redis - before.redis; used > 0 {
		f.Values[perRedisCore] = writes / used.Seconds()
	}
	s.crowd.state(func() {
		l := &s.crowd.late
		f.Values[median], f.Values[p99], f.Values[longest] = milliseconds(l.quantile(.5)), milliseconds(l.quantile(.99)), milliseconds(l.most)
		f.Curve = l.curve()
	})
	return f, nil
}

// per is seconds of CPU for so many of n; 0 where there was none.
func per(used time.Duration, n, many float64) float64 {
	if n == 0 {
		return 0
	}
	return used.Seconds() / n * many
}

// arrive measures what it costs to connect, authenticate and subscribe.
func (s *stage) arrive() (f figure, err error) {
	if s.empty, err = s.resident(); err != nil {
		return f, err
	}
	before, err := s.sample()
	if err != nil {
		return f, err
	}
	if err := s.connect(); err != nil {
		return f, err
	}
	after, err := s.sample()
	f.Values = map[string]float64{
		connectCPU:  per(after.gateways-before.gateways, float64(s.users), 1e4),
		connectsPer: float64(s.users) / after.at.Sub(before.at).Seconds(),
	}
	return f, err
}

// idle measures memory and CPU of connections on which nothing happens: when each was pinged, for a while.
func (s *stage) idle(quiet time.Duration) (f figure, err error) {
	if err := s.wait("everybody is pinged", func() (int, int) { return s.crowd.pinged, s.users }); err != nil {
		return f, err
	}
	before, err := s.sample()
	if err != nil {
		return f, err
	}
	if err := s.pause(quiet); err != nil {
		return f, err
	}
	after, err := s.sample()
	if err != nil {
		return f, err
	}
	full, err := s.settled(quiet / 5)
	if err != nil {
		return f, err
	}
	if f.Faults, err = s.verdict(); err != nil {
		return f, err
	}
	f.Values = map[string]float64{
		memory:  (full - s.empty) / float64(s.users),
		idleCPU: 100 * (after.gateways - before.gateways).Seconds() / after.at.Sub(before.at).Seconds(),
	}
	return f, nil
}

// What arriving left is gone when from one look to the next less than settledShare of the memory was given back; so many looks are made at most.
const (
	settledLooks = 10
	settledShare = 0.005
)

// settled is the memory of all gateways when Go gives no more of it back. Each collects its garbage when it wants to, as it does in production: nothing
// here, and no variable of the environment, makes it.
func (s *stage) settled(look time.Duration) (kib float64, err error) {
	kib, err = s.resident()
	for range settledLooks {
		if err == nil {
			err = s.pause(look)
		}
		if err != nil {
			return kib, err
		}
		last := kib
		if kib, err = s.resident(); last-kib < settledShare*kib {
			break
		}
	}
	return kib, err
}

// resident is the memory of all gateways in KiB.
func (s *stage) resident() (sum float64, err error) {
	for _, p := range s.served.gateways {
		kib, err := p.resident()
		if err != nil {
			return 0, err
		}
		sum += kib
	}
	return sum, nil
}
