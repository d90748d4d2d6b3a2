package store

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"

	"allim/pkg/notify"
)

const (
	maxSubscriptions     = 10      // of a user: the one that was stored first leaves
	maxSubscriptionBytes = 2 << 10 // of one, as it is stored
)

// pushScript runs alone: it has none of a stream's keys.
var pushScript = script("push")

// A Subscription is where a browser of a user gets what is pushed.
type Subscription struct {
	Key          string // names it among the user's; made of the endpoint
	Endpoint     string
	P256dh, Auth []byte // what is pushed is encrypted for
}

// A stored is a Subscription as Redis has it, behind the time when it was stored.
type stored struct {
	Endpoint string `json:"endpoint"`
	P256dh   []byte `json:"p256dh"`
	Auth     []byte `json:"auth"`
}

// SubscriptionKey names the subscription of an endpoint among a user's.
func SubscriptionKey(endpoint string) string {
	sum := sha256.Sum256([]byte(endpoint))
	return base64.RawURLEncoding.EncodeToString(sum[:16])
}

// PushSubscribe keeps where a browser of a user gets what is pushed, for as long as an inbox is kept; the same one again renews all of the user's. Beyond ten the
// one that was stored first leaves. Whether it may be pushed to is checked before (webpush.Hosts). Errors: ErrTooLarge, of more than 2 KiB.
func (s *Store) PushSubscribe(ctx context.Context, st notify.Stream, one Subscription) error {
	text, err := json.Marshal(stored{one.Endpoint, one.P256dh, one.Auth})
	if err != nil {
		return fmt.Errorf("store subscription: %w", err)
	}
	if len(text) > maxSubscriptionBytes {
		return &notify.FieldError{Field: "subscription", Want: fmt.Sprintf("at most %d bytes", maxSubscriptionBytes), Kind: notify.ErrTooLarge}
	}
	_, err = s.pushCall(ctx, st, "set", SubscriptionKey(one.Endpoint), text, maxSubscriptions)
	return err
}

// PushForget drops one of a user's subscriptions, by its key. One that is not there is no error.
func (s *Store) PushForget(ctx context.Context, st notify.Stream, key string) error {
	_, err := s.pushCall(ctx, st, "forget", key)
	return err
}

// PushForgetAll drops all of a user's subscriptions.
func (s *Store) PushForgetAll(ctx context.Context, st notify.Stream) error {
	_, err := s.pushCall(ctx, st, "forget all")
	return err
}

// PushRenew lets a user's subscriptions live on, as long as from their storing.
func (s *Store) PushRenew(ctx context.Context, st notify.Stream) error {
	_, err := s.pushCall(ctx, st, "renew")
	return err
}

// PushSubscriptions are a user's, at most ten. What cannot be read is left out: a later build may have stored it.
func (s *Store) PushSubscriptions(ctx context.Context, st notify.Stream) ([]Subscription, error) {
	v, err := s.pushCall(ctx, st, "get")
	if err != nil {
		return nil, err
	}
	list, _ := v.([]any)
	var all []Subscription
	for ; len(list) >= 2; list = list[2:] {
		_, value, _ := strings.Cut(text(list[1]), "\n")
		var one stored
		if json.Unmarshal([]byte(value), &one) == nil && one.Endpoint != "" {
			all = append(all, Subscription{Key: strings.Clone(text(list[0])), Endpoint: one.Endpoint, P256dh: one.P256dh, Auth: one.Auth})
		}
	}
	return all, nil
}

func (s *Store) pushCall(ctx context.Context, st notify.Stream, kind string, args ...any) (any, error) {
	if st.Topic.Kind() != notify.KindUser {
		return nil, fmt.Errorf("subscriptions of a topic of kind %c: %w", st.Topic.Kind(), notify.ErrInvalid)
	}
	c := call{script: pushScript, keys: []string{s.keys.Push(st)}, args: append([]any{kind, s.inbox.Retention.Milliseconds()}, args...)}
	v, err := s.run(ctx, opPush, []call{c})[0].Result()
	if err != nil {
		return nil, fmt.Errorf("%s subscriptions: %w", kind, classify(err))
	}
	return v, nil
}
