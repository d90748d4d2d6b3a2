package session

import (
	"allim/internal/wire"
	"allim/pkg/fanout"
)

// A Framing is how a transport makes bytes for its socket of a frame.
type Framing struct {
	// Append appends JSON as a frame.
	Append func(b, json []byte) []byte
	// Shared makes a whole frame of JSON that many receive, once for all of them: its bytes, or none (but not nil) where Append is as good. It is called
	// with the session's lock held. nil: Append is always as good.
	Shared func(json []byte) []byte
	Format int // what Shared makes, beside the formats of JSON; as many numbers are taken from it on
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
		if s.untold {
			s.recount()
		}
		if s.lagging {
			s.lagging = false
			for _, c := range s.subs {
				c.resume()
				s.lagging = s.lagging || c.lags
			}
		}
	}
	return b, end
}

// append appends what goes over the wire for i. cursor is "" where none is wanted.
func (i *item) append(b []byte, cursor string, f *Framing) []byte {
	shared := i.d != nil && i.own == nil && !i.mine && cursor == ""
	json := i.own
	format := formatBare
	if i.counts {
		format = formatCounts
	}
	if i.d != nil && i.own == nil {
		json = i.d.Encoded(format, func(d *fanout.Delivery) []byte { return wire.Message(d.Stream.Topic, d.Message, i.counts) })
	}
	if shared && f.Shared != nil {
		if frame := i.d.Encoded(f.Format+format, func(*fanout.Delivery) []byte { return f.Shared(json) }); len(frame) > 0 {
			return append(b, frame...)
		}
	}
	if i.mine || cursor != "" {
		json = wire.With(json, i.mine, cursor)
	}
	return f.Append(b, json)
}
