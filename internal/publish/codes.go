package publish

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"

	"allim/internal/store"
	"allim/pkg/notify"
)

// Domain is the domain of every ErrorInfo.
const Domain = "allim"

const (
	internalMessage = "internal error"
	maxViolations   = 20
	unreadable      = "UNREADABLE" // the reason where gRPC could not make a message of what came
	maxReplyDetail  = 6 << 10      // bytes: details travel in a trailer, of which some gRPC clients take 8 KiB
)

// table says what each error means to a caller; the first that an error is. A message here is all that is told; where there is
// none, the error's own text is: it was written for the caller.
var table = []struct {
	err     error
	code    codes.Code
	reason  string // of ErrorInfo
	message string
	retry   time.Duration // 0: a retry will not help
}{
	{notify.ErrUnauthorized, codes.Unauthenticated, "UNAUTHORIZED", "an API key or a service token is needed: authorization: Bearer …", 0},
	{notify.ErrForbidden, codes.PermissionDenied, "FORBIDDEN", "", 0},
	{notify.ErrTooLarge, codes.InvalidArgument, "TOO_LARGE", "", 0},
	{notify.ErrInvalid, codes.InvalidArgument, "INVALID", "", 0},
	{notify.ErrStalePosition, codes.FailedPrecondition, "STALE_POSITION", "the position is of an older epoch: take a new one", 0},
	{notify.ErrNotFound, codes.NotFound, "NOT_FOUND", "no such notification", 0},
	{notify.ErrConflict, codes.FailedPrecondition, "OLD_VERSION", "version: expected one that is not older than the last", 0},
	{notify.ErrPast, codes.FailedPrecondition, "PAST", "expires_at: expected a time in the future", 0},
	{notify.ErrNotConfigured, codes.FailedPrecondition, "NOT_CONFIGURED", "", 0},
	{store.ErrNoDisk, codes.FailedPrecondition, "NO_DISK", "level: " + store.ErrNoDisk.Error(), 0},
	{store.ErrNotReplicated, codes.Unavailable, "NOT_REPLICATED", "committed, not replicated: again with the same id", time.Second},
	{store.ErrNotOnDisk, codes.Unavailable, "NOT_ON_DISK", "committed, not known to be on disk: again with the same id", time.Second},
	{store.ErrNotSent, codes.Unavailable, "NOT_SENT", "not sent: it had waited for longer than 1 s", time.Second},
	{notify.ErrBusy, codes.ResourceExhausted, "BUSY", "too busy: again after a pause, with the same id", 500 * time.Millisecond},
	{notify.ErrLimit, codes.ResourceExhausted, "LIMIT", "over a limit", 0},
	{notify.ErrUnavailable, codes.Unavailable, "UNAVAILABLE", "the outcome is unknown: again after a pause, with the same id", time.Second},
	{errBody, codes.ResourceExhausted, "TOO_LARGE", "", 0},
	{context.DeadlineExceeded, codes.DeadlineExceeded, "DEADLINE", "the outcome is unknown: again with the same id", 0},
	{context.Canceled, codes.Canceled, "CANCELED", "canceled by the caller", 0},
}

// A fault is an error in the words of the callers: a gRPC status or a problem document.
type fault struct {
	cause   error // for logs
	code    codes.Code
	reason  string
	message string
	fields  []*notify.FieldError // bad input, at most maxViolations
	retry   time.Duration        // a pause after which a retry may help; 0: none
	reply   failing              // of a failedReply; nil else
	limit   string               // the setting that was met, where no field says it
}

func (f *fault) Error() string { return f.cause.Error() }
func (f *fault) Unwrap() error { return f.cause }

// A failedReply is a Publish that failed on a topic, or a Notify, Update or Retract that failed on all users: the error of the first one, with the results of all.
type failedReply struct {
	error
	reply failing
}

func (f *failedReply) Unwrap() error { return f.error }

// A failing is the response of a Publish, Notify, Update or Retract.
type failing interface {
	proto.Message
	GetId() string
}

// resultsOf are its results.
func resultsOf(reply failing) iter.Seq[protoreflect.Message] {
	return func(yield func(protoreflect.Message) bool) {
		m := reply.ProtoReflect()
		all := m.Get(m.Descriptor().Fields().ByName("results")).List()
		for i := range all.Len() {
			if !yield(all.Get(i).Message()) {
				return
			}
		}
	}
}

// faultOf translates an error. What is not in the table is ours, and no caller's business.
func faultOf(err error) *fault {
	if f, ok := err.(*fault); ok {
		return f
	}
	f := &fault{cause: err, code: codes.Internal, reason: "INTERNAL", message: internalMessage}
	for _, row := range table {
		if errors.Is(err, row.err) {
			f.code, f.reason, f.message, f.retry = row.code, row.reason, row.message, row.retry
			break
		}
	}
	if f.code == codes.InvalidArgument {
		f.fields = fieldsOf(err)
		f.message = fieldsMessage(f.fields)
	}
	if f.message == "" {
		f.message = err.Error()
	}
	var again *notify.RetryError
	if f.retry > 0 && errors.As(err, &again) && again.After > 0 {
		f.retry = again.After
	}
	var met *limited
	if errors.As(err, &met) {
		f.limit = met.limit
	}
	var failed *failedReply
	if errors.As(err, &failed) {
		f.reply = failed.reply
	}
	return f
}

// fieldsOf finds the FieldErrors in err, joined ones too.
func fieldsOf(err error) (all []*notify.FieldError) {
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range many.Unwrap() {
			all = append(all, fieldsOf(e)...)
		}
	} else {
		var fe *notify.FieldError
		if errors.As(err, &fe) {
			all = append(all, fe)
		}
	}
	return all[:min(len(all), maxViolations)]
}

func fieldsMessage(fields []*notify.FieldError) string {
	switch len(fields) {
	case 0:
		return "invalid request"
	case 1:
		return fields[0].Error()
	}
	return fmt.Sprintf("%v (and %d more)", fields[0], len(fields)-1)
}

// status is f as gRPC says it, with the details of google.rpc.
func (f *fault) status() *status.Status {
	info := &errdetails.ErrorInfo{Reason: f.reason, Domain: Domain}
	details := []protoadapt.MessageV1{info}
	if len(f.fields) > 0 {
		bad := &errdetails.BadRequest{}
		for _, fe := range f.fields {
			bad.FieldViolations = append(bad.FieldViolations, &errdetails.BadRequest_FieldViolation{Field: fe.Field, Description: "expected " + fe.Want})
		}
		details = append(details, bad)
	}
	if f.retry > 0 {
		details = append(details, &errdetails.RetryInfo{RetryDelay: durationpb.New(f.retry)})
	}
	if small := fit(f.reply); small != nil {
		details = append(details, protoadapt.MessageV1Of(small))
	}
	s := status.New(f.code, strings.ToValidUTF8(f.message, "�"))
	if with, err := s.WithDetails(details...); err == nil { // it fails only for OK
		return with
	}
	return s
}

// fit makes a reply small enough for a trailer: without the results' messages, then without the topics or users, whose order says which
// is which. nil: it is none, or too large even so, as that of many users is.
func fit(reply failing) failing {
	if reply == nil || proto.Size(reply) <= maxReplyDetail {
		return reply
	}
	small := proto.CloneOf(reply)
	for _, field := range []protoreflect.Name{"message", "topic", "user"} {
		for r := range resultsOf(small) {
			if f := r.Descriptor().Fields().ByName(field); f != nil {
				r.Clear(f)
			}
		}
		if proto.Size(small) <= maxReplyDetail {
			return small
		}
	}
	return nil
}

// resultOf is what a result says of err: OK and no message where there is none.
func resultOf(err error) (code.Code, *string) {
	if err == nil {
		return code.Code_OK, nil
	}
	f := faultOf(err)
	return code.Code(f.code), proto.String(f.message)
}
