package boot

import (
	"cmp"
	"errors"
	"fmt"

	"allim/internal/settings"
	"allim/internal/webhook"
	"allim/internal/webpush"
	"allim/pkg/notify"
)

// Webhooks are the endpoints of the settings by tenant. With plain, http is taken too. The error joins every mistake.
func Webhooks(list []settings.Webhook, plain bool) (map[string]webhook.Endpoint, error) {
	all, first := map[string]webhook.Endpoint{}, map[string]int{}
	var errs []error
	for i, w := range list {
		field, tenant := fmt.Sprintf("webhooks[%d]", i), cmp.Or(w.Tenant, notify.DefaultTenant)
		if err := notify.CheckTenant(tenant); err != nil {
			errs = append(errs, notify.InField(field+".tenant", err))
		}
		if at, twice := first[tenant]; twice {
			errs = append(errs, wrong(field+".tenant", "one that no other webhook has: webhooks[%d] is of %q too", at, tenant))
			continue
		}
		first[tenant] = i
		e, err := webhook.NewEndpoint(string(w.URL), string(w.Secret), plain)
		if err != nil {
			errs = append(errs, Within(field, err))
			continue
		}
		all[tenant] = e
	}
	return all, errors.Join(errs...)
}

// Push is who pushes, nil where nobody does, and to which push services. The error joins every mistake.
func Push(p settings.Push) (*webpush.Keys, webpush.Hosts, error) {
	hosts, err := pushHosts(p)
	if p.PublicKey == "" && p.PrivateKey == "" {
		return nil, hosts, err
	}
	keys, err2 := webpush.NewKeys(p.Subject, p.PublicKey, string(p.PrivateKey))
	if err2 != nil {
		return nil, hosts, errors.Join(err, Within("push", err2))
	}
	return &keys, hosts, err
}

// Subscriptions is what a gateway needs of Web Push: check says whether a subscription is one that publishers push to, and is nil where nothing is pushed. The error
// joins every mistake.
func Subscriptions(p settings.Push) (check func(endpoint string, p256dh, auth []byte) error, err error) {
	hosts, err := pushHosts(p)
	if p.PublicKey == "" {
		return nil, err
	}
	err = errors.Join(err, Within("push", webpush.CheckPublic(p.PublicKey)))
	return func(endpoint string, p256dh, auth []byte) error {
		if err := hosts.Check(endpoint); err != nil {
			return err
		}
		_, err := webpush.NewSubscription(endpoint, p256dh, auth)
		return err
	}, err
}

func pushHosts(p settings.Push) (webpush.Hosts, error) {
	list := p.Hosts
	if len(list) == 0 {
		list = webpush.DefaultHosts
	}
	hosts, err := webpush.NewHosts(list)
	return hosts, Within("push", err)
}
