package publish

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	pb "allim/proto/allim/v1"
)

// garbage sends messages as they are, with a length of its own where that is set.
func (b *bench) garbage(ctx context.Context) grpc.ClientStream {
	b.Helper()
	s, err := b.conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, pb.Publisher_PublishStream_FullMethodName, grpc.ForceCodec(rawReplies{}))
	if err != nil {
		b.Fatal(err)
	}
	return s
}

// rawReplies sends bytes as they are and reads replies.
type rawReplies struct{ rawRequests }

func (rawReplies) Unmarshal(b []byte, v any) error { return proto.Unmarshal(b, v.(proto.Message)) }

func TestWhatIsNoMessageIsAnsweredToo(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(o *Options) { o.Limits.Request = 100 << 10 })
	s := b.garbage(b.as("all"))
	good, err := proto.Marshal(event("a", "t"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		bytes  []byte
		code   code.Code
		reason string
	}{
		{"no protobuf", []byte{0x0d, 1, 2}, code.Code_INVALID_ARGUMENT, unreadable},
		{"no text", []byte("\x0a\x03\x0a\x01\xff"), code.Code_INVALID_ARGUMENT, unreadable},
		{"large, and no protobuf", make([]byte, 100<<10), code.Code_INVALID_ARGUMENT, unreadable},
		{"of a later version", []byte("\x92\x4b\x02\x0a\x00"), code.Code_UNIMPLEMENTED, "UNIMPLEMENTED"},
		{"nothing", nil, code.Code_INVALID_ARGUMENT, "INVALID"},
		{"a good one", good, code.Code_OK, ""},
	} {
		if err := s.SendMsg(c.bytes); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		got := &pb.PublishStreamResponse{}
		if err := s.RecvMsg(got); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if len(got.Replies) != 1 || got.Replies[0].Code != c.code || got.Replies[0].GetReason() != c.reason {
			t.Errorf("%s: got %v", c.name, got)
		}
	}
	if err := s.SendMsg(make([]byte, 100<<10+1)); err != nil {
		t.Fatal(err)
	}
	if err := s.RecvMsg(&pb.PublishStreamResponse{}); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("too large: got %v", err)
	}
	if calls, bytes := b.srv.gate.counts(); calls != 0 || bytes != 0 || len(b.srv.decoding) != 0 {
		t.Errorf("the gate counts %d calls, %d bytes; %d are decoded", calls, bytes, len(b.srv.decoding))
	}
	if strings.Contains(b.log.String(), "level=ERROR") {
		t.Errorf("logged %s", b.log)
	}
}

func TestAStreamOfHalfAMessageIsBroken(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	never, end := io.Pipe()
	defer end.Close()
	for name, c := range map[string]struct {
		body io.Reader
		want codes.Code
	}{
		"half a message": {strings.NewReader(string(header(0, 100)) + "half"), codes.Internal},
		"half a header":  {bytes.NewReader(header(0, 0)[:3]), codes.Internal},
		"compressed":     {bytes.NewReader(header(1, 0)), codes.Internal},
		"endless":        {io.MultiReader(bytes.NewReader(header(0, 1<<30)), never), codes.ResourceExhausted},
	} {
		if got := b.frame(c.body); got != c.want {
			t.Errorf("%s: got %v", name, got)
		}
	}
}

func header(flag byte, n uint32) []byte { return binary.BigEndian.AppendUint32([]byte{flag}, n) }

// frame is how a stream ends that sends this, by plain HTTP/2.
func (b *bench) frame(body io.Reader) codes.Code {
	b.Helper()
	only := &http.Protocols{}
	only.SetUnencryptedHTTP2(true)
	tr := &http.Transport{Protocols: only}
	defer tr.CloseIdleConnections()
	r, err := http.NewRequestWithContext(b.as("none"), http.MethodPost, "http://"+b.conn.Target()+pb.Publisher_PublishStream_FullMethodName, body)
	if err != nil {
		b.Fatal(err)
	}
	r.Header = http.Header{"Content-Type": {"application/grpc"}, "Te": {"trailers"}, "Authorization": {credentials["all"]}}
	w, err := tr.RoundTrip(r)
	if err != nil {
		b.Fatal(err)
	}
	defer w.Body.Close()
	_, err = w.Body.Read(make([]byte, 1))
	said := w.Trailer.Get("Grpc-Status") + w.Header.Get("Grpc-Status")
	var c codes.Code
	if jsonErr := c.UnmarshalJSON([]byte(said)); jsonErr != nil {
		b.Fatalf("got %q, %v, %v", said, err, jsonErr)
	}
	return c
}

func TestOfARefusedMessageOnlyItsIDIsKept(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	p, err := b.srv.authenticate([]string{credentials["orders"]})
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range []*pb.PublishStreamRequest{event("a", make([]string, 1000)...), item("a", names(1000, "u%d")...)} {
		bytes, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		q := &task{}
		b.srv.plan(p, q, &rawMessage{mem.BufferSlice{mem.SliceBuffer(bytes)}})
		if q.err == nil || q.id() != "a" || q.targets() != 0 || len(q.publish.GetData())+len(q.notify.GetData()) != 0 {
			t.Errorf("got %v of %d topics or users, %v", q.id(), q.targets(), q.err)
		}
	}
}

func TestAMessageOfTheContractsLargestSizeEndsNothing(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	s := b.garbage(b.as("all"))
	good, err := proto.Marshal(event("a", "t"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		bytes []byte
		code  code.Code
	}{{make([]byte, 4<<20), code.Code_INVALID_ARGUMENT}, {good, code.Code_OK}} {
		if err := s.SendMsg(c.bytes); err != nil {
			t.Fatal(err)
		}
		got := &pb.PublishStreamResponse{}
		if err := s.RecvMsg(got); err != nil || len(got.Replies) != 1 || got.Replies[0].Code != c.code {
			t.Fatalf("%d bytes: got %v, %v", len(c.bytes), got, err)
		}
	}
}
