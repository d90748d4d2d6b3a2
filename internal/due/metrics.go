package due

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"allim/internal/store"
	"allim/internal/webpush"
	"allim/pkg/notify"
)

// Metrics count what a Runner does. No label holds a name that a caller chose.
type Metrics struct {
	lag         prometheus.Gauge
	done        *prometheus.CounterVec
	failed      prometheus.Counter
	escalations *prometheus.CounterVec
	seconds     prometheus.Histogram
	pushes      *prometheus.CounterVec
	gone        prometheus.Counter
}

var (
	ways        = map[notify.Via]string{notify.ViaWebhook: "webhook", notify.ViaWebPush: "web_push"}
	pushResults = map[webpush.Result]string{webpush.Sent: "sent", webpush.Again: "again", webpush.Gone: "gone", webpush.Refused: "refused"}
)

// NewMetrics makes Metrics and registers them; with nil, nobody sees them.
func NewMetrics(r prometheus.Registerer) *Metrics {
	m := &Metrics{
		lag: prometheus.NewGauge(prometheus.GaugeOpts{Name: "allim_due_lag_seconds", Help: "How long the oldest of what was due had been so when it was looked at last."}),
		done: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "allim_due_done_total",
			Help: "What came to its time. expired: items that left; scheduled: notifications that came; escalated: somebody else was to be told."}, []string{"what"}),
		failed: prometheus.NewCounter(prometheus.CounterOpts{Name: "allim_due_failed_total", Help: "Streams whose deadlines could not be looked after, and that come again in a minute."}),
		escalations: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "allim_escalations_total",
			Help: "What became of telling somebody else. cancelled: a device showed it in time; retried: an attempt failed, and there will be another; nobody: the user has no browser to be told."}, []string{"via", "result"}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "allim_webhook_seconds", Help: "How long receivers of webhooks took.",
			Buckets: []float64{.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}}),
		pushes: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "allim_push_total", Help: "Pushes to browsers, by what the push service answered."}, []string{"result"}),
		gone:   prometheus.NewCounter(prometheus.CounterOpts{Name: "allim_push_removed_total", Help: "Subscriptions that had ended and were forgotten."}),
	}
	for _, what := range []string{"expired", "scheduled", "escalated"} {
		m.done.WithLabelValues(what)
	}
	for _, via := range ways {
		for _, result := range []string{"sent", "cancelled", "retried", "gave_up", "nobody"} {
			m.escalations.WithLabelValues(via, result)
		}
	}
	for _, result := range pushResults {
		m.pushes.WithLabelValues(result)
	}
	if r != nil {
		r.MustRegister(m.lag, m.done, m.failed, m.escalations, m.seconds, m.pushes, m.gone)
	}
	return m
}

func (m *Metrics) looked(d store.Due) {
	m.lag.Set(d.Lag.Seconds())
	m.done.WithLabelValues("expired").Add(float64(d.Expired))
	m.done.WithLabelValues("scheduled").Add(float64(d.Scheduled))
	m.done.WithLabelValues("escalated").Add(float64(len(d.Claims)))
	m.failed.Add(float64(d.Failed))
	for via, n := range d.Cancelled {
		m.escalated(via, "cancelled", n)
	}
}

func (m *Metrics) escalated(via notify.Via, result string, n int) {
	m.escalations.WithLabelValues(ways[via], result).Add(float64(n))
}

func (m *Metrics) webhook(took time.Duration) { m.seconds.Observe(took.Seconds()) }

func (m *Metrics) pushed(r webpush.Result) { m.pushes.WithLabelValues(pushResults[r]).Inc() }

func (m *Metrics) removed() { m.gone.Inc() }
