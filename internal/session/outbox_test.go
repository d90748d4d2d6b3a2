package session

import "testing"

// The contract's bound of what waits for a connection: one below it takes more, at it nothing more is taken but a session's own frames.
func TestAnOutboxIsFullAtItsBounds(t *testing.T) {
	for _, c := range []struct {
		name          string
		frames, bytes int // of each
		full, low     bool
	}{
		{"nothing", 0, 0, false, true},
		{"511 frames", 511, 1, false, false},
		{"512 frames", 512, 1, true, false},
		{"513 frames", 513, 1, true, false},
		{"a byte below 256 KiB", 1, 256<<10 - 1, false, false},
		{"256 KiB", 1, 256 << 10, true, false},
		{"a byte above 256 KiB", 1, 256<<10 + 1, true, false},
		{"a quarter of the frames", 128, 1, false, true},
		{"a frame above a quarter", 129, 1, false, false},
		{"a quarter of the bytes", 1, 64 << 10, false, true},
		{"a byte above a quarter", 1, 64<<10 + 1, false, false},
	} {
		var o outbox
		for range c.frames {
			o.push(item{own: make([]byte, c.bytes)})
		}
		if o.full() != c.full || o.low() != c.low {
			t.Errorf("%s: got full %v and low %v, want %v and %v", c.name, o.full(), o.low(), c.full, c.low)
		}
		for range c.frames {
			o.pop()
		}
		if o.bytes != 0 || o.len() != 0 || o.items != nil {
			t.Errorf("%s: an emptied outbox holds %d bytes in %d places", c.name, o.bytes, cap(o.items))
		}
	}
}
