package notify

import (
	"encoding/json"
	"fmt"
	"time"
	"unicode/utf8"
)

// A Change says what happened at one position of a stream.
type Change byte

// The changes, by the letter that stands for them in Redis.
const (
	ChangeMessage      Change = 'm' // a message: an event on a topic or in a user's stream
	ChangeEphemeral    Change = 'e' // a message without a position; lives only on the channel
	ChangeNotification Change = 'n' // a new item in an inbox
	ChangeSeen         Change = 's' // marks of inbox items, by ids
	ChangeRead         Change = 'r'
	ChangeUnread       Change = 'u'
	ChangeArchive      Change = 'a'
	ChangeUnarchive    Change = 'v'
	ChangeDelete       Change = 'd'
	ChangeUpdate       Change = 'p' // an item has other data
	ChangeRetract      Change = 't' // an item was taken back by its publisher
	ChangeExpire       Change = 'x' // an item's time was over
	ChangePreferences  Change = 'f' // the user wants, or does not want, categories
	ChangeUnknown      Change = '?' // of a later build: it has a place, and counts; nothing else of it is known here
)

// Marks names the changes that a mark makes, as clients spell the commands.
var Marks = map[string]Change{
	"seen": ChangeSeen, "read": ChangeRead, "unread": ChangeUnread,
	"archive": ChangeArchive, "unarchive": ChangeUnarchive, "delete": ChangeDelete,
}

// MarkName is the command that makes the change c, "" where c is no mark.
func MarkName(c Change) string {
	for name, change := range Marks {
		if change == c {
			return name
		}
	}
	return ""
}

// A Message is one change of a stream, as Redis holds it and every gateway hands it on. Its fields are read-only once it
// left keyspace: receivers share it.
type Message struct {
	Change    Change
	Position  Position  // zero for ephemeral messages
	ID        string    // the publisher's idempotency key; of an update, a retraction and an expiry the item's. Empty for marks and preferences
	IDs       []string  // of a mark the items it changed, of preferences the muted categories
	Replaces  string    // of a notification: the item that it takes the place of (collapse); "" where there is none
	Event     string    // of a message
	Category  string    // of a notification
	Time      time.Time // when the publisher accepted it; millisecond precision
	ExpiresAt time.Time // zero: never
	Origin    string    // the page that caused it; "" where none was named. Never leaves the gateway
	Data      []byte    // one JSON value, compact, UTF-8; nil for marks
	Replayed  bool      // comes again, later than its place, after a Redis that lost it
	Segments  bool      // of a mark in a user's stream: it changed the user's state of items in segments, too
	Badge     *Badge    // of a user's stream: the counts at Position. nil for other kinds, and in history
	Terms     *Terms    // of a notification; nil: it has none, as most. Who reads one from Redis finds Mandatory alone
}

// Plain tells whether m is kept and shown with nothing else to be done: no terms, no end.
func (m *Message) Plain() bool { return m.Terms == nil && m.ExpiresAt.IsZero() }

// Terms are what is to be done with a notification besides keeping and showing it. Each zero is "not".
type Terms struct {
	Collapse  string    // key: it replaces the item that came with the same one
	NotBefore time.Time // it comes into the inbox then; millisecond precision
	Mandatory bool      // whoever muted its category gets it all the same
	Escalate  *Escalate // nil: nobody else is told
}

// An Escalate says who else is told of a notification that no device showed in time.
type Escalate struct {
	Unless Change        // ChangeSeen or ChangeRead: what makes it needless
	After  time.Duration // from its coming into the inbox; whole milliseconds
	Via    Via
}

// A Via is how somebody is told who is not looking.
type Via byte

// The ways, by the letter that stands for them in Redis.
const (
	ViaWebhook Via = 'W' // the tenant's webhook
	ViaWebPush Via = 'P' // the user's browsers
)

// A Badge is what an application shows on its bell: absolute counts of the active items of an inbox.
type Badge struct {
	Unread   int
	Unseen   int
	By       []CategoryCount // unread by category, sorted by name, zeros left out
	Revision Position        // of the user's stream, up to which it counts
}

// A CategoryCount is one category's part of a Badge.
type CategoryCount struct {
	Category string
	Unread   int
}

// An Item is one notification of an inbox with its state.
type Item struct {
	Topic     Topic
	Position  Position // of its notification, in the current epoch
	ID        string
	Category  string
	Time      time.Time
	ExpiresAt time.Time
	Data      []byte
	Seen      bool
	Read      bool
	Archived  bool
}

// CheckID checks an idempotency key: 1–64 bytes of printable ASCII without space and comma.
func CheckID(id string) error {
	ok := id != "" && len(id) <= MaxID
	for i := range len(id) {
		c := id[i]
		ok = ok && c >= 0x21 && c <= 0x7e && c != ','
	}
	if !ok {
		return invalid("id", "1 to %d printable ASCII characters without space and comma", MaxID)
	}
	return nil
}

// CheckCategory checks a notification's category: "" or 1–32 of a–z 0–9 _ . -
func CheckCategory(c string) error {
	ok := len(c) <= MaxCategory
	for i := range len(c) {
		b := c[i]
		ok = ok && (b >= 'a' && b <= 'z' || b >= '0' && b <= '9' || b == '_' || b == '.' || b == '-')
	}
	if !ok {
		return invalid("category", "1 to %d of a-z 0-9 _ . -", MaxCategory)
	}
	return nil
}

// CheckMute checks the categories that a user does not want: at most 100, none of them "".
func CheckMute(categories []string) error {
	if len(categories) > MaxMute {
		return invalid("mute", "at most %d categories, not %d", MaxMute, len(categories))
	}
	for i, c := range categories {
		if c == "" || CheckCategory(c) != nil {
			return invalid(fmt.Sprintf("mute[%d]", i), "1 to %d of a-z 0-9 _ . -", MaxCategory)
		}
	}
	return nil
}

// CheckCollapse checks a collapse key: "" or what an id may be.
func CheckCollapse(key string) error {
	if key != "" && CheckID(key) != nil {
		return invalid("collapse_key", "1 to %d printable ASCII characters without space and comma", MaxID)
	}
	return nil
}

// CheckOrigin checks a page's own secret: "" or 16–32 of A–Z a–z 0–9 _ -
func CheckOrigin(o string) error {
	ok := o == "" || len(o) >= 16 && len(o) <= 32
	for i := range len(o) {
		b := o[i]
		ok = ok && (b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9' || b == '_' || b == '-')
	}
	if !ok {
		return invalid("origin", "16 to 32 of A-Z a-z 0-9 _ -")
	}
	return nil
}

// Reserved event names: the frame types of the client protocol, and Socket.IO's own.
var reserved = map[string]bool{
	"welcome": true, "message": true, "notification": true, "badge": true, "update": true, "retract": true, "inbox": true,
	"preferences": true, "refresh": true, "state": true, "reset": true, "subscribed": true, "ok": true, "error": true,
	"pong": true, "expiring": true, "move": true, "degraded": true, "restored": true, "close": true,
	"auth": true, "subscribe": true, "unsubscribe": true, "seen": true, "read": true, "unread": true, "archive": true,
	"unarchive": true, "delete": true, "send": true, "visible": true, "ping": true,
	"connect": true, "connect_error": true, "disconnect": true, "disconnecting": true, "newListener": true, "removeListener": true,
}

// CheckEvent checks the event name of a publication: "" or 1–128 bytes of UTF-8 without control characters, not a frame
// type, not Socket.IO's, not beginning with "allim:".
func CheckEvent(e string) error {
	if len(e) > MaxEvent || !utf8.ValidString(e) {
		return invalid("event", "1 to %d bytes of UTF-8", MaxEvent)
	}
	for _, r := range e {
		if r < 0x20 || r >= 0x7f && r < 0xa0 {
			return invalid("event", "no control characters")
		}
	}
	if reserved[e] || len(e) >= 6 && e[:6] == "allim:" {
		return invalid("event", "a name of your own: %q is reserved", e)
	}
	return nil
}

// MaxDepth is how deep JSON data may nest.
const MaxDepth = 32

// CheckData checks that data is one JSON value in UTF-8 of at most limit bytes, nested at most 32 deep.
func CheckData(data []byte, limit int) error {
	if len(data) > limit {
		return &FieldError{Field: "data", Want: sizeWant(limit, len(data)), Kind: ErrTooLarge}
	}
	if !utf8.Valid(data) {
		return invalid("data", "UTF-8")
	}
	if !json.Valid(data) {
		return invalid("data", "one JSON value")
	}
	if depth(data) > MaxDepth {
		return invalid("data", "JSON nested at most %d deep", MaxDepth)
	}
	return nil
}

func depth(data []byte) int {
	deep, most, str := 0, 0, false
	for i := 0; i < len(data); i++ {
		switch c := data[i]; {
		case str && c == '\\':
			i++
		case c == '"':
			str = !str
		case !str && (c == '{' || c == '['):
			deep++
			most = max(most, deep)
		case !str && (c == '}' || c == ']'):
			deep--
		}
	}
	return most
}
