package session

import "testing"

// The bounds are those of the options: four frames or 100 bytes, and a quarter of them.
func TestBoundsOfAnOutboxCanBeSet(t *testing.T) {
	l := Limits{QueueFrames: 4, Queue: 100}.withDefaults()
	for _, c := range []struct {
		frames, bytes int // of each
		full, low     bool
	}{{1, 1, false, true}, {2, 1, false, false}, {3, 1, false, false}, {4, 1, true, false}, {1, 25, false, true}, {1, 26, false, false}, {1, 99, false, false}, {1, 100, true, false}} {
		var o outbox
		for range c.frames {
			o.push(item{own: make([]byte, c.bytes)})
		}
		if o.full(&l) != c.full || o.low(&l) != c.low {
			t.Errorf("%d frames of %d bytes: got full %v and low %v", c.frames, c.bytes, o.full(&l), o.low(&l))
		}
	}
}

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
		l := Limits{}.withDefaults()
		for range c.frames {
			o.push(item{own: make([]byte, c.bytes)})
		}
		if o.full(&l) != c.full || o.low(&l) != c.low {
			t.Errorf("%s: got full %v and low %v, want %v and %v", c.name, o.full(&l), o.low(&l), c.full, c.low)
		}
		for range c.frames {
			o.pop()
		}
		if o.bytes != 0 || o.len() != 0 || o.items != nil {
			t.Errorf("%s: an emptied outbox holds %d bytes in %d places", c.name, o.bytes, cap(o.items))
		}
	}
}
