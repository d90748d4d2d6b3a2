// Package notify holds the nouns of Allim: topics, messages, positions, badges, and the rules their names obey. It does no
// I/O and imports nothing of ours; every other room speaks in its words.
package notify

import (
	"encoding/base64"
	"strings"
	"unicode/utf8"
)

// Bounds of names, in bytes (contract, sections 1 and 3).
const (
	MaxTopic    = 255
	MaxUser     = 180
	MaxSegment  = 64
	MaxTenant   = 32
	MaxEvent    = 128
	MaxCategory = 32
	MaxID       = 64
)

// MaxMute is how many categories a user can mute.
const MaxMute = 100

// DefaultTenant is the tenant of credentials that name none.
const DefaultTenant = "default"

// All is the segment of every user, without being named.
const All = "all"

// Me is the alias by which a client names its own stream. It is no topic: a publisher cannot use it.
const Me = "me"

// A Kind says what a topic is. It follows from the topic's name alone.
type Kind byte

// The kinds, by the letter that stands for them in Redis keys.
const (
	KindEvent   Kind = 'h' // history: any name without one of the prefixes below
	KindUser    Kind = 'i' // inbox: user:<sub>
	KindSegment Kind = 'g' // group: segment:<name>
	KindPage    Kind = 'r' // refresh: page:<path>
)

const (
	userPrefix    = "user:"
	segmentPrefix = "segment:"
	pagePrefix    = "page:"
)

// A Topic is the canonical name of a stream that many may listen to. The zero value is not a topic.
type Topic string

// A Stream is a topic of one tenant: what Redis keys, subscriptions and order belong to.
type Stream struct {
	Tenant string
	Topic  Topic
}

// ParseTopic checks a name: 1–255 bytes of A–Z a–z 0–9 . _ ~ / : @ = + , - and, behind a reserved prefix, the form of its
// kind. It accepts one canonical form only, so that one stream cannot have two names.
func ParseTopic(name string) (Topic, error) {
	if name == "" || len(name) > MaxTopic {
		return "", invalid("topic", "1 to %d bytes, not %d", MaxTopic, len(name))
	}
	for i := range len(name) {
		if !topicByte(name[i]) {
			return "", invalid("topic", "only A-Z a-z 0-9 . _ ~ / : @ = + , - (byte %d is %q)", i+1, name[i:i+1])
		}
	}
	t := Topic(name)
	switch rest := t.Name(); t.Kind() {
	case KindUser:
		sub, ok := decodeUser(rest)
		if !ok || encodeUser(sub) != rest {
			return "", invalid("topic", "user:<id> with the id as it stands, or ~ and base64url where it has other characters than A-Z a-z 0-9 . _ @ + -")
		}
	case KindSegment:
		if CheckSegment(rest) != nil {
			return "", invalid("topic", "segment:<name> with 1 to %d of A-Z a-z 0-9 . _ -", MaxSegment)
		}
	case KindPage:
		if rest == "" {
			return "", invalid("topic", "page:<path> with a path")
		}
	case KindEvent:
		if name == Me {
			return "", invalid("topic", "a name: %q is the alias by which a client names its own stream", Me)
		}
	}
	return t, nil
}

func topicByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("._~/:@=+,-", c) >= 0
}

// Kind says what t is.
func (t Topic) Kind() Kind {
	switch s := string(t); {
	case strings.HasPrefix(s, userPrefix):
		return KindUser
	case strings.HasPrefix(s, segmentPrefix):
		return KindSegment
	case strings.HasPrefix(s, pagePrefix):
		return KindPage
	}
	return KindEvent
}

// Name is t without the prefix of its kind: what stands in Redis keys.
func (t Topic) Name() string {
	switch t.Kind() {
	case KindUser:
		return string(t[len(userPrefix):])
	case KindSegment:
		return string(t[len(segmentPrefix):])
	case KindPage:
		return string(t[len(pagePrefix):])
	}
	return string(t)
}

// TopicOf is the topic of a kind with the given Name: the inverse of Kind and Name.
func TopicOf(k Kind, name string) Topic {
	switch k {
	case KindUser:
		return Topic(userPrefix + name)
	case KindSegment:
		return Topic(segmentPrefix + name)
	case KindPage:
		return Topic(pagePrefix + name)
	}
	return Topic(name)
}

// UserTopic is the stream of a user, given the sub of a token or the user of a call: 1–180 bytes of UTF-8. A user outside
// [A-Za-z0-9._@+-], or that starts with ~, stands as ~ and base64url in it.
func UserTopic(user string) (Topic, error) {
	if err := CheckUser(user); err != nil {
		return "", err
	}
	return Topic(userPrefix + encodeUser(user)), nil
}

// User is the user whose stream t is, in the original spelling; ok is false for other kinds.
func (t Topic) User() (user string, ok bool) {
	if t.Kind() != KindUser {
		return "", false
	}
	return decodeUser(t.Name())
}

func encodeUser(user string) string {
	if !plainUser(user) {
		return "~" + base64.RawURLEncoding.EncodeToString([]byte(user))
	}
	return user
}

func decodeUser(name string) (string, bool) {
	b64, ok := strings.CutPrefix(name, "~")
	if !ok {
		return name, plainUser(name) && len(name) <= MaxUser
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(b64)
	return string(b), err == nil && CheckUser(string(b)) == nil
}

func plainUser(user string) bool {
	for i := range len(user) {
		c := user[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("._@+-", c) >= 0) {
			return false
		}
	}
	return user != ""
}

// CheckUser checks a user's name: 1–180 bytes of UTF-8.
func CheckUser(user string) error {
	if user == "" || len(user) > MaxUser || !utf8.ValidString(user) {
		return invalid("user", "1 to %d bytes of UTF-8", MaxUser)
	}
	return nil
}

// CheckSegment checks a segment's name: 1–64 of A–Z a–z 0–9 . _ -
func CheckSegment(name string) error {
	for i := range len(name) {
		if c := name[i]; !topicByte(c) || strings.IndexByte("~/:@=+,", c) >= 0 {
			return invalid("segment", "1 to %d of A-Z a-z 0-9 . _ -", MaxSegment)
		}
	}
	if name == "" || len(name) > MaxSegment {
		return invalid("segment", "1 to %d of A-Z a-z 0-9 . _ -", MaxSegment)
	}
	return nil
}

// CheckTenant checks a tenant's name: 1–32 of a–z 0–9 -
func CheckTenant(name string) error {
	ok := name != "" && len(name) <= MaxTenant
	for i := range len(name) {
		c := name[i]
		ok = ok && (c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-')
	}
	if !ok {
		return invalid("tenant", "1 to %d of a-z 0-9 -", MaxTenant)
	}
	return nil
}

// A Pattern names topics: exactly, or all that begin with what stands before a final *.
type Pattern string

// ParsePattern checks a pattern: a topic's characters, with at most one *, at the end.
func ParsePattern(s string) (Pattern, error) {
	body := strings.TrimSuffix(s, "*")
	if s == "" || len(s) > MaxTopic {
		return "", invalid("pattern", "1 to %d bytes", MaxTopic)
	}
	for i := range len(body) {
		if !topicByte(body[i]) {
			return "", invalid("pattern", "a topic, or a prefix that ends in * (byte %d is %q)", i+1, body[i:i+1])
		}
	}
	return Pattern(s), nil
}

// Match tells whether p names the topic or name s.
func (p Pattern) Match(s string) bool {
	if prefix, ok := strings.CutSuffix(string(p), "*"); ok {
		return strings.HasPrefix(s, prefix)
	}
	return string(p) == s
}
