package publish

import (
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/grpc/codes"
)

// Metrics counts what a Server does. No label holds a name that a caller chose.
type Metrics struct {
	calls         *prometheus.CounterVec
	seconds       *prometheus.HistogramVec
	messages      *prometheus.CounterVec
	refused       *prometheus.CounterVec
	inFlight      prometheus.Gauge
	inFlightBytes prometheus.Gauge
	receiving     *prometheus.GaugeVec

	streams      prometheus.Gauge
	streamsEnded *prometheus.CounterVec
	streamWaits  *prometheus.CounterVec

	events       *prometheus.CounterVec
	eventsOpen   prometheus.Gauge
	groupsLapsed prometheus.Counter
	watchers     prometheus.Gauge
	watchesEnded *prometheus.CounterVec

	connections        *prometheus.GaugeVec
	refusedConnections *prometheus.CounterVec
}

// NewMetrics makes Metrics and registers them; with nil, nobody sees them.
func NewMetrics(r prometheus.Registerer) *Metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "allim", Subsystem: "publisher", Name: name, Help: help}, labels)
	}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "allim", Subsystem: "publisher", Name: name, Help: help})
	}
	gauges := func(name, help, label string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "allim", Subsystem: "publisher", Name: name, Help: help}, []string{label})
	}
	m := &Metrics{
		calls: counter("calls_total", "Calls by method and gRPC code, however they came.", "method", "code"),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: "allim", Subsystem: "publisher", Name: "call_seconds",
			Help: "Time to answer a call.", Buckets: prometheus.ExponentialBuckets(0.0005, 2, 16)}, []string{"method"}),
		messages:      counter("messages_total", "Messages by mode (NOTIFICATION, UPDATE and RETRACT for inbox items) and result: one for each topic or user.", "mode", "code"),
		refused:       counter("refused_total", "Calls refused, by reason and, for bad input the first field, for a limit its name.", "reason", "field"),
		inFlight:      gauge("in_flight_calls", "Calls at work."),
		inFlightBytes: gauge("in_flight_bytes", "Bytes of the requests at work."),
		receiving:     gauges("receiving_calls", "Requests that are being read, of callers with a credential and of anybody (health, reflection).", "of"),

		streams:      gauge("streams", "Streams of PublishStream that are open. Each of their messages counts as a call."),
		streamsEnded: counter("streams_ended_total", "Streams that ended, by why.", "reason"),
		streamWaits:  counter("stream_waits_total", "Times that a stream was not read on for a while: no place among the messages at work (gate), or too many without an answer (answers).", "reason"),

		events:     prometheus.NewCounterVec(prometheus.CounterOpts{Name: "allim_events_total", Help: "Events that watchers were given, by type; one that comes again counts again."}, []string{"type"}),
		eventsOpen: prometheus.NewGauge(prometheus.GaugeOpts{Name: "allim_events_pending", Help: "Events that watchers here have and that were not acknowledged, as far as is known."}),
		groupsLapsed: prometheus.NewCounter(prometheus.CounterOpts{Name: "allim_event_groups_lapsed_total",
			Help: "Groups of watchers that are over: nobody watched or acknowledged for a day, or there was no room and they acknowledged nothing."}),
		watchers:     prometheus.NewGauge(prometheus.GaugeOpts{Name: "allim_event_watchers", Help: "Streams of Events.Watch that are open."}),
		watchesEnded: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "allim_event_watches_ended_total", Help: "Streams of Events.Watch that ended, by why."}, []string{"reason"}),

		connections:        gauges("connections", "Connections that are open, by port.", "port"),
		refusedConnections: counter("refused_connections_total", "Connections closed at once because there were too many, by port.", "port"),
	}
	if r != nil {
		r.MustRegister(m.calls, m.seconds, m.messages, m.refused, m.inFlight, m.inFlightBytes, m.receiving, m.streams, m.streamsEnded, m.streamWaits, m.connections, m.refusedConnections,
			m.events, m.eventsOpen, m.groupsLapsed, m.watchers, m.watchesEnded)
	}
	return m
}

// called counts a finished call; f is nil where it succeeded.
func (m *Metrics) called(method string, f *fault, took time.Duration) {
	result := codes.OK
	if f != nil {
		result = f.code
		switch f.code {
		case codes.Unauthenticated, codes.PermissionDenied, codes.InvalidArgument, codes.ResourceExhausted, codes.FailedPrecondition, codes.NotFound:
			m.refuse(f)
		}
	}
	m.calls.WithLabelValues(method, code.Code(result).String()).Inc()
	m.seconds.WithLabelValues(method).Observe(took.Seconds())
}

func (m *Metrics) refuse(f *fault) {
	field := f.limit
	if len(f.fields) > 0 {
		field, _, _ = strings.Cut(f.fields[0].Field, "[") // "topics[7]" is topics: our names, not the caller's
	}
	m.refused.WithLabelValues(strings.ToLower(f.reason), field).Inc()
}

func (m *Metrics) wrote(mode string, result code.Code) {
	m.messages.WithLabelValues(mode, result.String()).Inc()
}

// waited counts that a stream waited for something.
func (m *Metrics) waited(what string) { m.streamWaits.WithLabelValues(what).Inc() }
