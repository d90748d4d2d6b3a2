package session

import (
	"cmp"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"allim/internal/wire"
	"allim/pkg/notify"
)

// Metrics count what sessions see. No label names a user, a topic or an address.
type Metrics struct {
	sessions prometheus.Gauge
	closes   *prometheus.CounterVec
	frames   prometheus.Counter
	commands *prometheus.CounterVec
	refusals *prometheus.CounterVec
	limits   *prometheus.CounterVec
	resets   *prometheus.CounterVec
	passed   *prometheus.CounterVec
}

// LimitNames are the names of the limits that sessions and their door keep, all of them from the start, so that a zero can be seen.
var LimitNames = []string{"topics", "queue", "frames", "abuse", "auth_timeout", "mark_ids", "frame_bytes", "header_bytes", "token_bytes", "token_topics", "sessions", "upgrades", "pong", "write", "requests"}

// NewMetrics makes the metrics and registers them; with nil nobody reads them.
func NewMetrics(r prometheus.Registerer) *Metrics {
	m := &Metrics{
		sessions: prometheus.NewGauge(prometheus.GaugeOpts{Name: "allim_sessions", Help: "Open client sessions."}),
		closes:   counters("allim_session_closes_total", "Ended sessions by close code.", "code"),
		frames:   prometheus.NewCounter(prometheus.CounterOpts{Name: "allim_frames_sent_total", Help: "Frames handed to transports."}),
		commands: counters("allim_frames_received_total", "Client frames by type.", "type"),
		refusals: counters("allim_refusals_total", "Error frames by code, those that refuse an upgrade included.", "code"),
		limits:   counters("allim_limit_hits_total", "Times that a limit was met, by limit.", "limit"),
		resets:   counters("allim_resets_total", "Topics that a client had to begin anew, by reason.", "reason"),
		passed:   counters("allim_ephemeral_drops_total", "Ephemeral messages that were dropped before they were sent, by reason.", "reason"),
	}
	for _, w := range notify.Whys {
		m.resets.WithLabelValues(string(w))
	}
	m.passed.WithLabelValues(dropOldest)
	for _, l := range LimitNames {
		m.limits.WithLabelValues(l)
	}
	if r != nil {
		r.MustRegister(m.sessions, m.closes, m.frames, m.commands, m.refusals, m.limits, m.resets, m.passed)
	}
	return m
}

func counters(name, help, label string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{label})
}

// Limit counts that a limit of LimitNames was met.
func (m *Metrics) Limit(name string) { m.limit(name) }

// Refuse counts a refusal before the upgrade: its body is an error frame with that code.
func (m *Metrics) Refuse(code string) { m.refuse(code) }

// dropOldest is why an ephemeral message is dropped: the outbox was full, and it had waited longest.
const dropOldest = "oldest"

func (m *Metrics) dropped(n int) { m.passed.WithLabelValues(dropOldest).Add(float64(n)) }

// reset counts a reset; where history does not say why, nobody knows.
func (m *Metrics) reset(why notify.Why) {
	m.resets.WithLabelValues(string(cmp.Or(why, notify.WhyUnknown))).Inc()
}

func (m *Metrics) limit(name string)  { m.limits.WithLabelValues(name).Inc() }
func (m *Metrics) refuse(code string) { m.refusals.WithLabelValues(code).Inc() }
func (m *Metrics) closed(code int)    { m.closes.WithLabelValues(strconv.Itoa(code)).Inc() }

func (m *Metrics) command(typ string) {
	if !wire.Known(typ) { // a label is never a client's choice
		typ = "unknown"
	}
	m.commands.WithLabelValues(typ).Inc()
}
