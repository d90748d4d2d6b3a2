package keyspace

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"allim/pkg/notify"
)

// A Head is what the scripts read of an item of an inbox or a segment. The item stands in its hash as fields: under its id the head, as text, under id\0 the body
// that EncodeBody made, and under id\0u the body of its last update. The head is
//
//	<flags>\n<category>\n<expires ms>\n<collapse key>
//
// and, from the first change on, a line that the scripts alone read: where it was changed last. Lines behind these are of later builds, and are left alone. Flags
// are words with a space between them, of which the first character says what they are; those of later builds are left alone, too.
type Head struct {
	Since     time.Time // t<ms>: when it was acknowledged first, by Redis' clock, which the script puts there. Zero: unknown
	Version   *int32    // v<n>: of its last update; nil: it named none
	Mandatory bool      // !: shown to whoever muted its category, too
	Category  string
	Expires   time.Time // millisecond precision; zero: never
	Collapse  string    // key; "" for none
}

const (
	headLines = 4
	headSince = 't'
	headVer   = 'v'
	headMust  = "!"
)

// HeadOf is the head of a notification before it is written.
func HeadOf(m *notify.Message) Head {
	h := Head{Category: m.Category, Expires: m.ExpiresAt}
	if m.Terms != nil {
		h.Mandatory, h.Collapse = m.Terms.Mandatory, m.Terms.Collapse
	}
	return h
}

// String is the head as the scripts read it.
func (h Head) String() string {
	var flags []string
	if !h.Since.IsZero() {
		flags = append(flags, string(headSince)+strconv.FormatInt(h.Since.UnixMilli(), 10))
	}
	if h.Version != nil {
		flags = append(flags, string(headVer)+strconv.Itoa(int(*h.Version)))
	}
	if h.Mandatory {
		flags = append(flags, headMust)
	}
	expires := int64(0)
	if !h.Expires.IsZero() {
		expires = h.Expires.UnixMilli()
	}
	return strings.Join(flags, " ") + "\n" + h.Category + "\n" + strconv.FormatInt(expires, 10) + "\n" + h.Collapse
}

// ParseHead reads a head. The error is ErrCorrupt.
func ParseHead(text string) (h Head, err error) {
	f := strings.Split(text, "\n")
	if len(f) < headLines { // a later build may have more to say
		return h, fmt.Errorf("head: %w", ErrCorrupt)
	}
	for _, flag := range strings.Fields(f[0]) {
		switch {
		case flag == headMust:
			h.Mandatory = true
		case flag[0] == headSince:
			if h.Since, err = timeOf(flag[1:]); err != nil {
				return Head{}, err
			}
		case flag[0] == headVer:
			n, err := strconv.ParseInt(flag[1:], 10, 32)
			if err != nil {
				return Head{}, fmt.Errorf("head: version: %w", ErrCorrupt)
			}
			version := int32(n)
			h.Version = &version
		}
	}
	h.Category, h.Collapse = f[1], f[3]
	if h.Expires, err = timeOf(f[2]); h.Expires.UnixMilli() == 0 {
		h.Expires = time.Time{}
	}
	return h, err
}

// timeOf reads a time in Unix milliseconds, up to the year 9999, as far as RFC 3339 goes.
func timeOf(ms string) (time.Time, error) {
	const last = 253_402_300_799_999
	n, err := strconv.ParseInt(ms, 10, 64)
	if err != nil || n < 0 || n > last {
		return time.Time{}, fmt.Errorf("head: time: %w", ErrCorrupt)
	}
	return time.UnixMilli(n).UTC(), nil
}

// DecodeItem reads an item, without place and state. update is the body of its last update, whose data it has; nil or empty: there was none.
func DecodeItem(id, head string, body, update []byte) (*notify.Item, error) {
	h, err := ParseHead(head)
	if err != nil {
		return nil, fmt.Errorf("item %q: %w", id, err)
	}
	var m, later notify.Message
	if err := decodeBody(&m, body); err != nil {
		return nil, fmt.Errorf("item %q: %w", id, err)
	}
	if len(update) > 0 {
		if err := decodeBody(&later, update); err != nil {
			return nil, fmt.Errorf("item %q: update: %w", id, err)
		}
		m.Data = later.Data
	}
	return &notify.Item{ID: id, Category: h.Category, Time: m.Time, ExpiresAt: h.Expires, Data: m.Data}, nil
}
