package due

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"allim/internal/store"
	"allim/internal/webhook"
	"allim/internal/webpush"
	"allim/pkg/notify"
)

// A result is what became of an attempt.
type result int

const (
	sent   result = iota
	again         // it may go better later
	gaveUp        // whoever is told wants no more of it
	nobody        // there is nobody to be told
)

// refusedMark stands in front of the key of a subscription that will take no push of this: it is no letter of keys.
const refusedMark = "!"

// An attempt is what is known after it.
type attempt struct {
	result result
	after  time.Duration // of again: what was asked for
	told   bool          // somebody was, in this attempt or before it
	done   []string      // keys of subscriptions that need no more, those that refused behind a mark
	status int           // the last one that was no success; 0: none
	err    error
}

// escalate makes one attempt and writes what became of it. sends ends when time is over for what is on its way.
func (r *Runner) escalate(sends context.Context, c store.Claim) {
	var a attempt
	if c.Via == notify.ViaWebhook {
		a = r.webhook(sends, c)
	} else {
		a = r.push(sends, c)
	}
	var o store.Outcome
	switch {
	case a.result == sent:
		r.Metrics.escalated(c.Via, "sent", 1)
	case a.result == nobody:
		r.Metrics.escalated(c.Via, "nobody", 1)
	case a.result == again && sends.Err() != nil: // it may have come or not: receivers tell by the id
		o = store.Outcome{Again: true, Same: true, Done: a.done}
	default:
		pause, more := backoff(c.Attempt, a.after)
		if a.result == again && more {
			o = store.Outcome{Again: true, After: pause, Done: a.done}
			r.Metrics.escalated(c.Via, "retried", 1)
			break
		}
		if a.told { // and others could not be
			r.Metrics.escalated(c.Via, "sent", 1)
			break
		}
		r.Metrics.escalated(c.Via, "gave_up", 1)
		r.gaveUp(c, a)
	}
	r.write(c, o)
}

func (r *Runner) gaveUp(c store.Claim, a attempt) {
	fields := []any{"tenant", c.Stream.Tenant, "id", c.Item.ID, "attempts", c.Attempt, "status", a.status}
	if a.err != nil {
		fields = append(fields, "error", a.err)
	}
	if c.Via == notify.ViaWebhook {
		r.Log.Warn("webhook_failed", fields...)
	} else {
		r.Log.Warn("push_failed", fields...)
	}
}

// write says in Redis what became of a claim. Where it can not the lease ends, and somebody tells it once more.
func (r *Runner) write(c store.Claim, o store.Outcome) {
	ctx, cancel := context.WithTimeout(context.Background(), writeTimeout)
	defer cancel()
	for try := 1; ; try++ {
		err := r.Store.Escalated(ctx, c, o)
		if err == nil {
			return
		}
		if try == writeTries || ctx.Err() != nil {
			r.failed(err)
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(writeTimeout / 10):
		}
	}
}

func (r *Runner) webhook(ctx context.Context, c store.Claim) attempt {
	to, ok := r.Endpoint(c.Stream.Tenant)
	if !ok || r.Webhook == nil { // there was one when it was taken on; programs get their settings one after the other
		return attempt{result: again, err: notify.ErrNotConfigured}
	}
	kind := webhook.Unseen
	if c.Unless == notify.ChangeRead {
		kind = webhook.Unread
	}
	user, _ := c.Stream.Topic.User() // it was parsed: there is one
	start := time.Now()
	got := r.Webhook.Send(ctx, to, webhook.Event{Type: kind, At: c.Since, Tenant: c.Stream.Tenant, User: user, ID: c.Item.ID, Category: c.Item.Category,
		Time: c.Item.Time, Topic: string(c.Item.Topic), Pos: c.Item.Position.String(), Data: c.Item.Data})
	r.Metrics.webhook(time.Since(start))
	a := attempt{result: map[webhook.Result]result{webhook.Sent: sent, webhook.Again: again, webhook.Refused: gaveUp}[got.Result], after: got.After, err: got.Err}
	if got.Result != webhook.Sent {
		a.status = got.Status
	}
	return a
}

// push tells all of the user's browsers, at most ten, at once. It is sent when one of them was told, and tried again where one may be told later.
func (r *Runner) push(ctx context.Context, c store.Claim) attempt {
	if r.Push == nil {
		return attempt{result: again, err: notify.ErrNotConfigured}
	}
	all, err := r.browsers(ctx, c)
	if err != nil {
		return attempt{result: again, done: c.Done, err: err}
	}
	answers := make([]webpush.Answer, len(all))
	var sends sync.WaitGroup
	for i, s := range all {
		sends.Go(func() { answers[i] = r.pushTo(ctx, c, s) })
	}
	sends.Wait()
	a := attempt{result: nobody, done: slices.Clone(c.Done)}
	wait, refused := false, false
	for _, key := range c.Done {
		earlier := strings.HasPrefix(key, refusedMark)
		refused, a.told = refused || earlier, a.told || !earlier
	}
	for i, got := range answers {
		r.Metrics.pushed(got.Result)
		if got.Result != webpush.Sent {
			a.status, a.err = got.Status, got.Err
		}
		switch got.Result {
		case webpush.Sent:
			a.told = true
			a.done = append(a.done, all[i].Key)
		case webpush.Again:
			wait, a.after = true, max(a.after, got.After)
		case webpush.Refused:
			refused = true
			a.done = append(a.done, refusedMark+all[i].Key)
		}
	}
	switch {
	case wait:
		a.result = again
	case a.told:
		a.result = sent
	case refused:
		a.result = gaveUp
	}
	return a
}

// browsers are those of a claim's user that need an attempt.
func (r *Runner) browsers(ctx context.Context, c store.Claim) ([]store.Subscription, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	all, err := r.Store.PushSubscriptions(ctx, c.Stream)
	return slices.DeleteFunc(all, func(s store.Subscription) bool {
		return slices.Contains(c.Done, s.Key) || slices.Contains(c.Done, refusedMark+s.Key)
	}), err
}

func (r *Runner) pushTo(ctx context.Context, c store.Claim, s store.Subscription) webpush.Answer {
	to, err := webpush.NewSubscription(s.Endpoint, s.P256dh, s.Auth)
	if err != nil {
		return webpush.Answer{Result: webpush.Refused, Err: err}
	}
	got := r.Push.Send(ctx, to, webpush.Push{ID: c.Item.ID, Topic: string(c.Item.Topic), Category: c.Item.Category, Data: c.Item.Data, Collapse: c.Collapse, ExpiresAt: c.Item.ExpiresAt})
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	switch got.Result {
	case webpush.Gone:
		if r.Store.PushForget(ctx, c.Stream, s.Key) == nil { // else the next push finds it again
			r.Metrics.removed()
		}
	case webpush.Sent:
		_ = r.Store.PushRenew(ctx, c.Stream) // the next one renews them, too
	}
	return got
}
