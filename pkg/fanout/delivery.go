package fanout

import (
	"context"
	"sync"
	"time"

	"allim/pkg/notify"
)

// Formats is how many wire formats a Delivery has room for. A format is a small number that fanout does not understand.
const Formats = 4

// A Delivery is one message on its way to every receiver on this gateway. Receivers share it, and with it one encoding per
// wire format: the first that needs one makes it.
type Delivery struct {
	Stream  notify.Stream
	Message *notify.Message // read-only

	mu  sync.Mutex
	enc [Formats][]byte
}

// Encoded returns the bytes of d in a format, made by enc at its first use. The bytes are read-only.
func (d *Delivery) Encoded(format int, enc func(*Delivery) []byte) []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.enc[format] == nil {
		d.enc[format] = enc(d)
	}
	return d.enc[format]
}

// History is what topic states read of the past. store.Store is one. Calls may block on Redis until ctx ends; they are made from goroutines of
// the hub, never from its loops.
type History interface {
	// Recover returns at most limit messages after from. limit 0 checks only: outcome, position, top and badge.
	Recover(ctx context.Context, s notify.Stream, from notify.Position, limit int) (notify.Recovery, error)
	// Tops returns the last position of each stream, the zero Position where a stream does not exist. An error that wraps a notify.EachError is of
	// some of them; the others count.
	Tops(ctx context.Context, s []notify.Stream) ([]notify.Position, error)
	// Renew keeps the streams' memory of their positions alive while somebody listens. It creates nothing.
	Renew(ctx context.Context, s []notify.Stream) error
}

// A Sink receives what a subscription hears. Its methods are called from a shard loop of the hub, for one subscription one after the other
// and in order. They must return at once: never block, never call Redis. They may lock the sink's own lock and may call any method of
// Subscription (this is the one place where a call into another room is made from within a loop).
type Sink interface {
	// Begin answers Attach and Move, once each, before anything else of that attachment. Nothing is delivered until Go. Where a Move
	// overtakes the Begin of the Attach or Move before it, one Begin answers both.
	Begin(sub *Subscription, b Begin)
	// Deliver offers one message. recovered: it came from history or ring, not live, so counts in it are of the past. False means that it
	// was not taken: the subscription lags behind at the message before it until Resume, and then catches up from history.
	Deliver(sub *Subscription, d *Delivery, recovered bool) bool
	// Reset says that what the subscriber holds cannot be continued; what follows comes after pos. badge is the counts of a user's stream.
	Reset(sub *Subscription, pos notify.Position, why notify.Why, badge *notify.Badge)
	// TooSlow ends the attachment of a subscriber that lags and does not get nearer; nothing follows it. A sink should close: what comes back resumes
	// where it was. again is how long it should stay away at least; 0: it may come at once.
	TooSlow(sub *Subscription, again time.Duration)
	// CaughtUp ends a batch of recovered messages: live ones follow. It comes, too, when a topic reaches the place of a subscriber that began ahead of
	// it, whose Begin had older counts. badge is the counts of a user's stream at that place, else nil.
	CaughtUp(sub *Subscription, badge *notify.Badge)
}

// A Begin says where an attachment begins.
type Begin struct {
	Position  notify.Position // frames begin after it
	Recovered bool            // From was continued without a hole. False for the zero position, which asks for all there is
	Reset     bool            // From cannot be continued: as Sink.Reset with Position. False for the zero position
	Why       notify.Why      // of Reset
	Badge     *notify.Badge   // of a user's stream: its counts now (not at Position)
	Err       error           // ErrUnavailable: history could not be read in time; ErrBusy: the hub is full. Nothing is attached; the other fields are zero
}

// From is where a subscriber wants to begin.
type From struct {
	Position notify.Position
	Live     bool // from now on; Position counts for nothing
}
