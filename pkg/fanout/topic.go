package fanout

import (
	"strings"

	"allim/pkg/notify"
)

// A topic is the state of one stream on this gateway, owned by the loop of its shard: how far it is (pos), whether that can be trusted
// (mode), and who listens. At most 400 bytes with its map entry and the feed's bookkeeping, without a ring (checked by a test).
type topic struct {
	channel string
	pos     notify.Position // of the last message handed on; EmptyAt where the stream does not exist
	badge   *notify.Badge   // of a user's stream: the counts at pos; read-only, shared
	subs    []*Subscription
	ring    *ring    // nil: no message lately
	sync    *syncing // while mode is syncs
	renew   uint32   // when its memory is next renewed, in seconds of env.now
	seq     uint32   // of its last sync: answers to older ones are stale
	slot    int32    // in shard.parts, of its partition
	part    uint16   // its partition
	lane    uint16   // whose link hears it
	kind    notify.Kind
	mode    mode
	known   bool // pos was learned from history
	dirty   bool // frames were lost here; waits for its turn to resync
	lingers bool // is in shard.lingering
	heard   bool // was heard again since it is there
	unsure  bool // is in shard.unsure
	stale   bool // badge is older than pos: recovered messages have none, and the sync that brings it did not end yet
}

type mode uint8

const (
	waits mode = iota // for the acknowledgement of its subscription in this generation
	syncs             // asked history what it missed
	live              // pos is right and messages follow it
	gone              // left the shard
)

// A syncing is what a topic needs only while it syncs.
type syncing struct {
	buf    []*notify.Message // live messages that came since history was asked
	bytes  int
	over   bool // the buffer's bound was passed: it was emptied, and another sync follows
	ticket *ticket
}

// A reason says why a topic resynced.
type reason uint8

const (
	byAck     reason = iota // (re)subscribed: whatever came before may be lost
	byGap                   // a message that does not follow
	byQueue                 // frames of it were dropped because the loop's mailbox was full
	byBuffer                // too much came while it synced
	byPayload               // bytes that this build cannot read
	byCheck                 // its top in Redis was elsewhere
	byEpoch                 // a subscriber's page was of another epoch
	numReasons
)

var reasonNames = [numReasons]string{"ack", "gap", "queue", "buffer", "payload", "check", "epoch"}

func (t *topic) join(c *Subscription) {
	c.topic, c.slot, c.channel, t.heard = t, int32(len(t.subs)), t.channel, true
	t.subs = append(t.subs, c)
}

func (t *topic) leave(c *Subscription) {
	last := t.subs[len(t.subs)-1]
	t.subs[c.slot], last.slot = last, c.slot
	t.subs[len(t.subs)-1] = nil
	t.subs = t.subs[:len(t.subs)-1]
	if len(t.subs) == 0 {
		t.subs = nil
	}
	c.topic = nil
}

// intern makes equal epochs one string, and keeps no payload or URL alive for six bytes of it.
func (t *topic) intern(epoch string) string {
	if epoch == t.pos.Epoch {
		return t.pos.Epoch
	}
	return strings.Clone(epoch)
}

func (t *topic) hasJoined() bool {
	for _, c := range t.subs {
		if c.at == joined {
			return true
		}
	}
	return false
}

// acked: the feed says that Redis subscribed t in this generation.
func (x *shard) acked(t *topic) { x.startSync(t, byAck) }

// heard is a message of t's channel.
func (x *shard) heard(t *topic, m *notify.Message) {
	if m.Change == notify.ChangeEphemeral {
		x.ephemeral(t, m)
		return
	}
	switch t.mode {
	case live:
		x.follow(t, m)
	case syncs:
		x.buffer(t, m)
	default:
		x.count.drop(dropWaiting)
	}
}

// ephemeral hands on a message without a place: to those who hear what is live, and to nobody later.
func (x *shard) ephemeral(t *topic, m *notify.Message) {
	if t.mode != live {
		x.count.drop(dropEphemeralEarly)
		return
	}
	d := &Delivery{Stream: x.streamOf(t), Message: m}
	for _, c := range t.subs {
		switch {
		case c.gone.Load():
		case c.at == joined:
			x.count.offered.Add(1)
			if !c.sink.Deliver(c, d, false) {
				x.count.drop(dropEphemeralSlow)
			}
		case c.at > held: // it catches up
			x.count.drop(dropEphemeralSlow)
		}
	}
}

// follow takes a message of a live topic if it follows. False: it did not, and t syncs.
func (x *shard) follow(t *topic, m *notify.Message) bool {
	p := m.Position
	same := p.Epoch == t.pos.Epoch
	switch {
	case p.Offset == t.pos.Offset+1 && (same || empty(t.pos.Epoch)):
		x.apply(t, m, false)
	case same && p.Offset <= t.pos.Offset:
		x.count.drop(dropKnown)
	case t.dirty: // it resyncs soon and will get this, too
	default:
		// m itself need not be kept: history is asked after it came, so the answer contains it, if it is still true.
		x.startSync(t, byGap)
		return false
	}
	return true
}

func (x *shard) apply(t *topic, m *notify.Message, recovered bool) {
	t.pos = notify.Position{Epoch: t.intern(m.Position.Epoch), Offset: m.Position.Offset}
	if m.Badge != nil {
		t.badge = m.Badge
	}
	t.stale = t.kind == notify.KindUser && m.Badge == nil
	d := &Delivery{Stream: x.streamOf(t), Message: m}
	x.remember(t, d)
	for _, c := range t.subs {
		x.deliver(t, c, d, recovered)
	}
}

func (x *shard) buffer(t *topic, m *notify.Message) {
	s := t.sync
	if s.over {
		x.count.drop(dropBuffer)
		return
	}
	s.bytes += weight(m)
	if len(s.buf) >= x.opt.SyncBuffer || s.bytes > x.opt.SyncBytes {
		x.count.dropped[dropBuffer].Add(uint64(len(s.buf)) + 1)
		s.buf, s.bytes, s.over = nil, 0, true
		return
	}
	s.buf = append(s.buf, m)
}

// spoil: something of t was lost on the way to it. It resyncs, but not more often than once in DirtyEvery.
func (x *shard) spoil(t *topic, why reason) {
	switch t.mode {
	case waits: // a lost frame proves that the channel is subscribed, and may have been the acknowledgement
		x.startSync(t, byAck)
	case syncs:
		t.sync.over = true
	case live:
		if now := x.env.now(); x.cured[t] <= now {
			x.cured[t] = now + x.opt.DirtyEvery
			x.startSync(t, why)
		} else {
			t.dirty = true
		}
	}
}

// startSync asks history what follows t.pos. What comes live meanwhile waits.
func (x *shard) startSync(t *topic, why reason) {
	x.count.resyncs[why].Add(1)
	x.enter(t, syncs)
	t.seq++
	t.dirty = false
	if t.sync == nil {
		t.sync = &syncing{}
	}
	s := t.sync
	clear(s.buf)
	s.buf, s.bytes, s.over = s.buf[:0], 0, false
	if why == byAck && t.known {
		x.comparing = append(x.comparing, mark{topic: t, seq: t.seq}) // most have not moved: ask for many tops at once
		return
	}
	x.askSync(t, 0, false)
}

func (x *shard) askSync(t *topic, attempt int, paced bool) {
	q := query{why: resyncing, topic: t, lane: t.lane, gen: x.links[t.lane].gen, token: t.seq, attempt: attempt, paced: paced}
	if t.known {
		if !empty(t.pos.Epoch) { // else from the beginning, whatever time it is by now: t was heard all along
			q.from = t.pos
		}
		if t.hasJoined() { // else nobody needs the messages: those who lag or catch up pull their own
			q.limit = page
		}
	}
	if t.sync.ticket == nil {
		t.sync.ticket = &ticket{}
	}
	q.ticket = t.sync.ticket
	x.env.ask(q)
}

func (x *shard) synced(a answer) {
	t, r := a.topic, &a.recovery
	if t.mode != syncs || a.token != t.seq {
		return // stale
	}
	if a.err != nil {
		x.askSync(t, a.attempt+1, a.paced)
		return
	}
	switch {
	case r.Outcome == notify.Empty:
		x.vanished(t, r)
	case !t.known:
		x.place(t, r.Top, r.Badge)
	case r.Outcome == notify.Reset:
		x.reset(t, r)
	default:
		if r.Top.Epoch != t.pos.Epoch {
			x.translate(t, r.Top.Epoch)
		}
		before := t.pos.Offset
		for i := range r.Messages {
			if m := &r.Messages[i]; m.Position.Offset > t.pos.Offset {
				x.apply(t, m, true)
			}
		}
		if a.limit > 0 && t.pos.Offset < r.Top.Offset {
			attempt := 0
			if t.pos.Offset == before { // a page without the next message: history is not itself just now
				attempt = a.attempt + 1
			}
			t.seq++
			x.askSync(t, attempt, a.paced)
			return
		}
		if t.pos.Offset != r.Top.Offset {
			x.free(t)
		}
		x.place(t, r.Top, r.Badge)
	}
	x.finishSync(t)
}

// place sets where t is.
func (x *shard) place(t *topic, p notify.Position, b *notify.Badge) {
	t.pos = notify.Position{Epoch: t.intern(p.Epoch), Offset: p.Offset}
	t.badge, t.known, t.stale = b, true, false
	if t.kind != notify.KindUser {
		return
	}
	if b == nil {
		t.badge = &notify.Badge{Revision: t.pos}
	} else if b.Revision.Epoch == t.pos.Epoch { // it is ours until it is shared
		b.Revision.Epoch = t.pos.Epoch
	}
}

// finishSync makes t live: first what came meanwhile, then those who waited.
func (x *shard) finishSync(t *topic) {
	s := t.sync
	t.sync = nil
	x.enter(t, live)
	for _, c := range t.subs {
		x.catchUp(t, c)
	}
	for i, m := range s.buf {
		if !x.follow(t, m) {
			x.count.dropped[dropBuffer].Add(uint64(len(s.buf) - i - 1))
			return // the next sync covers the rest, too: it asks after they came
		}
	}
	if s.over {
		x.spoil(t, byBuffer)
	}
	for _, c := range t.subs {
		if t.mode != live {
			return
		}
		switch c.at {
		case starting:
			x.begin(t, c)
		case pending:
			x.attach(t, c)
		}
	}
}
