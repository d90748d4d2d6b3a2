package publish

import (
	"context"
	"fmt"
	"net"
	"runtime/debug"
	"slices"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/reflection/grpc_reflection_v1alpha"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/tap"
	"google.golang.org/protobuf/proto"

	"allim/pkg/auth"
	pb "allim/proto/allim/v1"
)

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
	pb.Events_ServiceDesc.ServiceName:    true,
}

var errNoRule = status.Error(codes.PermissionDenied, "no rule allows this call")

// register adds a service to g. Its unary methods are registered as streams, which look the same on the wire: a stream's handler
// is called when the headers are there, while an interceptor of unary calls sees them when the whole message has been read, of
// whoever sent it. grpc.InTapHandle could refuse as early, but a call that it refuses keeps its timer, of the caller's choice,
// long after its connection (v1.85, http2_server.go: operateHeaders does not cancel).
func (s *Server) register(g *grpc.Server, d *grpc.ServiceDesc, implementation any) {
	early := *d
	early.Methods, early.Streams = nil, slices.Clone(d.Streams)
	for _, m := range d.Methods {
		handle := s.call(m)
		if open[d.ServiceName] {
			handle = s.openCall(m)
		} else if !ours[d.ServiceName] {
			handle = func(any, grpc.ServerStream) error { return errNoRule }
		}
		early.Streams = append(early.Streams, grpc.StreamDesc{StreamName: m.MethodName, Handler: handle})
	}
	g.RegisterService(&early, implementation)
}

type principalKey struct{}

func principalOf(ctx context.Context) *auth.Principal {
	p, _ := ctx.Value(principalKey{}).(*auth.Principal)
	return p
}

// call is the way of a unary call of ours, through guard.
func (s *Server) call(m grpc.MethodDesc) grpc.StreamHandler {
	return func(implementation any, ss grpc.ServerStream) error {
		md, _ := metadata.FromIncomingContext(ss.Context())
		reply, err := s.guard(ss.Context(), m.MethodName, md.Get("authorization"), giveUpOf(ss.Context()), func(ctx context.Context, p *auth.Principal, receive receiver) (proto.Message, error) {
			r, err := m.Handler(implementation, context.WithValue(ctx, principalKey{}, p), func(request any) error {
				return receive(func() (int, error) {
					if err := ss.RecvMsg(request); err != nil {
						return 0, s.unread(err)
					}
					return proto.Size(request.(proto.Message)), nil
				})
			}, nil)
			if err != nil {
				return nil, err
			}
			return r.(proto.Message), nil
		})
		if err != nil {
			return faultOf(err).status().Err()
		}
		return ss.SendMsg(reply)
	}
}

// openCall is the way of a unary call that needs no credential.
func (s *Server) openCall(m grpc.MethodDesc) grpc.StreamHandler {
	return func(implementation any, ss grpc.ServerStream) (err error) {
		defer s.recovered(m.MethodName, &err)
		reply, err := m.Handler(implementation, ss.Context(), s.opened(ss.Context(), ss).RecvMsg, nil)
		if err != nil {
			return err
		}
		return ss.SendMsg(reply)
	}
}

// stream lets through the streams of health and reflection, which end when the server stops, and those of ours that are known to ask who calls.
func (s *Server) stream(implementation any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) (err error) {
	if info.FullMethod == pb.Publisher_PublishStream_FullMethodName {
		defer s.recovered(info.FullMethod, &err)
		return handle(implementation, ss)
	}
	if info.FullMethod == pb.Events_Watch_FullMethodName {
		defer s.recovered(info.FullMethod, &err)
		return s.watchEvents(ss)
	}
	if service, _, _ := strings.Cut(strings.TrimPrefix(info.FullMethod, "/"), "/"); !open[service] {
		return errNoRule
	}
	defer s.recovered(info.FullMethod, &err)
	ctx, cancel := context.WithCancel(ss.Context())
	defer cancel()
	defer context.AfterFunc(s.closing, cancel)()
	return handle(implementation, s.opened(ctx, ss))
}

// unary refuses what was registered past register, which is nothing.
func (s *Server) unary(context.Context, any, *grpc.UnaryServerInfo, grpc.UnaryHandler) (any, error) {
	return nil, errNoRule
}

func (s *Server) recovered(method string, err *error) {
	if p := recover(); p != nil {
		s.panicked(method, p)
		*err = status.Error(codes.Internal, internalMessage)
	}
}

func (s *Server) panicked(method string, p any) {
	s.Log.Error("stream_panicked", "method", method, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
}

// An openStream is a stream of anybody's: each message is read in a turn, shared by host. One that lets us wait for longer than
// receiveWithin is ended, so that an idle stream of reflection keeps no place.
type openStream struct {
	grpc.ServerStream
	ctx  context.Context
	s    *Server
	host string
}

func (s *Server) opened(ctx context.Context, ss grpc.ServerStream) openStream {
	host := ""
	if p, ok := peer.FromContext(ctx); ok {
		host = p.Addr.String()
		if h, _, err := net.SplitHostPort(host); err == nil {
			host = h
		}
	}
	return openStream{ss, ctx, s, host}
}

func (o openStream) Context() context.Context { return o.ctx }

func (o openStream) RecvMsg(m any) error {
	var said error
	err := o.s.opening.receive(o.ctx, o.host, giveUpOf(o.ServerStream.Context()), func() error {
		said = o.ServerStream.RecvMsg(m)
		return nil
	})
	if err != nil {
		f := faultOf(err)
		o.s.Metrics.refuse(f)
		return f.status().Err()
	}
	return said // io.EOF among others
}

type giveUpKey struct{}

// cancelable gives a call's context a way to end the reading of its request, which only the stream's own end does else.
func cancelable(ctx context.Context, _ *tap.Info) (context.Context, error) {
	ctx, cancel := context.WithCancel(ctx) // ended with the stream by gRPC
	return context.WithValue(ctx, giveUpKey{}, cancel), nil
}

func giveUpOf(ctx context.Context) func() {
	if cancel, ok := ctx.Value(giveUpKey{}).(context.CancelFunc); ok {
		return cancel
	}
	return func() {}
}

// unread says why a request could not be read. gRPC has answered the caller with err already.
func (s *Server) unread(err error) error {
	switch st := status.Convert(err); st.Code() {
	case codes.ResourceExhausted:
		return s.Limits.tooLong()
	case codes.Canceled: // also by giveUp
		return context.Canceled
	case codes.DeadlineExceeded:
		return context.DeadlineExceeded
	default:
		return &fault{cause: fmt.Errorf("read request: %w", err), code: st.Code(), reason: unreadable, message: st.Message()}
	}
}
