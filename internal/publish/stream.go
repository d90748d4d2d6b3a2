package publish

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"allim/pkg/auth"
	"allim/pkg/notify"
	pb "allim/proto/allim/v1"
)

// Bounds of a stream.
const (
	streamMessages = 512       // read and not answered
	streamBytes    = 512 << 10 // of those, and resultBytes for each of their topics or users; one message may be larger
	resultBytes    = 64

	streamLife  = 10 * time.Minute // after which a stream ends, give or take a tenth: callers get to new pods, and no connection is closed under one
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
	in          *frames
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

// An ending is why a stream ends: the label of the metric, and what the caller is told; nil: OK.
type ending struct {
	why   string
	fault *fault
}

// ends is what a caller hears of a stream that ends for no fault of his.
func ends(why string) *ending {
	return &ending{why, &fault{cause: errors.New("stream ends: " + why), code: codes.Unavailable, reason: "STREAM_ENDS",
		message: "this stream ends (" + why + "): what has no reply again on a new one, with the same id"}}
}

var (
	endClosed   = &ending{why: "closed"}
	endStopping = ends("stopping")
	endAge      = ends("age")
	endSending  = &ending{"sending", faultOf(context.Canceled)} // he does not read; gRPC says it so
	endGone     = &ending{"gone", faultOf(context.Canceled)}
	endDeadline = &ending{"deadline", faultOf(context.DeadlineExceeded)}
	endBroken   = &ending{"broken", errBroken}
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
	s.Metrics.streamsEnded.WithLabelValues(end.why).Inc()
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
	if st.in, err = s.framesOf(out, st.sender, func() { st.stop(tooSlow()) }); err != nil {
		return nil, err
	}
	if !s.streams.enter(st.sender) {
		return nil, &limited{busy(nil), "streams"}
	}
	return st, nil
}

func tooSlow() *ending { return &ending{"receiving", faultOf(&limited{busy(nil), "receiving"})} }

// run is the stream's life. What ends it ends the reading; what was read is answered, and then the caller hears why.
func (st *stream) run() *ending {
	ctx := st.out.Context()
	work, cancel := withReserve(ctx)
	defer cancel()
	st.work = work
	st.reading, st.noMore = context.WithCancel(work)
	defer st.noMore()
	defer context.AfterFunc(work, func() {
		switch {
		case ctx.Err() != nil:
			st.stop(endGone)
		case st.s.closing.Err() != nil:
			st.stop(endStopping)
		default:
			st.stop(endDeadline)
		}
	})()
	defer context.AfterFunc(st.s.closing, func() { st.stop(endStopping) })()
	defer context.AfterFunc(st.s.late, cancel)()
	life := st.s.times.life
	defer time.AfterFunc(life-life/10+rand.N(life/5), func() { st.stop(endAge) }).Stop()
	st.s.readers.Go(st.read)
	settled := make(chan struct{})
	go func() { st.settle(); close(settled) }()
	defer func() { cancel(); <-settled }() // it may have given up
	return st.send()
}

// stop ends the reading, for the first reason that there is.
func (st *stream) stop(e *ending) {
	st.mu.Lock()
	first := st.ending == nil
	if first {
		st.ending = e
		if !st.entering {
			close(st.tasks)
		}
	}
	st.mu.Unlock()
	if first {
		st.noMore()
	}
}

// read takes messages until the stream ends. It may still wait for one when the handler has returned, which ends that, too: the server waits for it.
func (st *stream) read() {
	defer func() {
		if p := recover(); p != nil {
			st.s.panicked(streamMethod, p)
			st.stop(endPanic)
		}
	}()
	for {
		n, err := st.in.length()
		if err == nil {
			err = st.message(n)
		}
		if err != nil {
			st.stop(endOf(err))
			return
		}
	}
}

// endOf is how a stream ends that cannot be read any more.
func endOf(err error) *ending {
	switch {
	case errors.Is(err, io.EOF):
		return endClosed
	case errors.Is(err, errBroken):
		return endBroken
	}
	return endGone // where it was stopped, that came first
}

// message reads one message and begins its work.
func (st *stream) message(n int) error {
	if err := st.wait(n); err != nil {
		return err
	}
	if err := st.in.enter(st.reading, n); err != nil {
		return err
	}
	defer st.in.leave(n)
	t, m := &task{start: time.Now()}, &pb.PublishStreamRequest{}
	var no *refused
	if err := st.in.body(n, m); errors.As(err, &no) {
		t.err = no.error
	} else if err != nil {
		return err
	} else {
		if err := st.s.gate.wait(st.reading, st.sender, n); err != nil {
			return err
		}
		t.size, t.placed = n, true
		t.call(m)
	}
	if !st.enter(t) {
		st.leave(t)
		return context.Canceled
	}
	st.s.begin(st.work, st.who.Load(), t)
	st.entered(t)
	return nil
}

// wait waits until a message of n bytes may be read beside those that have no reply.
func (st *stream) wait(n int) error {
	for waited := false; ; waited = true {
		st.mu.Lock()
		ok := st.open == 0 || st.open < streamMessages && st.bytes+n <= streamBytes
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
	t.cost = t.size + resultBytes*t.targets()
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

// leave gives back a message's place at work.
func (st *stream) leave(t *task) {
	if t.placed {
		st.s.gate.done(st.sender, t.size)
	}
}

// check looks at the credential again: it may have expired, or have got other rights.
func (st *stream) check() {
	p, err := st.s.authenticate(st.credentials)
	if err == nil && p.Tenant+"/"+p.Name != st.sender {
		err = notify.ErrUnauthorized
	}
	if err == nil {
		st.who.Store(p)
		return
	}
	f := faultOf(err)
	st.s.logFault(streamMethod, f)
	st.stop(&ending{"credential", f})
}
