package ws

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
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

	"allim/internal/testkit"
)

// Whatever is sent from many sides at once, however little the client takes at a time, and whatever it sends meanwhile, in whatever pieces: it reads whole
// frames, those of each who speaks in their order, a pong for each ping that it asks, ours, a close as the last; and all that it sent was heard, in order.
func TestFramesNeverStandWithinOneAnother(t *testing.T) {
	for seed := range uint64(16) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { storm(t, seed, 70) })
	}
}

func FuzzFramesNeverStandWithinOneAnother(f *testing.F) {
	for seed := range uint64(16) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) { storm(t, seed, 30) })
}

// Who ends a storm.
const (
	endClient = iota // when it has read everything
	endServer
	endBoth  // the client does not wait for that
	endFault // of the client's
	endings
)

const speakers = 3

// A weather is what one storm is made of, and what has come of it so far.
type weather struct {
	t     *testing.T
	r     *rand.Rand
	l     *line
	end   int
	code  int // of the server's close
	left  [speakers][][]byte
	asked map[string]int // pings without a pong
	tells []string       // messages of the client's
	sends script         // its bytes
}

// storm plays one. Seeds alike are storms alike: of four two are under TLS, and two compressed, with their neighbours.
func storm(t *testing.T, seed uint64, frames int) {
	r := rand.New(rand.NewPCG(seed, 1))
	_, dial := serveLines(t, Options{Deflate: LeastDeflate}, seed&1 > 0)
	var offer []string
	if seed&2 > 0 {
		offer = []string{"Sec-WebSocket-Extensions: " + offerDeflate}
	}
	w := &weather{t: t, r: r, l: dial(offer...), end: int(seed / 4 % endings), code: 3000 + r.IntN(100), asked: map[string]int{}, tells: []string{"false early"}}
	if tcp, plain := w.l.Conn.(*net.TCPConn); plain { // little room, so that frames leave in pieces
		_ = tcp.SetReadBuffer(32 << 10)
		_ = w.l.peer.conn.net.(*net.TCPConn).SetWriteBuffer(16 << 10)
	}
	w.compose(frames, offer != nil)
	_ = w.l.SetDeadline(time.Now().Add(30 * time.Second))
	var heard []func()
	var wg, speaking sync.WaitGroup
	defer wg.Wait()
	for range runtime.GOMAXPROCS(0) { // one for each flusher
		other := dial(offer...)
		defer func() { _ = other.Close() }()
		wg.Go(func() {
			for range frames {
				other.peer.say(bytes.Repeat([]byte("Z"), 20_000))
			}
		})
		wg.Go(func() { _, _ = io.Copy(io.Discard, other.r) })
		if offer != nil {
			tells, sends := w.chat(frames)
			heard = append(heard, func() {
				testkit.Eventually(t, 20*time.Second, func() bool { return len(other.peer.all()) >= len(tells) }, "a neighbour is heard")
				if !slices.Equal(other.peer.all(), tells) {
					t.Error("a neighbour was heard otherwise")
				}
			})
			wg.Go(func() { _, _ = other.Write(sends) })
		}
	}
	for i := range speakers {
		all := slices.Clone(w.left[i])
		speaking.Add(1)
		wg.Go(func() {
			defer speaking.Done()
			for _, b := range all {
				w.l.peer.say(b)
			}
		})
	}
	wg.Go(func() {
		for range 50 {
			w.l.peer.conn.Ping()
		}
	})
	wg.Go(func() {
		speaking.Wait()
		if w.end == endServer || w.end == endBoth {
			w.l.peer.End(w.code, "done")
		}
	})
	sent := make(chan struct{})
	chops := rand.New(rand.NewPCG(seed, 2))
	wg.Go(func() {
		defer close(sent)
		for b := w.sends; len(b) > 0; {
			n := min(len(b), 1+chops.IntN(5000))
			if _, err := w.l.Write(b[:n]); err != nil {
				return // after the server's close
			}
			b = b[n:]
		}
	})
	w.read(sent)
	for _, check := range heard {
		check()
	}
}

// chat is what a neighbour compresses, at the same time as others.
func (w *weather) chat(messages int) (tells []string, sends script) {
	tells = []string{"false early"}
	for n := range messages {
		text := strings.Repeat(fmt.Sprint(w.r.IntN(1000), ";"), 1+n*7)
		tells, sends = append(tells, "false "+text), sends.frame(0xC1, string(pack(w.t, []byte(text))))
	}
	return tells, sends
}

// compose makes what both sides send.
func (w *weather) compose(frames int, packs bool) {
	sizes := []int{2, 3, 125, 126, 127, 300, 300, 300, 1000, 4095, 4096, 40_000, 65_535, 65_536}
	for i := range speakers {
		for n := range frames {
			b := bytes.Repeat([]byte{byte('a' + n%26)}, sizes[w.r.IntN(len(sizes))])
			b[0] = byte('0' + i)
			w.left[i] = append(w.left[i], b)
		}
	}
	pings := maxPings
	control := func() {
		switch w.r.IntN(3) {
		case 0:
			if pings--; pings >= 0 {
				p := strings.Repeat(string(rune('A'+pings)), w.r.IntN(126))
				w.asked[p]++
				w.sends = w.sends.frame(0x89, p)
			}
		case 1:
			w.sends = w.sends.frame(0x8A, strings.Repeat("o", w.r.IntN(126)))
		}
	}
	for n := range 40 {
		text := fmt.Sprint(n, strings.Repeat("µ", w.r.IntN(3)*w.r.IntN(2000)))
		w.tells = append(w.tells, "false "+text)
		first := byte(opText)
		if packs && w.r.IntN(2) == 0 {
			text, first = string(pack(w.t, []byte(text))), opText|bitRSV1
		}
		for rest := text; ; first = opContinuation { // in fragments that may cut a character, and may be empty
			cut := w.r.IntN(len(rest) + 1)
			if w.r.IntN(3) == 0 {
				cut = len(rest)
			}
			if cut == len(rest) {
				w.sends = w.sends.frame(bitFin|first, rest)
				break
			}
			w.sends = w.sends.frame(first, rest[:cut])
			rest = rest[cut:]
			control()
		}
		control()
	}
	switch w.end {
	case endBoth:
		w.sends = w.sends.frame(0x88, "\x03\xe9")
	case endFault:
		w.sends = w.sends.frame(0x83, "")
	}
}

// read takes what comes, until the end.
func (w *weather) read(sent <-chan struct{}) {
	for asking := false; ; {
		first, payload, err := w.l.next()
		if err != nil {
			w.t.Fatalf("%v; %d frames and %v pongs missing", err, w.missing(), w.asked)
		}
		switch first {
		case 0xC1:
			if payload, err = io.ReadAll(flate.NewReader(io.MultiReader(bytes.NewReader(payload), strings.NewReader(packedTail)))); err != nil {
				w.t.Fatal(err)
			}
			fallthrough
		case 0x81:
			w.take(payload)
		case 0x89:
			if len(payload) != 0 {
				w.t.Fatalf("a ping of %q", payload)
			}
		case 0x8A:
			if w.asked[string(payload)]--; w.asked[string(payload)] < 0 {
				w.t.Fatalf("a pong of %q", payload)
			}
		case 0x88:
			w.closed(payload, sent)
			return
		default:
			w.t.Fatalf("%#x", first)
		}
		if w.end == endClient && w.missing() == 0 && !asking {
			asking = true
			testkit.Closed(w.t, 10*time.Second, sent, "all is sent")
			if _, err := w.l.Write(script{}.frame(0x88, "\x03\xe8")); err != nil {
				w.t.Fatal(err)
			}
		}
	}
}

func (w *weather) missing() (n int) {
	for _, l := range w.left {
		n += len(l)
	}
	return n
}

// take wants the next frame of who says that it is its.
func (w *weather) take(payload []byte) {
	if len(payload) > 0 && int(payload[0]-'0') < speakers {
		if left := &w.left[payload[0]-'0']; len(*left) > 0 && bytes.Equal(payload, (*left)[0]) {
			*left = (*left)[1:]
			return
		}
	}
	w.t.Fatalf("a frame of %d bytes, %.10q", len(payload), payload)
}

// closed wants the close that belongs to the storm, and nothing after it.
func (w *weather) closed(payload []byte, sent <-chan struct{}) {
	t := w.t
	reason := string(payload[2:])
	switch code := int(binary.BigEndian.Uint16(payload)); {
	case w.end == endClient && code == 1000, w.end == endFault && code == 1002, w.end == endBoth && code == 1001:
	case (w.end == endServer || w.end == endBoth) && code == w.code && reason == "done":
		if n := w.missing(); n > 0 {
			t.Errorf("closed before %d frames", n)
		}
	default:
		t.Fatalf("closed with %d %q", code, reason)
	}
	if w.end == endServer {
		testkit.Closed(t, 10*time.Second, sent, "all is sent")
		_, _ = w.l.Write(script{}.frame(0x88, string(payload)))
	}
	if rest, _ := io.ReadAll(w.l.r); len(rest) > 0 {
		t.Fatalf("%x after the close", rest)
	}
	_ = w.l.Close()
	testkit.Closed(t, 5*time.Second, w.l.peer.gone, "the peer is told")
	heard := w.l.peer.all()
	if !slices.Equal(heard, w.tells) {
		t.Errorf("heard %d messages of %d", len(heard), len(w.tells))
	}
	for p, n := range w.asked {
		if n != 0 && (w.end == endClient || w.end == endFault) {
			t.Errorf("%d pongs missing of %q", n, p)
		}
	}
}
