package publish

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	"allim/pkg/notify"
)

// A frameReader is what gRPC's own stream of a call can do beside grpc.ServerTransportStream (v1.85, internal/transport). With it a
// message is read in two steps, its length and then the rest, which RecvMsg does in one. So a stream that is silent holds no turn to
// be read, however large its messages may be, and a message that is too large or no protobuf is answered like others, where RecvMsg
// ends the stream. It is no documented promise: where the transport cannot do it, no stream begins, which every test of streams sees.
type frameReader interface {
	ReadMessageHeader(header []byte) error
	Read(n int) (mem.BufferSlice, error) // all n bytes, or an error
}

const (
	frameHeader   = 5         // bytes: compressed or not, and the length (gRPC over HTTP/2, Length-Prefixed-Message)
	discardAtOnce = 32 << 10  // bytes of a message that is too large
	largestFrame  = 256 << 20 // bytes: of a larger one not even the end is waited for
)

var (
	errNoFrames = errors.New("the transport does not read frames")
	// errBroken ends a stream: the rest of it cannot be read.
	errBroken = &fault{cause: errors.New("broken stream"), code: codes.Internal, reason: unreadable, message: "the stream is none of whole, uncompressed messages"}
)

// A refused is why a message is none that was read to its end: the stream goes on.
type refused struct{ error }

func (r *refused) Unwrap() error { return r.error }

// frames reads the messages of a stream: length, enter, body and leave, again and again. It is used by one goroutine.
type frames struct {
	s       *Server
	from    frameReader
	sender  string
	tooSlow func() // ends the stream
	head    [frameHeader]byte
}

func (s *Server) framesOf(ss grpc.ServerStream, sender string, tooSlow func()) (*frames, error) {
	from, ok := grpc.ServerTransportStreamFromContext(ss.Context()).(frameReader)
	if !ok {
		return nil, errNoFrames
	}
	return &frames{s: s, from: from, sender: sender, tooSlow: tooSlow}, nil
}

// length waits for the next message. io.EOF: the caller says no more.
func (f *frames) length() (int, error) {
	if err := f.from.ReadMessageHeader(f.head[:]); errors.Is(err, io.ErrUnexpectedEOF) {
		return 0, errBroken
	} else if err != nil {
		return 0, err
	}
	n := binary.BigEndian.Uint32(f.head[1:])
	if f.head[0] != 0 || n > largestFrame {
		return 0, errBroken
	}
	return int(n), nil
}

// inTurn tells whether a message must wait for its turn among all requests that are being read: it is larger than what a stream may
// send unread in any case, and not to be thrown away.
func (f *frames) inTurn(n int) bool { return n > window && n <= f.s.Limits.Request }

// enter waits for that turn, as long as it takes. It keeps it until leave, so that there are no more large messages than turns that are
// read and have no place at work yet.
func (f *frames) enter(ctx context.Context, n int) error {
	if !f.inTurn(n) {
		return nil
	}
	for {
		err := f.turn(ctx)
		var again *notify.RetryError
		if err == nil || ctx.Err() != nil || !errors.As(err, &again) {
			return err
		}
		select {
		case <-time.After(again.After):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (f *frames) turn(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, f.s.intake.within)
	defer cancel()
	return f.s.intake.enter(ctx, f.sender)
}

func (f *frames) leave(n int) {
	if f.inTurn(n) {
		f.s.intake.leave(f.sender)
	}
}

// body reads the message of that length. A *refused is answered; every other error ends the stream.
func (f *frames) body(n int, m proto.Message) error {
	if n > f.s.Limits.Request {
		return f.discard(n)
	}
	if f.inTurn(n) {
		defer time.AfterFunc(f.s.intake.within, f.tooSlow).Stop()
	}
	data, err := f.read(n)
	if err != nil {
		return err
	}
	defer data.Free() // Unmarshal copies
	text := data.MaterializeToBuffer(mem.DefaultBufferPool())
	defer text.Free()
	if err := proto.Unmarshal(text.ReadOnlyData(), m); err != nil {
		return &refused{&fault{cause: fmt.Errorf("read message: %w", err), code: codes.InvalidArgument, reason: unreadable, message: "the message is no PublishStreamRequest"}}
	}
	return nil
}

func (f *frames) read(n int) (mem.BufferSlice, error) {
	data, err := f.from.Read(n)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) { // the caller said no more within a message
		return nil, errBroken
	}
	return data, err
}

// discard reads a message that is too large, and keeps nothing of it.
func (f *frames) discard(n int) error {
	for n > 0 {
		data, err := f.read(min(n, discardAtOnce))
		if err != nil {
			return err
		}
		n -= data.Len()
		data.Free()
	}
	return &refused{f.s.Limits.tooLong()}
}
