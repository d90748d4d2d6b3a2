package session

import (
	"allim/internal/wire"
	"allim/pkg/fanout"
)

// A Framing is how a transport makes bytes for its socket of a frame.
type Framing struct {
	// Format is what Encode makes, a number above those of JSON and below fanout.Formats: what it made once is shared by all receivers.
	Format int
	Encode func(json []byte) []byte // nil: as it is
	// Append appends what Encode made.
	Append func(b, encoded []byte) []byte
}

// Fill appends the next frames to b, in order, until it holds most bytes or more. end is set after the last frame.
func (s *Session) Fill(b []byte, most int, f *Framing) (out []byte, end *End) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for ; len(b) < most; n++ {
		i, ok := s.out.pop()
		if !ok {
			end = s.end
			break
		}
		cursor := ""
		if s.hello.HasCursor && (i.sub != nil || i.begins != nil) {
			cursor = s.cursorAfter(&i)
		}
		b = i.append(b, cursor, f)
	}
	if n == 0 {
		return b, end
	}
	s.shared.metrics.frames.Add(float64(n))
	if s.low() {
		s.met = false
		s.wakeWaiting()
		for _, c := range s.subs {
			c.resume()
		}
	}
	return b, end
}

// append appends what goes over the wire for i. cursor is "" where none is wanted.
func (i *item) append(b []byte, cursor string, f *Framing) []byte {
	shared := i.d != nil && !i.mine && cursor == ""
	json := i.own
	format := formatBare
	if i.counts {
		format = formatCounts
	}
	if i.d != nil {
		json = i.d.Encoded(format, func(d *fanout.Delivery) []byte { return wire.Message(d.Stream.Topic, d.Message, i.counts) })
	}
	switch {
	case f.Encode == nil && shared:
		return f.Append(b, json)
	case shared:
		return f.Append(b, i.d.Encoded(f.Format+format, func(*fanout.Delivery) []byte { return f.Encode(json) }))
	}
	if i.mine || cursor != "" {
		json = wire.With(json, i.mine, cursor)
	}
	if f.Encode != nil {
		json = f.Encode(json)
	}
	return f.Append(b, json)
}
