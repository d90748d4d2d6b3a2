package wire

import (
	"bytes"
	"encoding/json"
	"strconv"
	"time"
	"unicode/utf8"

	"allim/pkg/notify"
)

const timeLayout = "2006-01-02T15:04:05.000Z"

func timeText(t time.Time) string { return t.UTC().Format(timeLayout) }

// Encode makes the bytes of a frame of the gateway's own.
func Encode(f Frame) ([]byte, error) {
	var b bytes.Buffer
	b.WriteString(`{"type":"` + f.frameType() + `"`)
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	head := b.Len()
	if err := e.Encode(f); err != nil {
		return nil, err
	}
	out := b.Bytes()[:b.Len()-1] // without the newline
	if len(out) == head+2 {      // {}: a frame of nothing but its type
		return append(out[:head], '}'), nil
	}
	out[head] = ','
	return out, nil
}

// With is a frame with what one receiver alone has in it: that its own page caused it, and its cursor. The frame itself is shared and
// stays as it is.
func With(frame []byte, mine bool, cursor string) []byte {
	b := make([]byte, 0, len(frame)+len(`,"mine":true,"cursor":""`)+len(cursor))
	b = append(b, frame[:len(frame)-1]...)
	if mine {
		b = append(b, `,"mine":true`...)
	}
	if cursor != "" {
		b = append(b, `,"cursor":"`...)
		b = append(b, cursor...)
		b = append(b, '"')
	}
	return append(b, '}')
}

func appendBadge(b []byte, badge *notify.Badge) []byte {
	if badge == nil {
		return b
	}
	b = append(b, `,"badge":{"unread":`...)
	b = strconv.AppendInt(b, int64(badge.Unread), 10)
	b = append(b, `,"unseen":`...)
	b = strconv.AppendInt(b, int64(badge.Unseen), 10)
	for i, c := range badge.By {
		b = append(b, [2]string{`,"by":{`, `,`}[min(i, 1)]...)
		b = appendString(b, c.Category)
		b = append(b, ':')
		b = strconv.AppendInt(b, int64(c.Unread), 10)
		if i == len(badge.By)-1 {
			b = append(b, '}')
		}
	}
	b = appendField(b, "rev", badge.Revision.String())
	return append(b, '}')
}

func appendOptional(b []byte, name, value string) []byte {
	if value == "" {
		return b
	}
	return appendField(b, name, value)
}

func appendField(b []byte, name, value string) []byte {
	b = append(b, `,"`...)
	b = append(b, name...)
	b = append(b, `":`...)
	return appendString(b, value)
}

const hex = "0123456789abcdef"

// appendString writes a JSON string (RFC 8259, section 7), as it is but for what must be escaped.
func appendString(b []byte, s string) []byte {
	b = append(b, '"')
	for _, r := range s { // a byte that is no UTF-8 is ranged over as U+FFFD
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r < 0x20:
			b = append(b, '\\', 'u', '0', '0', hex[r>>4], hex[r&15])
		default:
			b = utf8.AppendRune(b, r)
		}
	}
	return append(b, '"')
}
