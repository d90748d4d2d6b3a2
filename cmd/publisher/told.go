package main

import (
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"

	"allim/internal/boot"
	"allim/internal/due"
	"allim/internal/store"
	"allim/internal/webhook"
	"allim/internal/webpush"
	"allim/pkg/notify"
)

// endpoint is where a tenant's webhooks go now.
func (l live) endpoint(tenant string) (to webhook.Endpoint, ok bool) {
	to, ok = l.Load().Webhooks[tenant]
	return to, ok
}

// reaches tells how a tenant's escalations can be told now: by its webhook, and by Web Push where the program has keys for it.
func (l live) reaches(push bool) func(tenant string, via notify.Via) bool {
	return func(tenant string, via notify.Via) bool {
		if via == notify.ViaWebPush {
			return push
		}
		_, ok := l.endpoint(tenant)
		return ok
	}
}

// told makes what looks after deadlines, and tells those who are to be told. closeSenders is called when it has ended.
func told(c boot.Publisher, st *store.Store, outside live, registry prometheus.Registerer, log *slog.Logger) (r *due.Runner, closeSenders func()) {
	hooks := webhook.New(webhook.Options{})
	o := due.Options{Store: st, Endpoint: outside.endpoint, Webhook: hooks, Metrics: due.NewMetrics(registry), Log: log}
	if c.Push == nil {
		return due.New(o), hooks.Close
	}
	o.Push = webpush.New(webpush.Options{Keys: *c.Push, Hosts: c.PushTo})
	return due.New(o), func() {
		hooks.Close()
		o.Push.Close()
	}
}
