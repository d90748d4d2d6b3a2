package publish

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"allim/pkg/auth"
	"allim/pkg/notify"
	pb "allim/proto/allim/v1"
)

// Bounds of a stream.
const (
	streamMessages = 512         // read and not answered
	streamBytes    = 512 << 10   // of those: their requests until they are answered, and then their replies. One message may come above it
	resultCost     = 160         // of a reply and of each of its results, beside their bytes
	largeMessage   = 64 << 10    // bytes: of larger ones few are decoded at once
	decodeLarge    = 4           // so many
	ephemeralWait  = time.Second // for a place: older ones are dropped; the store has a bound of its own

	streamLife  = 10 * time.Minute // after which a stream ends, give or take a tenth: callers get to new pods
	streamOld   = 15 * time.Second // that of a stream on a connection that may be asked to end any moment: less than ageGrace
	streamCheck = 5 * time.Second  // after which its credential is looked at again
	sendWithin  = time.Minute      // for replies that the caller does not read
)

const streamMethod = "PublishStream"

// A stream is one call of PublishStream. Three goroutines have a part of it each: read takes messages and gives them their place in the store's lanes
// (so they are written in the order in which they came, and those of different topics at once), settle waits for what became of each, in the same
// order, and the handler sends the replies that are ready. What is read and has no place at work yet, what is at work, and what has no reply are bounded each.
type stream struct {
	s           *Server
	out         grpc.BidiStreamingServer[pb.PublishStreamRequest, pb.PublishStreamResponse]
	credentials []string
	sender      string
	who         atomic.Pointer[auth.Principal] // of the messages to come
	giveUp      func()                         // ends the call, replies and all

	work    context.Context // of its messages: ends when the caller left or must not be waited for any more
	reading context.Context // ends when nothing more is read
	noMore  context.CancelFunc
	tasks   chan *task    // in order; closed by whoever of read and stop is the last
	ready   chan struct{} // buffered 1: there are replies, or all is settled
	room    chan struct{} // buffered 1: replies were sent

	mu       sync.Mutex // guards the fields below; nothing is locked while it is held
	ending   *ending    // nil: it goes on
	entering bool       // read has a message that is no task yet
	open     int        // messages without a reply
	bytes    int        // that they cost
	replies  []answer
	settled  bool // no more replies come
}

// An ending is why a stream ends: the reason of the metric, and what the caller is told; nil: OK.
type ending struct {
	reason string
	fault  *fault
}

// ends is what a caller hears of a stream that ends for no fault of his.
func ends(reason string) *ending {
	return &ending{reason, &fault{cause: errors.New("stream ends: " + reason), code: codes.Unavailable, reason: "STREAM_ENDS",
		message: "this stream ends (" + reason + "): what has no reply again on a new one, with the same id"}}
}

var (
	endClosed   = &ending{reason: "closed"}
	endStopping = ends("stopping")
	endAge      = ends("age")
	endSending  = &ending{"sending", faultOf(context.Canceled)} // he does not read; gRPC says it so
	endGone     = &ending{"gone", faultOf(context.Canceled)}
	endDeadline = &ending{"deadline", faultOf(context.DeadlineExceeded)}
	endPanic    = &ending{"panic", faultOf(errPanic)}
)

// publishStream is the way of a stream: who is it, is there room for one more, then its messages, each of which counts as a call.
func (s *Server) publishStream(out grpc.BidiStreamingServer[pb.PublishStreamRequest, pb.PublishStreamResponse]) error {
	start := time.Now()
	st, err := s.newStream(out)
	if err != nil {
		f := faultOf(err)
		s.logFault(streamMethod, f)
		s.Metrics.called(streamMethod, f, time.Since(start))
		return f.status().Err()
	}
	defer s.streams.leave(st.sender)
	end := st.run()
	s.Metrics.streamsEnded.WithLabelValues(end.reason).Inc()
	if end.fault == nil {
		return nil
	}
	return end.fault.status().Err()
}

func (s *Server) newStream(out grpc.BidiStreamingServer[pb.PublishStreamRequest, pb.PublishStreamResponse]) (*stream, error) {
	ctx := out.Context()
	md, _ := metadata.FromIncomingContext(ctx)
	st := &stream{s: s, out: out, credentials: md.Get("authorization"), giveUp: giveUpOf(ctx), tasks: make(chan *task, streamMessages),
		ready: make(chan struct{}, 1), room: make(chan struct{}, 1)}
	p, err := s.authenticate(st.credentials)
	if err != nil {
		return nil, err
	}
	st.who.Store(p)
	st.sender = p.Tenant + "/" + p.Name
	if !s.streams.enter(st.sender) {
		f := faultOf(&limited{busy(nil), "streams"})
		f.message = fmt.Sprintf("too many streams are open: expected at most %d, of one caller as many as are free; again after a pause, or on another publisher", st.s.Streams)
		return nil, f
	}
	return st, nil
}

// run is the stream's life. What ends it ends the reading; what was read is answered, and then the caller hears why.
func (st *stream) run() *ending {
	work, cancel := withReserve(st.out.Context())
	defer cancel()
	st.work = work
	st.reading, st.noMore = context.WithCancel(work)
	defer st.noMore()
	defer context.AfterFunc(work, func() { st.stop(st.over()) })()
	defer context.AfterFunc(st.s.closing, func() { st.stop(endStopping) })()
	defer context.AfterFunc(st.s.late, cancel)()
	defer time.AfterFunc(st.s.lifeOf(st.out.Context()), func() { st.stop(endAge) }).Stop()
	st.s.readers.Go(st.read)
	var others sync.WaitGroup
	others.Go(st.settle)
	others.Go(st.check)
	defer func() { cancel(); others.Wait() }() // it may have given up
	return st.send()
}

// over says why there is no more work, or no more to read: the server's end, then the caller's deadline, then that he has left.
func (st *stream) over() *ending {
	gone := st.out.Context().Err()
	switch {
	case st.s.closing.Err() != nil:
		return endStopping
	case errors.Is(gone, context.DeadlineExceeded), gone == nil && st.work.Err() != nil: // work ends a little before it
		return endDeadline
	}
	return endGone
}

// lifeOf is how long a stream may go on. It ends before gRPC asks its connection to end, which is a tenth before times.age at the earliest: at the
// end of the grace that follows gRPC cuts off what is left, replies too. One that begins later is short.
func (s *Server) lifeOf(ctx context.Context) time.Duration {
	t := s.times
	life := t.life - t.life/10 + rand.N(t.life/5)
	if p, ok := peer.FromContext(ctx); ok {
		if a, ok := p.Addr.(aged); ok {
			end := t.age - t.age/5 + rand.N(t.age/10)
			life = min(life, max(time.Until(a.began.Add(end)), t.old))
		}
	}
	return life
}

// stop ends the reading, for the first reason that there is. Where its caller closed it, and then does not read the replies, it has not ended well.
func (st *stream) stop(e *ending) {
	st.mu.Lock()
	first := st.ending == nil
	if first || st.ending == endClosed && e == endSending {
		st.ending = e
	}
	if first && !st.entering {
		close(st.tasks)
	}
	st.mu.Unlock()
	if first {
		st.noMore()
	}
}

// read takes messages until the stream ends. It may still wait for one when the handler has returned, which ends that, too: the server waits for it.
func (st *stream) read() {
	defer st.caught()
	for {
		if err := st.message(); err != nil {
			st.stop(st.endOf(err))
			return
		}
	}
}

// caught ends the stream for a panic.
func (st *stream) caught() {
	if p := recover(); p != nil {
		st.s.panicked(streamMethod, p)
		st.stop(endPanic)
	}
}

// endOf is how a stream ends that cannot be read any more. What is wrong with the caller's bytes gRPC has told him by then.
func (st *stream) endOf(err error) *ending {
	said, ok := status.FromError(err)
	switch {
	case errors.Is(err, io.EOF):
		return endClosed
	case !ok, said.Code() == codes.Canceled, said.Code() == codes.DeadlineExceeded:
		return st.over()
	case said.Code() == codes.ResourceExhausted:
		return &ending{"too_large", faultOf(st.s.Limits.tooLong())}
	}
	return &ending{"broken", faultOf(st.s.unread(err))}
}

// message reads one message, and begins its work when there is a place for it. What is refused needs none.
func (st *stream) message() error {
	if err := st.wait(); err != nil {
		return err
	}
	raw := &rawMessage{}
	if err := st.out.RecvMsg(raw); err != nil {
		return err
	}
	t := &task{start: time.Now(), size: raw.data.Len()}
	if err := st.plan(t, raw); err != nil {
		return err
	}
	if t.err == nil {
		t.weight = t.size + writeCost*min(len(t.plan.streams), chunksAtOnce*notifyChunk)
		if err := st.s.gate.wait(st.reading, st.sender, t.weight); err != nil {
			return err
		}
		t.placed.Store(true)
	}
	if !st.enter(t) {
		st.leave(t)
		return context.Canceled
	}
	st.s.begin(st.work, t, func() { st.leave(t) })
	st.entered(t)
	return nil
}

// plan decodes a message and checks it as a call is checked. A message may become ten times its bytes for a moment, so large ones have to wait for each other;
// nothing waits here for anything else.
func (st *stream) plan(t *task, raw *rawMessage) error {
	defer raw.free()
	if t.size > largeMessage {
		select {
		case st.s.decoding <- struct{}{}:
			defer func() { <-st.s.decoding }()
		case <-st.reading.Done():
			return st.reading.Err()
		}
	}
	st.s.plan(st.who.Load(), t, raw)
	return nil
}

// wait waits until one more message may be read beside those that have no reply.
func (st *stream) wait() error {
	for waited := false; ; waited = true {
		st.mu.Lock()
		ok := st.open < streamMessages && st.bytes < streamBytes
		st.mu.Unlock()
		if ok {
			return nil
		}
		if !waited {
			st.s.Metrics.waited("answers")
		}
		select {
		case <-st.room:
		case <-st.reading.Done():
			return st.reading.Err()
		}
	}
}

// enter takes a message among those that get a reply, unless the stream was stopped.
func (st *stream) enter(t *task) bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.ending != nil {
		return false
	}
	st.entering = true
	st.open++
	t.cost = t.size + resultCost*(1+t.targets())
	st.bytes += t.cost
	return true
}

func (st *stream) entered(t *task) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.tasks <- t // there is room: no more are open
	st.entering = false
	if st.ending != nil {
		close(st.tasks)
	}
}

// leave gives back a message's place at work, once.
func (st *stream) leave(t *task) {
	if t.placed.CompareAndSwap(true, false) {
		st.s.gate.done(st.sender, t.weight)
	}
}

// check looks at the credential again and again, whatever else the stream waits for: it may have expired, or have got other rights.
func (st *stream) check() {
	defer st.caught()
	every := time.NewTicker(st.s.times.check)
	defer every.Stop()
	for {
		select {
		case <-every.C:
		case <-st.reading.Done():
			return
		}
		p, err := st.s.authenticate(st.credentials)
		if err == nil && p.Tenant+"/"+p.Name != st.sender {
			err = notify.ErrUnauthorized
		}
		if err == nil {
			st.who.Store(p)
			continue
		}
		f := faultOf(err)
		st.s.logFault(streamMethod, f)
		st.stop(&ending{"credential", f})
	}
}
