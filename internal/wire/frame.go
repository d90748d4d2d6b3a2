// Package wire is the client protocol as JSON: the frames of the contract's section 3, in both directions. It knows no
// connection: bytes in, values out. proto/client/vectors pins every frame.
package wire

import (
	"encoding/json"

	"allim/pkg/notify"
)

// A Frame is one that the gateway sends. Type is filled by Encode.
type Frame interface{ frameType() string }

// Welcome is the first frame of a connection, and follows every accepted auth.
type Welcome struct {
	Session   string            `json:"session"`
	User      string            `json:"user,omitempty"` // absent for anonymous connections
	Origin    string            `json:"origin"`
	Ping      int               `json:"ping"`                 // seconds between the gateway's pings
	ExpiresIn *int              `json:"expires_in,omitempty"` // seconds the token is good for
	Badge     *Badge            `json:"badge,omitempty"`
	Topics    map[string]string `json:"topics"` // every topic heard: frames begin after this position
	Recovered []string          `json:"recovered,omitempty"`
}

// Subscribed answers a subscribe.
type Subscribed struct {
	Ref       Ref               `json:"ref,omitempty"`
	Topics    map[string]string `json:"topics"`
	Recovered []string          `json:"recovered,omitempty"`
}

// OK answers a command that has nothing else to say.
type OK struct {
	Ref     Ref      `json:"ref,omitempty"`
	Changed *int     `json:"changed,omitempty"` // of a mark
	Unknown []string `json:"unknown,omitempty"`
	Pos     string   `json:"pos,omitempty"`
}

// Error answers what could not be done.
type Error struct {
	Ref        Ref    `json:"ref,omitempty"`
	Code       string `json:"code"`
	Topic      string `json:"topic,omitempty"`
	Message    string `json:"message"`
	RetryAfter int    `json:"retry_after,omitempty"` // seconds
}

// Pong answers a ping.
type Pong struct {
	Ref Ref `json:"ref,omitempty"`
}

// Expiring says that the token ends in that many seconds.
type Expiring struct {
	In int `json:"in"`
}

// Move asks the client to connect elsewhere in that many milliseconds, and to let go of this connection when the new one is there.
type Move struct {
	AfterMS int `json:"after_ms"`
}

// Degraded says that messages may come late until Restored.
type Degraded struct {
	What string `json:"what"` // DegradedBroker
}

// DegradedBroker is what a Degraded is about: the way from the publishers to this gateway.
const DegradedBroker = "broker"

// Restored ends a Degraded: what came meanwhile was or is being delivered.
type Restored struct{}

// Reset says that what the client holds of a topic cannot be continued.
type Reset struct {
	Topic  string `json:"topic"`
	Pos    string `json:"pos"`
	Reason string `json:"reason"` // ResetGone or ResetLost
}

// Why a topic is reset.
const (
	ResetGone = "history_gone" // the client was away for longer than history reaches, or its position is of no known history
	ResetLost = "history_lost" // Redis lost what it had given
)

// BadgeNow carries counts without an event: after a batch of recovered frames.
type BadgeNow struct {
	Topic string `json:"topic"`
	Badge *Badge `json:"badge"`
}

// Inbox is a page of an inbox: an answer where it has a Ref, else it replaces the list.
type Inbox struct {
	Ref    Ref               `json:"ref,omitempty"`
	Items  []Item            `json:"items"`
	Before string            `json:"before,omitempty"`
	At     map[string]string `json:"at"`
	Badge  *Badge            `json:"badge"`
}

// Preferences are what a user does not want. As an event Message makes them.
type Preferences struct {
	Ref   Ref      `json:"ref,omitempty"`
	Topic string   `json:"topic"`
	Pos   string   `json:"pos"`  // up to which they hold
	Mute  []string `json:"mute"` // categories, sorted; not nil
}

// Item is one notification of an inbox.
type Item struct {
	ID        string          `json:"id"`
	Topic     string          `json:"topic"`
	Pos       string          `json:"pos"`
	Category  string          `json:"category,omitempty"`
	Time      string          `json:"time"`
	ExpiresAt string          `json:"expires_at,omitempty"`
	Data      json.RawMessage `json:"data"`
	Seen      bool            `json:"seen"`
	Read      bool            `json:"read"`
	Archived  bool            `json:"archived"`
}

// Badge is the counts of an inbox.
type Badge struct {
	Unread int            `json:"unread"`
	Unseen int            `json:"unseen"`
	By     map[string]int `json:"by,omitempty"` // unread by category, zeros left out
	Rev    string         `json:"rev"`
}

// Close comes before the end of a stream on transports that have no close code.
type Close struct {
	Code   int    `json:"code"`
	Reason string `json:"reason"`
}

func (*Welcome) frameType() string     { return "welcome" }
func (*Subscribed) frameType() string  { return "subscribed" }
func (*OK) frameType() string          { return "ok" }
func (*Error) frameType() string       { return "error" }
func (*Pong) frameType() string        { return "pong" }
func (*Expiring) frameType() string    { return "expiring" }
func (*Move) frameType() string        { return "move" }
func (*Degraded) frameType() string    { return "degraded" }
func (*Restored) frameType() string    { return "restored" }
func (*Reset) frameType() string       { return "reset" }
func (*BadgeNow) frameType() string    { return "badge" }
func (*Inbox) frameType() string       { return "inbox" }
func (*Close) frameType() string       { return "close" }
func (*Preferences) frameType() string { return "preferences" }

// Ref is what a client put into its frame to know the answer by: a JSON string or number, kept as it came.
type Ref = json.RawMessage

// BadgeOf is the frame form of counts, nil for nil.
func BadgeOf(b *notify.Badge) *Badge {
	if b == nil {
		return nil
	}
	out := &Badge{Unread: b.Unread, Unseen: b.Unseen, Rev: b.Revision.String()}
	for _, c := range b.By {
		if out.By == nil {
			out.By = make(map[string]int, len(b.By))
		}
		out.By[c.Category] = c.Unread
	}
	return out
}

// ItemOf is the frame form of an inbox item.
func ItemOf(i *notify.Item) Item {
	out := Item{ID: i.ID, Topic: string(i.Topic), Pos: i.Position.String(), Category: i.Category, Time: timeText(i.Time),
		Data: i.Data, Seen: i.Seen, Read: i.Read, Archived: i.Archived}
	if !i.ExpiresAt.IsZero() {
		out.ExpiresAt = timeText(i.ExpiresAt)
	}
	return out
}
