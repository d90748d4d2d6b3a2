package session

import (
	"context"

	"allim/internal/store"
	"allim/pkg/auth"
	"allim/pkg/notify"
)

// A Push is what a gateway knows of Web Push: it takes subscriptions, and publishers push to them.
type Push struct {
	PublicKey string // that pages subscribe with
	// Check says whether a browser's subscription is one that is pushed to. The error is a notify.FieldError of endpoint, keys.p256dh or keys.auth.
	Check func(endpoint string, p256dh, auth []byte) error
}

// PushKey is the key that a page of the user subscribes with. The error is ErrForbidden, or ErrNotConfigured where nothing is pushed.
func (c *Calls) PushKey(id *auth.Identity) (string, error) {
	if _, err := ownOf(id); err != nil {
		return "", err
	}
	if c.push == nil {
		return "", notPushed()
	}
	return c.push.PublicKey, nil
}

// PushSubscribe has what no device shows in time pushed to a browser of the user. Its endpoint comes from a stranger, and publishers will post there:
// Push.Check is asked first. Errors besides those of PushKey: what Check says, and ErrUnavailable.
func (c *Calls) PushSubscribe(ctx context.Context, id *auth.Identity, endpoint string, p256dh, secret []byte) error {
	own, err := ownOf(id)
	if err != nil {
		return err
	}
	if c.push == nil {
		return notPushed()
	}
	if err := c.push.Check(endpoint, p256dh, secret); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.wait)
	defer cancel()
	return c.store.PushSubscribe(ctx, own, store.Subscription{Endpoint: endpoint, P256dh: p256dh, Auth: secret})
}

// PushForget ends it for the browser of that endpoint, or, with "", for all of the user's. One that is not there is no error, nor is it one where nothing is
// pushed: what was stored before that was decided goes.
func (c *Calls) PushForget(ctx context.Context, id *auth.Identity, endpoint string) error {
	own, err := ownOf(id)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.wait)
	defer cancel()
	if endpoint == "" {
		return c.store.PushForgetAll(ctx, own)
	}
	return c.store.PushForget(ctx, own, store.SubscriptionKey(endpoint))
}

func notPushed() error {
	return &notify.FieldError{Field: "push.public_key", Want: "in the gateway's settings: without it nothing is pushed here", Kind: notify.ErrNotConfigured}
}
