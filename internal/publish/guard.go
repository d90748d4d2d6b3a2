package publish

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"allim/pkg/auth"
	"allim/pkg/notify"
)

// A receiver has a call's request read, once, when it is its turn; read says the bytes of what it read. They count as at work
// until the call ends.
type receiver func(read func() (int, error)) error

// guard is the way of every call, however it came: who is it, until when, is there room to read it and to do it; then the call,
// and what its error means. Nothing of a request is read for a stranger. giveUp ends a read. A panic ends the call and nothing
// else. Every error it returns is a *fault.
func (s *Server) guard(ctx context.Context, method string, credentials []string, giveUp func(), call func(context.Context, *auth.Principal, receiver) (proto.Message, error)) (reply proto.Message, err error) {
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
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, s.Deadline)
		defer cancel()
	}
	leave := func() {}
	defer func() { leave() }()
	return call(ctx, p, func(read func() (int, error)) error {
		return s.intake.receive(ctx, p.Tenant+"/"+p.Name, giveUp, func() error {
			size, err := read()
			if err != nil {
				return err
			}
			if met := s.gate.enter(size); met != "" {
				return &limited{busy(nil), met}
			}
			leave = func() { s.gate.leave(size) }
			return nil
		})
	})
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
	case f.reason == unreadable: // the caller's doing
		s.warn.Do(func() { s.Log.Warn("requests_unreadable", "method", method, "error", f.cause) })
	case f.code == codes.Internal:
		s.Log.Error("call_failed", "method", method, "error", f.cause)
	case f.code == codes.Unavailable, f.code == codes.ResourceExhausted:
		s.warn.Do(func() { s.Log.Warn("calls_fail", "method", method, "error", f.cause) })
	case f.code == codes.Unauthenticated:
		s.warn.Do(func() { s.Log.Warn("credentials_refused", "method", method, "why", auth.Why(f.cause)) })
	}
}
