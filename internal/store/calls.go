package store

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"allim/internal/keyspace"
	"allim/pkg/notify"
)

// A write is one change of a stream, apart from the stream: enough to make it, and to make it again.
type write struct {
	change   notify.Change // of the message, or the mark
	id       string        // of a message
	category string        // of a notification
	body     []byte        // shared by the streams of one call
	ids      []string      // that a mark names
}

// kind is the operation that a write is counted as.
func (w *write) kind() operation {
	switch w.change {
	case notify.ChangeMessage:
		return opPublish
	case notify.ChangeEphemeral:
		return opEphemeral
	case notify.ChangeNotification:
		return opNotify
	}
	return opMark
}

// An ackedAs says of a write that is made again how it was acknowledged before. The zero value is of a new one.
type ackedAs struct {
	at      notify.Position // the last time (reply.proof): where Redis has that, nothing is lost
	first   notify.Position // of marks on one item the one that was acknowledged later wins
	firstUS int64           // Redis' clock then, in Unix microseconds
}

// A span says which items a mark means that does not name them.
type span struct {
	how  string          // as lua/mark.lua spells it; "": its ids
	upto notify.Position // of "upto"
	from string          // the offset at which it goes on; "" at its beginning
}

// markCall is the call of a mark of its ids or of a span's items.
func (s *Store) markCall(st notify.Stream, w *write, of span, was ackedAs) call {
	args := make([]any, 0, 19+len(w.ids))
	how := cmp.Or(of.how, "ids")
	args = append(args, string(rune(w.change)), how, of.upto.Epoch, of.upto.Offset, w.body, newEpoch(), inboxEvents,
		s.inbox.Retention.Milliseconds(), s.publishCmd, keyspace.Member(st), was.at.Epoch, was.at.Offset, was.first.Epoch, was.first.Offset, was.firstUS,
		s.program, markUnnumbered, s.inboxIDs(), of.from)
	for _, id := range w.ids {
		args = append(args, id)
	}
	return call{markScript, s.inboxKeys(st), args}
}

const (
	markNumber     = 16 // where the number stands among the arguments
	markUnnumbered = uint64(0)
)

// number gives a new mark its number, at its first attempt: those of a stream are in order (lua/mark.lua).
func (s *Store) number(o *op) {
	if o.write.kind() == opMark && o.was == (ackedAs{}) && o.call.args[markNumber] == markUnnumbered {
		o.call.args[markNumber] = s.marks.Add(1)
	}
}

// inboxKeys are the keys of the scripts that write a user's stream.
func (s *Store) inboxKeys(st notify.Stream) []string {
	index, tick := s.keys.ChangeIndex(s.keys.Partition(st))
	return append(s.keys.Inbox(st).All(), index, tick, s.keys.Channel(st))
}

// What a script that writes says of its call; a mark that changed something says how many items.
const (
	codeWritten    = 0
	codeDuplicate  = 1
	codeHeld       = 2 // of a message: made before, and not lost
	codeStaleMark  = -1
	codeHeldMark   = -2
	codeLateMark   = -3  // this program has gone on to another one
	unknownHistory = "?" // of a Redis that does not tell the id of its history
)

// A reply is what a script that writes answers of one write.
type reply struct {
	code      int             // see the constants
	at        notify.Position // the write's, or the stream's last where a mark changed nothing
	history   string          // the id of the history of the Redis that wrote it; "" where it does not tell
	receivers int             // of a message
	unread    int             // of a user's stream, after a message
	us        int64           // Redis' clock when it made a mark
	more      string          // of a mark of a span: the offset at which the next part of it goes on; "": it is done
	rest      []any           // of a mark: the number of unknown ids, those, and those it means otherwise than by their ids
}

// parseMark reads what lua/mark.lua answered.
func parseMark(c *redis.Cmd) (r reply, err error) {
	v, err := slice(c)
	if err != nil {
		return r, err
	}
	const fixed = 6
	if len(v) <= fixed {
		return r, fmt.Errorf("script answered %d values, not more than %d", len(v), fixed)
	}
	r.code, r.rest, r.history, r.more = number(v[0]), v[fixed:], historyOf(v[3]), strings.Clone(text(v[5]))
	r.us, _ = v[4].(int64)
	r.at.Epoch = strings.Clone(text(v[2])) // go-redis reads replies into one shared buffer: what is kept must not keep it
	r.at.Offset, err = parseOffset(v[1])
	return r, err
}

func parseOffset(v any) (uint64, error) {
	o, err := strconv.ParseUint(text(v), 10, 53)
	if err != nil {
		return 0, fmt.Errorf("script answered offset %q: %w", text(v), err)
	}
	return o, nil
}

// historyOf is an id of a history as the scripts answer it, "" where Redis does not tell.
func historyOf(v any) string {
	if h := text(v); h != unknownHistory {
		return strings.Clone(h)
	}
	return ""
}

// ack is the reply to a message.
func (r reply) ack() Ack {
	return Ack{Position: r.at, Duplicate: r.code == codeDuplicate, Receivers: r.receivers, Unread: r.unread}
}

// ids are those that the reply to a mark names: the unknown ones, and those that the mark meant where it named none.
func (r reply) ids() (unknown, meant []string) {
	n := min(max(number(r.rest[0]), 0), len(r.rest)-1)
	return texts(r.rest[1 : 1+n]), texts(r.rest[1+n:])
}

// proof is the position that shows that Redis still has a write. A mark that changed nothing, and is remembered by its items all the same, has
// none of its own: only what came after it shows that.
func (r reply) proof(w *write) notify.Position {
	at := r.at
	if w.kind() == opMark && r.code == 0 {
		at.Offset++
	}
	return at
}

func texts(v []any) (out []string) {
	for _, x := range v {
		out = append(out, strings.Clone(text(x)))
	}
	return out
}
