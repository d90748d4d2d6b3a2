package main

import (
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"allim/internal/testkit"
	allimv1 "allim/proto/allim/v1"
)

// A tired publisher ends its first stream after two messages, of which it answered one.
type tired struct {
	allimv1.UnimplementedPublisherServer
	mu      sync.Mutex // guards the fields below
	streams int
	got     []string
}

func (p *tired) PublishStream(out allimv1.Publisher_PublishStreamServer) error {
	md, _ := metadata.FromIncomingContext(out.Context())
	if a := md.Get("authorization"); len(a) != 1 || a[0] != "Bearer k" {
		return status.Error(codes.Unauthenticated, "who is it")
	}
	p.mu.Lock()
	p.streams++
	first := p.streams == 1
	p.mu.Unlock()
	for n := 1; ; n++ {
		m, err := out.Recv()
		if err != nil {
			return nil // the end of the input
		}
		if first && n == 2 {
			return status.Error(codes.Unavailable, "this stream ends (age)")
		}
		id, r := m.GetPublish().GetId(), &allimv1.StreamReply{}
		switch {
		case m.GetNotify() != nil:
			id = m.GetNotify().GetId()
			r.Notified = []*allimv1.NotifyResult{{User: "ann"}, {User: "bob", Code: 14}}
		case id == "bad":
			r.Code, r.Message = 3, proto.String("topics: expected 1 to 100")
		default:
			r.Results = []*allimv1.PublishResult{{Topic: m.GetPublish().GetTopics()[0], Pos: "e." + string(m.GetPublish().GetData()), Receivers: 2}}
		}
		r.Id = id
		p.mu.Lock()
		p.got = append(p.got, id)
		p.mu.Unlock()
		if err := out.Send(&allimv1.PublishStreamResponse{Replies: []*allimv1.StreamReply{r}}); err != nil {
			return err
		}
	}
}

func TestLinesArePublishedOnAStreamAndTheNext(t *testing.T) {
	p := &tired{}
	addr := serve(t, p)
	run := func(in string) (string, error) {
		t.Helper()
		var out strings.Builder
		c := publishCommand{publisherFlags: publisherFlags{Publisher: addr, Key: "k", Timeout: 5 * time.Second}}
		err := c.lines(testkit.Context(t, 20*time.Second), strings.NewReader(in), &out)
		return out.String(), err
	}
	out, err := run(`{"id":"m1","topics":["a"],"data":1}
{"id":"m2","topics":["a"],"data":2}

no JSON
{"id":"bad","topics":[],"data":3}
{"id":"n","to":{"users":["ann","bob"]},"category":"c","data":{"title":"x"}}
{"id":"m3","topics":["a"],"mode":"EPHEMERAL","data":4}
{"id":"x","topics":"a"}
`)
	want := `m1: OK, position e.1, 2 receivers
m2: OK, position e.2, 2 receivers
line 4: expected a JSON object: invalid character 'o' in literal null (expecting 'u')
bad: INVALID_ARGUMENT: topics: expected 1 to 100
n: OK, bob: UNAVAILABLE
m3: OK, position e.4, 2 receivers
line 8: `
	if !strings.HasPrefix(out, want) || strings.Count(out, "\n") != 7 || err == nil || err.Error() != "4 failed" {
		t.Errorf("got %v and\n%s", err, out)
	}
	if got := strings.Join(p.got, " "); got != "m1 m2 bad n m3" || p.streams != 2 {
		t.Errorf("the publisher got %s on %d streams", got, p.streams)
	}
	if out, err := run(`{"topics":["a"],"data":5}`); err != nil || !strings.Contains(out, ": OK, position e.5") {
		t.Errorf("an id of its own: got %q, %v", out, err)
	}
}

// A full disk takes nothing.
type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, errors.New("no space left on device") }

// A deaf publisher answers the first message only, and ends.
type deaf struct {
	allimv1.UnimplementedPublisherServer
}

func (*deaf) PublishStream(out allimv1.Publisher_PublishStreamServer) error {
	for n := 1; n <= 3; n++ {
		m, err := out.Recv()
		if err != nil {
			return err
		}
		if n == 1 {
			if err := out.Send(&allimv1.PublishStreamResponse{Replies: []*allimv1.StreamReply{{Id: m.GetPublish().GetId()}}}); err != nil {
				return err
			}
		}
	}
	return status.Error(codes.PermissionDenied, "no longer")
}

func TestWhatBecameOfLinesIsSaidAtTheirEndHoweverItComes(t *testing.T) {
	three := strings.Repeat(`{"topics":["a"],"data":1}`+"\n", 3)
	for _, c := range []struct {
		name, in string
		p        allimv1.PublisherServer
		out      io.Writer
		want     []string
	}{
		{"a line too long", three + `{"topics":["a"],"data":"` + strings.Repeat("x", lineMost) + "\"}\n", &tired{streams: 1}, io.Discard,
			[]string{"read line 4: expected at most 4194304 bytes"}},
		{"failures before one", "no JSON\n" + strings.Repeat("x", lineMost+1), &tired{streams: 1}, io.Discard, []string{"read line 2: ", "1 failed"}},
		{"nowhere to print", three, &tired{streams: 1}, fullDisk{}, []string{"print: no space left on device"}},
		{"no replies", three, &deaf{}, io.Discard, []string{"no longer", "2 have no reply, from line 2 on"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			cmd := publishCommand{publisherFlags: publisherFlags{Publisher: serve(t, c.p), Key: "k", Timeout: 5 * time.Second}}
			err := cmd.lines(testkit.Context(t, 20*time.Second), strings.NewReader(c.in), c.out)
			for _, want := range c.want {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("got %v, want %q in it", err, want)
				}
			}
		})
	}
}

// An aged publisher ends its first stream after a while, without a reply.
type aged struct {
	allimv1.UnimplementedPublisherServer
	life  time.Duration
	first sync.Once
	ended chan struct{} // closed when that is over
}

func (p *aged) PublishStream(out allimv1.Publisher_PublishStreamServer) (err error) {
	p.first.Do(func() {
		<-time.After(p.life)
		close(p.ended)
		err = status.Error(codes.Unavailable, "this stream ends (age)")
	})
	for err == nil {
		m, end := out.Recv()
		if end != nil {
			return nil
		}
		err = out.Send(&allimv1.PublishStreamResponse{Replies: []*allimv1.StreamReply{{Id: m.GetPublish().GetId()}}})
	}
	return err
}

// A patient input has nothing to say before that.
type patient struct {
	io.Reader
	ended chan struct{}
}

func (p patient) Read(b []byte) (int, error) { <-p.ended; return p.Reader.Read(b) }

func TestAnInputMayBeIdleForLongerThanItsStreamsLive(t *testing.T) {
	p := &aged{life: 400 * time.Millisecond, ended: make(chan struct{})}
	var out strings.Builder
	c := publishCommand{publisherFlags: publisherFlags{Publisher: serve(t, p), Key: "k", Timeout: 200 * time.Millisecond}}
	err := c.lines(testkit.Context(t, 20*time.Second), patient{strings.NewReader(`{"id":"m1","topics":["a"],"data":1}`), p.ended}, &out)
	if err != nil || out.String() != "m1: OK\n" {
		t.Errorf("got %v, %q", err, out.String())
	}
}

// serve is the address of a publisher that serves until the test ends.
func serve(t *testing.T, p allimv1.PublisherServer) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer()
	allimv1.RegisterPublisherServer(g, p)
	ended := make(chan error, 1)
	go func() { ended <- g.Serve(l) }()
	t.Cleanup(func() { g.Stop(); <-ended })
	return l.Addr().String()
}

func TestAStreamTakesNoFlagsOfAMessage(t *testing.T) {
	for _, args := range [][]string{{"publish", "--key=k", "--stream", "--topic=a"}, {"publish", "--key=k", "--topic=a"}, {"publish", "--stream"}} {
		if code := start(args); code != mistaken {
			t.Errorf("%v: got %d", args, code)
		}
	}
}
