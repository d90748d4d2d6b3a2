package ws

import (
	"bytes"
	"compress/flate"
	"io"
	"sync"

	"allim/internal/session"
	"allim/internal/wire"
)

// formatDeflated is the first of the formats of a fanout.Delivery that are frames with compressed JSON; those below are JSON.
const formatDeflated = 2

// LeastDeflate is the least that Options.Deflate may be: shorter texts hardly get smaller, and a packet is not cheaper for it.
const LeastDeflate = 64

// mostDeflate is the most that is compressed: it is done with a session locked, and 1 MiB, which limits.data may let through, would take 22 ms of that.
const mostDeflate = 64 << 10

// A packer compresses one frame after the other (RFC 7692). No context is taken over from one to the next, so what it makes is the same for all receivers.
type packer struct {
	w   *flate.Writer
	out bytes.Buffer
}

var packers = sync.Pool{New: func() any {
	p := &packer{}
	p.w, _ = flate.NewWriter(&p.out, flate.BestSpeed) // the level is a valid one
	return p
}}

// pack compresses b without the tail that the receiver adds (section 7.2.1), and returns nil where that saves nothing.
func (p *packer) pack(b []byte) []byte {
	p.out.Reset()
	p.w.Reset(&p.out)
	_, _ = p.w.Write(b) // into memory
	_ = p.w.Flush()
	if n := p.out.Len() - 4; n < len(b) {
		return p.out.Bytes()[:n]
	}
	return nil
}

// release gives p back; what it made counts for nothing any more.
func (p *packer) release() {
	if p.out.Cap() <= keepSize {
		packers.Put(p)
	}
}

// deflating frames JSON that many receive, compressed from least bytes to mostDeflate. What is one connection's own goes as it is: to compress it would be done for it
// alone, and while its session is locked.
func deflating(least int) session.Framing {
	return session.Framing{Append: textFraming.Append, Format: formatDeflated, Shared: func(json []byte) []byte {
		if len(json) < least || len(json) > mostDeflate {
			return []byte{}
		}
		p := packers.Get().(*packer)
		defer p.release()
		packed := p.pack(json)
		if packed == nil {
			return []byte{}
		}
		b := appendHead(make([]byte, 0, len(packed)+maxHead), opText, len(packed))
		b[0] |= bitRSV1
		return append(b, packed...)
	}}
}

// An unpacker inflates one message after the other. It is borrowed for that: the library's own would stay with its connection.
type unpacker struct {
	in  bytes.Reader
	r   io.ReadCloser // a flate.Resetter, of in
	out []byte        // maxHead of room, then what was inflated
}

var unpackers = sync.Pool{New: func() any {
	u := &unpacker{out: make([]byte, maxHead, readSize)}
	u.r = flate.NewReader(&u.in)
	return u
}}

// packedTail is what a sender leaves out, and an empty last block, so that the stream ends (RFC 7692, section 7.2.2).
const packedTail = "\x00\x00\xff\xff\x01\x00\x00\xff\xff"

// unpack inflates a message, which it may write behind, to at most most bytes. They stand in u.out, behind room for a head.
func (u *unpacker) unpack(b []byte, most int) *fault {
	u.in.Reset(append(b, packedTail...))
	_ = u.r.(flate.Resetter).Reset(&u.in, nil) // always nil
	u.out = u.out[:maxHead]
	for {
		if len(u.out) == cap(u.out) { // doubled, but never beyond what is allowed, and the byte that shows that there is more
			u.out = append(make([]byte, 0, min(2*cap(u.out), maxHead+most+1)), u.out...)
		}
		n, err := u.r.Read(u.out[len(u.out):min(cap(u.out), maxHead+most+1)])
		u.out = u.out[:len(u.out)+n]
		switch {
		case len(u.out) > maxHead+most:
			return tooBig(most)
		case err == io.EOF:
			return nil
		case err != nil:
			return &fault{wire.CloseNotUTF8, "data that cannot be unpacked"} // RFC 7692, section 7.2.2, and 7.4.1 of RFC 6455: not consistent with its type
		}
	}
}

// release gives u back; what it made counts for nothing any more.
func (u *unpacker) release() {
	if cap(u.out) <= keepSize {
		u.in.Reset(nil)
		unpackers.Put(u)
	}
}
