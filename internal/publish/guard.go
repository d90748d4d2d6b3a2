package publish

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/reflection/grpc_reflection_v1alpha"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"allim/pkg/auth"
	"allim/pkg/notify"
	pb "allim/proto/allim/v1"
)

// guard is the way of every call, however it came: who is it, is there room, until when; then the call, and what its error
// means. A panic ends the call and nothing else. Every error it returns is a *fault.
func (s *Server) guard(ctx context.Context, method string, credentials []string, size int, call func(context.Context, *auth.Principal) (proto.Message, error)) (reply proto.Message, err error) {
	start := time.Now()
	defer func() {
		if p := recover(); p != nil {
			s.Log.Error("call_panicked", "method", method, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			err = errPanic
		}
		var f *fault
		if err != nil {
			f = faultOf(err)
			reply, err = nil, f
			s.logFault(method, f)
		}
		s.Metrics.called(method, f, time.Since(start))
	}()
	p, err := s.authenticate(credentials)
	if err != nil {
		return nil, err
	}
	if !s.gate.enter(size) {
		return nil, &notify.RetryError{Err: notify.ErrBusy, After: 100*time.Millisecond + rand.N(400*time.Millisecond)}
	}
	defer s.gate.leave(size)
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, s.Deadline)
		defer cancel()
	}
	return call(ctx, p)
}

var errPanic = errors.New("panic in a call")

// authenticate takes the values of a call's authorization header.
func (s *Server) authenticate(credentials []string) (*auth.Principal, error) {
	if len(credentials) != 1 {
		return nil, notify.ErrUnauthorized
	}
	scheme, token, ok := strings.Cut(credentials[0], " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") { // RFC 9110, section 11.1: the scheme's case does not matter
		return nil, notify.ErrUnauthorized
	}
	return s.Services.Authenticate(strings.TrimSpace(token))
}

// logFault logs our own faults, and once a second what may happen to every call. Never data, never a credential.
func (s *Server) logFault(method string, f *fault) {
	switch {
	case errors.Is(f.cause, errPanic): // logged with its stack
	case f.code == codes.Internal:
		s.Log.Error("call_failed", "method", method, "error", f.cause)
	case f.code == codes.Unavailable, f.code == codes.ResourceExhausted:
		s.warn.Do(func() { s.Log.Warn("calls_fail", "method", method, "error", f.cause) })
	case f.code == codes.Unauthenticated:
		s.warn.Do(func() { s.Log.Warn("credentials_refused", "method", method, "why", auth.Why(f.cause)) })
	}
}

// A gate bounds the calls at work, in number and in bytes of their requests.
type gate struct {
	maxCalls, maxBytes int
	metrics            *Metrics

	mu           sync.Mutex // guards the fields below; nothing is locked while it is held
	calls, bytes int
}

func (g *gate) enter(size int) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.calls >= g.maxCalls || g.bytes+size > g.maxBytes {
		return false
	}
	g.calls++
	g.bytes += size
	g.metrics.inFlight.Set(float64(g.calls))
	g.metrics.inFlightBytes.Set(float64(g.bytes))
	return true
}

func (g *gate) leave(size int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.calls--
	g.bytes -= size
	g.metrics.inFlight.Set(float64(g.calls))
	g.metrics.inFlightBytes.Set(float64(g.bytes))
}

// open are the services that need no credential. Every other one does (default deny, pitfalls F42).
var open = map[string]bool{
	healthpb.Health_ServiceDesc.ServiceName:                          true,
	grpc_reflection_v1.ServerReflection_ServiceDesc.ServiceName:      true,
	grpc_reflection_v1alpha.ServerReflection_ServiceDesc.ServiceName: true,
}

// ours are the services whose calls go through guard.
var ours = map[string]bool{
	pb.Publisher_ServiceDesc.ServiceName: true,
	pb.Inbox_ServiceDesc.ServiceName:     true,
}

// split is "Publish" of "allim.v1.Publisher", from "/allim.v1.Publisher/Publish".
func split(fullMethod string) (service, method string) {
	service, method, _ = strings.Cut(strings.TrimPrefix(fullMethod, "/"), "/")
	return service, method
}

type principalKey struct{}

func principalOf(ctx context.Context) *auth.Principal {
	p, _ := ctx.Value(principalKey{}).(*auth.Principal)
	return p
}

func (s *Server) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	service, method := split(info.FullMethod)
	if open[service] {
		return handle(ctx, req)
	}
	message, ok := req.(proto.Message)
	if !ok || !ours[service] {
		return nil, status.Error(codes.PermissionDenied, "no rule allows this call")
	}
	md, _ := metadata.FromIncomingContext(ctx)
	reply, err := s.guard(ctx, method, md.Get("authorization"), proto.Size(message), func(ctx context.Context, p *auth.Principal) (proto.Message, error) {
		r, err := handle(context.WithValue(ctx, principalKey{}, p), req)
		if err != nil {
			return nil, err
		}
		return r.(proto.Message), nil
	})
	if err != nil {
		return nil, faultOf(err).status().Err()
	}
	return reply, nil
}

// stream lets through the streams of health and reflection; we have none of our own yet. They end when the server stops.
func (s *Server) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) (err error) {
	if service, _ := split(info.FullMethod); !open[service] {
		return status.Error(codes.PermissionDenied, "no rule allows this call")
	}
	defer func() {
		if p := recover(); p != nil {
			s.Log.Error("stream_panicked", "method", info.FullMethod, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			err = status.Error(codes.Internal, internalMessage)
		}
	}()
	ctx, cancel := context.WithCancel(ss.Context())
	defer cancel()
	defer context.AfterFunc(s.closing, cancel)()
	return handle(srv, endingStream{ss, ctx})
}

type endingStream struct {
	grpc.ServerStream
	ctx context.Context
}

func (e endingStream) Context() context.Context { return e.ctx }
