// Package boot is what both programs do from their arguments to their exit code: it turns the settings file into the options of the rooms, waits for
// Redis and says which build this is. It imports neither bank.
package boot

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/redis/go-redis/v9"

	"allim/internal/settings"
	"allim/internal/store"
	"allim/pkg/auth"
	"allim/pkg/notify"
)

// DefaultRedis is where Redis is looked for when nobody says where it is.
const DefaultRedis = "redis://localhost:6379/0"

// maxHistory bounds the history of a topic class and the items of an inbox.
const maxHistory = 10_000

func wrong(field, want string, args ...any) error {
	return &notify.FieldError{Field: field, Want: fmt.Sprintf(want, args...)}
}

// Classes are the topic classes of the settings file. The error joins every mistake.
func Classes(list []settings.Class) (all []store.Class, err error) {
	var errs []error
	for i, c := range list {
		if _, err := notify.ParsePattern(c.Prefix + "*"); err != nil {
			errs = append(errs, notify.InField(fmt.Sprintf("topics[%d].prefix", i), err))
		}
		if c.History < 0 || c.History > maxHistory {
			errs = append(errs, wrong(fmt.Sprintf("topics[%d].history", i), "0 to %d messages", maxHistory))
		}
		all = append(all, store.Class{Prefix: c.Prefix, History: store.History{Size: c.History, TTL: time.Duration(c.TTL)}})
	}
	return all, errors.Join(errs...)
}

// Inbox is the bounds of inboxes of the settings file.
func Inbox(i settings.Inbox) (store.Inbox, error) {
	if i.Size < 0 || i.Size > maxHistory {
		return store.Inbox{}, wrong("inbox.size", "0 to %d items", maxHistory)
	}
	return store.Inbox{Size: i.Size, Retention: time.Duration(i.Retention)}, nil
}

// Keys is the table of keys of the settings file. The error joins every mistake.
func Keys(list []settings.Key) (*auth.Keys, error) {
	var errs []error
	keys := make([]auth.Key, len(list))
	for i, k := range list {
		keys[i] = auth.Key{ID: k.ID, Issuer: k.Issuer, Algorithm: k.Algorithm, Secret: []byte(k.Secret), Tenants: k.Tenants}
		if k.PublicKey == "" {
			continue
		}
		var err error
		if keys[i].Public, err = auth.ParsePublicKey([]byte(k.PublicKey)); err != nil {
			errs = append(errs, fmt.Errorf("keys[%d].public_key: %w", i, err))
		}
	}
	table, err := auth.NewKeys(keys)
	return table, errors.Join(append(errs, err)...)
}

const (
	openTimeout = 3 * time.Second // of one attempt to open the store
	openPause   = time.Second     // between two
)

// Open waits until Redis answers: a program that starts before its Redis is alive, but not ready. A Redis that another schema or another number of
// partitions lives in is an error. It returns nil when ctx ends.
func Open(ctx context.Context, st *store.Store, log *slog.Logger) error {
	pause := time.NewTimer(0)
	defer pause.Stop()
	for told := false; ; {
		select {
		case <-ctx.Done():
			return nil
		case <-pause.C:
		}
		attempt, cancel := context.WithTimeout(ctx, openTimeout)
		err := st.Open(attempt)
		cancel()
		if !errors.Is(err, notify.ErrUnavailable) {
			return err
		}
		if !told {
			log.Warn("waiting_for_redis", "error", err)
			told = true
		}
		pause.Reset(openPause)
	}
}

// Registry is the metrics of a program: its build, the Go runtime and the process are in it.
func Registry(program, version string) *prometheus.Registry {
	r := prometheus.NewRegistry()
	g := prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "allim", Name: "build_info", Help: "Always 1.",
		ConstLabels: prometheus.Labels{"version": version, "program": program}})
	g.Set(1)
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), g)
	return r
}

// LogRedis puts what go-redis would write to stderr as plain text into a log, for the whole process.
func LogRedis(log *slog.Logger) { redis.SetLogger(redisLog{log}) }

type redisLog struct{ log *slog.Logger }

// Printf is go-redis' logging interface.
func (l redisLog) Printf(_ context.Context, format string, v ...any) {
	l.log.Debug("go-redis", "message", fmt.Sprintf(format, v...))
}
