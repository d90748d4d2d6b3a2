package publish

import (
	"context"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/code"
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
	placed  bool               // it has a place at work
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
	cost  int // of its message
}

// call takes what a message asks for.
func (t *task) call(m *pb.PublishStreamRequest) {
	switch {
	case m.GetPublish() != nil:
		t.publish = m.GetPublish()
	case m.GetNotify() != nil:
		t.notify = m.GetNotify()
	default: // of a later version, perhaps
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

// begin checks a message as a call is checked, and gives it its place in the order of each of its streams. A panic is answered like an error.
func (s *Server) begin(ctx context.Context, p *auth.Principal, t *task) {
	defer func() {
		if p := recover(); p != nil {
			s.panicked(streamMethod, p)
			t.err = errPanic
		}
	}()
	switch {
	case t.err != nil:
		return
	case t.id() == "":
		t.err = notify.InField("id", notify.CheckID(""))
	case t.publish != nil:
		t.plan, t.err = s.planPublish(p, t.publish)
	default:
		t.plan, t.err = s.planNotify(p, t.notify)
	}
	if t.err != nil {
		return
	}
	ctx, t.cancel = context.WithTimeout(ctx, s.Deadline)
	w := &t.plan
	if len(w.streams) > notifyChunk { // not all at once; until it is done nothing more is read, which keeps the order
		t.results = s.writeUsers(ctx, *w)
		return
	}
	t.pending = s.Store.Begin(ctx, w.streams, w.message, w.level, nil)
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
			t.results = t.pending.Results()
		}
		if t.cancel != nil {
			t.cancel()
		}
		st.leave(t)
		a := answer{st.s.answer(t), t.cost}
		st.mu.Lock()
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

// answer makes the reply to a message that is decided. A message counts as a call.
func (s *Server) answer(t *task) (reply *pb.StreamReply) {
	var f *fault
	defer func() {
		if p := recover(); p != nil {
			s.panicked(streamMethod, p)
			f = faultOf(errPanic)
			reply = replyOf(t, f)
		}
		s.Metrics.called(streamMethod, f, time.Since(t.start))
	}()
	err := t.err
	reply = replyOf(t, nil)
	switch {
	case err != nil:
	case t.publish != nil:
		var r *pb.PublishResponse
		r, err = s.published(t.publish, t.plan, t.results)
		reply.Results = r.GetResults()
	default:
		var r *pb.NotifyResponse
		r, err = s.notified(t.notify, t.plan, t.results)
		reply.Notified = r.GetResults()
	}
	if err != nil {
		f = faultOf(err)
		s.logFault(streamMethod, f)
		reply = replyOf(t, f)
	}
	return reply
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
	check := time.NewTicker(st.s.times.check)
	defer check.Stop()
	slow := time.AfterFunc(st.s.times.send, st.giveUp)
	defer slow.Stop()
	for {
		slow.Stop()
		select {
		case <-check.C:
			st.check()
		default:
		}
		batch, cost, end := st.take()
		switch {
		case end != nil:
			return end
		case len(batch) == 0:
			select {
			case <-st.ready:
			case <-check.C:
				st.check()
			}
			continue
		}
		slow.Reset(st.s.times.send)
		if err := st.out.Send(&pb.PublishStreamResponse{Replies: batch}); err != nil {
			if !slow.Stop() {
				return endSending
			}
			return endGone
		}
		st.sent(len(batch), cost)
	}
}

// take takes the replies of one batch. Where none will come any more it says why the stream ended.
func (st *stream) take() (batch []*pb.StreamReply, cost int, end *ending) {
	st.mu.Lock()
	defer st.mu.Unlock()
	size := 0
	for len(batch) < len(st.replies) && len(batch) < batchReplies {
		a := st.replies[len(batch)]
		if size += proto.Size(a.reply); size > batchBytes && len(batch) > 0 {
			break
		}
		batch = append(batch, a.reply)
		cost += a.cost
	}
	if len(batch) == 0 && st.settled {
		return nil, 0, st.ending
	}
	clear(st.replies[:len(batch)])
	if st.replies = st.replies[len(batch):]; len(st.replies) == 0 {
		st.replies = nil
	}
	return batch, cost, nil
}

// sent makes room for as many messages as were answered.
func (st *stream) sent(n, cost int) {
	st.mu.Lock()
	st.open -= n
	st.bytes -= cost
	st.mu.Unlock()
	poke(st.room)
}
