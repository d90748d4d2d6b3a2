package store

import "github.com/prometheus/client_golang/prometheus"

// ringLeft is why a write left the ring.
type ringLeft int

const (
	leftReplicated ringLeft = iota
	leftByAge
	leftFull
	leftStuck
)

var ringLefts = [...]string{leftReplicated: "replicated", leftByAge: "age", leftFull: "full", leftStuck: "stuck"}

// When replicas did not have a write in time: at a write's level, or when the program stopped.
const (
	whenLevel = iota
	whenStop
)

// ringMetrics are those of what is tried again, held and written again.
type ringMetrics struct {
	retries       prometheus.Counter
	bytes, held   prometheus.Gauge
	left          [len(ringLefts)]prometheus.Counter
	replayed      [len(operations)]prometheus.Counter // publish, notify, mark, update, retract, preferences
	givenUp       [len(operations)]prometheus.Counter // of the same
	replayHeld    prometheus.Counter
	notReplicated [2]prometheus.Counter
	history       prometheus.Gauge
}

func newRingMetrics(r prometheus.Registerer) (m ringMetrics) {
	vec := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{label})
	}
	m.retries = prometheus.NewCounter(prometheus.CounterOpts{Name: "allim_redis_retries_total", Help: "Writes tried again because Redis could not be reached."})
	m.bytes = prometheus.NewGauge(prometheus.GaugeOpts{Name: "allim_redis_ring_bytes", Help: "What the writes that replicas may not have yet take."})
	m.held = prometheus.NewGauge(prometheus.GaugeOpts{Name: "allim_redis_ring_operations", Help: "Acknowledged writes that replicas may not have yet."})
	m.replayHeld = prometheus.NewCounter(prometheus.CounterOpts{Name: "allim_redis_replay_held_total",
		Help: "Writes that were compared with Redis after its history had changed and were not lost."})
	m.history = prometheus.NewGauge(prometheus.GaugeOpts{Name: "allim_redis_history_id_available",
		Help: "1 where Redis tells the id of its history (INFO replication); 0: what a failover loses is not noticed."})
	left := vec("allim_redis_ring_left_total", "Writes that left the ring, by why: every replica has them, their age, no room for more, or that Redis cannot be compared with them.", "why")
	replayed := vec("allim_redis_replayed_total", "Acknowledged writes that Redis had lost and that were written again.", "kind")
	givenUp := vec("allim_redis_replay_given_up_total", "Acknowledged writes that Redis had lost and that could not be written again.", "kind")
	short := vec("allim_redis_not_replicated_total", "Waits for replicas that ended too early: for a write's level, or when the program stopped.", "when")
	for i, why := range ringLefts {
		m.left[i] = left.WithLabelValues(why)
	}
	for _, op := range []operation{opPublish, opNotify, opMark, opUpdate, opRetract, opPreferences} {
		m.replayed[op], m.givenUp[op] = replayed.WithLabelValues(operations[op]), givenUp.WithLabelValues(operations[op])
	}
	m.notReplicated = [...]prometheus.Counter{whenLevel: short.WithLabelValues("level"), whenStop: short.WithLabelValues("stop")}
	if r != nil {
		r.MustRegister(m.retries, m.bytes, m.held, left, replayed, givenUp, m.replayHeld, short, m.history)
	}
	return m
}

func (m *Metrics) retried() {
	if m != nil {
		m.ring.retries.Inc()
	}
}

// ringHolds counts writes and bytes that came into the ring, or left it.
func (m *Metrics) ringHolds(writes, bytes int) {
	if m != nil {
		m.ring.held.Add(float64(writes))
		m.ring.bytes.Add(float64(bytes))
	}
}

func (m *Metrics) ringLeft(why ringLeft) {
	if m != nil {
		m.ring.left[why].Inc()
	}
}

func (m *Metrics) replayed(kind operation) {
	if m != nil {
		m.ring.replayed[kind].Inc()
	}
}

func (m *Metrics) replayGivenUp(kind operation) {
	if m != nil {
		m.ring.givenUp[kind].Inc()
	}
}

func (m *Metrics) replayHeld() {
	if m != nil {
		m.ring.replayHeld.Inc()
	}
}

func (m *Metrics) notReplicated(when int) {
	if m != nil {
		m.ring.notReplicated[when].Inc()
	}
}

func (m *Metrics) historyTold(told bool) {
	if m == nil {
		return
	}
	m.ring.history.Set(0)
	if told {
		m.ring.history.Set(1)
	}
}
