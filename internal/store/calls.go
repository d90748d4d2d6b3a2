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
	id       string        // of a message; of an update or a retraction what it names
	category string        // of a notification
	head     string        // of a notification: the item's
	terms    bool          // of a notification: it has some (lua/notice.lua)
	after    int64         // of a notification: it comes into the inbox then, in Unix milliseconds of Redis' clock; 0: at once
	escalate string        // of a notification, as lua/notice.lua reads it
	named    byte          // of an update or a retraction, what id is: see namedItem
	version  string        // of an update; "" for none
	body     []byte        // shared by the streams of one call
	ids      []string      // that a mark names, or categories that are muted
	of       *memberOf     // of a mark: its items are of a segment; nil: of the own stream
}

// writeOf is the write of a message.
func writeOf(m *notify.Message) (*write, error) {
	body, err := keyspace.EncodeBody(m)
	if err != nil {
		return nil, err
	}
	w := &write{change: m.Change, id: m.ID, category: m.Category, body: body}
	if m.Change != notify.ChangeNotification {
		return w, nil
	}
	w.head, w.terms = keyspace.HeadOf(m).String(), !m.Plain()
	if t := m.Terms; t != nil {
		if !t.NotBefore.IsZero() {
			w.after = t.NotBefore.UnixMilli()
		}
		if e := t.Escalate; e != nil {
			unless := "S"
			if e.Unless == notify.ChangeRead {
				unless = "R"
			}
			w.escalate = unless + string(rune(e.Via)) + strconv.FormatInt(e.After.Milliseconds(), 10)
		}
	}
	return w, nil
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
	case notify.ChangeUpdate:
		return opUpdate
	case notify.ChangeRetract:
		return opRetract
	case notify.ChangePreferences:
		return opPreferences
	}
	return opMark
}

// single tells whether a write has a call of its own: it changes what is there.
func (w *write) single() bool {
	k := w.kind()
	return k != opPublish && k != opNotify && k != opEphemeral
}

// An ackedAs says of a write that is made again how it was acknowledged before. The zero value is of a new one.
type ackedAs struct {
	at      notify.Position // the last time (reply.proof): where Redis has that, nothing is lost
	first   notify.Position // of changes of one item, and of items with one collapse key, the one that was acknowledged later wins
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
	told := s.keys.Backend(s.keys.Partition(st), st.Tenant)
	return call{script: markScript, keys: append(s.termKeys(st), told.Events, told.Meta), args: args, fence: markNumber}
}

const (
	markNumber     = 16 // where the number of a new mark, or another change, stands among its arguments
	markUnnumbered = uint64(0)
)

// number gives a new change its number, at its first attempt: those of a stream are in order (lua/fence.lua).
func (s *Store) number(o *op) {
	if at := o.call.fence; at > 0 && o.was == (ackedAs{}) && o.call.args[at] == markUnnumbered {
		o.call.args[at] = s.marks.Add(1)
	}
}

// inboxKeys are the keys of lua/notify.lua.
func (s *Store) inboxKeys(st notify.Stream) []string {
	index, tick := s.keys.ChangeIndex(s.keys.Partition(st))
	return append(s.keys.Inbox(st).All(), index, tick, s.keys.Channel(st))
}

// termKeys are the keys of the other scripts that write a user's stream, and of all that write a segment.
func (s *Store) termKeys(st notify.Stream) []string {
	part := s.keys.Partition(st)
	index, tick := s.keys.ChangeIndex(part)
	return append(s.allKeys(st), index, tick, s.keys.Channel(st), s.keys.Due(part))
}

// What a script that writes says of its call; a mark that changed something says how many items.
const (
	codeWritten    = 0
	codeDuplicate  = 1
	codeHeld       = 2 // but of a mark: made before, and not lost
	codePast       = 3 // of a notification: it would have expired
	codeMuted      = 4
	codeScheduled  = 5
	codeMissing    = 6  // of an update or a retraction: there is no such item
	codeOlder      = 7  // of an update: the item has a newer version
	codeCancelled  = 8  // of a retraction: what had not come yet does not come; there is no event
	codeTerms      = 9  // of a message: its stream has terms, nothing was written
	codeWaits      = 10 // of a notification: it was scheduled before, and waits
	codeUnchanged  = 1  // of an update, a retraction or preferences: nothing to do
	codeStaleMark  = -1
	codeHeldMark   = -2
	codeLateMark   = -3  // this program has gone on to another one
	codeMovedMark  = -4  // of items of a segment: another mark came between
	unknownHistory = "?" // of a Redis that does not tell the id of its history
)

// A reply is what a script that writes answers of one write.
type reply struct {
	code      int             // see the constants
	at        notify.Position // the write's, or the stream's last where a mark changed nothing
	history   string          // the id of the history of the Redis that wrote it; "" where it does not tell
	receivers int             // of a message
	unread    int             // of a user's stream, after a message
	us        int64           // Redis' clock when it was made
	more      string          // of a mark of a span: the offset at which the next part of it goes on; "": it is done
	id        string          // of an update or a retraction: the item
	rest      []any           // of a mark: the number of unknown ids, those, and those it means where it names none, or another's
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

// parseChange reads what lua/change.lua and lua/prefs.lua answered.
func parseChange(c *redis.Cmd) (r reply, err error) {
	v, err := replyOf(c, 5)
	if err != nil {
		return r, err
	}
	r.code, r.history, r.at.Epoch = number(v[0]), historyOf(v[3]), strings.Clone(text(v[2])) // see parseMark
	r.us, _ = v[4].(int64)
	if len(v) > 5 {
		r.id = strings.Clone(text(v[5]))
	}
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
	a := Ack{Position: r.at, Duplicate: r.code == codeDuplicate || r.code == codeWaits, Muted: r.code == codeMuted, Scheduled: r.code == codeScheduled || r.code == codeWaits,
		Receivers: r.receivers, Unread: r.unread}
	if a.Muted || a.Scheduled || r.at.Offset == 0 {
		a.Position = notify.Position{}
	}
	return a
}

// result is what the caller of a message hears; short is why it did not reach its level.
func (r reply) result(short error) Result {
	if r.code == codePast {
		return Result{Err: fmt.Errorf("expires_at: %w", notify.ErrPast)}
	}
	return Result{Ack: r.ack(), Err: short}
}

// ids are those that the reply to a mark names: the unknown ones, and those that the mark meant where it named none.
func (r reply) ids() (unknown, meant []string) {
	n := min(max(number(r.rest[0]), 0), len(r.rest)-1)
	return texts(r.rest[1 : 1+n]), texts(r.rest[1+n:])
}

// proof is the position that shows that Redis still has a write. What made no event, a mark that changed nothing, and is remembered by its items all the
// same, or a notification that waits for its time, has none of its own: only what came after it shows that.
func (r reply) proof(w *write) notify.Position {
	at, quiet := r.at, r.code == codeScheduled || r.code == codeWaits
	switch w.kind() {
	case opMark:
		quiet = r.code == 0
	case opUpdate, opRetract, opPreferences:
		quiet = r.code != codeWritten
	}
	if quiet {
		at.Offset++
	}
	return at
}

// acknowledged tells whether something of a write is in Redis that can be lost.
func (r reply) acknowledged(w *write) bool {
	switch r.code {
	case codePast, codeMuted, codeMissing, codeOlder, codeTerms:
		if w.kind() != opMark { // of which it is how many items changed
			return false
		}
	}
	if k := w.kind(); (k == opUpdate || k == opRetract) && r.id == "" { // a collapse key of nothing
		return false
	}
	return r.history != "" && r.code >= 0 && r.at.Epoch != "" // there is no stream, and nothing was made of it
}

func texts(v []any) (out []string) {
	for _, x := range v {
		out = append(out, strings.Clone(text(x)))
	}
	return out
}
