// Package ops is the operations port of every program: health, metrics, the log's level and profiles, for the inner network only.
package ops

import (
	"cmp"
	"context"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Options are what the port shows.
type Options struct {
	Ready   func() error // fails while no work should be sent here, and says why
	Metrics prometheus.Gatherer
	Level   *slog.LevelVar // of the program's log, read and set here; nil: the endpoint answers 404
	Log     *slog.Logger
	Stop    time.Duration // how long answers under way may take when the port closes; 0: 3 s
}

// Run answers on l, which it closes, until ctx ends; it then takes Options.Stop at most.
func Run(ctx context.Context, l net.Listener, o Options) error {
	srv := &http.Server{
		Handler:           Handler(o),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       15 * time.Second,
		WriteTimeout:      90 * time.Second, // a profile takes 30 s and more
		IdleTimeout:       60 * time.Second,
		MaxHeaderBytes:    8 << 10,
		ErrorLog:          log.New(faults{o.Log}, "", 0),
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	select {
	case err := <-served:
		return fmt.Errorf("serve %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	budget, cancel := context.WithTimeout(context.WithoutCancel(ctx), cmp.Or(o.Stop, 3*time.Second))
	defer cancel()
	if srv.Shutdown(budget) != nil {
		_ = srv.Close() // a profile that somebody asked for
	}
	<-served // ErrServerClosed: it was asked to
	return nil
}

// Handler is what Run answers: live is the process, ready is whether work should be sent here.
func Handler(o Options) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz/live", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("live\n")) })
	mux.HandleFunc("GET /healthz/ready", func(w http.ResponseWriter, _ *http.Request) {
		if err := o.Ready(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write([]byte("ready\n"))
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(o.Metrics, promhttp.HandlerOpts{}))
	if o.Level != nil {
		mux.Handle("/log/level", level{o.Level, o.Log})
	}
	mux.HandleFunc("/debug/pprof/", pprof.Index) // of any method: the tool posts to symbol
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return mux
}

// faults takes what net/http says of connections; a handler that panicked is ours.
type faults struct{ log *slog.Logger }

func (f faults) Write(text []byte) (int, error) {
	said := strings.TrimSpace(string(text))
	if strings.HasPrefix(said, "http: panic") {
		f.log.Error("request_panicked", "error", said)
	} else {
		f.log.Debug("connection_failed", "error", said)
	}
	return len(text), nil
}
