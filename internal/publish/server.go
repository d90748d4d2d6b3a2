// Package publish is what backends call: the gRPC services of proto/allim/v1 and the same calls as JSON over HTTP. Both come
// through one gate (guard.go) to one implementation: whoever may not do a thing on one way may not on the other.
package publish

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	stdlog "log"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"google.golang.org/grpc"
	grpctls "google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // the codec of that name
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"

	"golang.org/x/time/rate"

	"allim/internal/store"
	"allim/pkg/auth"
	"allim/pkg/notify"
	pb "allim/proto/allim/v1"
)

// Defaults and bounds.
const (
	DefaultInFlight      = 1024     // calls at work at once
	DefaultInFlightBytes = 64 << 20 // bytes of their requests
	DefaultDeadline      = 10 * time.Second
	DefaultReceiving     = 32   // requests being read at once
	DefaultConnections   = 1024 // open at once, on each port
	DefaultStreams       = 64   // of PublishStream, open at once
	DefaultWatchers      = 256  // of Events.Watch, open at once

	maxWaiting  = 1024     // calls that wait until their request is read
	openReading = 8        // requests being read of those who need no credential
	openWaiting = 64       // and calls of theirs that wait
	window      = 64 << 10 // bytes that a caller may send on a stream before its request is read
	connWindow  = 1 << 20  // and on all streams of a connection without hearing of us

	connectionAge = 30 * time.Minute // then a connection is asked to end, give or take a tenth
	ageGrace      = 30 * time.Second // and closed after this

	// StopBudget is how long RunGRPC and RunHTTP may take to let calls finish.
	StopBudget = 20 * time.Second
)

// An Authenticator reads the credentials of backends: *auth.Services, or one that changes while it runs.
type Authenticator interface {
	Authenticate(credential string) (*auth.Principal, error)
}

// Options make a Server.
type Options struct {
	Store         *store.Store
	Services      Authenticator    // who may call
	Log           *slog.Logger     // faults; nil: nowhere
	Metrics       *Metrics         // nil: counted, but nobody sees it
	InFlight      int              // calls at once, more are refused; 0: DefaultInFlight
	InFlightBytes int              // bytes of their requests; 0: DefaultInFlightBytes
	Receiving     int              // requests being read at once, others wait; one caller gets half; 0: DefaultReceiving
	Connections   int              // open at once on each port, more are closed; 0: DefaultConnections
	Streams       int              // of PublishStream open at once, more are refused; one caller gets half; 0: DefaultStreams
	Watchers      int              // of Events.Watch open at once, more are refused; one caller gets half; 0: DefaultWatchers
	Deadline      time.Duration    // of calls that have none, and of each message of a stream; 0: DefaultDeadline
	Limits        Limits           // of one call
	TLS           *tls.Config      // of both ports, protocols (ALPN) excepted; nil: plain
	Now           func() time.Time // the time of messages; nil: time.Now
	NoReflection  bool             // true: callers need the .proto files

	// Reaches tells whether an escalation of a tenant can be told in that way; it must not wait. nil: none can.
	Reaches func(tenant string, via notify.Via) bool

	times times
}

// A Server answers backends. It is safe for concurrent use.
type Server struct {
	Options
	gate    *gate
	intake  *intake // of callers with a credential, by their name
	opening *intake // of anybody, by host
	health  *health.Server
	warn    rate.Sometimes // one line a second of what happens per call

	streams  *roster
	watchers *roster
	decoding chan struct{}  // who decodes a large message of a stream is in it
	readers  sync.WaitGroup // the goroutines that read streams

	closing context.Context // ends when RunGRPC begins to stop: long streams end with it
	close   context.CancelFunc
	late    context.Context // ends when messages of streams must not be waited for any more, so that their callers still hear it
	cut     context.CancelFunc
}

// times of connections and streams; tests have shorter ones. 0: the constants.
type times struct{ age, life, old, check, send time.Duration }

// New makes a Server. It starts nothing.
func New(o Options) (*Server, error) {
	if o.Store == nil || o.Services == nil {
		return nil, errors.New("publish: options need Store and Services")
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Metrics == nil {
		o.Metrics = NewMetrics(nil)
	}
	if o.InFlight == 0 {
		o.InFlight = DefaultInFlight
	}
	if o.InFlightBytes == 0 {
		o.InFlightBytes = DefaultInFlightBytes
	}
	if o.Receiving == 0 {
		o.Receiving = DefaultReceiving
	}
	if o.Connections == 0 {
		o.Connections = DefaultConnections
	}
	if o.Streams == 0 {
		o.Streams = DefaultStreams
	}
	if o.Watchers == 0 {
		o.Watchers = DefaultWatchers
	}
	if o.Deadline == 0 {
		o.Deadline = DefaultDeadline
	}
	o.times = times{cmp.Or(o.times.age, connectionAge), cmp.Or(o.times.life, streamLife), cmp.Or(o.times.old, streamOld), cmp.Or(o.times.check, streamCheck), cmp.Or(o.times.send, sendWithin)}
	if o.Now == nil {
		o.Now = time.Now
	}
	o.Limits = o.Limits.withDefaults()
	if err := o.check(); err != nil {
		return nil, err
	}
	s := &Server{Options: o, gate: newGate(o.InFlight, o.InFlightBytes, o.Metrics),
		intake:  newIntake(o.Receiving, maxWaiting, o.Metrics.receiving.WithLabelValues("credential")),
		opening: newIntake(openReading, openWaiting, o.Metrics.receiving.WithLabelValues("anybody")),
		health:  health.NewServer(), warn: rate.Sometimes{Interval: time.Second}}
	s.decoding = make(chan struct{}, decodeLarge)
	s.streams = &roster{share: newShare(o.Streams), gauge: o.Metrics.streams}
	s.watchers = &roster{share: newShare(o.Watchers), gauge: o.Metrics.watchers}
	s.closing, s.close = context.WithCancel(context.Background())
	s.late, s.cut = context.WithCancel(context.Background())
	return s, nil
}

// ServerOptions are the limits and the gate that a grpc.Server needs: its own defaults have no bound for streams, headers and
// the life of a connection (pitfalls, F40).
//
// What callers with a credential can make a Server hold, with the defaults and both ports: 128 MiB of requests being read (Receiving, Limits.Request
// each, and as much again for a moment when one is decoded), 68 MiB of calls that wait to be read (a window each), 64 MiB of requests at work
// (InFlightBytes), and of each stream a message that is being read (Limits.Request, 256 MiB in all) or waits for its place (4.6 MiB decoded, of
// 10,000 users with the longest names), and 640 KiB (two windows, and streamBytes that have no reply), or two replies to such notifications that
// nobody reads (9 MiB, 0.6 GiB in all). A request in frames of one byte takes 14 times its bytes in gRPC. Of each connection there are gRPC's two
// buffers of 32 KiB and headers. A stranger holds 32 MiB at the most (openReading), and elsewhere gets an answer to the headers: nothing of a request
// without a valid credential is read.
func (s *Server) ServerOptions() []grpc.ServerOption {
	secure := insecure.NewCredentials()
	if s.TLS != nil {
		secure = grpctls.NewTLS(s.TLS)
	}
	return []grpc.ServerOption{
		grpc.Creds(secure),
		grpc.MaxConcurrentStreams(256),
		grpc.MaxRecvMsgSize(s.Limits.Request),
		grpc.ForceServerCodecV2(raw{encoding.GetCodecV2("proto")}),
		grpc.MaxHeaderListSize(16 << 10),
		grpc.StaticStreamWindowSize(window), // or it grows to 16 MiB; a larger request gets its size when it is read
		grpc.StaticConnWindowSize(connWindow),
		grpc.ConnectionTimeout(10 * time.Second), // of a handshake, too
		grpc.KeepaliveParams(keepalive.ServerParameters{
			Time: 30 * time.Second, Timeout: 10 * time.Second,
			MaxConnectionIdle:     5 * time.Minute,
			MaxConnectionAge:      s.times.age, // or callers stay on old pods for ever
			MaxConnectionAgeGrace: ageGrace,    // streams have ended by then, with all their replies
		}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 20 * time.Second, PermitWithoutStream: true}),
		grpc.WaitForHandlers(true),
		grpc.InTapHandle(cancelable),
		grpc.UnaryInterceptor(s.unary),
		grpc.StreamInterceptor(s.stream),
	}
}

// Register adds the services, health and reflection to g, which was made with ServerOptions.
func (s *Server) Register(g *grpc.Server) {
	s.register(g, &pb.Publisher_ServiceDesc, publisher{s: s})
	s.register(g, &pb.Inbox_ServiceDesc, inbox{s: s})
	s.register(g, &pb.Events_ServiceDesc, eventsService{s: s})
	s.register(g, &healthpb.Health_ServiceDesc, s.health)
	for _, name := range []string{pb.Publisher_ServiceDesc.ServiceName, pb.Inbox_ServiceDesc.ServiceName, pb.Events_ServiceDesc.ServiceName} {
		s.health.SetServingStatus(name, healthpb.HealthCheckResponse_SERVING)
	}
	if !s.NoReflection {
		reflection.Register(g)
	}
}

// Run is RunGRPC and RunHTTP at once: when one ends, so does the other. Both stop at the same time, within StopBudget.
func (s *Server) Run(ctx context.Context, rpc, web net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ends := make(chan error, 2) // one each, both received
	go func() { ends <- s.RunGRPC(ctx, rpc) }()
	go func() { ends <- s.RunHTTP(ctx, web) }()
	first := <-ends
	cancel()
	return errors.Join(first, <-ends)
}

// RunGRPC serves on l, which it closes, until ctx ends. Then health says NOT_SERVING, calls at work get StopBudget to finish,
// and what is left is cut off: its callers repeat it elsewhere with the same id. It is called once in a Server's life.
func (s *Server) RunGRPC(ctx context.Context, l net.Listener) error {
	defer s.readers.Wait() // they end with their calls
	g := grpc.NewServer(s.ServerOptions()...)
	s.Register(g)
	served := make(chan error, 1)
	go func() { served <- g.Serve(bound(l, "grpc", s.Connections, s.Metrics)) }()
	select {
	case err := <-served:
		g.Stop()
		return fmt.Errorf("serve gRPC: %w", err)
	case <-ctx.Done():
	}
	s.health.Shutdown()
	s.close()
	defer time.AfterFunc(StopBudget/2, s.cut).Stop()
	stopped := make(chan struct{})
	go func() { g.GracefulStop(); close(stopped) }() // ends by itself or by Stop
	select {
	case <-stopped:
	case <-time.After(StopBudget):
		g.Stop()
		<-stopped
	}
	if err := <-served; err != nil && !errors.Is(err, grpc.ErrServerStopped) { // that: ctx ended before it served
		return fmt.Errorf("serve gRPC: %w", err)
	}
	return nil
}

// RunHTTP serves the JSON form on l, which it closes, until ctx ends; then calls at work get StopBudget to finish. It speaks HTTP/1.1
// alone, with TLS too: there a request that nobody reads waits in the caller's socket, where HTTP/2 would take some of each stream in before
// it is known whose it is.
func (s *Server) RunHTTP(ctx context.Context, l net.Listener) error {
	only := &http.Protocols{}
	only.SetHTTP1(true)
	return runHTTP(ctx, bound(l, "http", s.Connections, s.Metrics), &http.Server{
		Protocols:         only,
		TLSConfig:         s.TLS.Clone(), // of nil: nil
		ErrorLog:          stdlog.New(faults{s.Log}, "", 0),
		Handler:           s.Handler(),
		ReadHeaderTimeout: 5 * time.Second, // of a handshake, too
		ReadTimeout:       15 * time.Second,
		WriteTimeout:      60 * time.Second, // from the end of the headers: longer than any call
		IdleTimeout:       60 * time.Second,
		MaxHeaderBytes:    8 << 10,
	})
}

func runHTTP(ctx context.Context, l net.Listener, h *http.Server) error {
	served := make(chan error, 1)
	go func() {
		if h.TLSConfig != nil {
			served <- h.ServeTLS(l, "", "")
		} else {
			served <- h.Serve(l)
		}
	}()
	select {
	case err := <-served:
		return fmt.Errorf("serve HTTP: %w", err)
	case <-ctx.Done():
	}
	budget, cancel := context.WithTimeout(context.WithoutCancel(ctx), StopBudget)
	defer cancel()
	if err := h.Shutdown(budget); err != nil {
		_ = h.Close() // what is left is cut off
	}
	<-served // ErrServerClosed: it was asked to
	return nil
}
