package fanout

import (
	"fmt"
	"slices"
	"time"

	"allim/pkg/notify"
)

// A modelClient is a page: it keeps a position and the ids it knows, and comes back with its position after every cut.
type modelClient struct {
	w        *world
	name     string
	pos      notify.Position
	ids      map[string]bool
	badge    notify.Position // revision of the last badge
	conn     *modelConn
	mistakes []string
}

// A modelConn is one connection of it: the sink, with a queue that takes no more than room.
type modelConn struct {
	cl     *modelClient
	sub    *Subscription
	queue  []any // frames on their way to the client
	room   int
	slow   bool            // refused a message: resumes when the queue is empty
	from   notify.Position // what the last Attach or Move asked for
	behind bool            // was given recovered messages, and no CaughtUp since
	going  bool
}

type frameBegin struct {
	Begin
	from notify.Position
}
type frameReset struct {
	pos   notify.Position
	badge *notify.Badge
}
type frameMessage struct {
	m         *notify.Message
	recovered bool
}
type frameCaughtUp struct{ badge *notify.Badge }

func (c *modelConn) Begin(_ *Subscription, b Begin) {
	c.queue = append(c.queue, frameBegin{b, c.from})
}

func (c *modelConn) Deliver(_ *Subscription, d *Delivery, recovered bool) bool {
	if !c.going {
		c.cl.wrong("delivered before Go")
	}
	if c.slow || len(c.queue) >= c.room {
		c.slow = true
		return false
	}
	c.queue = append(c.queue, frameMessage{d.Message, recovered})
	return true
}

func (c *modelConn) Reset(_ *Subscription, pos notify.Position, _ notify.Why, badge *notify.Badge) {
	c.cl.w.resets++
	c.queue = append(c.queue, frameReset{pos, badge})
}

func (c *modelConn) TooSlow(*Subscription, time.Duration) {
	c.cl.w.slow++
	c.close()
}

func (c *modelConn) CaughtUp(_ *Subscription, badge *notify.Badge) {
	c.queue = append(c.queue, frameCaughtUp{badge})
}

func (cl *modelClient) wrong(format string, args ...any) {
	cl.mistakes = append(cl.mistakes, fmt.Sprintf(format, args...))
}

// open connects with the position that the client has.
func (cl *modelClient) open() {
	c := &modelConn{cl: cl, from: cl.pos, room: 1 + cl.w.rnd.Intn(20), sub: &Subscription{stream: cl.w.stream, channel: cl.w.channel}}
	c.sub.sink = c
	cl.conn = c
	cl.w.called(c.sub, opAttach, From{Position: cl.pos})
	if cl.w.rnd.Intn(3) == 0 {
		c.goOn()
	}
}

func (c *modelConn) goOn() {
	c.going = true
	c.cl.w.called(c.sub, opGo, From{})
}

// move asks for another place on a connection that is open: the client's own, or everything.
func (c *modelConn) move() {
	from := c.cl.pos
	if c.cl.w.rnd.Intn(2) == 0 {
		from = notify.Position{}
	}
	c.going, c.from = false, from
	c.cl.w.called(c.sub, opMove, From{Position: from})
}

// close cuts the connection: what is in flight is lost.
func (c *modelConn) close() {
	c.cl.conn = nil
	c.sub.gone.Store(true)
	c.cl.w.called(c.sub, opDetach, From{})
}

// list is what an inbox frame does: the client has all that is in the inbox now.
func (cl *modelClient) list() {
	for _, id := range cl.w.redis.box {
		cl.ids[id] = true
	}
}

// next hands the oldest frame in flight to the client.
func (c *modelConn) next() {
	cl := c.cl
	f := c.queue[0]
	c.queue = c.queue[1:]
	if c.slow && len(c.queue) == 0 {
		c.slow = false
		cl.w.called(c.sub, opResume, From{})
	}
	switch f := f.(type) {
	case frameBegin:
		cl.begin(c, f.Begin, f.from)
	case frameReset:
		cl.pos = f.pos
		cl.badgeIs(f.badge)
		if cl.w.user {
			cl.list()
		}
	case frameCaughtUp:
		if !c.behind && !cl.w.user { // a user's stream also tells who was ahead of it the counts
			cl.wrong("caught up without a recovered message")
		}
		c.behind = false
		if cl.w.user && (f.badge == nil || !cl.w.isAt(cl.pos, f.badge.Revision)) {
			cl.wrong("caught up at %v with the badge %v", cl.pos, f.badge)
		}
		cl.badgeIs(f.badge)
	case frameMessage:
		p := f.m.Position
		if p.Offset != cl.pos.Offset+1 || p.Epoch != cl.pos.Epoch && !cl.w.follows(cl.pos, p) {
			cl.wrong("%v follows %v", p, cl.pos)
		}
		cl.pos = p
		cl.ids[f.m.ID] = true
		if f.recovered {
			c.behind = true
			return
		}
		if c.behind {
			cl.wrong("live %v before the end of a batch of recovered messages", p)
		}
		cl.badgeIs(f.m.Badge)
	}
}

func (cl *modelClient) begin(c *modelConn, b Begin, from notify.Position) {
	switch {
	case b.Err != nil: // nothing is attached: again later, on another connection
		c.close()
		return
	case b.Recovered && (b.Reset || b.Position.Offset != from.Offset || from.Epoch == ""):
		cl.wrong("asked for %v, got %+v", from, b)
	case b.Reset && from.Epoch == "":
		cl.wrong("everything was asked for and reset")
	case !b.Recovered && cl.w.user:
		cl.list()
	}
	cl.pos, cl.badge, c.behind = b.Position, notify.Position{}, false
	cl.badgeIs(b.Badge)
}

// badgeIs takes a badge: on one connection they come in order.
func (cl *modelClient) badgeIs(b *notify.Badge) {
	switch {
	case !cl.w.user:
	case b == nil:
		cl.wrong("no badge")
	case b.Revision.Epoch == cl.badge.Epoch && b.Revision.Offset < cl.badge.Offset:
		cl.wrong("badge of %v after that of %v", b.Revision, cl.badge)
	default:
		cl.badge = b.Revision
	}
}

// lacks is what was acknowledged and did not come.
func (cl *modelClient) lacks() []string {
	var l []string
	for id := range cl.w.acked {
		if !cl.ids[id] {
			l = append(l, id)
		}
	}
	slices.Sort(l)
	return l
}
