package publish

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/pprof"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

const (
	pingFirst   = 100 * time.Millisecond // between PINGs until one came back
	pingEvery   = 2 * time.Second        // after that
	pingTimeout = time.Second
	pingFresh   = 10 * time.Second // ready while a PING came back this recently: a short blip does not flap
)

// Ops is the operations port: health, metrics and profiles. It is for the inner network only.
type Ops struct {
	Ping    func(context.Context) error // asks Redis, and may fail as well for what else is not ready
	Metrics prometheus.Gatherer

	answered atomic.Int64 // when the last PING came back, Unix nanoseconds; 0: never
	stopping atomic.Bool
}

// Stopping makes /healthz/ready fail from now on, so that no new calls are sent here.
func (o *Ops) Stopping() { o.stopping.Store(true) }

// Run serves on l, which it closes, and pings until ctx ends.
func (o *Ops) Run(ctx context.Context, l net.Listener) error {
	pinging, stop := context.WithCancel(ctx)
	pings := make(chan struct{})
	go func() { defer close(pings); o.ping(pinging) }()
	defer func() { stop(); <-pings }()
	return runHTTP(ctx, l, &http.Server{Handler: o.Handler(), ReadHeaderTimeout: 5 * time.Second, IdleTimeout: 60 * time.Second, MaxHeaderBytes: 8 << 10})
}

func (o *Ops) ping(ctx context.Context) {
	for pause := pingFirst; ; {
		one, cancel := context.WithTimeout(ctx, pingTimeout)
		if o.Ping(one) == nil {
			o.answered.Store(time.Now().UnixNano())
			pause = pingEvery
		}
		cancel()
		if !sleep(ctx, pause) {
			return
		}
	}
}

func (o *Ops) ready() error {
	if o.stopping.Load() {
		return errors.New("stopping")
	}
	if time.Since(time.Unix(0, o.answered.Load())) > pingFresh {
		return errors.New("no fresh answer from Redis")
	}
	return nil
}

// Handler is what Run serves.
func (o *Ops) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz/live", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok\n")) })
	mux.HandleFunc("GET /healthz/ready", func(w http.ResponseWriter, _ *http.Request) {
		if err := o.ready(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write([]byte("ok\n"))
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(o.Metrics, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return mux
}
