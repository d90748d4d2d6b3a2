package ws

import (
	"encoding/binary"
	"fmt"
	"unicode/utf8"

	"allim/internal/wire"
)

// Opcodes (RFC 6455, section 11.8).
const (
	opContinuation = 0x0
	opText         = 0x1
	opBinary       = 0x2
	opClose        = 0x8
	opPing         = 0x9
	opPong         = 0xA
)

// Bits of a frame's first two bytes (section 5.2).
const (
	bitFin  = 0x80
	bitRSV1 = 0x40
	bitRSV  = 0x30 // the two that no extension of ours uses
	bitMask = 0x80
)

const (
	maxControl = 125 // bytes in a control frame (section 5.5)
	maxHead    = 14  // of a client's frame: 2, a length of 8 bytes, a key of 4
)

// A fault is what makes a connection fail (section 7.1.7): the code of our close frame, and why.
type fault struct {
	code   int
	reason string
}

func (f *fault) Error() string { return fmt.Sprintf("websocket %d: %s", f.code, f.reason) }

func protocol(reason string) *fault { return &fault{wire.CloseProtocol, reason} }

func tooBig(most int) *fault {
	return &fault{wire.CloseTooBig, fmt.Sprintf("at most %d bytes in a message", most)}
}

var notUTF8 = &fault{wire.CloseNotUTF8, "text that is not UTF-8"}

// A parser takes the bytes of one client apart, in whatever pieces they come. Control frames come out whole, also from between the frames of a message;
// a message comes out when its last frame is there, as one frame that is not fragmented any more. Text is looked at while it comes, so that what is not
// UTF-8 ends the connection at once (section 8.1). It holds no bytes between messages. The zero value, with most set, is at the beginning of a connection.
type parser struct {
	most    int  // bytes of a message's payload
	deflate bool // permessage-deflate was agreed on: RSV1 may stand on a message

	head [maxHead]byte // of the frame under way, as far as it has come
	got  uint8         // bytes of head
	op   byte          // of the frame under way; what follows holds only once its head is complete
	body bool          // the head is complete
	fin  bool
	turn uint8  // of the key for the next byte
	left uint64 // bytes of the payload that have not come

	kind    byte       // of the message under way: opText or opBinary; 0: none
	packed  bool       // it is compressed
	message []byte     // maxHead of room, then its payload as far as it has come
	control []byte     // payload of the control frame under way
	text    utf8Prefix // of the message under way
}

// A taker is told what came. Slices are its own only while it is told. An error ends feed, which returns it.
type taker interface {
	ping(payload []byte) error
	pong(payload []byte) error
	// frame is a whole message or a close frame, unmasked: head and payload, under a key of zeros.
	frame(op byte, b []byte) error
}

// feed takes b, which it unmasks in place. The error is a *fault, or the taker's; nothing may be fed after it.
func (p *parser) feed(b []byte, t taker) error {
	for len(b) > 0 || p.body && p.left == 0 {
		if !p.body {
			n, err := p.begin(b)
			if err != nil {
				return err
			}
			b = b[n:]
			continue
		}
		n := int(min(uint64(len(b)), p.left))
		part := b[:n]
		p.unmask(part)
		p.left -= uint64(n)
		b = b[n:]
		if err := p.take(part); err != nil {
			return err
		}
		if p.left > 0 {
			continue
		}
		p.body, p.got = false, 0
		if err := p.end(t); err != nil {
			return err
		}
	}
	return nil
}

// begin takes what b has of a head and returns how much that was.
func (p *parser) begin(b []byte) (int, error) {
	n := copy(p.head[p.got:p.need()], b)
	p.got += uint8(n)
	switch {
	case p.got == 2: // how long the head is, is known only now
		if f := p.check(); f != nil {
			return n, f
		}
		return n, nil
	case int(p.got) < p.need():
		return n, nil
	}
	p.left = uint64(p.head[1] &^ bitMask)
	switch p.left {
	case 126:
		p.left = uint64(binary.BigEndian.Uint16(p.head[2:]))
	case 127:
		p.left = binary.BigEndian.Uint64(p.head[2:])
	}
	if p.left < 126 && p.need() > 6 || p.left < 1<<16 && p.need() == maxHead {
		return n, protocol("a length of more bytes than it needs")
	}
	if !p.isControl() && p.left > uint64(p.bound()-p.size()) {
		return n, tooBig(p.most)
	}
	p.body, p.turn = true, 0
	return n, nil
}

// need is how long the head is, as far as that is known.
func (p *parser) need() int {
	if p.got < 2 {
		return 2
	}
	switch p.head[1] &^ bitMask {
	case 126:
		return 8
	case 127:
		return maxHead
	}
	return 6
}

// check looks at the first two bytes of a frame (section 5.2).
func (p *parser) check() *fault {
	p.op, p.fin = p.head[0]&0x0F, p.head[0]&bitFin != 0
	rsv1 := p.head[0]&bitRSV1 != 0
	switch {
	case p.head[1]&bitMask == 0:
		return protocol("a client's frame that is not masked")
	case p.head[0]&bitRSV != 0 || rsv1 && (!p.deflate || p.op != opText && p.op != opBinary):
		return protocol("a reserved bit")
	case p.isControl() && p.head[1]&^bitMask > maxControl:
		return protocol("a control frame of more than 125 bytes")
	case p.isControl() && !p.fin:
		return protocol("a control frame in fragments")
	}
	switch p.op {
	case opContinuation:
		if p.kind == 0 {
			return protocol("a continuation of nothing")
		}
	case opText, opBinary:
		if p.kind != 0 {
			return protocol("a message within another")
		}
		p.kind, p.packed, p.text = p.op, rsv1, utf8Prefix{}
	case opClose, opPing, opPong:
	default:
		return protocol("an unknown opcode")
	}
	return nil
}

func (p *parser) isControl() bool { return p.op >= opClose }

// bound is how long a message may be. One that is compressed is measured when it is inflated; until then it may be as much longer as deflate can make it,
// with little memory: zlib's deflateBound, rounded up.
func (p *parser) bound() int {
	if p.packed {
		return p.most + p.most/7 + 64
	}
	return p.most
}

func (p *parser) size() int { return max(0, len(p.message)-maxHead) }

func (p *parser) unmask(b []byte) {
	key := p.head[p.got-4 : p.got]
	if len(b) >= 16 {
		k := uint64(0)
		for i := range 8 {
			k |= uint64(key[(int(p.turn)+i)&3]) << (8 * i)
		}
		for len(b) >= 8 {
			binary.LittleEndian.PutUint64(b, binary.LittleEndian.Uint64(b)^k)
			b = b[8:]
		}
	}
	for i := range b {
		b[i] ^= key[(int(p.turn)+i)&3]
	}
	p.turn = uint8((int(p.turn) + len(b)) & 3)
}

// take keeps a piece of a payload.
func (p *parser) take(part []byte) error {
	if p.isControl() {
		p.control = append(p.control, part...)
		return nil
	}
	if p.kind == opText && !p.packed && !p.text.add(part) {
		return notUTF8
	}
	if p.message == nil {
		p.message = make([]byte, maxHead, maxHead+len(part)+int(min(p.left, readSize))) // of what was only announced, a little
	}
	p.message = append(p.message, part...)
	return nil
}

// end is called when all of a frame's payload is there.
func (p *parser) end(t taker) error {
	if p.isControl() {
		b := p.control
		p.control = nil
		switch p.op {
		case opPing:
			return t.ping(b)
		case opPong:
			return t.pong(b)
		}
		if f := checkClose(b); f != nil {
			return f
		}
		return t.frame(opClose, head(append(make([]byte, maxHead, maxHead+len(b)), b...), opClose, false))
	}
	if !p.fin {
		return nil
	}
	if p.kind == opText && !p.packed && !p.text.whole() {
		return notUTF8
	}
	b, kind, packed := p.message, p.kind, p.packed
	p.message, p.kind = nil, 0
	return t.frame(kind, head(b, kind, packed))
}

// head writes the head of a masked frame with a key of zeros into the room before a payload, and returns both.
func head(b []byte, op byte, packed bool) []byte {
	first := op | bitFin
	if packed {
		first |= bitRSV1
	}
	n := len(b) - maxHead
	clear(b[:maxHead])
	switch {
	case n < 126:
		b = b[8:]
		b[0], b[1] = first, bitMask|byte(n)
	case n < 1<<16:
		b = b[6:]
		b[0], b[1] = first, bitMask|126
		binary.BigEndian.PutUint16(b[2:], uint16(n))
	default:
		b[0], b[1] = first, bitMask|127
		binary.BigEndian.PutUint64(b[2:], uint64(n))
	}
	return b
}

// payload is what stands behind the head that head wrote.
func payload(b []byte) []byte {
	switch b[1] &^ bitMask {
	case 126:
		return b[8:]
	case 127:
		return b[maxHead:]
	}
	return b[6:]
}

// checkClose looks at the payload of a close frame (sections 5.5.1, 7.4).
func checkClose(b []byte) *fault {
	if len(b) == 0 {
		return nil
	}
	if len(b) == 1 {
		return protocol("a close code of one byte")
	}
	switch code := binary.BigEndian.Uint16(b); {
	case code >= 3000 && code < 5000, code >= 1000 && code <= 1003, code >= 1007 && code <= 1014:
	default:
		return protocol("a close code that nobody may send")
	}
	if !utf8.Valid(b[2:]) {
		return &fault{wire.CloseNotUTF8, "a reason that is not UTF-8"}
	}
	return nil
}

// A utf8Prefix tells of text that comes in pieces whether it can still become UTF-8. The zero value has seen nothing.
type utf8Prefix struct {
	rest [utf8.UTFMax]byte // the beginning of a character whose end has not come
	n    uint8
}

// add tells whether what came with b may still become UTF-8.
func (u *utf8Prefix) add(b []byte) bool {
	for u.n > 0 && len(b) > 0 {
		u.rest[u.n] = b[0]
		u.n, b = u.n+1, b[1:]
		if utf8.FullRune(u.rest[:u.n]) {
			if r, size := utf8.DecodeRune(u.rest[:u.n]); r == utf8.RuneError && size == 1 {
				return false
			}
			u.n = 0
		}
	}
	cut := len(b)
	for i := 1; i <= min(len(b), utf8.UTFMax-1); i++ {
		if utf8.RuneStart(b[len(b)-i]) {
			if !utf8.FullRune(b[len(b)-i:]) {
				cut = len(b) - i
			}
			break
		}
	}
	if !utf8.Valid(b[:cut]) {
		return false
	}
	if cut < len(b) {
		u.n = uint8(copy(u.rest[:], b[cut:]))
	}
	return true
}

// whole tells whether no character is cut.
func (u *utf8Prefix) whole() bool { return u.n == 0 }
