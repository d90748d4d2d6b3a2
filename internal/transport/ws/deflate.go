package ws

import (
	"bytes"
	"compress/flate"
	"sync"

	"allim/internal/session"
)

// formatDeflated is the first of the formats of a fanout.Delivery that are frames with compressed JSON; those below are JSON.
const formatDeflated = 2

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

// deflating frames JSON, compressed from least bytes on.
func deflating(least int) session.Framing {
	return session.Framing{
		Format: formatDeflated,
		Encode: func(json []byte) []byte {
			if len(json) >= least {
				p := packers.Get().(*packer)
				defer packers.Put(p)
				if packed := p.pack(json); packed != nil {
					b := appendHead(make([]byte, 0, len(packed)+maxHead), opText, len(packed))
					b[0] |= bitRSV1
					return append(b, packed...)
				}
			}
			return textFraming.Append(make([]byte, 0, len(json)+maxHead), json)
		},
		Append: func(b, frame []byte) []byte { return append(b, frame...) },
	}
}
