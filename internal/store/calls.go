package store

import (
	"fmt"
	"strconv"
	"strings"

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

// callOf is the script call of a write.
func (s *Store) callOf(st notify.Stream, w *write, was ackedAs) call {
	switch {
	case w.kind() == opMark:
		return s.markCall(st, w, "ids", notify.Position{}, was)
	case st.Topic.Kind() == notify.KindUser:
		return s.appendUser(st, w, was)
	}
	return s.appendEvent(st, w, was)
}

func (s *Store) appendEvent(st notify.Stream, w *write, was ackedAs) call {
	k, p := s.keys.Event(st), s.keys.Partition(st)
	index, tick := s.keys.ChangeIndex(p)
	h := s.history(st.Topic)
	return call{publishScript, append(k.All(), index, tick, s.keys.Channel(st)), []any{
		w.id, w.body, newEpoch(), h.Size, dedupeIDs, h.TTL.Milliseconds(), metaLife(h).Milliseconds(), s.publishCmd, keyspace.Member(st),
		was.at.Epoch, was.at.Offset}}
}

func (s *Store) appendUser(st notify.Stream, w *write, was ackedAs) call {
	head := ""
	if w.change == notify.ChangeNotification {
		head = keyspace.EncodeHead(w.category)
	}
	return call{notifyScript, s.inboxKeys(st), []any{
		w.id, w.body, newEpoch(), inboxEvents, max(dedupeIDs, s.inbox.Size), s.inbox.Retention.Milliseconds(), s.publishCmd, keyspace.Member(st),
		string(rune(w.change)), head, w.category, s.inbox.Size, was.at.Epoch, was.at.Offset}}
}

// markCall is the call of a mark of its ids, of everything up to a position, or of all.
func (s *Store) markCall(st notify.Stream, w *write, how string, upto notify.Position, was ackedAs) call {
	args := make([]any, 0, 17+len(w.ids))
	args = append(args, string(rune(w.change)), how, upto.Epoch, upto.Offset, w.body, newEpoch(), inboxEvents,
		s.inbox.Retention.Milliseconds(), s.publishCmd, keyspace.Member(st), was.at.Epoch, was.at.Offset, was.first.Epoch, was.first.Offset, was.firstUS,
		s.program, markUnnumbered)
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

// A reply is what every script that writes answers.
type reply struct {
	code    int             // see the constants
	at      notify.Position // the call's, or the stream's last where a mark changed nothing
	history string          // the id of the history of the Redis that wrote it; "" where it does not tell
	rest    []any           // receivers, and unread of a user's stream; of a mark Redis' clock in Unix us, the number of unknown ids, those, and those it means otherwise than by their ids
}

// parseReply reads the values that a script answered.
func parseReply(v []any) (r reply, err error) {
	const fixed = 4
	if len(v) <= fixed {
		return r, fmt.Errorf("script answered %d values, not more than %d", len(v), fixed)
	}
	r.code, r.rest = number(v[0]), v[fixed:]
	// go-redis reads replies into one shared buffer: what is kept must not keep it
	r.at.Epoch = strings.Clone(text(v[2]))
	if r.at.Offset, err = strconv.ParseUint(text(v[1]), 10, 53); err != nil {
		return r, fmt.Errorf("script answered offset %q: %w", text(v[1]), err)
	}
	if h := text(v[3]); h != unknownHistory {
		r.history = strings.Clone(h)
	}
	return r, nil
}

// ack is the reply to an append.
func (r reply) ack() Ack {
	a := Ack{Position: r.at, Duplicate: r.code == codeDuplicate, Receivers: number(r.rest[0])}
	if len(r.rest) > 1 {
		a.Unread = number(r.rest[1])
	}
	return a
}

// ids are those that the reply to a mark names: the unknown ones, and those that the mark meant where it named none.
func (r reply) ids() (unknown, meant []string) {
	rest := r.rest[1:]
	n := min(max(number(rest[0]), 0), len(rest)-1)
	return texts(rest[1 : 1+n]), texts(rest[1+n:])
}

// us is Redis' clock when it made a mark.
func (r reply) us() int64 {
	us, _ := r.rest[0].(int64)
	return us
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
