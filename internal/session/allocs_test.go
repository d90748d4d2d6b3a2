//go:build !race

package session

import (
	"testing"

	"allim/pkg/fanout"
	"allim/pkg/notify"
)

// A message costs no memory for one receiver more: its bytes are shared, and so are the places in which it waits.
// The race detector has pools forget on purpose: make test runs this room without it, too.
func TestAReceiverMoreCostsNoMemory(t *testing.T) {
	ss := New(Options{})
	s := ss.Open(deafConn{}, Hello{}, nil)
	defer s.Gone()
	c := &sub{s: s, topic: "feed"}
	f := &Framing{Append: func(b, json []byte) []byte { return append(append(b, 0x81, byte(len(json))), json...) }}
	buf := make([]byte, 0, 4<<10)
	offset := uint64(0)
	d := &fanout.Delivery{Stream: notify.Stream{Tenant: "default", Topic: "feed"}, Message: &notify.Message{ID: "a", Data: []byte(`{"n":1}`), Position: notify.Position{Epoch: "e", Offset: offset}}}
	got := 0
	if allocs := testing.AllocsPerRun(1000, func() {
		for range 3 { // of a burst
			if !c.Deliver(nil, d, false) {
				t.Fatal("refused")
			}
		}
		b, end := s.Fill(buf, cap(buf), f)
		if end != nil {
			t.Fatal(end)
		}
		got = len(b)
	}); allocs != 0 || got == 0 {
		t.Errorf("%v allocations a burst, %d bytes", allocs, got)
	}
}
