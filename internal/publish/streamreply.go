package publish

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	"allim/internal/store"
	"allim/pkg/auth"
	"allim/pkg/notify"
	pb "allim/proto/allim/v1"
)

// Replies that travel together.
const (
	batchReplies = 256
	batchBytes   = 64 << 10 // or one that is larger
)

// A task is one message of a stream.
type task struct {
	start   time.Time
	publish *pb.PublishRequest // or
	notify  *pb.NotifyRequest  // or err
	size    int                // bytes of its request
	weight  int                // that it counts for in the gate
	placed  atomic.Bool        // it has a place there
	cost    int                // see streamBytes

	plan    plan
	pending *store.Pending // nil: it is decided
	results []store.Result
	cancel  context.CancelFunc // of its deadline; nil: it has none
	err     error              // it was refused
}

// An answer is a reply that waits to be sent.
type answer struct {
	reply *pb.StreamReply
	size  int // bytes of the reply
	cost  int // see streamBytes
}

// A rawMessage is a message as it came: gRPC ends a stream, with all replies on their way, where it cannot decode one.
type rawMessage struct{ data mem.BufferSlice }

func (m *rawMessage) free() { m.data.Free() }

// raw is a codec that hands over a rawMessage as it is.
type raw struct{ encoding.CodecV2 }

func (c raw) Unmarshal(data mem.BufferSlice, v any) error {
	if m, ok := v.(*rawMessage); ok {
		data.Ref()
		m.data = data
		return nil
	}
	return c.CodecV2.Unmarshal(data, v)
}

// errLater is a message that a later version of Allim knows.
var errLater = &fault{cause: errors.New("unknown kind of message"), code: codes.Unimplemented, reason: "UNIMPLEMENTED", message: "this publisher does not know this kind of message"}

// call takes what a message asks for.
func (t *task) call(m *pb.PublishStreamRequest) {
	switch {
	case m.GetPublish() != nil:
		t.publish = m.GetPublish()
	case m.GetNotify() != nil:
		t.notify = m.GetNotify()
	case len(m.ProtoReflect().GetUnknown()) > 0:
		t.err = errLater
	default:
		t.err = &notify.FieldError{Field: "call", Want: "publish or notify"}
	}
}

func (t *task) id() string {
	if t.publish != nil {
		return t.publish.Id
	}
	return t.notify.GetId()
}

func (t *task) targets() int { return len(t.publish.GetTopics()) + len(t.notify.GetTo().GetUsers()) }

// plan decodes a message and checks it as a call is checked. Of one that is refused, perhaps long before its reply is due, only the id is kept. A
// panic is answered like an error.
func (s *Server) plan(p *auth.Principal, t *task, from *rawMessage) {
	defer func() {
		if t.err != nil {
			t.publish, t.notify = &pb.PublishRequest{Id: t.id()}, nil
		}
	}()
	defer s.caught(t)
	m, text := &pb.PublishStreamRequest{}, from.data.MaterializeToBuffer(mem.DefaultBufferPool())
	defer text.Free() // Unmarshal copies
	if err := proto.Unmarshal(text.ReadOnlyData(), m); err != nil {
		t.err = &fault{cause: fmt.Errorf("read message: %w", err), code: codes.InvalidArgument, reason: unreadable, message: "the message is no PublishStreamRequest"}
		return
	}
	t.call(m)
	switch {
	case t.err != nil:
	case t.id() == "":
		t.err = notify.InField("id", notify.CheckID(""))
	case t.publish != nil:
		t.plan, t.err = s.planPublish(p, t.publish)
	default:
		t.plan, t.err = s.planNotify(p, t.notify)
	}
}

// begin gives a message its place in the order of each of its streams. then is called once it is decided, perhaps before begin returns, unless it
// was refused, a panic ended it, or the caller has left: settle knows of those.
func (s *Server) begin(ctx context.Context, t *task, then func()) {
	defer s.caught(t)
	if t.err != nil {
		return
	}
	w := &t.plan
	if w.message.Change == notify.ChangeEphemeral && time.Since(t.start) > ephemeralWait {
		t.err = store.ErrNotSent
		return
	}
	ctx, t.cancel = context.WithTimeout(ctx, s.Deadline)
	if len(w.streams) > notifyChunk { // not all at once; until it is done nothing more is read, which keeps the order
		t.results = s.writeUsers(ctx, *w)
		then()
		return
	}
	t.pending = s.Store.Begin(ctx, w.streams, w.message, w.level, then)
}

func (s *Server) caught(t *task) {
	if p := recover(); p != nil {
		s.panicked(streamMethod, p)
		t.err = errPanic
	}
}

// settle makes the replies, in order. When it must wait it has those sent that are ready.
func (st *stream) settle() {
	defer func() {
		st.mu.Lock()
		st.settled = true
		st.mu.Unlock()
		poke(st.ready)
	}()
	for {
		var t *task
		select {
		case t = <-st.tasks:
		default:
			poke(st.ready)
			t = <-st.tasks
		}
		if t == nil { // closed
			return
		}
		if t.pending != nil {
			select {
			case <-t.pending.Done():
			default:
				poke(st.ready)
			}
		}
		a := st.s.answer(t)
		st.leave(t) // of one that failed, too
		a.cost = a.size + resultCost*(1+len(a.reply.Results)+len(a.reply.Notified)+len(a.reply.Violations))
		st.mu.Lock()
		st.bytes += a.cost - t.cost
		st.replies = append(st.replies, a) // no more than streamMessages
		full := len(st.replies) >= batchReplies
		st.mu.Unlock()
		if full {
			poke(st.ready)
		}
	}
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// answer waits until a message is decided and makes its reply. A message counts as a call.
func (s *Server) answer(t *task) (a answer) {
	var f *fault
	defer func() {
		if p := recover(); p != nil {
			s.panicked(streamMethod, p)
			f = faultOf(errPanic)
			a.reply = replyOf(t, f)
		}
		a.size = proto.Size(a.reply)
		s.Metrics.called(streamMethod, f, time.Since(t.start))
	}()
	if t.pending != nil {
		t.results = t.pending.Results()
	}
	if t.cancel != nil {
		t.cancel()
	}
	err := t.err
	a.reply = replyOf(t, nil)
	switch {
	case err != nil:
	case t.publish != nil:
		var r *pb.PublishResponse
		r, err = s.published(t.publish, t.plan, t.results)
		a.reply.Results = r.GetResults()
	default:
		var r *pb.NotifyResponse
		r, err = s.notified(t.notify, t.plan, t.results)
		a.reply.Notified = r.GetResults()
	}
	if err != nil {
		f = faultOf(err)
		s.logFault(streamMethod, f)
		a.reply = replyOf(t, f)
	}
	return a
}

// replyOf makes the reply to a message that failed, or succeeded where f is nil: then without its results.
func replyOf(t *task, f *fault) *pb.StreamReply {
	r := &pb.StreamReply{}
	if id := t.id(); notify.CheckID(id) == nil { // no long nonsense is sent back
		r.Id = id
	}
	if f == nil {
		return r
	}
	r.Code, r.Message, r.Reason = code.Code(f.code), proto.String(strings.ToValidUTF8(f.message, "�")), proto.String(f.reason)
	r.RetryAfterMs = int32(f.retry.Milliseconds())
	for _, fe := range f.fields {
		r.Violations = append(r.Violations, &pb.Violation{Field: fe.Field, Description: "expected " + fe.Want})
	}
	switch all := f.reply.(type) {
	case *pb.PublishResponse:
		r.Results = all.Results
	case *pb.NotifyResponse:
		r.Notified = all.Results
	}
	return r
}

// send sends replies until the stream has ended and all are sent, and returns why it ended. It holds what it sends until gRPC has room for it: a caller
// who does not read is not read either, after a while.
func (st *stream) send() *ending {
	slow := time.AfterFunc(st.s.times.send, func() { st.stop(endSending); st.giveUp() })
	defer slow.Stop()
	for {
		slow.Stop()
		batch, cost, end := st.take()
		if end != nil {
			return end
		}
		if len(batch) == 0 {
			<-st.ready
			continue
		}
		slow.Reset(st.s.times.send)
		err := st.out.Send(&pb.PublishStreamResponse{Replies: batch})
		if err != nil {
			st.stop(st.over())
		}
		if end = st.sent(len(batch), cost, err != nil); end != nil {
			return end
		}
	}
}

// take takes the replies of one batch, and what they cost. Where none will come any more it says why the stream ended.
func (st *stream) take() (batch []*pb.StreamReply, cost int, end *ending) {
	st.mu.Lock()
	defer st.mu.Unlock()
	size := 0
	batch = make([]*pb.StreamReply, 0, min(len(st.replies), batchReplies))
	for _, a := range st.replies {
		if size += a.size; len(batch) == batchReplies || size > batchBytes && len(batch) > 0 {
			break
		}
		batch, cost = append(batch, a.reply), cost+a.cost
	}
	if len(batch) == 0 && st.settled {
		return nil, 0, st.ending
	}
	st.replies = slices.Delete(st.replies, 0, len(batch)) // and forgets them
	return batch, cost, nil
}

// sent makes room for as many messages as were answered. Where they could not be, it says why the stream ended.
func (st *stream) sent(replies, cost int, failed bool) (end *ending) {
	st.mu.Lock()
	st.open -= replies
	st.bytes -= cost
	if failed {
		end = st.ending
	}
	st.mu.Unlock()
	poke(st.room)
	return end
}
