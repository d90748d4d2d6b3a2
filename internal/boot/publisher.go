package boot

import (
	"errors"

	"allim/internal/certs"
	"allim/internal/keyspace"
	"allim/internal/settings"
	"allim/internal/store"
	"allim/pkg/auth"
	"allim/pkg/notify"
)

// A Publisher is what a publisher's settings mean.
type Publisher struct {
	Keys     *keyspace.Map
	Classes  []store.Class
	Services *auth.Services
	Pair     *certs.Pair // nil: no TLS
}

// NewPublisher checks what the settings mean. Its error joins a notify.FieldError for each mistake.
func NewPublisher(l *settings.Loaded) (c Publisher, err error) {
	var errs [6]error
	c.Keys, errs[0] = keyspace.NewMap(l.Redis.Partitions)
	c.Classes, _, errs[1] = Classes(l.Topics)
	c.Services, errs[2] = Services(l)
	c.Pair, errs[3] = Pair("tls.publisher", l.TLS.Publisher)
	errs[4] = Reachable(l.Redis)
	if l.Limits.CallsBytes < l.Limits.Request {
		errs[5] = wrong("limits.calls_bytes", "at least limits.request, which is %v", l.Limits.Request)
	}
	return c, errors.Join(errs[:]...)
}

// Services are those who may call, from settings that may be read again. Without any, nobody could: that is a mistake, not a setting.
func Services(l *settings.Loaded) (*auth.Services, error) {
	if len(l.Keys) == 0 && len(l.APIKeys) == 0 {
		return nil, &notify.FieldError{Field: "api_keys", Want: "at least one API key, or one of `keys` for service tokens"}
	}
	table, err := Keys(l.Keys)
	s, err2 := auth.NewServices(auth.Options{Keys: table}, APIKeys(l.APIKeys))
	return s, errors.Join(err, err2)
}
