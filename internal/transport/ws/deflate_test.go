package ws

import (
	"bytes"
	"compress/flate"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"allim/internal/testkit"
)

const offerDeflate = "permessage-deflate; client_no_context_takeover; server_no_context_takeover"

var aText = strings.Repeat("a row has changed; ", 100)

// What many receive is compressed from the bound on; what does not get smaller by it goes as it is, and so does what is one connection's own.
func TestWhatIsCompressed(t *testing.T) {
	d := deflating(100)
	packed := d.Shared([]byte(aText))
	if packed[0] != bitFin|bitRSV1|opText || len(packed) > len(aText)/4 {
		t.Fatalf("%#x, %d bytes of %d", packed[0], len(packed), len(aText))
	}
	got, err := io.ReadAll(flate.NewReader(io.MultiReader(bytes.NewReader(packed[2:]), strings.NewReader(packedTail))))
	if err != nil || string(got) != aText {
		t.Fatal(err, string(got))
	}
	if b := d.Shared([]byte(aText[:100])); len(b) == 0 {
		t.Error("a text of just the bound is not compressed")
	}
	for what, b := range map[string][]byte{"a byte below the bound": []byte(aText[:99]), "what does not get smaller": noise(200)} {
		if b := d.Shared(b); b == nil || len(b) > 0 {
			t.Errorf("%s: %x", what, b)
		}
	}
	if b := d.Append(nil, []byte(aText[:99])); string(b) != "\x81\x63"+aText[:99] {
		t.Errorf("%q", b)
	}
}

func noise(n int) []byte {
	r, b := rand.New(rand.NewPCG(1, 2)), make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// Whoever offers it is answered, in the one form that is spoken, and nobody else: then no frame is compressed.
func TestCompressionIsAgreedOn(t *testing.T) {
	text := []byte(aText)
	for _, c := range []struct {
		name, offer string
		deflate     int
		agreed      bool
	}{
		{"a browser", "permessage-deflate; client_max_window_bits", LeastDeflate, true},
		{"both parameters", offerDeflate, LeastDeflate, true},
		{"a second offer that can be taken", "permessage-deflate; server_max_window_bits=10, permessage-deflate", LeastDeflate, true},
		{"a window that ours does not have", "permessage-deflate; server_max_window_bits=10", LeastDeflate, false},
		{"something else", "x-webkit-deflate-frame", LeastDeflate, false},
		{"no offer", "", LeastDeflate, false},
		{"a gateway without it", offerDeflate, 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, dial := serveLines(t, Options{Deflate: c.deflate}, false)
			l := dial("Sec-WebSocket-Extensions: " + c.offer)
			if got := l.answer.Get("Sec-WebSocket-Extensions"); (got != "") != c.agreed {
				t.Fatalf("answered %q", got)
			} else if c.agreed && (!strings.Contains(got, "server_no_context_takeover") || !strings.Contains(got, "client_no_context_takeover")) {
				t.Errorf("answered %q", got)
			}
			f := l.peer.conn.framing
			b := f.Append(nil, text)
			if f.Shared != nil {
				b = f.Shared(text)
			}
			if packed := b[0]&bitRSV1 != 0; packed != c.agreed {
				t.Errorf("compressed: %v", packed)
			}
		})
	}
}

// A stock client of each kind reads what was compressed once for all, and is read when it compresses by itself.
func TestStockClientsSpeakCompressed(t *testing.T) {
	addr := serveEcho(t, 1<<20, LeastDeflate)
	for _, mode := range []websocket.CompressionMode{websocket.CompressionDisabled, websocket.CompressionNoContextTakeover, websocket.CompressionContextTakeover} {
		c, _, err := websocket.Dial(testkit.Context(t, 5*time.Second), "ws://"+addr, &websocket.DialOptions{CompressionMode: mode, CompressionThreshold: 1})
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := c.Write(testkit.Context(t, 5*time.Second), websocket.MessageText, []byte(aText)); err != nil {
				t.Fatal(err)
			}
			if _, b, err := c.Read(testkit.Context(t, 5*time.Second)); err != nil || string(b) != aText {
				t.Fatalf("%v: %q, %v", mode, b, err)
			}
		}
		_ = c.CloseNow()
	}
}

// A client's message is measured when it is inflated. Until then it may be a little longer: what does not get smaller grows.
func TestACompressedMessageIsMeasuredInflated(t *testing.T) {
	const most = 100_000
	addr := serveEcho(t, most, LeastDeflate)
	bomb := string(pack(t, make([]byte, 100*most)))
	for _, c := range []struct {
		name  string
		frame script
		first byte
		want  string
	}{
		{"just the bound", script{}.frame(0xC2, string(pack(t, make([]byte, most)))), 0x82, strings.Repeat("\x00", most)},
		{"just the bound, and longer as it comes", script{}.frame(0xC2, string(pack(t, noise(most)))), 0x82, string(noise(most))},
		{"one byte more", script{}.frame(0xC2, string(pack(t, make([]byte, most+1)))), 0x88, "\x03\xf1"},
		{"one byte more that does not get smaller", script{}.frame(0xC2, string(pack(t, noise(most+1)))), 0x88, "\x03\xf1"},
		{"not compressed, and one byte more", script{}.frame(0x82, string(noise(most+1))), 0x88, "\x03\xf1"},
		{"longer than it could be", script{}.frame(0xC2, strings.Repeat("\x00", most+most/7+65)), 0x88, "\x03\xf1"},
		{"a bomb", script{}.frame(0xC1, bomb), 0x88, "\x03\xf1"},
		{"a bomb in fragments", script{}.frame(0x41, bomb[:1000]).frame(0x89, "").frame(0x80, bomb[1000:]), 0x8A, ""},
		{"nothing", script{}.frame(0xC1, "\x00"), 0x81, ""},
		{"an end of its own", script{}.frame(0xC1, "\xf3\x48\xcd\xc9\xc9\x07\x00\x00"), 0x81, "Hello"}, // RFC 7692, section 7.2.3.4
		{"in fragments", script{}.frame(0x41, "\xf2\x48\xcd").frame(0x80, "\xc9\xc9\x07\x00"), 0x81, "Hello"},
		{"no text", script{}.frame(0xC1, string(pack(t, []byte("\xff\xfe\xfd")))), 0x88, "\x03\xef"},
		{"no stream at all", script{}.frame(0xC1, ""), 0x88, "\x03\xef"},
		{"rubbish", script{}.frame(0xC1, "\xff\xff\xff\xff"), 0x88, "\x03\xef"},
		{"a distance beyond its beginning", script{}.frame(0xC1, "\x4a\x04\x31\x00\x00\x00"), 0x88, "\x03\xef"},
		{"a packed continuation", script{}.frame(0x01, "a").frame(0xC0, "b"), 0x88, "\x03\xea"},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			l := upgrade(t, conn, []string{"Sec-WebSocket-Extensions: " + offerDeflate})
			_ = l.SetDeadline(time.Now().Add(10 * time.Second))
			go func() { _, _ = l.Write(c.frame) }() // it may be refused before it is out
			first, payload, err := l.next()
			if first == 0x88 && len(payload) > 2 {
				payload = payload[:2] // our own words
			}
			if err != nil || first != c.first || string(payload) != c.want {
				t.Fatalf("got %#x %.40q of %d bytes, %v", first, payload, len(payload), err)
			}
			if first == 0x8A {
				first, payload, err = l.next()
				if err != nil || first != 0x88 || string(payload[:2]) != "\x03\xf1" {
					t.Fatalf("%#x %q, %v", first, payload, err)
				}
			}
			if first != 0x88 {
				return
			}
			if n, err := io.Copy(io.Discard, l.r); n > 0 || err != nil {
				t.Fatal(n, err)
			}
		})
	}
}

// However much it would become, a message costs no more memory than one may have; and what inflated it stays with no connection.
func TestABombCostsNoMoreThanAMessageMay(t *testing.T) {
	const most = 64 << 10
	bomb := slices.Grow(pack(t, make([]byte, 8<<20)), len(packedTail))
	u := unpackers.New().(*unpacker)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f := u.unpack(bomb, most)
	runtime.ReadMemStats(&after)
	if f == nil || f.code != 1009 || cap(u.out) > maxHead+most+1 {
		t.Errorf("%v, room of %d bytes", f, cap(u.out))
	}
	if cost := after.TotalAlloc - before.TotalAlloc; cost > 4*most { // with the smaller rooms that it had on the way
		t.Errorf("%d bytes", cost)
	}
	if allocs := testing.AllocsPerRun(100, func() {
		if f := u.unpack(bomb, most); f == nil {
			t.Fatal("it was taken")
		}
	}); allocs > 5 { // the fault, with its words; nothing for the message
		t.Errorf("%v allocations", allocs)
	}
}

func pack(t *testing.T, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := flate.NewWriter(&out, flate.BestCompression)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()[:out.Len()-4]
}

// What is borrowed to inflate and to compress is one message's at a time: many clients at once read their own.
func TestManyCompressedAtOnce(t *testing.T) {
	addr := serveEcho(t, 1<<20, LeastDeflate)
	var wg sync.WaitGroup
	for i := range 12 {
		wg.Go(func() {
			c, _, err := websocket.Dial(testkit.Context(t, 20*time.Second), "ws://"+addr, &websocket.DialOptions{CompressionMode: websocket.CompressionNoContextTakeover, CompressionThreshold: 1})
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { _ = c.CloseNow() }()
			for n := range 60 {
				text := strings.Repeat(fmt.Sprint(i, "-", n, ";"), 1+n*7)
				if err := c.Write(testkit.Context(t, 20*time.Second), websocket.MessageText, []byte(text)); err != nil {
					t.Error(err)
					return
				}
				c.SetReadLimit(1 << 20)
				if _, b, err := c.Read(testkit.Context(t, 20*time.Second)); err != nil || string(b) != text {
					t.Errorf("%d %d: %.20q %v", i, n, b, err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// What takes long to compress is not, and what once grew large is not kept.
func TestWhatIsTooLongToCompress(t *testing.T) {
	d := deflating(LeastDeflate)
	if b := d.Shared(bytes.Repeat([]byte("x"), mostDeflate)); len(b) == 0 {
		t.Error("64 KiB go as they are")
	}
	if b := d.Shared(bytes.Repeat([]byte("x"), mostDeflate+1)); len(b) > 0 {
		t.Error("more is compressed")
	}
	p := packers.New().(*packer)
	p.pack(noise(4 * keepSize))
	p.release()
	for range 10 {
		if packers.Get() == any(p) {
			t.Fatalf("%d bytes are kept", p.out.Cap())
		}
	}
}
