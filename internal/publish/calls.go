package publish

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"

	"allim/internal/store"
	"allim/pkg/auth"
	"allim/pkg/notify"
	pb "allim/proto/allim/v1"
)

const (
	notifyChunk  = 128                    // users written at once: one pipeline
	patience     = 50 * time.Millisecond  // for them, until the next are begun all the same
	chunksAtOnce = 8                      // of one call, where all of Redis may be slow: the store has room for 128
	reserve      = 100 * time.Millisecond // kept of the caller's deadline for the way back of an answer
)

// publisher is the service allim.v1.Publisher.
type publisher struct {
	pb.UnimplementedPublisherServer
	s *Server
}

func (p publisher) Publish(ctx context.Context, r *pb.PublishRequest) (*pb.PublishResponse, error) {
	return p.s.publish(ctx, principalOf(ctx), r)
}

func (p publisher) PublishStream(out grpc.BidiStreamingServer[pb.PublishStreamRequest, pb.PublishStreamResponse]) error {
	return p.s.publishStream(out)
}

func (p publisher) Notify(ctx context.Context, r *pb.NotifyRequest) (*pb.NotifyResponse, error) {
	return p.s.notify(ctx, principalOf(ctx), r)
}

// A plan is what a good call writes.
type plan struct {
	message *notify.Message
	streams []notify.Stream
	at      places
	level   store.Level
}

// publish writes to every topic or, where the request is bad or partly forbidden, to none. A topic that failed makes it fail with
// that error and all results: the caller repeats the whole call with the same id.
func (s *Server) publish(ctx context.Context, p *auth.Principal, r *pb.PublishRequest) (*pb.PublishResponse, error) {
	what, err := s.planPublish(p, r)
	if err != nil {
		return nil, err
	}
	ctx, cancel := withReserve(ctx)
	defer cancel()
	return s.published(r, what, s.Store.Write(ctx, what.streams, what.message, what.level))
}

func (s *Server) planPublish(p *auth.Principal, r *pb.PublishRequest) (what plan, err error) {
	topics, err := s.Limits.checkPublish(r)
	if err != nil {
		return plan{}, err
	}
	for i, t := range topics {
		if err := authorize(p, toPublish, string(t), fmt.Sprintf("topics[%d]", i)); err != nil {
			return plan{}, err
		}
	}
	m := s.message(notify.ChangeMessage, r.Id, r.Origin, r.Data)
	m.Event = r.Event
	if r.Mode == pb.PublishRequest_EPHEMERAL {
		m.Change = notify.ChangeEphemeral
	}
	if m.ID == "" {
		m.ID = rand.Text()
	}
	what = plan{message: m, level: store.Level(r.Level)}
	what.streams, what.at = distinct(p.Tenant, topics)
	return what, nil
}

// published makes the reply of what became of a plan.
func (s *Server) published(r *pb.PublishRequest, what plan, results []store.Result) (*pb.PublishResponse, error) {
	reply := &pb.PublishResponse{Id: what.message.ID, Results: make([]*pb.PublishResult, len(r.Topics))}
	var failed error
	for i := range r.Topics {
		got, again := what.at.result(results, i)
		if failed == nil {
			failed = got.Err
		}
		code, message := resultOf(got.Err)
		reply.Results[i] = &pb.PublishResult{Topic: r.Topics[i], Code: code, Message: message,
			Pos: position(got.Position), Duplicate: got.Duplicate || again, Receivers: int32(got.Receivers)}
		s.Metrics.wrote(r.Mode.String(), code)
	}
	if failed != nil {
		return nil, &failedReply{failed, reply}
	}
	return reply, nil
}

// notify writes user after user, some at a time, until the caller's deadline is near; those left get ErrUnavailable. It fails only
// where it is bad or partly forbidden, before anything is written, or, with all results, where not one user has a good one.
func (s *Server) notify(ctx context.Context, p *auth.Principal, r *pb.NotifyRequest) (*pb.NotifyResponse, error) {
	what, err := s.planNotify(p, r)
	if err != nil {
		return nil, err
	}
	ctx, cancel := withReserve(ctx)
	defer cancel()
	return s.notified(r, what, s.writeUsers(ctx, what))
}

// writeUsers does a plan for many users.
func (s *Server) writeUsers(ctx context.Context, what plan) []store.Result {
	return s.writeAll(ctx, what.streams, func(ctx context.Context, to []notify.Stream) []store.Result {
		return s.Store.Write(ctx, to, what.message, what.level)
	})
}

func (s *Server) writeAll(ctx context.Context, streams []notify.Stream, do writer) []store.Result {
	chunks := chunksAtOnce
	if s.Store.Divided() { // and gives each part its share: those of one that is away hold up none of the others'
		chunks = len(streams)
	}
	return notifyAll(ctx, do, streams, chunks)
}

func (s *Server) planNotify(p *auth.Principal, r *pb.NotifyRequest) (what plan, err error) {
	m := s.message(notify.ChangeNotification, r.Id, r.Origin, nil)
	topics, err := s.Limits.checkNotify(r, m, m.Time)
	if err != nil {
		return plan{}, err
	}
	if err := mayNotify(p, r.To); err != nil {
		return plan{}, err
	}
	if err := s.reaches(p, m); err != nil {
		return plan{}, err
	}
	m.Category, m.Data = r.Category, r.Data
	what = plan{message: m, level: store.Level(r.Level)}
	what.streams, what.at = distinct(p.Tenant, topics)
	return what, nil
}

// notified makes the reply of what became of a plan.
func (s *Server) notified(r *pb.NotifyRequest, what plan, results []store.Result) (*pb.NotifyResponse, error) {
	reply := &pb.NotifyResponse{Id: what.message.ID, Results: make([]*pb.NotifyResult, len(what.at.at))}
	var failed error
	written := 0
	for i := range reply.Results {
		got, again := what.at.result(results, i)
		code, message := resultOf(got.Err)
		if got.Err == nil {
			written++
		} else if failed == nil {
			failed = got.Err
		}
		one := &pb.NotifyResult{Code: code, Message: message, Pos: position(got.Position), Duplicate: got.Duplicate || again, Unread: int32(got.Unread), Muted: got.Muted}
		one.User, one.Segment = named(r.To, i)
		reply.Results[i] = one
		s.Metrics.wrote("NOTIFICATION", code)
	}
	if written == 0 {
		return nil, &failedReply{failed, reply}
	}
	return reply, nil
}

// A writer is Store.Write, Update or Retract of something, which tries again what Redis did not take, until ctx ends.
type writer func(context.Context, []notify.Stream) []store.Result

// notifyAll writes a chunk of users after the other. One that takes long, since the part of Redis that has some of them is away, holds up none behind it,
// until so many are under way: one call must not take the room of all others.
func notifyAll(ctx context.Context, do writer, streams []notify.Stream, atOnce int) []store.Result {
	results, room := make([]store.Result, len(streams)), make(chan struct{}, atOnce)
	var all sync.WaitGroup
	from := 0
	for at := range slices.Chunk(streams, notifyChunk) {
		select {
		case room <- struct{}{}:
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			break
		}
		into, done := results[from:from+len(at)], make(chan struct{})
		from += len(at)
		all.Go(func() {
			copy(into, do(ctx, at))
			close(done)
			<-room
		})
		select {
		case <-done:
		case <-time.After(patience):
		}
	}
	all.Wait()
	for ; from < len(results); from++ {
		results[from].Err = fmt.Errorf("notify: not tried: %w", notify.ErrUnavailable)
	}
	return results
}

func (s *Server) message(c notify.Change, id, origin string, data []byte) *notify.Message {
	return &notify.Message{Change: c, ID: id, Origin: origin, Data: data, Time: s.Now().UTC().Truncate(time.Millisecond)}
}

// withReserve ends the work of a call a little before its caller stops waiting, so that the answer is still heard.
func withReserve(ctx context.Context) (context.Context, context.CancelFunc) {
	end, ok := ctx.Deadline()
	if !ok {
		return context.WithCancel(ctx)
	}
	return context.WithDeadline(ctx, end.Add(-min(reserve, time.Until(end)/4)))
}

// places says for each topic of a call where its result is; a topic that stood there before shares the result of the first.
type places struct {
	at    []int
	again []bool
}

func (p places) result(results []store.Result, i int) (r store.Result, again bool) {
	r = results[p.at[i]]
	return r, p.again[i] && r.Err == nil
}

// distinct makes the streams of a call's topics, each once.
func distinct(tenant string, topics []notify.Topic) ([]notify.Stream, places) {
	p := places{make([]int, len(topics)), make([]bool, len(topics))}
	streams := make([]notify.Stream, 0, len(topics))
	first := make(map[notify.Topic]int, len(topics))
	for i, t := range topics {
		at, seen := first[t]
		if !seen {
			at = len(streams)
			first[t] = at
			streams = append(streams, notify.Stream{Tenant: tenant, Topic: t})
		}
		p.at[i], p.again[i] = at, seen
	}
	return streams, p
}

// position is the text of a position; "" for the zero one, which a message without a place has.
func position(p notify.Position) string {
	if p == (notify.Position{}) {
		return ""
	}
	return p.String()
}
