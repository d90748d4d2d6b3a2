package notify

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"slices"
	"strconv"
	"strings"
)

// MaxCursor is the length of the longest cursor, in bytes of text.
const MaxCursor = 2 << 10

// A cursor is base64url of a version byte and, sorted, for each topic 4 bytes of the SHA-256 of its kind and name, 4 bytes of
// epoch and the offset as uvarint. The first two bits of the epoch's bytes say what it is.
const (
	cursorComplete   = 0x01
	cursorIncomplete = 0x81
	hashLen          = 4
	epochBits        = 0 << 30 // 30 bits of an epoch
	emptyBits        = 2 << 30 // 30 bits of seconds since 2026: the topic did not exist then
	maxCursorBytes   = MaxCursor / 4 * 3
)

// A TopicPosition is one topic's place in a cursor.
type TopicPosition struct {
	Topic    Topic
	Position Position
}

// EncodeCursor puts positions into one opaque string of [A-Za-z0-9_-], at most MaxCursor long. Positions that do not fit, topics whose hashes collide and the zero
// Position are left out; the cursor then says that it is incomplete.
func EncodeCursor(positions []TopicPosition) string {
	type entry struct {
		key [hashLen]byte
		b   []byte
	}
	entries := make([]entry, 0, len(positions))
	complete := true
	for _, p := range positions {
		bits, ok := epochNumber(p.Position)
		if !ok {
			complete = false
			continue
		}
		e := entry{key: topicHash(p.Topic)}
		e.b = append(e.b, e.key[:]...)
		e.b = binary.BigEndian.AppendUint32(e.b, bits)
		e.b = binary.AppendUvarint(e.b, p.Position.Offset)
		entries = append(entries, e)
	}
	slices.SortFunc(entries, func(a, b entry) int { return bytes.Compare(a.key[:], b.key[:]) })
	out := []byte{cursorComplete}
	for i, e := range entries {
		twin := i > 0 && entries[i-1].key == e.key || i+1 < len(entries) && entries[i+1].key == e.key
		if twin || len(out)+len(e.b) > maxCursorBytes {
			complete = false
			continue
		}
		out = append(out, e.b...)
	}
	if !complete {
		out[0] = cursorIncomplete
	}
	return base64.RawURLEncoding.EncodeToString(out)
}

// A Cursor is a decoded cursor.
type Cursor struct {
	at       map[[hashLen]byte]Position
	complete bool
}

// DecodeCursor reads what EncodeCursor wrote; "" is a complete cursor without topics. ok is false for anything else: every topic is reset.
func DecodeCursor(s string) (c Cursor, ok bool) {
	if s == "" {
		return Cursor{complete: true}, true
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil || len(s) > MaxCursor || len(b) == 0 || b[0] != cursorComplete && b[0] != cursorIncomplete {
		return Cursor{}, false
	}
	c = Cursor{at: map[[hashLen]byte]Position{}, complete: b[0] == cursorComplete}
	for b = b[1:]; len(b) > 0; {
		if len(b) < hashLen+4+1 {
			return Cursor{}, false
		}
		key, bits := [hashLen]byte(b), binary.BigEndian.Uint32(b[hashLen:])
		offset, n := binary.Uvarint(b[hashLen+4:])
		p, ok := epochOf(bits)
		if n <= 0 || offset >= 1<<53 || !ok || p.Epoch[0] == '-' && offset != 0 {
			return Cursor{}, false
		}
		p.Offset = offset
		c.at[key] = p
		b = b[hashLen+4+n:]
	}
	return c, true
}

// Position says where a connection with this cursor takes up a topic. known false means: from now on if the cursor is Complete, else the
// topic is reset.
func (c Cursor) Position(t Topic) (p Position, known bool) {
	p, known = c.at[topicHash(t)]
	return p, known
}

// Complete tells whether the cursor names every topic that its connection heard.
func (c Cursor) Complete() bool { return c.complete }

func topicHash(t Topic) [hashLen]byte {
	sum := sha256.Sum256(append([]byte{byte(t.Kind())}, t.Name()...))
	return [hashLen]byte(sum[:])
}

const epochAlphabet = "abcdefghijklmnopqrstuvwxyz234567"

func epochNumber(p Position) (uint32, bool) {
	if s, ok := strings.CutPrefix(p.Epoch, "-"); ok {
		t, err := strconv.ParseUint(s, 10, 30)
		return emptyBits | uint32(t), err == nil
	}
	if len(p.Epoch) != EpochLen {
		return 0, false
	}
	n := uint32(0)
	for i := range EpochLen {
		d := strings.IndexByte(epochAlphabet, p.Epoch[i])
		if d < 0 {
			return 0, false
		}
		n = n<<5 | uint32(d)
	}
	return epochBits | n, true
}

func epochOf(bits uint32) (Position, bool) {
	switch n := bits & (1<<30 - 1); bits &^ (1<<30 - 1) {
	case emptyBits:
		return Position{Epoch: "-" + strconv.FormatUint(uint64(n), 10)}, true
	case epochBits:
		var e [EpochLen]byte
		for i := EpochLen - 1; i >= 0; i-- {
			e[i] = epochAlphabet[n&31]
			n >>= 5
		}
		return Position{Epoch: string(e[:])}, true
	}
	return Position{}, false
}
