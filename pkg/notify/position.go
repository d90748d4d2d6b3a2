package notify

import (
	"strconv"
	"strings"
)

// A Position is a place in a topic: the Offset-th message of the stream that began at Epoch. Offsets of different epochs
// cannot be compared. The zero value, "0" in text, is before everything that is still in history.
type Position struct {
	Epoch  string // 6 of [a-z2-7]; "" before everything; "-" and a time where the topic did not exist then: see EmptyAt
	Offset uint64 // of the last message seen; 0 is before the first
}

// EpochLen is the length of an epoch in bytes: 30 random bits in base32.
const EpochLen = 6

// Y2026 is where the seconds of EmptyAt begin: 2026-01-01T00:00:00Z in Unix time.
const Y2026 = 1767225600

// EmptyAt is the position of a listener to a topic that did not exist at that time of Redis (Unix milliseconds; only seconds
// are kept, rounded down). What was published to it later follows that position without a hole.
func EmptyAt(unixMillis int64) Position {
	sec := max(unixMillis/1000-Y2026, 0)
	return Position{Epoch: "-" + strconv.FormatInt(sec, 10)}
}

// Empty tells whether p is an EmptyAt position, and of which time (Unix milliseconds).
func (p Position) Empty() (unixMillis int64, ok bool) {
	s, ok := strings.CutPrefix(p.Epoch, "-")
	if !ok {
		return 0, false
	}
	sec, err := strconv.ParseInt(s, 10, 32)
	return (sec + Y2026) * 1000, err == nil
}

// String is what clients keep: "epoch.offset", or "0".
func (p Position) String() string {
	if p.Epoch == "" {
		return "0"
	}
	return p.Epoch + "." + strconv.FormatUint(p.Offset, 10)
}

// ParsePosition reads what String wrote. An error names what was expected; positions of unknown epochs are good positions.
func ParsePosition(s string) (Position, error) {
	if s == "0" {
		return Position{}, nil
	}
	epoch, offset, ok := strings.Cut(s, ".")
	n, err := parseOffset(offset)
	if !ok || err != nil || !epochOK(epoch) || epoch[0] == '-' && n != 0 {
		return Position{}, invalid("position", `a position from the gateway such as "k3abcd.40", or "0"`)
	}
	return Position{Epoch: epoch, Offset: n}, nil
}

// Offsets stay below 2^53, so that every Redis score, Lua number and JavaScript number holds them exactly.
func parseOffset(s string) (uint64, error) {
	if len(s) > 1 && s[0] == '0' || len(s) > 0 && s[0] == '+' {
		return 0, ErrInvalid
	}
	n, err := strconv.ParseUint(s, 10, 53)
	return n, err
}

func epochOK(s string) bool {
	if t, ok := strings.CutPrefix(s, "-"); ok {
		n, err := strconv.ParseUint(t, 10, 30)
		return err == nil && strconv.FormatUint(n, 10) == t
	}
	if len(s) != EpochLen {
		return false
	}
	for i := range len(s) {
		if c := s[i]; !(c >= 'a' && c <= 'z' || c >= '2' && c <= '7') {
			return false
		}
	}
	return true
}
