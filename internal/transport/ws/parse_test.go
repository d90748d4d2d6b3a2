package ws

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"unicode/utf8"
)

// A script is a client's bytes.
type script []byte

// frame appends a client's frame, masked with a key of its own.
func (s script) frame(first byte, payload string) script {
	key := [4]byte{byte(len(s)), 0x5A, byte(len(payload)), 0x99}
	s = append(s, first)
	switch n := len(payload); {
	case n < 126:
		s = append(s, bitMask|byte(n))
	case n < 1<<16:
		s = binary.BigEndian.AppendUint16(append(s, bitMask|126), uint16(n))
	default:
		s = binary.BigEndian.AppendUint64(append(s, bitMask|127), uint64(n))
	}
	s = append(s, key[:]...)
	for i := range len(payload) {
		s = append(s, payload[i]^key[i&3])
	}
	return s
}

// A log is what a parser found.
type log []string

func (l *log) note(what string, b []byte) error {
	if len(b) > 40 {
		b = fmt.Appendf(nil, "%d bytes, %x", len(b), b[len(b)-8:])
	}
	*l = append(*l, fmt.Sprintf("%s %q", what, b))
	return nil
}

func (l *log) ping(b []byte) error { return l.note("ping", b) }
func (l *log) pong(b []byte) error { return l.note("pong", b) }

// frame checks that what coder/websocket would read is a frame of its own, and notes its payload.
func (l *log) frame(op byte, b []byte) error {
	n, payload := plain(b)
	if n != len(b) {
		return fmt.Errorf("a frame of %d bytes among %d", n, len(b))
	}
	name := map[byte]string{bitFin | opText: "text", bitFin | opBinary: "binary", bitFin | opClose: "close", bitFin | bitRSV1 | opText: "packed", bitFin | bitRSV1 | opBinary: "packed binary"}[b[0]]
	if name == "" || b[0]&0x0F != op {
		return fmt.Errorf("op %d, first byte %#x", op, b[0])
	}
	return l.note(name, payload)
}

// plain reads one frame under a key of zeros and returns how long it is.
func plain(b []byte) (n int, payload []byte) {
	head, size := 6, int(b[1]&^bitMask)
	switch size {
	case 126:
		head, size = 8, int(binary.BigEndian.Uint16(b[2:]))
	case 127:
		head, size = 14, int(binary.BigEndian.Uint64(b[2:]))
	}
	if b[1]&bitMask == 0 || !bytes.Equal(b[head-4:head], make([]byte, 4)) {
		return -1, nil
	}
	return head + size, b[head:]
}

func run(p *parser, in []byte, cut func(left int) int) (log, error) {
	var l log
	for len(in) > 0 {
		n := cut(len(in))
		if err := p.feed(bytes.Clone(in[:n]), &l); err != nil {
			return l, err
		}
		in = in[n:]
	}
	return l, nil
}

var cuts = map[string]func(left int) int{
	"whole":          func(left int) int { return left },
	"byte by byte":   func(int) int { return 1 },
	"some at a time": func(left int) int { return 1 + rand.IntN(min(left, 7)) },
}

func TestFramesComeOutWhole(t *testing.T) {
	long := strings.Repeat("0123456789", 7000)
	for _, c := range []struct {
		name    string
		deflate bool
		in      script
		want    []string
	}{
		{"nothing", false, nil, nil},
		{"text", false, script{}.frame(0x81, "hello").frame(0x81, ""), []string{`text "hello"`, `text ""`}},
		{"binary", false, script{}.frame(0x82, "\xff\x00"), []string{`binary "\xff\x00"`}},
		{"lengths of 2 and 8 bytes", false, script{}.frame(0x81, long[:125]).frame(0x81, long[:126]).frame(0x81, long[:65535]).frame(0x81, long[:65536]),
			[]string{`text "125 bytes, 3738393031323334"`, `text "126 bytes, 3839303132333435"`, `text "65535 bytes, 3738393031323334"`, `text "65536 bytes, 3839303132333435"`}},
		{"fragments", false, script{}.frame(0x01, "he").frame(0x00, "").frame(0x00, "l").frame(0x80, "lo"), []string{`text "hello"`}},
		{"control frames between fragments", false, script{}.frame(0x01, "a").frame(0x89, "1").frame(0x8A, "").frame(0x80, "b"), []string{`ping "1"`, `pong ""`, `text "ab"`}},
		{"a character in two fragments", false, script{}.frame(0x01, "\xe2\x82").frame(0x80, "\xac"), []string{`text "€"`}},
		{"compressed", true, script{}.frame(0x41, "\xff").frame(0x80, "\xfe").frame(0x81, "plain"), []string{`packed "\xff\xfe"`, `text "plain"`}},
		{"close", false, script{}.frame(0x88, "").frame(0x88, "\x03\xe8").frame(0x88, "\x0f\xa0bye"), []string{`close ""`, `close "\x03\xe8"`, `close "\x0f\xa0bye"`}},
		{"control frames of 125 bytes", false, script{}.frame(0x89, long[:125]), []string{`ping "125 bytes, 3738393031323334"`}},
	} {
		for how, cut := range cuts {
			t.Run(c.name+", "+how, func(t *testing.T) {
				p := &parser{most: 70_000, deflate: c.deflate}
				got, err := run(p, c.in, cut)
				if err != nil || fmt.Sprint(got) != fmt.Sprint(log(c.want)) {
					t.Errorf("got  %v, %v\nwant %v", got, err, c.want)
				}
				if p.message != nil || p.control != nil {
					t.Error("bytes are held between messages")
				}
			})
		}
	}
}

func TestFaultsEndAConnection(t *testing.T) {
	unmasked := script{0x81, 1, 'x'}
	for _, c := range []struct {
		name string
		in   script
		code int
		at   int // bytes after which the fault is known; 0: only at the end
	}{
		{"not masked", unmasked, 1002, 2},
		{"RSV1 without an extension", script{}.frame(0xC1, "x"), 1002, 2},
		{"RSV2", script{}.frame(0xA1, "x"), 1002, 2},
		{"RSV3", script{}.frame(0x91, "x"), 1002, 2},
		{"opcode 3", script{}.frame(0x83, ""), 1002, 2},
		{"opcode 11", script{}.frame(0x8B, ""), 1002, 2},
		{"a ping of 126 bytes", script{}.frame(0x89, strings.Repeat("x", 126)), 1002, 2},
		{"a ping in fragments", script{}.frame(0x09, "x"), 1002, 2},
		{"a continuation of nothing", script{}.frame(0x80, "x"), 1002, 2},
		{"a message within another", script{}.frame(0x01, "x").frame(0x81, "y"), 1002, 9},
		{"a message that is too big", script{}.frame(0x81, strings.Repeat("x", 101)), 1009, 6},
		{"fragments that are too big together", script{}.frame(0x01, strings.Repeat("x", 60)).frame(0x80, strings.Repeat("x", 41)), 1009, 72},
		{"a length of 2 bytes that one could hold", script{0x81, 0xFE, 0, 125, 0, 0, 0, 0}, 1002, 8},
		{"a length of 8 bytes that 2 could hold", script{0x81, 0xFF, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF, 0, 0, 0, 0}, 1002, 14},
		{"2^63 bytes", script{0x82, 0xFF, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 1009, 14},
		{"a byte that is in no text", script{}.frame(0x81, "abc\xffdef"), 1007, 10},
		{"half a surrogate", script{}.frame(0x81, "\xed\xa0\x80x"), 1007, 8},
		{"beyond Unicode", script{}.frame(0x81, "\xf4\x90\x80\x80"), 1007, 8},
		{"too long an encoding", script{}.frame(0x81, "\xc0\xaf"), 1007, 7},
		{"half a character", script{}.frame(0x81, "\xe2\x82"), 1007, 0},
		{"half a character in the middle", script{}.frame(0x01, "\xe2\x82").frame(0x80, "x"), 1007, 0},
		{"one byte of a close code", script{}.frame(0x88, "\x03"), 1002, 0},
		{"close code 999", script{}.frame(0x88, "\x03\xe7"), 1002, 0},
		{"close code 1005", script{}.frame(0x88, "\x03\xed"), 1002, 0},
		{"close code 1016", script{}.frame(0x88, "\x03\xf8"), 1002, 0},
		{"close code 5000", script{}.frame(0x88, "\x13\x88"), 1002, 0},
		{"a reason that is no text", script{}.frame(0x88, "\x03\xe8\xff"), 1007, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := &parser{most: 100}
			var l log
			at := 0
			var err error
			for at < len(c.in) && err == nil {
				err = p.feed([]byte{c.in[at]}, &l)
				at++
			}
			var f *fault
			if !errors.As(err, &f) || f.code != c.code || len(f.reason) > maxControl-2 {
				t.Fatalf("after %v: %v, want %d", l, err, c.code)
			}
			if want := max(c.at, (1-min(c.at, 1))*len(c.in)); at != want {
				t.Errorf("known after %d bytes, want %d", at, want)
			}
		})
	}
}

// whole is what a parser should find, from all bytes at once: another way to read the same section of the RFC.
func whole(in []byte, most int, deflate bool) (l log, code int) {
	var message []byte
	var kind, packed byte
	for {
		if len(in) < 2 {
			return l, 0
		}
		fin, rsv, op, size := in[0]>>7, in[0]>>4&7, in[0]&15, uint64(in[1]&127)
		if in[1] < 128 || rsv&3 != 0 || rsv != 0 && (!deflate || op != 1 && op != 2) || op > 10 || op > 2 && op < 8 || op > 7 && (fin == 0 || size > 125) ||
			op == 0 && kind == 0 || (op == 1 || op == 2) && kind != 0 {
			return l, 1002
		}
		head := 2
		if size == 126 {
			head = 4
		} else if size == 127 {
			head = 10
		}
		if len(in) < head+4 {
			return l, 0
		}
		if head > 2 {
			size = binary.BigEndian.Uint64(append(make([]byte, 10-head), in[2:head]...))
		}
		if head == 4 && size < 126 || head == 10 && size < 1<<16 {
			return l, 1002
		}
		if op < 8 && size > uint64(most-len(message)) {
			return l, 1009
		}
		key, have := in[head:head+4], in[head+4:]
		have = bytes.Clone(have[:min(uint64(len(have)), size)])
		for i := range have {
			have[i] ^= key[i%4]
		}
		if op == 1 || op == 2 {
			kind, packed = op, rsv
		}
		complete := uint64(len(have)) == size
		if op < 8 {
			message = append(message, have...)
			if kind == 1 && packed == 0 && !canBeText(message, complete && fin == 1) {
				return l, 1007
			}
		}
		if !complete {
			return l, 0
		}
		in = in[head+4+int(size):]
		switch {
		case op == 9:
			_ = l.ping(have)
		case op == 10:
			_ = l.pong(have)
		case op == 8:
			if len(have) == 1 {
				return l, 1002
			}
			if len(have) > 1 {
				c := int(have[0])<<8 + int(have[1])
				if c < 1000 || c > 1014 && c < 3000 || c > 4999 || c == 1004 || c == 1005 || c == 1006 {
					return l, 1002
				}
				if !utf8.Valid(have[2:]) {
					return l, 1007
				}
			}
			_ = l.note("close", have)
		case fin == 1:
			_ = l.note(map[byte]string{1: "text", 2: "binary", 5: "packed", 6: "packed binary"}[kind+packed], message)
			message, kind, packed = nil, 0, 0
		}
	}
}

// canBeText tells whether b is text, or may become it.
func canBeText(b []byte, ends bool) bool {
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		if r == utf8.RuneError && n == 1 {
			return !ends && !utf8.FullRune(b)
		}
		b = b[n:]
	}
	return true
}

func FuzzParser(f *testing.F) {
	f.Add([]byte(script{}.frame(0x81, "hello").frame(0x89, "x").frame(0x88, "\x03\xe8")), false, uint64(1))
	f.Add([]byte(script{}.frame(0x01, "\xe2").frame(0x8A, "").frame(0x80, "\x82\xac")), false, uint64(2))
	f.Add([]byte(script{}.frame(0x41, "\xff\xff").frame(0x80, "").frame(0x82, strings.Repeat("z", 200))), true, uint64(3))
	f.Fuzz(func(t *testing.T, in []byte, deflate bool, seed uint64) {
		want, code := whole(in, 150, deflate)
		r := rand.New(rand.NewPCG(seed, 0))
		got, err := run(&parser{most: 150, deflate: deflate}, in, func(left int) int { return 1 + r.IntN(left) })
		var fault *fault
		if errors.As(err, &fault) && fault.code != code || err == nil && code != 0 || err != nil && fault == nil {
			t.Fatalf("%x: %v, want %d", in, err, code)
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("%x\ngot  %v\nwant %v", in, got, want)
		}
	})
}
