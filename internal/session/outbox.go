package session

import (
	"sync"

	"allim/pkg/fanout"
	"allim/pkg/notify"
)

// An item is one frame that waits: a shared message, or bytes of this connection's own; where it has both, they stand for the message.
type item struct {
	d      *fanout.Delivery
	own    []byte
	sub    *sub    // whose position d moves; nil: of none
	begins *begins // the positions that own moves; nil: none
	mine   bool
	gone   bool // was dropped; all else is zero
	counts bool // of a notification or mark: its badge is the newest
}

// begins is where topics begin after a welcome, a subscribed or a reset, for the cursor.
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
	holes int // dropped ones from head on
	brief int // ephemeral ones that wait
	scan  int // before it there is no ephemeral one
}

func (i *item) size() int {
	if i.d != nil {
		return len(i.d.Message.Data) + len(i.d.Stream.Topic) + 160
	}
	return len(i.own)
}

func (o *outbox) len() int { return len(o.items) - o.head - o.holes }

// full tells whether messages must wait elsewhere. Own frames are still taken: their number is bounded by what the client asks for, and who asks waits (Session.Handle).
func (o *outbox) full(l *Limits) bool { return o.len() >= l.QueueFrames || o.bytes >= l.Queue }

// low tells whether those that wait elsewhere can come again.
func (o *outbox) low(l *Limits) bool { return o.len() <= l.QueueFrames/4 && o.bytes <= l.Queue/4 }

// few places are what a queue begins with. Connections borrow them, so that a message for a thousand idle ones needs no memory of its own.
type few [4]item

var places = sync.Pool{New: func() any { return new(few) }}

func (o *outbox) push(i item) {
	if o.items == nil {
		o.items = places.Get().(*few)[:0]
	}
	if over := o.head + o.holes; over >= 64 && over > o.len() {
		o.tidy()
	}
	o.items = append(o.items, i)
	o.bytes += i.size()
	if i.ephemeral() {
		o.brief++
	}
}

// tidy lets go of the places that hold nothing: one that is never empty would only grow.
func (o *outbox) tidy() {
	kept := o.items[:0]
	for _, i := range o.items[o.head:] {
		if !i.gone {
			kept = append(kept, i)
		}
	}
	clear(o.items[len(kept):])
	o.items, o.head, o.holes, o.scan = kept, 0, 0, 0
}

func (o *outbox) pop() (i item, ok bool) {
	for o.head < len(o.items) && !ok {
		i, ok = o.items[o.head], !o.items[o.head].gone
		o.items[o.head] = item{}
		o.head++
		switch {
		case !ok:
			o.holes--
		case i.ephemeral():
			o.brief--
		}
	}
	if !ok {
		return item{}, false
	}
	o.bytes -= i.size()
	if o.len() == 0 { // an idle connection holds no queue
		if all := o.items[:cap(o.items)]; len(all) == len(few{}) {
			clear(all[o.head:])
			places.Put((*few)(all))
		}
		*o = outbox{}
	}
	return i, true
}

// yield drops the oldest ephemeral messages until there is room for another, and returns how many. They are of their moment: the newest counts.
func (o *outbox) yield(l *Limits) (dropped int) {
	for o.scan = max(o.scan, o.head); o.full(l) && o.brief > 0; o.scan++ {
		i := &o.items[o.scan]
		if !i.ephemeral() {
			continue
		}
		o.bytes -= i.size()
		*i = item{gone: true}
		o.brief--
		o.holes++
		dropped++
	}
	return dropped
}

func (i *item) ephemeral() bool { return i.d != nil && i.d.Message.Change == notify.ChangeEphemeral }

// The wire formats that receivers of a message share.
const (
	formatCounts = iota // with the badge of that moment
	formatBare          // without: recovered, or overtaken by a newer badge
)
