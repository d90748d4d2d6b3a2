//go:build linux

package main

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// What RFC 6455 calls them (section 5.2).
const (
	opContinuation = 0x0
	opText         = 0x1
	opBinary       = 0x2
	opClose        = 0x8
	opPing         = 0x9
	opPong         = 0xA
)

const largestFrame = 1 << 20 // bytes of payload; no server here sends more

// A frame is one of a server. Its payload aliases what it was cut from.
type frame struct {
	fin, compressed bool
	op              byte
	payload         []byte
}

var errFrame = errors.New("bad frame")

// cut takes the first frame off b and says how many bytes it had; 0 where it is not whole yet.
func cut(b []byte) (f frame, size int, err error) {
	if len(b) < 2 {
		return f, 0, nil
	}
	f = frame{fin: b[0]&0x80 != 0, compressed: b[0]&0x40 != 0, op: b[0] & 0xf}
	switch {
	case b[0]&0x30 != 0:
		return f, 0, fmt.Errorf("%w: reserved bits %#x", errFrame, b[0])
	case b[1]&0x80 != 0:
		return f, 0, fmt.Errorf("%w: a server's is masked", errFrame)
	case f.op >= opClose && (!f.fin || f.compressed || b[1] > 125):
		return f, 0, fmt.Errorf("%w: control frame %#x %#x", errFrame, b[0], b[1])
	}
	head, length := 2, uint64(b[1])
	switch length {
	case 126:
		head = 4
	case 127:
		head = 10
	}
	if len(b) < head {
		return f, 0, nil
	}
	switch head {
	case 4:
		length = uint64(binary.BigEndian.Uint16(b[2:]))
	case 10:
		length = binary.BigEndian.Uint64(b[2:])
	}
	if length > largestFrame {
		return f, 0, fmt.Errorf("%w: %d bytes", errFrame, length)
	}
	size = head + int(length)
	if len(b) < size {
		return f, 0, nil
	}
	f.payload = b[head:size]
	return f, size, nil
}

// masked is a whole frame of a client. Its mask is zero, which the RFC's wire allows and saves the work. The payload has at most 65535 bytes.
func masked(op byte, payload []byte) []byte {
	b := []byte{0x80 | op}
	if len(payload) < 126 {
		b = append(b, 0x80|byte(len(payload)))
	} else {
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(len(payload)))
	}
	return append(append(b, 0, 0, 0, 0), payload...)
}
