package testkit

import (
	"bytes"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"
)

// A stream of what Redis sends, with messages among other values; what is left of it without those of channel b.
const (
	respStream = "+OK\r\n>3\r\n$7\r\nmessage\r\n$1\r\na\r\n$5\r\none\r\n\r\n:7\r\n*3\r\n$7\r\nmessage\r\n$1\r\nb\r\n$0\r\n\r\n$-1\r\n" +
		">3\r\n$9\r\nsubscribe\r\n$1\r\nb\r\n:1\r\n*-1\r\n%2\r\n+k\r\n#t\r\n+l\r\n*1\r\n,1.5\r\n>3\r\n$8\r\nsmessage\r\n$1\r\nb\r\n$2\r\nxy\r\n|1\r\n+k\r\n+v\r\n_\r\n-ERR no\r\n"
	respWithoutB = "+OK\r\n>3\r\n$7\r\nmessage\r\n$1\r\na\r\n$5\r\none\r\n\r\n:7\r\n$-1\r\n" +
		">3\r\n$9\r\nsubscribe\r\n$1\r\nb\r\n:1\r\n*-1\r\n%2\r\n+k\r\n#t\r\n+l\r\n*1\r\n,1.5\r\n|1\r\n+k\r\n+v\r\n_\r\n-ERR no\r\n"
)

func TestOnlyMessagesAreDroppedHoweverTheBytesCome(t *testing.T) {
	t.Parallel()
	for size := 1; size <= len(respStream); size++ {
		f := &respFilter{loses: func(channel string) bool { return channel == "b" }}
		if got := inPieces(f, []byte(respStream), size); got != respWithoutB {
			t.Fatalf("in pieces of %d: got %q, want %q", size, got, respWithoutB)
		}
	}
}

func TestWhatIsNoRESPPassesAsItIs(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"HTTP/1.1 200 OK\r\n\r\n>3\r\n$7\r\nmessage\r\n", "$2\r\nabcd\r\n", "*x\r\n", "$99999999999\r\n", "+\n", "+OK\r\n\x16\x03", "$-2\r\n",
		strings.Repeat("*1\r\n", respDepth+2) + "+\r\n", "+" + strings.Repeat("x", respLine+1),
	} {
		f := &respFilter{loses: func(string) bool { return true }}
		if got := inPieces(f, []byte(text), 3); got != text {
			t.Errorf("got %.60q, want %.60q", got, text)
		}
		if !f.broken {
			t.Errorf("%.60q was taken for RESP", text)
		}
	}
}

// inPieces is what a filter passes on of b, which comes in pieces.
func inPieces(f *respFilter, b []byte, size int) string {
	var out bytes.Buffer
	for len(b) > 0 {
		n := min(size, len(b))
		out.Write(f.take(bytes.Clone(b[:n])))
		b = b[n:]
	}
	return out.String()
}

func FuzzRESPFilter(f *testing.F) {
	f.Add([]byte(respStream), 5)
	f.Add([]byte("*2\r\n$3\r\nabc\r\n"), 1)
	f.Add([]byte("no RESP"), 2)
	f.Fuzz(func(t *testing.T, b []byte, size int) {
		if size < 1 || size > 1<<16 {
			return
		}
		lose := func(lost bool, size int) (string, string) {
			f := &respFilter{loses: func(string) bool { return lost }}
			out := inPieces(f, b, size)
			return out, string(f.held)
		}
		// Nothing lost: what came out and what is held make up what came in.
		if out, held := lose(false, size); out+held != string(b) {
			t.Fatalf("got %q and %q held, want %q", out, held, b)
		}
		// The same is lost however it came.
		one, _ := lose(true, size)
		if all, _ := lose(true, len(b)+1); all != one {
			t.Fatalf("in pieces %q, at once %q", one, all)
		}
	})
}

func TestAProxyDropsAShareOfTheMessagesOfARealRedis(t *testing.T) {
	t.Parallel()
	redis := Redis(t)
	p := NewProxy(t, redis.Addr)
	p.Drop(5_000, 1, func(channel string) bool { return channel == "spared" })
	c := subscriber(t, p.Addr, "lossy", "spared")
	const n = 200
	admin, ctx := redis.Client(), Context(t, 10*time.Second)
	for range n {
		admin.Publish(ctx, "lossy", "x")
		admin.Publish(ctx, "spared", "y")
	}
	Eventually(t, 10*time.Second, func() bool { dropped, passed := p.Messages(); return dropped+passed == 2*n }, "all messages went by")
	dropped, passed := p.Messages()
	if dropped < n/4 || dropped > n*3/4 {
		t.Errorf("dropped %d of %d, want about half", dropped, n)
	}
	p.Drop(0, 0, nil)
	admin.Publish(ctx, "lossy", "the end")
	var got strings.Builder
	for buf := make([]byte, 4096); !strings.Contains(got.String(), "the end"); {
		m, err := c.Read(buf)
		if err != nil {
			t.Fatalf("read: %v", err)
		}
		got.Write(buf[:m])
	}
	if here := strings.Count(got.String(), "$7\r\nmessage\r\n"); here != passed+1 {
		t.Errorf("%d messages came, the proxy passed %d", here, passed+1)
	}
}

func TestADeafProxyHoldsAnswersAndNoRequests(t *testing.T) {
	t.Parallel()
	redis := Redis(t)
	p := NewProxy(t, redis.Addr)
	c := subscriber(t, p.Addr, "x")
	p.Deafen(true)
	if _, err := fmt.Fprint(c, "SUBSCRIBE y\r\n"); err != nil {
		t.Fatal(err)
	}
	admin, ctx := redis.Client(), Context(t, 10*time.Second)
	Eventually(t, 5*time.Second, func() bool { return admin.PubSubNumSub(ctx, "y").Val()["y"] == 1 }, "Redis hears the subscriber")
	_ = c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if n, err := c.Read(make([]byte, 1)); n > 0 || !isTimeout(err) {
		t.Fatalf("got %d bytes, %v, want a timeout", n, err)
	}
	p.Heal()
	wantRead(t, c, "*3\r\n")
}

// subscriber is a raw connection that has subscribed, its answers read.
func subscriber(t *testing.T, addr string, channels ...string) net.Conn {
	t.Helper()
	c := dial(t, addr)
	if _, err := fmt.Fprintf(c, "AUTH admin %s\r\nSUBSCRIBE %s\r\n", password(), strings.Join(channels, " ")); err != nil {
		t.Fatal(err)
	}
	_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
	last := fmt.Sprintf(":%d\r\n", len(channels))
	var got strings.Builder
	for b := make([]byte, 1); !strings.HasSuffix(got.String(), last); {
		if _, err := c.Read(b); err != nil {
			t.Fatalf("subscribe: %v after %q", err, got.String())
		}
		got.Write(b)
	}
	return c
}
