package session

import (
	"math/rand/v2"
	"slices"
	"testing"

	"allim/pkg/fanout"
	"allim/pkg/notify"
)

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

func TestAFullOutboxGivesUpTheOldestEphemeralMessagesForANewOne(t *testing.T) {
	l := Limits{QueueFrames: 4, Queue: 1 << 20}.withDefaults()
	var o outbox
	said := func(text string, c notify.Change) item {
		return item{d: &fanout.Delivery{Message: &notify.Message{ID: text, Change: c}}}
	}
	for _, text := range []string{"e1", "m1", "e2", "m2"} {
		c := notify.ChangeMessage
		if text[0] == 'e' {
			c = notify.ChangeEphemeral
		}
		o.push(said(text, c))
	}
	for i, want := range []int{1, 1, 1} { // e1, e2, then the one that took the place of e1
		if got := o.yield(&l); got != want || o.full(&l) {
			t.Fatalf("time %d: %d dropped, full: %v", i, got, o.full(&l))
		}
		o.push(said("new", notify.ChangeEphemeral))
	}
	got := ""
	for i, ok := o.pop(); ok; i, ok = o.pop() {
		got += i.d.Message.ID + " "
	}
	if got != "m1 m2 new new " {
		t.Errorf("got %s", got)
	}
	if o.items != nil || o.bytes != 0 || o.holes != 0 || o.brief != 0 {
		t.Errorf("emptied it holds %+v", o)
	}
	for range 4 {
		o.push(item{own: []byte("x")})
	}
	if o.yield(&l) != 0 || !o.full(&l) {
		t.Error("something else than an ephemeral message was dropped")
	}
}

// Whatever is pushed, dropped and popped: order is kept, counts are true, and the place it takes is that of what waits.
func TestAnOutboxIsAQueueWithHoles(t *testing.T) {
	l := Limits{QueueFrames: 50, Queue: 5000}.withDefaults()
	r := rand.New(rand.NewPCG(1, 2))
	var o outbox
	var want []item
	for step := range 200_000 {
		if r.IntN(20) > 9+step/20_000%3-1 { // for a while it fills, then it empties
			i := item{own: make([]byte, r.IntN(200))}
			if r.IntN(2) == 0 {
				i = item{d: &fanout.Delivery{Message: &notify.Message{Change: notify.ChangeEphemeral, Data: make([]byte, r.IntN(100))}}}
				was := len(want)
				for len(want) >= l.QueueFrames || bytesOf(want) >= l.Queue {
					n := slices.IndexFunc(want, func(i item) bool { return i.ephemeral() })
					if n < 0 {
						break
					}
					want = slices.Delete(want, n, n+1)
				}
				if got := o.yield(&l); got != was-len(want) {
					t.Fatalf("step %d: dropped %d, want %d", step, got, was-len(want))
				}
			}
			if !o.full(&l) {
				o.push(i)
				want = append(want, i)
			}
		} else {
			i, ok := o.pop()
			if ok != (len(want) > 0) || ok && (i.d != want[0].d || len(i.own) != len(want[0].own)) {
				t.Fatalf("step %d: popped %+v %v, want the first of %d", step, i, ok, len(want))
			}
			if ok {
				want = want[1:]
			}
		}
		if o.len() != len(want) || o.bytes != bytesOf(want) || len(o.items) > 2*len(want)+130 {
			t.Fatalf("step %d: %d wait in %d places with %d bytes, want %d with %d", step, o.len(), len(o.items), o.bytes, len(want), bytesOf(want))
		}
	}
}

func bytesOf(items []item) (n int) {
	for i := range items {
		n += items[i].size()
	}
	return n
}
