package fanout

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"allim/internal/keyspace"
	"allim/pkg/notify"
)

// stillHub is a hub with one loop that nobody runs: tests step it.
func stillHub(t testing.TB, o Options) (*Hub, *feed, *loop) {
	t.Helper()
	var err error
	if o.Keys, err = keyspace.NewMap(0); err != nil {
		t.Fatal(err)
	}
	o.Shards, o.History, o.RecoverRate = 1, quietHistory{}, 1
	h := New(o)
	return h, h.feeds[0], h.loops[0]
}

func TestFaultsOfALinkAreNoticedInTime(t *testing.T) {
	h, f, _ := stillHub(t, Options{})
	if silent := h.opt.silence() + h.opt.watch(); silent > 10*time.Second {
		t.Errorf("a silent link is noticed after %v, want within 10 s", silent)
	}
	if lost := h.opt.ProbeEvery + lostProbe*h.opt.ProbeTimeout + h.opt.watch() + relinkLongest; lost > 18*time.Second {
		t.Errorf("a link to another Redis is replaced after %v, which leaves a resync less than 2 s of 20", lost)
	}
	k := &link{feed: f, heard: beat{begun: time.Now().Add(-time.Hour)}}
	for _, c := range []struct {
		heard, sent time.Duration // ago; 0: no probe is out
		want        error
	}{
		{time.Second, 0, nil},
		{8900 * time.Millisecond, 0, nil},
		{9100 * time.Millisecond, 0, errSilent},
		{0, 9900 * time.Millisecond, nil},
		{0, 10100 * time.Millisecond, errProbeLost},
	} {
		k.heard.last.Store(int64(time.Since(k.heard.begun) - c.heard))
		if f.sent = (time.Time{}); c.sent > 0 {
			f.sent = time.Now().Add(-c.sent)
		}
		if err := k.alive(); err != c.want {
			t.Errorf("heard %v ago, a probe sent %v ago: got %v, want %v", c.heard, c.sent, err, c.want)
		}
	}
}

func TestReadyIsProvenByAProbeOnALinkWithAllTopics(t *testing.T) {
	h, f, l := stillHub(t, Options{})
	s := &countSink{}
	sub := h.Attach(notify.Stream{Tenant: "default", Topic: "orders"}, From{Live: true}, s)
	want := func(ready bool, when string) {
		t.Helper()
		l.step()
		if h.Ready() != ready {
			t.Fatalf("%s: got ready %v", when, !ready)
		}
	}
	gen := f.down()
	f.raise(gen)
	want(false, "before a probe")
	f.probed(gen)
	want(false, "with a topic that is not acknowledged")
	l.put(frame{gen: gen, ack: true, channel: sub.channel})
	want(true, "with all")
	h.Attach(notify.Stream{Tenant: "default", Topic: "later"}, From{Live: true}, s)
	want(true, "with a topic that begins later")

	gen = f.down()
	want(true, "while the link is replaced")
	f.raise(gen)
	f.probed(gen)
	f.proven = time.Now().Add(-h.opt.silence() - time.Second)
	want(false, "too long after the last proof: that a probe came back on a link without its topics is none")
	l.put(frame{gen: gen, ack: true, channel: sub.channel})
	l.put(frame{gen: gen, ack: true, channel: h.opt.Keys.Channel(notify.Stream{Tenant: "default", Topic: "later"})})
	l.step()
	f.down()
	want(true, "when nobody asked between the proof and the link's end")
}

func TestProbesThatFailAreCounted(t *testing.T) {
	h, f, _ := stillHub(t, Options{})
	gen := f.down()
	f.raise(gen)
	missed := func(want uint64, when string) {
		t.Helper()
		if got := h.Stats().ProbeFailures; got != want {
			t.Fatalf("%s: got %d failures, want %d", when, got, want)
		}
	}
	sent := time.Now()
	f.probeSent(gen, sent, nil)
	missed(0, "sent")
	if _, due := f.probeDue(false); !due {
		t.Error("a link that nothing came back on is not to be probed")
	}
	missed(0, "still out when another link came up")
	f.probeDue(true)
	missed(1, "still out when the next is due")
	f.probed(gen)
	if _, due := f.probeDue(false); due {
		t.Error("a link that is proven is to be probed for another one's sake")
	}
	f.probeDue(true)
	missed(1, "back")
	f.probeSent(gen, sent, errors.New("no Redis"))
	missed(2, "refused")
}

func TestLinksEndForAReason(t *testing.T) {
	h, f, _ := stillHub(t, Options{})
	for _, err := range []error{errSilent, fmt.Errorf("x: %w", errProbeLost), errMoved, fmt.Errorf("receive: %w", proto("MOVED 7 10.0.0.1:6379")), errors.New("EOF"), proto("ERR")} {
		f.ended(err)
	}
	if got, want := fmt.Sprint(h.Stats().LinkEnds), "map[error:2 moved:2 probe:1 silent:1]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// proto is an error that Redis answered.
type proto string

func (e proto) Error() string { return string(e) }
func (proto) RedisError()     {}

// A reply that takes long is no silence: what counts is bytes, not whole replies.
func TestBytesOfAnUnfinishedReplyAreHeard(t *testing.T) {
	t.Parallel()
	server, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	heard := beat{begun: time.Now().Add(-time.Hour)}
	opt := &redis.Options{Addr: server.Addr().String()}
	own := listener(opt, true, &heard)
	defer own.Close()
	conn, err := own.Options().Dialer(t.Context(), "tcp", server.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	far, err := server.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	for range 3 {
		if _, err := far.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if n, err := conn.Read(make([]byte, 8)); n != 1 || heard.age() > time.Minute {
			t.Fatalf("read %d bytes, %v; heard %v ago", n, err, heard.age())
		}
		heard.last.Store(0)
	}
}

// What waits for the link's writer is whole commands in the order in which it was ordered, however many loops ordered one channel each.
func TestOrdersOfOneChannelBecomeWholeCommands(t *testing.T) {
	_, f, _ := stillHub(t, Options{})
	gen := f.down()
	f.raise(gen)
	order := func(subscribe bool, channels int) {
		for range channels {
			f.wire(subscribe, gen, []string{"c"})
		}
	}
	order(true, 2*mostChannels+1)
	order(false, 2)
	order(true, 3)
	f.wire(true, gen, make([]string, 2*mostChannels)) // a link's own, which stays as it is
	order(true, 1)
	f.wire(true, gen-1, []string{"old"})
	var got []string
	for _, o := range f.take() {
		got = append(got, fmt.Sprintf("%t %d", o.subscribe, len(o.channels)))
	}
	want := []string{"true 512", "true 512", "true 1", "false 2", "true 3", "true 1024", "true 1"}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
