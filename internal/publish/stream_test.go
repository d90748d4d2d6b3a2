package publish

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"allim/pkg/notify"
	pb "allim/proto/allim/v1"
)

// A flow is a stream with its replies one by one.
type flow struct {
	*bench
	out   grpc.BidiStreamingClient[pb.PublishStreamRequest, pb.PublishStreamResponse]
	ready []*pb.StreamReply
}

func (b *bench) flow(ctx context.Context) *flow {
	b.Helper()
	out, err := b.publisher().PublishStream(ctx)
	if err != nil {
		b.Fatal(err)
	}
	return &flow{bench: b, out: out}
}

// event is a message for topics.
func event(id string, topics ...string) *pb.PublishStreamRequest {
	return &pb.PublishStreamRequest{Call: &pb.PublishStreamRequest_Publish{Publish: &pb.PublishRequest{Id: id, Topics: topics, Data: []byte(`"` + id + `"`)}}}
}

// item is a notification for users.
func item(id string, users ...string) *pb.PublishStreamRequest {
	return &pb.PublishStreamRequest{Call: &pb.PublishStreamRequest_Notify{Notify: &pb.NotifyRequest{Id: id, To: &pb.Audience{Users: users}, Data: []byte("1")}}}
}

func (f *flow) send(all ...*pb.PublishStreamRequest) {
	f.Helper()
	for _, m := range all {
		if err := f.out.Send(m); err != nil {
			_, err = f.out.Recv()
			f.Fatalf("send: %v", err)
		}
	}
}

// next is the next reply.
func (f *flow) next() (*pb.StreamReply, error) {
	for len(f.ready) == 0 {
		got, err := f.out.Recv()
		if err != nil {
			return nil, err
		}
		f.ready = got.Replies
	}
	r := f.ready[0]
	f.ready = f.ready[1:]
	return r, nil
}

// want are the next replies: to these ids, with this code.
func (f *flow) want(c code.Code, ids ...string) (all []*pb.StreamReply) {
	f.Helper()
	for i, id := range ids {
		r, err := f.next()
		if err != nil {
			f.Fatalf("reply %d: %v", i, err)
		}
		if r.Id != id || r.Code != c {
			f.Fatalf("reply %d: got %v, want %v of %q", i, r, c, id)
		}
		all = append(all, r)
	}
	return all
}

// wantEnd is the end, with no reply before it.
func (f *flow) wantEnd(c codes.Code) error {
	f.Helper()
	r, err := f.next()
	if err != nil && err.Error() == "EOF" {
		err = nil
	}
	if r != nil || status.Code(err) != c {
		f.Errorf("the end: got %v, %v, want %v", r, err, c)
	}
	return err
}

// ids are those that a topic's history has, in order.
func (b *bench) ids(topic string) (all []string) {
	b.Helper()
	got, err := b.rdb.XRange(b.as("all"), b.keys.Event(notify.Stream{Tenant: "default", Topic: notify.Topic(topic)}).Events, "-", "+").Result()
	if err != nil {
		b.Fatal(err)
	}
	for _, m := range got {
		all = append(all, m.Values["i"].(string))
	}
	return all
}

func (g *gate) counts() (calls, bytes int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.calls, g.bytes
}

func TestAStreamKeepsTheOrderOfEachTopicAndOfItsReplies(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	f := b.flow(b.as("all"))
	const topics, each = 7, 40
	var sent []string
	of := map[string][]string{}
	for i := range topics * each {
		id, topic := fmt.Sprint("m", i), fmt.Sprint("t", i*i%topics)
		sent, of[topic] = append(sent, id), append(of[topic], id)
		f.send(event(id, topic))
	}
	if err := f.out.CloseSend(); err != nil {
		t.Fatal(err)
	}
	for _, r := range f.want(code.Code_OK, sent...) {
		if len(r.Results) != 1 || r.Results[0].Code != code.Code_OK || r.Results[0].Pos == "" || r.Message != nil || r.Reason != nil || r.RetryAfterMs != 0 {
			t.Errorf("got %v", r)
		}
	}
	_ = f.wantEnd(codes.OK)
	for topic, ids := range of {
		ids = ids[max(0, len(ids)-100):]
		if got := b.ids(topic); fmt.Sprint(got) != fmt.Sprint(ids) {
			t.Errorf("%s: got %v, want %v", topic, got, ids)
		}
	}
	if calls, bytes := b.srv.gate.counts(); calls != 0 || bytes != 0 {
		t.Errorf("the gate still counts %d calls, %d bytes", calls, bytes)
	}
}

func TestEphemeralMessagesOfAStreamComeInTheirOrder(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	sub := b.rdb.Subscribe(b.as("all"), b.keys.Channel(notify.Stream{Tenant: "default", Topic: "a"}))
	defer sub.Close()
	if _, err := sub.Receive(b.as("all")); err != nil {
		t.Fatal(err)
	}
	f := b.flow(b.as("all"))
	var sent, kept, light []string
	for i := range 60 {
		m := event(fmt.Sprint("m", i), "a")
		id := m.GetPublish().Id
		if i%3 > 0 {
			m.GetPublish().Mode = pb.PublishRequest_EPHEMERAL
			light = append(light, id)
		} else {
			kept = append(kept, id)
		}
		sent = append(sent, id)
		f.send(m)
	}
	for i, r := range f.want(code.Code_OK, sent...) {
		if kept := r.Results[0].Pos != ""; r.Results[0].Receivers != 1 || kept != (i%3 == 0) {
			t.Errorf("message %d: got %v", i, r)
		}
	}
	for range sent { // either kind in its own order
		m, err := sub.ReceiveMessage(b.as("all"))
		switch {
		case err != nil:
			t.Fatal(err)
		case len(kept) > 0 && strings.Contains(m.Payload, `"`+kept[0]+`"`):
			kept = kept[1:]
		case len(light) > 0 && strings.Contains(m.Payload, `"`+light[0]+`"`):
			light = light[1:]
		default:
			t.Fatalf("got %q, want the next of %v or of %v", m.Payload, kept, light)
		}
	}
}

func TestABadMessageIsAnsweredAndEndsNothing(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	f := b.flow(b.as("orders"))
	large := event("large", "orders/1")
	large.GetPublish().Data = text(DefaultData + 1)
	strange := event(strings.Repeat("x", 65), "orders/1")
	level := event("level", "orders/1")
	level.GetPublish().Level = 7
	for _, c := range []struct {
		name   string
		m      *pb.PublishStreamRequest
		id     string
		code   code.Code
		reason string
		field  string
	}{
		{"a good one", event("a", "orders/1"), "a", code.Code_OK, "", ""},
		{"no id", event("", "orders/1"), "", code.Code_INVALID_ARGUMENT, "INVALID", "id"},
		{"a notification without an id", item("", "ann"), "", code.Code_INVALID_ARGUMENT, "INVALID", "id"},
		{"an id that is none", strange, "", code.Code_INVALID_ARGUMENT, "INVALID", "id"},
		{"a topic that is none", event("b", "orders/1", "a b"), "b", code.Code_INVALID_ARGUMENT, "INVALID", "topics[1]"},
		{"a level that is none", level, "level", code.Code_INVALID_ARGUMENT, "INVALID", "level"},
		{"a forbidden topic", event("c", "orders/1", "secret"), "c", code.Code_PERMISSION_DENIED, "FORBIDDEN", ""},
		{"forbidden users", item("d", "ann"), "d", code.Code_PERMISSION_DENIED, "FORBIDDEN", ""},
		{"too much data", large, "large", code.Code_INVALID_ARGUMENT, "TOO_LARGE", "data"},
		{"nothing", &pb.PublishStreamRequest{}, "", code.Code_INVALID_ARGUMENT, "INVALID", "call"},
		{"a good one again", event("e", "orders/1"), "e", code.Code_OK, "", ""},
		{"a duplicate", event("a", "orders/1"), "a", code.Code_OK, "", ""},
	} {
		f.send(c.m)
		r, err := f.next()
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if r.Id != c.id || r.Code != c.code || r.GetReason() != c.reason || (r.Message == nil) != (c.code == code.Code_OK) || (len(r.Results) == 0) != (c.code != code.Code_OK) {
			t.Errorf("%s: got %v", c.name, r)
		}
		if c.field != "" && (len(r.Violations) != 1 || r.Violations[0].Field != c.field || !strings.Contains(r.GetMessage(), c.field+": expected ")) {
			t.Errorf("%s: got %v, want %s", c.name, r, c.field)
		}
		if c.reason == "FORBIDDEN" && !strings.Contains(r.GetMessage(), "[") {
			t.Errorf("%s: which field, in %v", c.name, r)
		}
		if c.name == "a duplicate" && !r.Results[0].Duplicate {
			t.Errorf("%s: got %v", c.name, r)
		}
	}
	if got := b.ids("orders/1"); fmt.Sprint(got) != "[a e]" {
		t.Errorf("written: %v", got)
	}
}

// Each vector of a Publish or a Notify that has an id is answered on a stream as by the call.
func TestVectorsOverAStream(t *testing.T) {
	t.Parallel()
	eachVector(t, func(b *bench, credential string, v vector) (int, string) {
		c := calls[v.Call]
		request, unary := c.new()
		if err := decodeJSON(v.Request, request.ProtoReflect(), ""); err != nil {
			b.Fatal(err)
		}
		m := &pb.PublishStreamRequest{}
		switch q := request.(type) {
		case *pb.PublishRequest:
			m.Call = &pb.PublishStreamRequest_Publish{Publish: q}
		case *pb.NotifyRequest:
			m.Call = &pb.PublishStreamRequest_Notify{Notify: q}
		}
		if id := m.GetPublish().GetId() + m.GetNotify().GetId(); id == "" {
			if err := b.conn.Invoke(b.as(credential), c.method, request, unary); err != nil {
				return asProblem(b, err)
			}
			text, err := encodeJSON(nil, unary.ProtoReflect())
			if err != nil {
				b.Fatal(err)
			}
			return http.StatusOK, string(text)
		}
		f := b.flow(b.as(credential))
		_ = f.out.Send(m) // a stream that was refused may have ended by now: next says why
		r, err := f.next()
		if err != nil {
			return asProblem(b, err)
		}
		return f.asCall(m, r)
	})
}

// asCall makes of a reply what the call answers: that it can says that nothing is lost.
func (f *flow) asCall(m *pb.PublishStreamRequest, r *pb.StreamReply) (int, string) {
	f.Helper()
	var reply failing = &pb.NotifyResponse{Id: r.Id, Results: r.Notified}
	if m.GetPublish() != nil {
		reply = &pb.PublishResponse{Id: r.Id, Results: r.Results}
	}
	if r.Code == code.Code_OK {
		text, err := encodeJSON(nil, reply.ProtoReflect())
		if err != nil {
			f.Fatal(err)
		}
		return http.StatusOK, string(text)
	}
	said := &fault{cause: errors.New("of a reply"), code: codes.Code(r.Code), message: r.GetMessage(), reason: r.GetReason(), retry: msOf(r)}
	if len(r.Results)+len(r.Notified) > 0 {
		said.reply = reply
	}
	for _, v := range r.Violations {
		said.fields = append(said.fields, &notify.FieldError{Field: v.Field, Want: strings.TrimPrefix(v.Description, "expected ")})
	}
	text, err := said.problem(httpStatus[said.code]).text()
	if err != nil {
		f.Fatal(err)
	}
	return httpStatus[said.code], string(text)
}
