package session

import (
	"allim/internal/wire"
	"allim/pkg/fanout"
	"allim/pkg/notify"
)

// An item is one frame that waits: a shared message, or bytes of this connection's own.
type item struct {
	d      *fanout.Delivery
	own    []byte
	sub    *sub            // whose position the frame moves; nil: none
	pos    notify.Position // to this
	begins *begins         // of welcome and subscribed: where topics begin
	mine   bool
	counts bool // of a notification or mark: its badge is the newest
}

// begins is where the topics of a welcome or subscribed begin, for the cursor.
type begins struct{ at []begin }

type begin struct {
	sub *sub
	pos notify.Position
}

// An outbox holds the frames of one connection in order. Guarded by Session.mu.
type outbox struct {
	items []item
	head  int // of the first that waits
	bytes int
}

func (i *item) size() int {
	if i.d != nil {
		return len(i.d.Message.Data) + len(i.d.Stream.Topic) + 160
	}
	return len(i.own)
}

func (o *outbox) len() int { return len(o.items) - o.head }

// full tells whether messages must wait elsewhere. Own frames are still taken: their number is bounded by what the client asks for, and who asks waits (Session.Handle).
func (o *outbox) full(l *Limits) bool { return o.len() >= l.QueueFrames || o.bytes >= l.Queue }

// low tells whether those that wait elsewhere can come again.
func (o *outbox) low(l *Limits) bool { return o.len() <= l.QueueFrames/4 && o.bytes <= l.Queue/4 }

func (o *outbox) push(i item) {
	o.items = append(o.items, i)
	o.bytes += i.size()
}

func (o *outbox) pop() (i item, ok bool) {
	if o.head == len(o.items) {
		return item{}, false
	}
	i = o.items[o.head]
	o.items[o.head] = item{}
	o.head++
	o.bytes -= i.size()
	if o.head == len(o.items) {
		*o = outbox{} // an idle connection holds no queue
	}
	return i, true
}

// The wire formats that receivers of a message share.
const (
	formatCounts = iota // with the badge of that moment
	formatBare          // without: recovered, or overtaken by a newer badge
)

// bytes is what goes over the wire for i. cursor is "" where none is wanted.
func (i *item) frame(cursor string) []byte {
	b := i.own
	if i.d != nil {
		format := formatBare
		if i.counts {
			format = formatCounts
		}
		b = i.d.Encoded(format, func(d *fanout.Delivery) []byte { return wire.Message(d.Stream.Topic, d.Message, i.counts) })
	}
	if i.mine || cursor != "" {
		return wire.With(b, i.mine, cursor)
	}
	return b
}
