package notify

import "time"

// An EventType says what an Event is: a letter, as Redis has it.
type EventType byte

// The types.
const (
	EventOnline  EventType = 'n' // a user who was not there is
	EventOffline EventType = 'f' // a user is not there any more
	EventSent    EventType = 'c' // a client's message; nobody writes it yet
	EventSeen    EventType = 's'
	EventRead    EventType = 'r'
	EventGap     EventType = 'g' // others are missing, or may be
)

// An Event is what backends are told of what their users do.
type Event struct {
	ID     string // of this one in its tenant; acknowledgements name it
	Type   EventType
	Time   time.Time // by Redis' clock
	Topic  Topic     // the user's stream; "" of a gap
	Origin string    // of the page that caused it, where one did
	IDs    []string  // of notifications that were seen or read, at most 500
	From   time.Time // of a gap: what is missing is not older
	To     time.Time // and not younger
}

// MaxGroup is the most bytes of the name of a group of watchers.
const MaxGroup = 32

// CheckGroup checks the name of a group of watchers; "" is a listener of its own.
func CheckGroup(group string) error {
	ok := len(group) <= MaxGroup
	for i := range len(group) {
		c := group[i]
		ok = ok && (c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-')
	}
	if !ok {
		return invalid("group", "up to %d of a-z 0-9 -", MaxGroup)
	}
	return nil
}
