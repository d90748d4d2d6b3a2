package boot

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"allim/internal/settings"
)

// A File is something that is read again while the program runs. Reload keeps what there was when it fails.
type File struct {
	Name   string // for logs and metrics
	Reload func() (changed bool, err error)
}

// A Reloader, made by NewReloader, reads files again: every so often, since whoever mounts a secret tells nobody, and when it is asked to.
type Reloader struct {
	Every  time.Duration
	Hangup <-chan os.Signal
	Files  []File
	Log    *slog.Logger

	results *prometheus.CounterVec
	failing map[string]string // the last error of each, so that it is logged once
}

// register makes the metrics.
func (r *Reloader) register(registry prometheus.Registerer) {
	r.results = prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "allim", Name: "reloads_total",
		Help: "Files that were read again, by what they hold: ok counts those that had changed, failed every try that found them bad."}, []string{"what", "result"})
	for _, f := range r.Files {
		r.results.WithLabelValues(f.Name, "ok")
		r.results.WithLabelValues(f.Name, "failed")
	}
	registry.MustRegister(r.results)
}

// Run reads until ctx ends.
func (r *Reloader) Run(ctx context.Context) error {
	r.failing = map[string]string{}
	tick := time.NewTicker(r.Every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-r.Hangup:
		}
		for _, f := range r.Files {
			r.reload(f)
		}
	}
}

func (r *Reloader) reload(f File) {
	changed, err := f.Reload()
	switch {
	case err != nil:
		if r.failing[f.Name] != err.Error() { // the same one every ten seconds helps nobody
			r.Log.Error("reload_failed", "what", in(f.Name, err), "error", err)
		}
		r.results.WithLabelValues(f.Name, "failed").Inc() // every time, so that an alert lasts as long as the fault
		r.failing[f.Name] = err.Error()
	case changed:
		r.Log.Info("reloaded", "what", f.Name)
		r.results.WithLabelValues(f.Name, "ok").Inc()
		fallthrough
	default:
		delete(r.failing, f.Name)
	}
}

// in is what of the settings that are read again with the keys cannot be used, where every mistake is in one list; else all that is called name.
func in(name string, err error) string {
	var all *settings.Mistakes
	if !errors.As(err, &all) || len(all.List) == 0 {
		return name
	}
	for _, m := range all.List {
		if !strings.HasPrefix(m.Path, "webhooks") {
			return name
		}
	}
	return "webhooks"
}

// A Live is something made of the settings that are read again while the program runs: keys.
type Live[T any] struct {
	current atomic.Pointer[T]
	p       Process
	build   func(*settings.Loaded) (*T, error)
	last    *settings.Loaded
}

// These settings are taken without a restart.
var reread = []string{"keys", "keys_file", "api_keys", "api_keys_file", "webhooks", "webhooks_file"}

// NewLive starts from the settings that the process started with, of which first was built.
func NewLive[T any](p Process, first *T, build func(*settings.Loaded) (*T, error)) *Live[T] {
	l := &Live[T]{p: p, build: build, last: p.Settings}
	l.current.Store(first)
	return l
}

// Load is the current one.
func (l *Live[T]) Load() *T { return l.current.Load() }

// Reload reads the settings again. Of those that need a restart the log says so. With a mistake anywhere that could be seen, nothing is taken.
func (l *Live[T]) Reload() (changed bool, err error) {
	now, err := l.p.Reread()
	if err != nil {
		return false, err
	}
	if again, err := l.p.Reread(); err != nil || len(settings.Differ(&now.Settings, &again.Settings)) > 0 {
		return false, err // somebody is writing: the next time will show what
	}
	if all := settings.Differ(&l.last.Settings, &now.Settings); len(all) == 0 {
		return false, nil
	}
	others := settings.Differ(&l.last.Settings, &now.Settings, reread...)
	taken := *now
	taken.Settings = l.p.Settings.Settings // what needs a restart is not taken half
	taken.Keys, taken.KeysFile, taken.APIKeys, taken.APIFile = now.Keys, now.KeysFile, now.APIKeys, now.APIFile
	taken.Webhooks, taken.HooksFile = now.Webhooks, now.HooksFile
	_, wrong := l.build(now) // what a restart would stumble over is told now, not then
	_, _, wrongTopics := Classes(now.Topics)
	next, err := l.build(&taken)
	if err := Mistakes(now, nil, errors.Join(wrong, wrongTopics, err)); err != nil {
		return false, err
	}
	if len(now.Keys)+len(now.APIKeys) == 0 && len(l.last.Keys)+len(l.last.APIKeys) > 0 {
		return false, errors.New("expected at least one key, as before: to go on without any, start anew")
	}
	if waiting := settings.Differ(&l.p.Settings.Settings, &now.Settings, reread...); len(others) > 0 && len(waiting) > 0 { // none, once all is again as it is
		l.p.Log.Warn("restart_needed", "settings", waiting)
	}
	changed = len(settings.Differ(&l.last.Settings, &now.Settings)) > len(others)
	if changed {
		l.current.Store(next)
	}
	l.last = now
	return changed, nil
}
