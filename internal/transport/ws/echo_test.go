package ws

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"allim/internal/session"
)

// serveEcho is a server that echoes, as the conformance command has it.
func serveEcho(t *testing.T, most, deflate int) (addr string) {
	t.Helper()
	s := New(Options{Limits: &session.Limits{Frame: most, Pong: time.Minute}, Metrics: session.NewMetrics(nil), Deflate: deflate})
	srv := httptest.NewServer(http.HandlerFunc(s.Echo))
	t.Cleanup(srv.Close)
	live(t, s)
	return srv.Listener.Addr().String()
}

// The groups of the Autobahn suite, in its order: what a client sends, in pieces of some bytes, and the frames that come back, until the connection ends.
func TestConformance(t *testing.T) {
	const mib = 1 << 20
	big := strings.Repeat("Hello-µ@ßöäüàá-UTF-8!! 37 bytes here...", mib/2)[:16*mib]
	for !utf8.ValidString(big) {
		big = big[:len(big)-1]
	}
	many := script{}
	for range 65_536 {
		many = many.frame(0x00, "0123456789abcdef")
	}
	bye := func(s script) script { return s.frame(0x88, "\x03\xe8") }
	const closed = "88 \x03\xe8"
	for _, c := range []struct {
		name  string
		in    script
		chop  int // bytes in one write; 0: all
		wants []string
	}{
		{"1.1.1 empty text", bye(script{}.frame(0x81, "")), 0, []string{"81 ", closed}},
		{"1.1.6 65,535 bytes", bye(script{}.frame(0x81, strings.Repeat("*", 65_535))), 0, []string{"81 " + strings.Repeat("*", 65_535), closed}},
		{"1.1.8 65,536 bytes chopped", bye(script{}.frame(0x81, strings.Repeat("*", 65_536))), 997, []string{"81 " + strings.Repeat("*", 65_536), closed}},
		{"1.2.4 binary", bye(script{}.frame(0x82, "\xfe\xff")), 0, []string{"82 \xfe\xff", closed}},
		{"2.4 ping of 125 bytes", bye(script{}.frame(0x89, strings.Repeat("\xfe", 125))), 0, []string{"8a " + strings.Repeat("\xfe", 125), closed}},
		{"2.5 ping of 126 bytes", script{}.frame(0x89, strings.Repeat("\xfe", 126)), 0, []string{"88 \x03\xea"}},
		{"2.6 ping, octet by octet", bye(script{}.frame(0x89, "abc")), 1, []string{"8a abc", closed}},
		{"2.7 a pong that nobody asked for", bye(script{}.frame(0x8A, "x").frame(0x89, "y")), 0, []string{"8a y", closed}},
		{"2.10 ten pings", bye(pings(10)), 0, append(pongs(10), closed)},
		{"3.2 RSV2 after a text", script{}.frame(0x81, "hello").frame(0xA1, "x").frame(0x89, ""), 0, []string{"81 hello", "88 \x03\xea"}},
		{"3.7 all RSV in a close", script{}.frame(0xF8, ""), 0, []string{"88 \x03\xea"}},
		{"4.1.1 opcode 3", script{}.frame(0x83, ""), 0, []string{"88 \x03\xea"}},
		{"4.2.3 opcode 12 after a text", script{}.frame(0x81, "x").frame(0x8C, "").frame(0x89, ""), 0, []string{"81 x", "88 \x03\xea"}},
		{"5.1 a ping in fragments", script{}.frame(0x09, "a").frame(0x80, "b"), 0, []string{"88 \x03\xea"}},
		{"5.6 a ping between fragments", bye(script{}.frame(0x01, "fragment1").frame(0x89, "ping").frame(0x80, "fragment2")), 1, []string{"8a ping", "81 fragment1fragment2", closed}},
		{"5.9 a continuation of nothing", script{}.frame(0x80, "x").frame(0x81, "y"), 0, []string{"88 \x03\xea"}},
		{"5.18 a text within a text", script{}.frame(0x01, "a").frame(0x81, "b"), 0, []string{"88 \x03\xea"}},
		{"5.19 fragments and pings", bye(script{}.frame(0x01, "1").frame(0x00, "2").frame(0x89, "p").frame(0x00, "3").frame(0x89, "q").frame(0x80, "4")), 3, []string{"8a p", "8a q", "81 1234", closed}},
		{"6.2.3 a character in pieces", bye(script{}.frame(0x01, "\xce").frame(0x00, "\xba\xe1\xbd").frame(0x80, "\xb9")), 0, []string{"81 \xce\xba\xe1\xbd\xb9", closed}},
		{"6.3.1 no text", script{}.frame(0x81, "\xce\xba\xe1\xbd\xb9\xcf\x83\xed\xa0\x80ed"), 0, []string{"88 \x03\xef"}},
		{"6.4.3 known before its end", script{}.frame(0x81, "\xce\xba\xf4\x90\x80\x80ed")[:14], 1, []string{"88 \x03\xef"}},
		{"7.1.2 two closes", bye(bye(script{})), 0, []string{closed}},
		{"7.1.4 a text after a close", bye(script{}).frame(0x81, "x"), 0, []string{closed}},
		{"7.1.6 256 KiB, then a close", bye(script{}.frame(0x81, strings.Repeat("B", 256<<10))), 0, nil}, // which is answered first is nobody's business
		{"7.3.1 an empty close", script{}.frame(0x88, ""), 0, []string{"88 "}},
		{"7.3.2 one byte", script{}.frame(0x88, "a"), 0, []string{"88 \x03\xea"}},
		{"7.3.6 a reason of 124 bytes", script{}.frame(0x88, "\x03\xe8"+strings.Repeat("*", 124)), 0, []string{"88 \x03\xea"}},
		{"7.3.5 a reason of 123 bytes", script{}.frame(0x88, "\x03\xe8"+strings.Repeat("*", 123)), 0, []string{closed + strings.Repeat("*", 123)}},
		{"7.5.1 a reason that is no text", script{}.frame(0x88, "\x03\xe8\xce\xba\xed\xa0\x80"), 0, []string{"88 \x03\xef"}},
		{"7.7.13 code 4999", script{}.frame(0x88, "\x13\x87"), 0, []string{"88 \x13\x87"}},
		{"7.9.1 code 0", script{}.frame(0x88, "\x00\x00"), 0, []string{"88 \x03\xea"}},
		{"7.9.5 code 1006", script{}.frame(0x88, "\x03\xee"), 0, []string{"88 \x03\xea"}},
		{"9.1.6 16 MiB", bye(script{}.frame(0x81, big)), 0, []string{"81 " + big, closed}},
		{"9.3 1 MiB in fragments of 16 bytes", bye(append(script{}.frame(0x01, "x"), many...).frame(0x80, "")), 0, []string{"81 x" + strings.Repeat("0123456789abcdef", 65_536), closed}},
		{"9.5 1 MiB chopped", bye(script{}.frame(0x82, big[:mib])), 1024, []string{"82 " + big[:mib], closed}},
		{"10.1.1 fragments of the answer", bye(script{}.frame(0x81, strings.Repeat("*", 65_536))), 0, []string{"81 " + strings.Repeat("*", 65_536), closed}},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn, err := net.Dial("tcp", serveEcho(t, 16*mib, 0))
			if err != nil {
				t.Fatal(err)
			}
			l := upgrade(t, conn, nil)
			go func() {
				for in := []byte(c.in); len(in) > 0; {
					n := len(in)
					if c.chop > 0 {
						n = min(n, c.chop)
					}
					if _, err := l.Write(in[:n]); err != nil {
						return // after its close
					}
					in = in[n:]
				}
			}()
			_ = l.SetReadDeadline(time.Now().Add(20 * time.Second))
			var got []string
			for {
				first, payload, err := l.next()
				if err != nil {
					if err != io.EOF {
						t.Errorf("the connection does not end: %v", err)
					}
					break
				}
				if first == 0x88 && len(payload) > 2 && !strings.HasPrefix(strings.Join(c.wants, " "), "88 \x03\xe8*") {
					payload = payload[:2] // our own words
				}
				got = append(got, fmt.Sprintf("%x %s", first, payload))
			}
			if strings.Join(got, "|") != strings.Join(c.wants, "|") && c.wants != nil || len(got) == 0 {
				t.Errorf("got %.200q of %d\nwant %.200q of %d", got, len(got), c.wants, len(c.wants))
			}
		})
	}
}

func pings(n int) (s script) {
	for i := range n {
		s = s.frame(0x89, fmt.Sprint(i))
	}
	return s
}

func pongs(n int) (out []string) {
	for i := range n {
		out = append(out, fmt.Sprintf("8a %d", i))
	}
	return out
}
