package boot

import (
	"errors"

	"allim/internal/certs"
	"allim/internal/keyspace"
	"allim/internal/settings"
	"allim/internal/store"
	"allim/internal/webhook"
	"allim/internal/webpush"
	"allim/pkg/auth"
	"allim/pkg/notify"
)

// A Publisher is what a publisher's settings mean.
type Publisher struct {
	Keys    *keyspace.Map
	Classes []store.Class
	Outside *Outside
	Push    *webpush.Keys // nil: nothing is pushed
	PushTo  webpush.Hosts
	Pair    *certs.Pair // nil: no TLS
}

// NewPublisher checks what the settings mean. Its error joins a notify.FieldError for each mistake.
func NewPublisher(l *settings.Loaded) (c Publisher, err error) {
	var errs [8]error
	c.Keys, errs[0] = keyspace.NewMap(l.Redis.Partitions)
	c.Classes, _, errs[1] = Classes(l.Topics)
	c.Outside, errs[2] = NewOutside(l)
	c.Pair, errs[3] = Pair("tls.publisher", l.TLS.Publisher)
	errs[4] = Reachable(l.Redis)
	if l.Limits.CallsBytes < l.Limits.Request {
		errs[5] = wrong("limits.calls_bytes", "at least limits.request, which is %v", l.Limits.Request)
	}
	c.Push, c.PushTo, errs[6] = Push(l.Push)
	errs[7] = Listening(settings.Listen{GRPC: l.Listen.GRPC, HTTP: l.Listen.HTTP, Ops: l.Listen.Ops})
	return c, errors.Join(errs[:]...)
}

// Outside is who may call and who is told, of settings that may be read again.
type Outside struct {
	*auth.Services
	Webhooks map[string]webhook.Endpoint // by tenant
}

// NewOutside checks these settings. The error joins every mistake.
func NewOutside(l *settings.Loaded) (*Outside, error) {
	s, err := Services(l)
	hooks, err2 := Webhooks(l.Webhooks, l.Mode == settings.Development)
	return &Outside{s, hooks}, errors.Join(err, err2)
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
