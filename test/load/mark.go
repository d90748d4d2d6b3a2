//go:build linux

package main

import (
	"bytes"
	"compress/flate"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

// A mark stands in the data of every message that the generator publishes: its line, its number there, and when it was due.
type mark struct {
	line, n uint32
	at      time.Duration // since the generator started
}

// begin is where the generator's clock starts.
var begin = time.Now()

func now() time.Duration { return time.Since(begin) }

var marker = []byte(`"_m":[`)

// data is the JSON of a message of about so many bytes.
func (m mark) data(size int) []byte {
	b := fmt.Appendf(nil, `{"_m":[%d,%d,%d],"text":"`, m.line, m.n, int64(m.at))
	// Text of a kind that a compressor makes about a third of, as it does with JSON of people.
	for i := int(m.n); len(b) < size-2; i++ {
		b = append(append(b, words[(i*i+int(m.line))%len(words)]...), ' ')
	}
	return append(b, '"', '}')
}

var words = strings.Fields("order update ready for delivery at the door of house number seventeen because customer asked us to come before noon and parcel is large")

// marks calls found with each mark of a text frame, which may hold several messages, and says whether all that began like one were one.
func marks(text []byte, found func(mark)) bool {
	for {
		i := bytes.Index(text, marker)
		if i < 0 {
			return true
		}
		text = text[i+len(marker):]
		end := bytes.IndexByte(text, ']')
		if end < 0 {
			return false
		}
		var numbers [3]int64
		at := 0
		for _, c := range text[:end] {
			switch {
			case c >= '0' && c <= '9':
				numbers[at] = numbers[at]*10 + int64(c-'0')
			case c == ',' && at < 2:
				at++
			default:
				return false
			}
		}
		if at != 2 {
			return false
		}
		found(mark{uint32(numbers[0]), uint32(numbers[1]), time.Duration(numbers[2])})
	}
}

// An inflater reads permessage-deflate without context takeover (RFC 7692). What came last is remembered, since all receivers of a message get the
// same bytes: the generator would else need more CPU than the server.
type inflater struct {
	reader io.ReadCloser
	known  map[string][]byte
	text   bytes.Buffer
}

const knownTexts = 64 // before all are forgotten

var tail = []byte{0, 0, 0xff, 0xff, 1, 0, 0, 0xff, 0xff} // what the sender cut off, and an end

func (z *inflater) inflate(b []byte) ([]byte, error) {
	if text, ok := z.known[string(b)]; ok {
		return text, nil
	}
	in := io.MultiReader(bytes.NewReader(b), bytes.NewReader(tail))
	if z.reader == nil {
		z.reader = flate.NewReader(in)
	} else if err := z.reader.(flate.Resetter).Reset(in, nil); err != nil {
		return nil, err
	}
	z.text.Reset()
	if _, err := z.text.ReadFrom(io.LimitReader(z.reader, largestFrame)); err != nil {
		return nil, fmt.Errorf("inflate %s bytes: %w", strconv.Itoa(len(b)), err)
	}
	if len(z.known) >= knownTexts || z.known == nil {
		z.known = map[string][]byte{}
	}
	text := bytes.Clone(z.text.Bytes())
	z.known[string(b)] = text
	return text, nil
}
