package session

import (
	"context"
	"fmt"
	"time"

	"allim/internal/store"
	"allim/internal/wire"
	"allim/pkg/auth"
	"allim/pkg/notify"
)

// Calls are what a user asks of its own inbox: pages, counts, marks, and which browsers are pushed to. Client frames and HTTP requests come here with the same commands, which are
// checked here, so that neither may do what the other may not. Each waits for Redis for Options.RedisWait at most. Safe for concurrent use.
//
// Errors are those of notify, as wire.ErrorOf tells them: ErrForbidden for who has no inbox, ErrInvalid for what a command names, ErrStalePosition,
// ErrUnavailable.
type Calls struct {
	store   *store.Store
	metrics *Metrics
	limits  *Limits
	wait    time.Duration
	push    *Push // nil: nothing is pushed
	rates   rates
}

// Calls are those of all users; there is one for all sessions.
func (ss *Sessions) Calls() *Calls { return ss.calls }

func newCalls(o *Options) *Calls {
	return &Calls{store: o.Store, metrics: o.Metrics, limits: &o.Limits, wait: o.RedisWait, push: o.Push, rates: newRates(o.Limits.Requests)}
}

// List is the page that an `inbox` command asks for.
func (c *Calls) List(ctx context.Context, id *auth.Identity, cmd *wire.Command) (*wire.Inbox, error) {
	own, q, err := asked(id, cmd)
	if err != nil {
		return nil, err
	}
	p, err := c.page(ctx, readerOf(id, own), q)
	if err != nil {
		return nil, err
	}
	return inboxOf(cmd.Ref, own, &p), nil
}

// asked is the page of whose inbox a command asks for.
func asked(id *auth.Identity, cmd *wire.Command) (own notify.Stream, q store.Query, err error) {
	if own, err = ownOf(id); err != nil {
		return own, q, err
	}
	q = store.Query{Limit: cmd.Limit, Before: cmd.Before, Category: cmd.Filter}
	q.Status, err = store.ParseStatus(cmd.Status)
	return own, q, err
}

func (c *Calls) page(ctx context.Context, r store.Reader, q store.Query) (store.Page, error) {
	ctx, cancel := context.WithTimeout(ctx, c.wait)
	defer cancel()
	return c.store.ListFor(ctx, r, q)
}

// readerOf is who reads its own inbox and the segments of its token.
func readerOf(id *auth.Identity, own notify.Stream) store.Reader {
	return store.Reader{Stream: own, Segments: segmentsOf(id), IssuedAt: id.IssuedAt}
}

// inboxOf is the frame form of a page.
func inboxOf(ref wire.Ref, own notify.Stream, p *store.Page) *wire.Inbox {
	f := &wire.Inbox{Ref: ref, Items: make([]wire.Item, len(p.Items)), Before: p.Before,
		At: map[string]string{string(own.Topic): p.At.String()}, Badge: wire.BadgeOf(&p.Badge)}
	for _, of := range p.Within {
		f.At[string(notify.TopicOf(notify.KindSegment, of.Segment))] = of.At.String()
	}
	for i := range p.Items {
		f.Items[i] = wire.ItemOf(&p.Items[i])
	}
	return f
}

// Badge is the counts of the user's inbox.
func (c *Calls) Badge(ctx context.Context, id *auth.Identity) (*wire.Badge, error) {
	own, err := ownOf(id)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, c.wait)
	defer cancel()
	b, err := c.store.CountsFor(ctx, readerOf(id, own))
	if err != nil {
		return nil, err
	}
	return wire.BadgeOf(&b), nil
}

// Mark does what a command named as notify.Marks names it asks for. origin is the page's, where the command names none; "" is nobody's. A mark that
// came is made, whether or not who sent it still waits: ctx counts for its values alone.
func (c *Calls) Mark(ctx context.Context, id *auth.Identity, cmd *wire.Command, origin string) (*wire.OK, error) {
	own, err := ownOf(id)
	if err != nil {
		return nil, err
	}
	m, err := c.markOf(id, own, cmd, origin)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.wait)
	defer cancel()
	got, err := c.store.MarkFor(ctx, readerOf(id, own), m)
	if err != nil {
		return nil, err
	}
	ok := &wire.OK{Ref: cmd.Ref, Changed: &got.Changed, Unknown: got.Unknown}
	if got.Changed > 0 {
		ok.Pos = got.Position.String()
	}
	return ok, nil
}

// markOf checks what a mark names.
func (c *Calls) markOf(id *auth.Identity, own notify.Stream, cmd *wire.Command, origin string) (store.Mark, error) {
	m := store.Mark{Change: notify.Marks[cmd.Type], IDs: cmd.IDs, All: cmd.All}
	var err error
	if m.Upto, m.Within, err = uptoOf(cmd, id, own.Topic); err != nil {
		return m, err
	}
	if m.Origin, err = originOf(cmd, origin); err != nil {
		return m, err
	}
	if most := c.limits.MarkIDs; len(cmd.IDs) > most {
		c.metrics.limit("mark_ids")
		return m, &notify.FieldError{Field: "ids", Want: fmt.Sprintf("at most %d, not %d", most, len(cmd.IDs))}
	}
	for i, id := range cmd.IDs {
		if err := notify.CheckID(id); err != nil {
			return m, notify.InField(fmt.Sprintf("ids[%d]", i), err)
		}
	}
	return m, nil
}

// uptoOf is the position of the own stream up to which a mark goes, nil where it names none, and those of segments that the user hears.
func uptoOf(c *wire.Command, id *auth.Identity, own notify.Topic) (upto *notify.Position, within []store.Joined, err error) {
	if c.Upto != nil {
		pos, err := notify.ParsePosition(*c.Upto)
		return &pos, nil, notify.InField("upto", err)
	}
	for topic, text := range c.UptoAt {
		pos, err := notify.ParsePosition(text)
		t := notify.Topic(topic)
		switch {
		case err != nil:
			return nil, nil, notify.InField("upto", err)
		case topic == notify.Me || t == own:
			upto = &pos
		case t.Kind() == notify.KindSegment && id.MayHear(t):
			within = append(within, store.Joined{Segment: t.Name(), At: pos})
		default:
			return nil, nil, &notify.FieldError{Field: "upto", Want: "positions of your own stream and your segments"}
		}
	}
	return upto, within, nil
}

// originOf is the page that a command names, or the one that sent it.
func originOf(cmd *wire.Command, page string) (string, error) {
	if cmd.Origin == "" {
		return page, nil
	}
	return cmd.Origin, notify.CheckOrigin(cmd.Origin)
}

// Preferences answers a `preferences` command: the categories that the user has muted, or, where the command names some, that those are muted now and no
// others. origin is as for Mark.
func (c *Calls) Preferences(ctx context.Context, id *auth.Identity, cmd *wire.Command, origin string) (wire.Frame, error) {
	own, err := ownOf(id)
	if err != nil {
		return nil, err
	}
	if origin, err = originOf(cmd, origin); err != nil {
		return nil, err
	}
	if cmd.Mute != nil {
		if err := notify.CheckMute(*cmd.Mute); err != nil {
			return nil, err
		}
		ctx = context.WithoutCancel(ctx)
	}
	ctx, cancel := context.WithTimeout(ctx, c.wait)
	defer cancel()
	muted, at, changed, err := c.store.Preferences(ctx, own, cmd.Mute, origin)
	switch {
	case err != nil:
		return nil, err
	case cmd.Mute == nil:
		return &wire.Preferences{Ref: cmd.Ref, Topic: string(own.Topic), Pos: at.String(), Mute: append([]string{}, muted...)}, nil
	case !changed:
		return &wire.OK{Ref: cmd.Ref}, nil
	default:
		return &wire.OK{Ref: cmd.Ref, Pos: at.String()}, nil
	}
}

// ownOf is the stream of the user's own inbox.
func ownOf(id *auth.Identity) (notify.Stream, error) {
	own, ok := id.Own()
	if !ok {
		return notify.Stream{}, notify.ErrForbidden
	}
	return notify.Stream{Tenant: id.Tenant, Topic: own}, nil
}
