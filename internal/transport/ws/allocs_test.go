package ws

import (
	"io"
	"net"
	"testing"

	"allim/internal/session"
)

// steady always has one frame to send.
type steady struct{ json []byte }

func (p *steady) Fill(b []byte, _ int, f *session.Framing) ([]byte, *session.End) {
	return f.Append(b, p.json), nil
}
func (*steady) Handle([]byte, bool) {}
func (*steady) End(int, string)     {}
func (*steady) Gone()               {}

// pair are the two ends of a TCP connection.
func pair(t testing.TB) (near, far net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if far, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if near, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = near.Close(), far.Close() })
	return near, far
}

// What is written to one connection after the other, by one flusher, needs no memory, however long the frame was before.
func TestAFlushCostsNoMemory(t *testing.T) {
	s := New(Options{Limits: &session.Limits{}, Metrics: session.NewMetrics(nil)})
	f := s.flushers[0]
	near, far := pair(t)
	for _, size := range []int{100, 100_000} {
		c := &conn{server: s, net: near, raw: rawOf(near), flusher: f, framing: &textFraming, peer: &steady{make([]byte, size)}}
		got := make([]byte, len(appendHead(nil, opText, size))+size)
		if allocs := testing.AllocsPerRun(200, func() {
			c.queued.Store(true) // as if it stood in the list: a frame of more than the scratch asks for another turn
			c.flush(f)
			if _, err := io.ReadFull(far, got); err != nil {
				t.Fatal(err)
			}
		}); allocs > 0 {
			t.Errorf("frames of %d bytes: %v allocations each", size, allocs)
		}
		s.wg.Wait()
	}
}

func BenchmarkFlush(b *testing.B) {
	s := New(Options{Limits: &session.Limits{}, Metrics: session.NewMetrics(nil)})
	f := s.flushers[0]
	near, far := pair(b)
	go func() { _, _ = io.Copy(io.Discard, far) }()
	c := &conn{server: s, net: near, raw: rawOf(near), flusher: f, framing: &textFraming, peer: &steady{make([]byte, 150)}}
	b.ReportAllocs()
	for b.Loop() {
		c.flush(f)
	}
	s.wg.Wait()
}
