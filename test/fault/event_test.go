package fault

import "time"

// What happened, in an event of the log.
const (
	invoked = "invoked" // a caller or reader begins an operation
	tried   = "tried"   // an attempt ended without an answer that says what became of it
	acked   = "acked"   // it was acknowledged
	missing = "missing" // a mark: what it is about is not there, and nobody can say what became of that
	refused = "refused" // an answer that no retry would better: a fault of the harness, or of ours

	sent   = "sent"   // an ephemeral message was tried, once
	passed = "passed" // it came to a reader, whose connection it counts on

	connected = "connected" // a reader's connection was welcomed
	begins    = "begins"    // a stream begins on a connection after Pos
	got       = "got"       // a frame that moves a position
	listed    = "listed"    // an inbox frame without ref: it replaces the list
	reset     = "reset"     //
	closed    = "closed"    // a connection ended, with Code
	told      = "told"      // any other frame of interest: Kind is its type
	turned    = "turned"    // an upgrade was refused, with Code

	faultOn  = "fault"  // Text says which
	faultOff = "healed" //
	killed   = "killed" // the process Pod, by kill -9
	kept     = "kept"   // Redis has lost everything of Stream after Pos

	history  = "history"  // the truth at the end: all that stands in the history of Stream
	inbox    = "inbox"    // the whole inbox of Stream, with the server's counts
	holds    = "holds"    // the counts that a reader shows
	measured = "measured" // Pod before the faults, or after them: Kind
	endless  = "endless"  // a key of Redis, Text, would stay forever
	slack    = "slack"    // what the machine itself was late by: the worst of the last second
)

// An Event is one line of the log. Fields that a kind does not have are zero.
type Event struct {
	At     time.Duration `json:"at"` // since the log began, of a monotonic clock
	What   string        `json:"what"`
	Op     int           `json:"op,omitempty"`
	Kind   string        `json:"kind,omitempty"`   // of an operation: publish, notify, or a mark
	Stream string        `json:"stream,omitempty"` // tenant and topic
	ID     string        `json:"id,omitempty"`
	Pos    string        `json:"pos,omitempty"`
	Pod    string        `json:"pod,omitempty"`
	Reader string        `json:"reader,omitempty"`
	Conn   int           `json:"conn,omitempty"`
	Code   int           `json:"code,omitempty"`
	Owner  string        `json:"owner,omitempty"` // the stream that the payload names

	Shown     bool `json:"shown,omitempty"` // the reader's own rules let it through to a person
	Replayed  bool `json:"replayed,omitempty"`
	Recovered bool `json:"recovered,omitempty"`
	Duplicate bool `json:"duplicate,omitempty"`

	Items  []Item `json:"items,omitempty"`
	Unread int    `json:"unread,omitempty"`
	Unseen int    `json:"unseen,omitempty"`

	Goroutines  int   `json:"goroutines,omitempty"`
	Descriptors int   `json:"descriptors,omitempty"` // besides the connections of pools
	Bytes       int64 `json:"bytes,omitempty"`       // resident

	Text string `json:"text,omitempty"`
}

// An Item is one entry of an inbox or of a history.
type Item struct {
	ID       string `json:"id"`
	Seen     bool   `json:"seen,omitempty"`
	Read     bool   `json:"read,omitempty"`
	Archived bool   `json:"archived,omitempty"`
	Replayed bool   `json:"replayed,omitempty"`
}
