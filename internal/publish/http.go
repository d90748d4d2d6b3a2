package publish

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"math"
	"mime"
	"net/http"
	"strconv"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"allim/pkg/auth"
)

// A route is one call of the HTTP form: the same implementation, behind the same guard, as the gRPC method.
type route struct {
	method string
	call   func(context.Context, *auth.Principal, []byte) (proto.Message, error)
}

// on makes a route of a call's implementation.
func on[Q any, P interface {
	*Q
	proto.Message
}, R proto.Message](method string, call func(context.Context, *auth.Principal, P) (R, error)) route {
	return route{method, func(ctx context.Context, p *auth.Principal, body []byte) (proto.Message, error) {
		request := P(new(Q))
		if err := decodeJSON(body, request.ProtoReflect(), ""); err != nil {
			return nil, err
		}
		return call(ctx, p, request)
	}}
}

func (s *Server) routes() map[string]route {
	return map[string]route{
		"/v1/publish":           on("Publish", s.publish),
		"/v1/notify":            on("Notify", s.notify),
		"/v1/update":            on("Update", s.update),
		"/v1/retract":           on("Retract", s.retract),
		"/v1/inbox/list":        on("List", s.list),
		"/v1/inbox/counts":      on("Counts", s.counts),
		"/v1/inbox/mark":        on("Mark", s.mark),
		"/v1/inbox/preferences": on("Preferences", s.preferences),
	}
}

// Handler is the HTTP form: POST with a JSON body, answered by JSON or by a problem document (RFC 9457).
func (s *Server) Handler() http.Handler {
	routes := s.routes()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		h.Set("X-Content-Type-Options", "nosniff")
		to, ok := routes[r.URL.Path]
		switch {
		case !ok:
			writeProblem(w, http.StatusNotFound, &fault{code: codes.Unimplemented, reason: "NOT_FOUND", message: "no such call"})
		case r.Method != http.MethodPost:
			h.Set("Allow", http.MethodPost)
			writeProblem(w, http.StatusMethodNotAllowed, &fault{code: codes.Unimplemented, reason: "METHOD", message: "every call is a POST"})
		case !isJSON(r.Header.Values("Content-Type")):
			writeProblem(w, http.StatusUnsupportedMediaType, &fault{code: codes.InvalidArgument, reason: "CONTENT_TYPE", message: "Content-Type: expected application/json"})
		default:
			s.serve(w, r, to)
		}
	})
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request, to route) {
	reply, err := s.guard(r.Context(), to.method, r.Header.Values("Authorization"), func() {}, func(ctx context.Context, p *auth.Principal, receive receiver) (proto.Message, error) {
		if r.ContentLength > int64(s.Limits.Request) {
			leaveBody(w, r)
			return nil, s.Limits.tooLong()
		}
		var body []byte
		if err := receive(func() (_ int, err error) { body, err = s.readBody(w, r); return len(body), err }); err != nil {
			return nil, err
		}
		return to.call(ctx, p, body)
	})
	var text []byte
	if err == nil {
		text, err = encodeJSON(nil, reply.ProtoReflect())
	}
	if err != nil {
		f := faultOf(err)
		status := httpStatus[f.code]
		if errors.Is(err, errBody) {
			status = http.StatusRequestEntityTooLarge
		}
		writeProblem(w, status, f)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(append(text, '\n')) // a line, for shells; an error means that the caller has gone
}

// leaveBody is for an answer that comes before its request's body was read. Callers who close their connections behind a call, as many proxies do, would find theirs
// reset with the answer in it: net/http waits for them to read it only where a body went over a bound, so it does, with its first byte. Others are waited for anyway.
func leaveBody(w http.ResponseWriter, r *http.Request) {
	if r.Close && r.Header.Get("Expect") == "" { // who expects to be told to go on has sent nothing
		_, _ = http.MaxBytesReader(w, r.Body, 0).Read(make([]byte, 1))
	}
}

// readBody reads a body of at most Limits.Request bytes. The server's ReadTimeout ends it.
func (s *Server) readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, int64(s.Limits.Request)))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return nil, s.Limits.tooLong()
	case err != nil: // the caller went away, or was too slow
		return nil, context.Canceled
	}
	return body, nil
}

// isJSON takes application/json alone, in UTF-8: a form or a plain text that a foreign page can send without asking is none.
func isJSON(values []string) bool {
	if len(values) != 1 {
		return false
	}
	t, params, err := mime.ParseMediaType(values[0])
	charset, given := params["charset"]
	return err == nil && t == "application/json" && (!given || strings.EqualFold(charset, "utf-8"))
}

// httpStatus is the mapping of google/rpc/code.proto.
var httpStatus = map[codes.Code]int{
	codes.InvalidArgument:    http.StatusBadRequest,
	codes.FailedPrecondition: http.StatusBadRequest,
	codes.Unauthenticated:    http.StatusUnauthorized,
	codes.PermissionDenied:   http.StatusForbidden,
	codes.NotFound:           http.StatusNotFound,
	codes.ResourceExhausted:  http.StatusTooManyRequests,
	codes.Canceled:           499,
	codes.Internal:           http.StatusInternalServerError,
	codes.Unavailable:        http.StatusServiceUnavailable,
	codes.DeadlineExceeded:   http.StatusGatewayTimeout,
}

// A problem is the body of a failing call (RFC 9457). Type is about:blank, so the title is the HTTP status' own.
type problem struct {
	Type         string            `json:"type"`
	Title        string            `json:"title"`
	Status       int               `json:"status"`
	Code         string            `json:"code"`   // of gRPC, google.rpc.Code
	Reason       string            `json:"reason"` // of the ErrorInfo
	Detail       string            `json:"detail"`
	Violations   []violation       `json:"violations,omitempty"`     // of the BadRequest
	RetryAfterMS int64             `json:"retry_after_ms,omitempty"` // of the RetryInfo
	ID           string            `json:"id,omitempty"`             // with results: repeat the call with it
	Results      []json.RawMessage `json:"results,omitempty"`        // of a Publish that failed on some topics, or a Notify, Update or Retract that failed on all users
}

type violation struct {
	Field       string `json:"field"`
	Description string `json:"description"`
}

func (f *fault) problem(status int) problem {
	p := problem{Type: "about:blank", Title: http.StatusText(status), Status: status, Code: code.Code(f.code).String(), Reason: f.reason,
		Detail: f.message, RetryAfterMS: f.retry.Milliseconds()}
	if status == 499 {
		p.Title = "Client Closed Request"
	}
	for _, fe := range f.fields {
		p.Violations = append(p.Violations, violation{fe.Field, "expected " + fe.Want})
	}
	if f.reply != nil {
		p.ID = f.reply.GetId()
		p.Results = resultsJSON(f.reply)
	}
	return p
}

// text is p as it is sent, with <, > and & as they are.
func (p problem) text() ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(p)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}

func resultsJSON(reply failing) (all []json.RawMessage) {
	for r := range resultsOf(reply) {
		text, err := encodeJSON(nil, r)
		if err != nil { // a kind that encodeJSON does not know: its test would have found it
			return nil
		}
		all = append(all, text)
	}
	return all
}

func writeProblem(w http.ResponseWriter, status int, f *fault) {
	text, err := f.problem(status).text()
	if err != nil { // strings, numbers and JSON that we wrote
		http.Error(w, internalMessage, http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "application/problem+json")
	if status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", "Bearer")
	}
	if f.retry > 0 {
		h.Set("Retry-After", strconv.Itoa(int(math.Ceil(f.retry.Seconds()))))
	}
	w.WriteHeader(status)
	_, _ = w.Write(append(text, '\n'))
}
