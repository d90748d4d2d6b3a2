package store

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"allim/pkg/notify"
)

// An operation is what a Store does in one round trip to Redis.
type operation int

const (
	opOpen operation = iota
	opPublish
	opEphemeral
	opNotify
	opMark
	opList
	opCounts
	opRecover
	opTops
	opRenew
	opReplay
	opPoll
	opUpdate
	opRetract
	opPreferences
	opDue
	opPush
	opSegments
	opMembers
	opEvents
	opPresence
)

var operations = [...]string{opOpen: "open", opPublish: "publish", opEphemeral: "ephemeral", opNotify: "notify", opMark: "mark", opList: "list",
	opCounts: "counts", opRecover: "recover", opTops: "tops", opRenew: "renew", opReplay: "replay", opPoll: "replication",
	opUpdate: "update", opRetract: "retract", opPreferences: "preferences", opDue: "due", opPush: "push", opSegments: "segments", opMembers: "members", opEvents: "events", opPresence: "presence"}

// A result is what became of a call, by whose turn it is: nobody's, Redis', that of who sized its memory, of who wrote us or its ACL, or the caller's.
type result int

const (
	resultOK result = iota
	resultUnavailable
	resultBusy
	resultError
	resultCanceled
)

var results = [...]string{resultOK: "ok", resultUnavailable: "unavailable", resultBusy: "busy", resultError: "error", resultCanceled: "canceled"}

// resultOf is the result of a call that ended with err, which classify made or go-redis.
func resultOf(err error) result {
	switch {
	case err == nil:
		return resultOK
	case errors.Is(err, context.Canceled):
		return resultCanceled
	case errors.Is(err, notify.ErrBusy):
		return resultBusy
	case errors.Is(err, notify.ErrUnavailable):
		return resultUnavailable
	}
	return resultError
}

// Metrics count what we do to Redis. A nil *Metrics counts nothing.
type Metrics struct {
	seconds [len(operations)]prometheus.Observer
	calls   [len(operations)][len(results)]prometheus.Counter
	dials   [2]prometheus.Counter // ok, error
	stale   prometheus.Counter
	drops   [len(droppedReasons)]prometheus.Counter
	ring    ringMetrics
	pools   pools // of the last client that Connect made with these
}

// NewMetrics registers the metrics; with a nil Registerer they count for nobody. They show the pools of the client that Connect made with them last.
func NewMetrics(r prometheus.Registerer) *Metrics {
	m := &Metrics{}
	seconds := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "allim_redis_operation_seconds",
		Help:    "Round trips to Redis by what they were for; one may carry many calls.",
		Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5}}, []string{"operation"})
	calls := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "allim_redis_operations_total",
		Help: "Calls to Redis: a stream each. unavailable: Redis or the way to it; busy: its memory; error: ours, or its ACL; canceled: the caller went away."},
		[]string{"operation", "result"})
	dials := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "allim_redis_dials_total",
		Help: "Connections to Redis that were tried, up to the end of the TLS handshake."}, []string{"result"})
	m.stale = prometheus.NewCounter(prometheus.CounterOpts{Name: "allim_redis_stale_secrets_total",
		Help: "Reads of a password or certificate for a new connection to Redis that failed: the last good one was used."})
	for op, name := range operations {
		m.seconds[op] = seconds.WithLabelValues(name)
		for res, text := range results {
			m.calls[op][res] = calls.WithLabelValues(name, text)
		}
	}
	m.dials = [2]prometheus.Counter{dials.WithLabelValues("ok"), dials.WithLabelValues("error")}
	drops := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "allim_redis_ephemeral_dropped_total",
		Help: "Ephemeral messages, a stream each, that were not sent. age: after waiting for 1 s; room: too many waited; left: their caller did not wait any more."}, []string{"reason"})
	for why, text := range droppedReasons {
		m.drops[why] = drops.WithLabelValues(text)
	}
	m.ring = newRingMetrics(r)
	if r != nil {
		r.MustRegister(seconds, calls, dials, m.stale, drops, &m.pools)
	}
	return m
}

// done counts a round trip with one call.
func (m *Metrics) done(op operation, start time.Time, err error) {
	if m == nil {
		return
	}
	m.seconds[op].Observe(time.Since(start).Seconds())
	m.calls[op][resultOf(err)].Inc()
}

// doneAll counts a round trip with many calls: their errors, as go-redis told them.
func (m *Metrics) doneAll(op operation, start time.Time, n int, err func(i int) error) {
	m.doneEach(op, start, n, func(i int) error {
		if e := err(i); e != nil {
			return classify(e)
		}
		return nil
	})
}

// doneEach counts a round trip with many calls, or writes: their errors, as classify made them.
func (m *Metrics) doneEach(op operation, start time.Time, n int, err func(i int) error) {
	if m == nil || n == 0 {
		return
	}
	m.seconds[op].Observe(time.Since(start).Seconds())
	var counts [len(results)]int
	for i := range n {
		counts[resultOf(err(i))]++
	}
	for res, n := range counts {
		if n > 0 {
			m.calls[op][res].Add(float64(n))
		}
	}
}

// doneWrites counts a round trip with the writes of a writer, of all kinds.
func (m *Metrics) doneWrites(start time.Time, ops []*op) {
	if m == nil {
		return
	}
	var counts [len(operations)][len(results)]int
	for _, o := range ops {
		counts[o.write.kind()][resultOf(o.err)]++
	}
	took := time.Since(start).Seconds()
	for op, by := range counts {
		any := false
		for res, n := range by {
			if n > 0 {
				any = true
				m.calls[op][res].Add(float64(n))
			}
		}
		if any {
			m.seconds[op].Observe(took)
		}
	}
}

func (m *Metrics) dialled(err error) {
	switch {
	case m == nil:
	case err == nil:
		m.dials[0].Inc()
	default:
		m.dials[1].Inc()
	}
}

func (m *Metrics) dropped(why int) {
	if m != nil {
		m.drops[why].Inc()
	}
}

func (m *Metrics) staleSecret() {
	if m != nil {
		m.stale.Inc()
	}
}
