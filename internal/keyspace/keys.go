// Package keyspace is the map of our Redis: every key, channel, hash tag and byte format (schema 2, see
// docs/architecture.md). It names, it does not call.
package keyspace

import (
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"

	"allim/pkg/notify"
)

// Schema is the version of keys and bytes; it stands first in every pub/sub payload and in every meta hash.
const Schema = 2

// SchemaKey is the one key without a partition: a hash of "schema" and "partitions", written once, checked at every start.
const SchemaKey = "al:schema"

// DefaultPartitions is how many partitions a new deployment gets. The number is fixed for the life of its Redis.
const DefaultPartitions = 128

// MaxPartitions is how many partitions there can be.
const MaxPartitions = 1024

// A Map places streams in Redis. It is immutable and safe for concurrent use.
type Map struct {
	tags []string // by partition, without braces
}

// NewMap makes the map of a deployment with that many partitions; 0 means DefaultPartitions.
func NewMap(partitions int) (*Map, error) {
	if partitions == 0 {
		partitions = DefaultPartitions
	}
	if partitions < 1 || partitions > MaxPartitions {
		return nil, &notify.FieldError{Field: "partitions", Want: fmt.Sprintf("1 to %d", MaxPartitions)}
	}
	return &Map{tags: tags(partitions)}, nil
}

// tags finds for each partition the smallest number whose cluster slot stands in the middle of that partition's share of the
// slots. Bare indexes collide and cluster on few nodes; slots at equal distances spread evenly over any number of nodes.
func tags(partitions int) []string {
	want := make(map[uint16]int, partitions)
	for p := range partitions {
		want[uint16((2*p+1)*slots/(2*partitions))] = p
	}
	t := make([]string, partitions)
	for i := 0; len(want) > 0; i++ {
		tag := strconv.Itoa(i)
		if p, ok := want[Slot(tag)]; ok {
			t[p] = tag
			delete(want, Slot(tag))
		}
	}
	return t
}

const slots = 16384

// Slot is the cluster slot of a hash tag.
func Slot(tag string) uint16 { return crc16(tag) % slots }

// crc16 is the CRC-16/XMODEM that Redis Cluster assigns slots by (Redis Cluster specification, appendix A).
func crc16(s string) uint16 {
	var crc uint16
	for i := range len(s) {
		crc ^= uint16(s[i]) << 8
		for range 8 {
			if crc&0x8000 != 0 {
				crc = crc<<1 ^ 0x1021
			} else {
				crc <<= 1
			}
		}
	}
	return crc
}

// Partitions is how many partitions there are.
func (m *Map) Partitions() int { return len(m.tags) }

// Partition is the one that s lives in.
func (m *Map) Partition(s notify.Stream) int {
	h := fnv.New64a()
	h.Write([]byte(s.Tenant))
	h.Write([]byte{0, byte(s.Topic.Kind()), 0})
	h.Write([]byte(s.Topic.Name()))
	return jump(h.Sum64(), len(m.tags))
}

// jump is the consistent hash of Lamping and Veach (arXiv:1406.2294): key to one of n buckets.
func jump(key uint64, n int) int {
	b, j := int64(-1), int64(0)
	for j < int64(n) {
		b = j
		key = key*2862933555777941757 + 1
		j = int64(float64(b+1) * (float64(int64(1)<<31) / float64((key>>33)+1)))
	}
	return int(b)
}

// prefix is "al:{tag}:<tenant>:<kind>:<name>": the channel of a stream, and what its keys begin with.
func (m *Map) prefix(s notify.Stream) string { return m.base(m.Partition(s)) + Member(s) }

// Member names a stream inside its partition: <tenant>:<kind>:<name>. The change index holds it.
func Member(s notify.Stream) string {
	return s.Tenant + ":" + string(rune(s.Topic.Kind())) + ":" + s.Topic.Name()
}

// ParseMember reads what Member made. ok is false for anything else.
func ParseMember(text string) (s notify.Stream, ok bool) {
	tenant, rest, ok := strings.Cut(text, ":")
	if !ok || len(rest) < 3 || rest[1] != ':' || notify.CheckTenant(tenant) != nil {
		return s, false
	}
	topic, err := notify.ParseTopic(string(notify.TopicOf(notify.Kind(rest[0]), rest[2:])))
	s = notify.Stream{Tenant: tenant, Topic: topic}
	return s, err == nil && Member(s) == text
}

func (m *Map) base(p int) string { return "al:{" + m.tags[p] + "}:" }

// Channel is the pub/sub channel of a stream.
func (m *Map) Channel(s notify.Stream) string { return m.prefix(s) }

// ParseChannel is the stream whose channel ch is. ok is false for every string that Channel does not make.
func (m *Map) ParseChannel(ch string) (s notify.Stream, ok bool) {
	rest, ok := strings.CutPrefix(ch, "al:{")
	if !ok {
		return s, false
	}
	_, rest, _ = strings.Cut(rest, "}:")
	s, ok = ParseMember(rest)
	return s, ok && m.Channel(s) == ch
}

// Probe is the channel on which a gateway hears its own probes of a partition.
func (m *Map) Probe(p int, gateway string) string { return m.base(p) + "probe:" + gateway }

// ChangeIndex names the sorted set of streams of a partition by the tick of their last write, and the last tick.
func (m *Map) ChangeIndex(p int) (index, tick string) { return m.base(p) + "chg", m.base(p) + "chgn" }

// Due names the sorted set of a partition of what has a deadline: Member of a stream to the earliest of its TermKeys.Deadlines.
func (m *Map) Due(p int) string { return m.base(p) + "due" }

// EventKeys are the keys of an event topic.
type EventKeys struct {
	Meta   string // HASH v schema, e epoch, s top offset, r history id, b birth, p base list, l lives until
	Events string // STREAM id=<offset>-0; k change, i ids, d body: the history
	Dedupe string // ZSET id to offset, the newest ids; of a user's stream without its items
}

// Event names the keys of an event topic.
func (m *Map) Event(s notify.Stream) EventKeys {
	p := m.prefix(s)
	return EventKeys{Meta: p + ":m", Events: p + ":e", Dedupe: p + ":x"}
}

// TermKeys are those of a stream whose notifications have terms; they are not there where none has.
type TermKeys struct {
	Deadlines string // ZSET <what>\0<id> to ms of Redis' clock; what is x: it expires, s: it comes, or w: somebody else is told (of a user's alone)
	Collapse  string // HASH k\0<collapse key> to "<id> <epoch>.<offset>.<Redis' us>" of its first acknowledgement; l\0<id of a replaced item> to collapse key; s\0<id> to a scheduled one: head, \0, body
}

// InboxKeys are the keys of a user's stream and inbox. Counts are sizes of sets: nothing can drift. The meta has three fields more than an event topic's:
// m the last marks, f muted categories as ",a,b,", and o "1" while there are TermKeys or f.
type InboxKeys struct {
	EventKeys
	Index      string // ZSET id to offset: every item
	Items      string // HASH id to head, id\0 to body, id\0u to the body of the last update, id\0w to how far an escalation is
	Unread     string // ZSET id to offset: unread items, archived ones too
	Unseen     string // ZSET id to offset: unseen active items
	Archived   string // ZSET id to offset: archived items
	Categories string // ZSET score 0, member category\0id: unread active items. Its size is the badge's unread
	TermKeys
}

// Inbox names the keys of a user's stream and inbox.
func (m *Map) Inbox(s notify.Stream) InboxKeys {
	p := m.prefix(s)
	return InboxKeys{EventKeys: m.Event(s), Index: p + ":z", Items: p + ":h", Unread: p + ":u", Unseen: p + ":n",
		Archived: p + ":a", Categories: p + ":c", TermKeys: terms(p)}
}

// Push names the browsers of a user that are pushed to: HASH key of the endpoint to the subscription.
func (m *Map) Push(s notify.Stream) string { return m.prefix(s) + ":p" }

func terms(prefix string) TermKeys {
	return TermKeys{Deadlines: prefix + ":d", Collapse: prefix + ":k"}
}

// All lists the keys, but for those of terms, in the order in which the inbox scripts take them.
func (k InboxKeys) All() []string {
	return []string{k.Meta, k.Events, k.Dedupe, k.Index, k.Items, k.Unread, k.Unseen, k.Archived, k.Categories}
}

// WithTerms lists all keys: All, then those of terms.
func (k InboxKeys) WithTerms() []string { return append(k.All(), k.Deadlines, k.Collapse) }

// AudienceKeys are those of what a user is a member of, beside its stream's meta. Their values are package audience's.
type AudienceKeys struct {
	Meta       string // of the user's stream
	Members    string // HASH segment to where the user joined and up to where it has read
	Exceptions string // HASH segment to the items of which that is not true
}

// Audience names the keys of what a user is a member of.
func (m *Map) Audience(user notify.Stream) AudienceKeys {
	p := m.prefix(user)
	return AudienceKeys{Meta: p + ":m", Members: p + ":g", Exceptions: p + ":q"}
}

// All lists the keys in the order in which scripts take them.
func (k AudienceKeys) All() []string { return []string{k.Meta, k.Members, k.Exceptions} }

// SegmentKeys are the keys of a segment: an inbox without anybody's read state.
type SegmentKeys struct {
	EventKeys
	Index string // ZSET id to offset: every item
	Items string // as of an inbox
	TermKeys
}

// Segment names the keys of a segment.
func (m *Map) Segment(s notify.Stream) SegmentKeys {
	p := m.prefix(s)
	return SegmentKeys{EventKeys: m.Event(s), Index: p + ":z", Items: p + ":h", TermKeys: terms(p)}
}

// WithTerms lists the keys in the places that they have among an inbox's. In the four of read state stands the meta, since on a cluster an empty key would be of
// another slot: scripts of segments do not touch them.
func (k SegmentKeys) WithTerms() []string {
	return []string{k.Meta, k.Events, k.Dedupe, k.Index, k.Items, k.Meta, k.Meta, k.Meta, k.Meta, k.Deadlines, k.Collapse}
}

// All lists the keys in the order in which the scripts of event topics take them.
func (k EventKeys) All() []string { return []string{k.Meta, k.Events, k.Dedupe} }
