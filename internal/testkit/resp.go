package testkit

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
)

const (
	respDepth  = 16        // the deepest nesting that is read; Redis' own answers have four
	respLine   = 64 << 10  // bytes of a line that may be without an end
	respLonger = 512 << 20 // bytes of one value: Redis takes no longer ones
)

var (
	errRESPShort = errors.New("more bytes are needed")
	errRESP      = errors.New("not RESP")
)

// A respDrop decides which messages of pub/sub a proxy loses. It is shared by all links of the proxy.
type respDrop struct {
	mu      sync.Mutex // guards the fields below
	share   int        // of 10,000
	rng     *rand.Rand
	spare   func(channel string) bool // true: is never dropped; nil: none is
	dropped int
	passed  int
}

// Drop loses share of 10,000 messages that Redis sends to subscribers, whole ones: the connection stays in step. What is lost is drawn with
// seed. spare names channels that lose nothing; nil: every channel may. 0 ends it. It works on connections without TLS.
func (p *Proxy) Drop(share int, seed uint64, spare func(channel string) bool) {
	p.drop.mu.Lock()
	defer p.drop.mu.Unlock()
	p.drop.share, p.drop.rng, p.drop.spare = share, rand.New(rand.NewPCG(seed, 0)), spare
}

// Messages is how many messages of pub/sub the proxy has dropped and passed since it began.
func (p *Proxy) Messages() (dropped, passed int) {
	p.drop.mu.Lock()
	defer p.drop.mu.Unlock()
	return p.drop.dropped, p.drop.passed
}

func (d *respDrop) loses(channel string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.share > 0 && (d.spare == nil || !d.spare(channel)) && d.rng.IntN(10_000) < d.share {
		d.dropped++
		return true
	}
	d.passed++
	return false
}

// A respFilter takes what a Redis sends on one connection, in pieces of any size, and leaves out the messages that loses wants. It passes on whole values
// only. What is no RESP it passes on as it is, from there to the end.
type respFilter struct {
	loses  func(channel string) bool
	held   []byte // the beginning of a value
	broken bool
}

// take is what of b, and of what came before it, may go on.
func (f *respFilter) take(b []byte) (out []byte) {
	if f.broken {
		return b
	}
	f.held = append(f.held, b...)
	for len(f.held) > 0 {
		n, err := respLen(f.held, 0)
		if errors.Is(err, errRESPShort) {
			break
		}
		if err != nil {
			f.broken = true
			out = append(out, f.held...)
			f.held = nil
			break
		}
		value := f.held[:n]
		if channel, ok := respMessage(value); !ok || !f.loses(channel) {
			out = append(out, value...)
		}
		f.held = f.held[n:]
	}
	return out
}

// respMessage is the channel of a value that is a message of pub/sub: an array or, in RESP3, a push, of three.
func respMessage(value []byte) (channel string, ok bool) {
	if kind, n, at, err := respHead(value); err != nil || kind != '*' && kind != '>' || n != 3 {
		return "", false
	} else {
		value = value[at:]
	}
	var parts [2]string
	for i := range parts {
		kind, n, at, err := respHead(value)
		if err != nil || kind != '$' || n < 0 {
			return "", false
		}
		parts[i] = string(value[at : at+n])
		value = value[at+n+2:]
	}
	return parts[1], parts[0] == "message" || parts[0] == "smessage"
}

// respLen is the length of the first value in b. The error is errRESPShort where b ends before the value does.
func respLen(b []byte, depth int) (int, error) {
	if depth > respDepth {
		return 0, fmt.Errorf("%w: nested deeper than %d", errRESP, respDepth)
	}
	kind, n, at, err := respHead(b)
	if err != nil {
		return 0, err
	}
	switch kind {
	case '+', '-', ':', '_', '#', ',', '(':
		return at, nil
	case '$', '!', '=':
		if n < 0 {
			return at, nil
		}
		if len(b) < at+n+2 {
			return 0, errRESPShort
		}
		if !bytes.Equal(b[at+n:at+n+2], []byte("\r\n")) {
			return 0, fmt.Errorf("%w: a text without its end", errRESP)
		}
		return at + n + 2, nil
	}
	if kind == '%' || kind == '|' {
		n *= 2
	}
	if kind == '|' {
		n++ // attributes stand before the value that they are about
	}
	for range max(n, 0) {
		m, err := respLen(b[at:], depth+1)
		if err != nil {
			return 0, err
		}
		at += m
	}
	return at, nil
}

// respHead reads the first line of a value: its kind, its number where the kind has one (−1: null), and where what follows begins.
func respHead(b []byte) (kind byte, n, at int, err error) {
	end := bytes.IndexByte(b[:min(len(b), respLine)], '\n')
	switch {
	case end < 0 && len(b) >= respLine:
		return 0, 0, 0, fmt.Errorf("%w: a line without an end", errRESP)
	case end < 0:
		if len(b) > 0 && !bytes.Contains([]byte("+-:_#,($!=*%~>|"), b[:1]) {
			return 0, 0, 0, fmt.Errorf("%w: %q", errRESP, b[0])
		}
		return 0, 0, 0, errRESPShort
	case end < 2 || b[end-1] != '\r':
		return 0, 0, 0, fmt.Errorf("%w: a line that does not end", errRESP)
	}
	kind, at = b[0], end+1
	switch kind {
	case '+', '-', ':', '_', '#', ',', '(':
		return kind, 0, at, nil
	case '$', '!', '=', '*', '%', '~', '>', '|':
		n, err = strconv.Atoi(string(b[1 : end-1]))
		if err != nil || n < -1 || n > respLonger {
			return 0, 0, 0, fmt.Errorf("%w: length %q", errRESP, b[1:end-1])
		}
		return kind, n, at, nil
	}
	return 0, 0, 0, fmt.Errorf("%w: %q", errRESP, kind)
}
