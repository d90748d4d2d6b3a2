package boot

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"allim/internal/certs"
	"allim/internal/keyspace"
	"allim/internal/settings"
	"allim/internal/store"
	"allim/pkg/notify"
)

// Store makes the program's Redis client and the store on it, whose operations are counted. The caller closes the client.
func Store(l *settings.Loaded, keys *keyspace.Map, classes []store.Class, registry prometheus.Registerer, log *slog.Logger) (redis.UniversalClient, *store.Store, error) {
	c := Connection(l.Redis)
	c.Metrics = store.NewMetrics(registry)
	client, err := store.Connect(c)
	if err != nil {
		return nil, nil, err
	}
	st, err := store.New(store.Options{Redis: client, Keys: keys, Classes: classes, Inbox: Inbox(l.Inbox), Segments: Segments(l.Segments), Metrics: c.Metrics,
		FsyncAlways: l.Redis.FSync == "always", Log: log})
	if err != nil {
		return nil, nil, errors.Join(err, client.Close())
	}
	return client, st, nil
}

// Reachable checks what can be checked of the way to Redis without going it: the URL and the files that it names.
func Reachable(r settings.Redis) error {
	client, err := store.Connect(Connection(r))
	if err != nil {
		return err
	}
	return client.Close() // it has not dialled
}

// Pair loads a certificate; nil where none is given.
func Pair(field string, p settings.Pair) (*certs.Pair, error) {
	if given, err := Both(field, p); !given {
		return nil, err
	}
	pair, err := certs.Load(p.CertFile, p.KeyFile)
	if err != nil {
		return nil, wrong(field, "a certificate and its key: %v", err)
	}
	return pair, nil
}

// ServerTLS is the configuration of a port; nil: plain.
func ServerTLS(p *certs.Pair) *tls.Config {
	if p == nil {
		return nil
	}
	return p.Config()
}

// Certificate is a pair as a file that is read again, its end of life among the metrics; without a name where there is no pair.
func Certificate(p *certs.Pair, of string, registry prometheus.Registerer) File {
	if p == nil {
		return File{}
	}
	registry.MustRegister(p.Collector(of))
	return File{Name: "certificate", Reload: p.Reload}
}

// NewReloader reads files again as the settings say, its results among the metrics. Files without a name are left out.
func NewReloader(p Process, registry prometheus.Registerer, files ...File) *Reloader {
	r := &Reloader{Every: time.Duration(p.Settings.Settings.Reload.Interval), Hangup: p.Hangup, Log: p.Log}
	for _, f := range files {
		if f.Name != "" {
			r.Files = append(r.Files, f)
		}
	}
	r.register(registry)
	return r
}

// Within puts what an error says of fields below another one: "hear[0]" in "anonymous" is "anonymous.hear[0]".
func Within(field string, err error) error {
	var errs []error
	for _, e := range flatten(err) {
		var fe *notify.FieldError
		if errors.As(e, &fe) {
			e = &notify.FieldError{Field: fmt.Sprintf("%s.%s", field, fe.Field), Want: fe.Want, Kind: fe.Kind}
		}
		errs = append(errs, e)
	}
	return errors.Join(errs...)
}
