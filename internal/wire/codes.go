package wire

import (
	"errors"
	"time"

	"allim/pkg/notify"
)

// Close codes (contract, section 3). Below 4500 a client reconnects, from 4500 on it does not.
const (
	CloseGoingAway = 1001
	CloseProtocol  = 1002
	CloseNotUTF8   = 1007
	CloseTooBig    = 1009
	CloseRestart   = 1012
	CloseOverload  = 1013
	CloseExpired   = 4401 // with a new token
	CloseTooSlow   = 4408 // at once, or after the pause that an error frame named: it goes on where it was
	CloseTooMany   = 4429 // after a pause
)

// The codes of error frames.
const (
	CodeBadFrame     = "bad_frame"
	CodeBadTopic     = "bad_topic"
	CodeUnauthorized = "unauthorized"
	CodeForbidden    = "forbidden"
	CodeStale        = "stale_position"
	CodeLimit        = "limit"
	CodeTooLarge     = "too_large"
	CodeBusy         = "busy"
	CodeUnavailable  = "unavailable"
)

// codes is the whole table from the errors that cross rooms to what a client is told; the text of the others is no stranger's business.
var codes = []struct {
	err     error
	code    string
	status  int    // of an HTTP refusal
	message string // "" where the error's own text says what was expected
}{
	{notify.ErrTooLarge, CodeTooLarge, 413, ""},
	{notify.ErrInvalid, CodeBadFrame, 400, ""},
	{notify.ErrUnauthorized, CodeUnauthorized, 401, "a valid token is needed"},
	{notify.ErrForbidden, CodeForbidden, 403, "the token does not allow it"},
	{notify.ErrNotConfigured, CodeBadFrame, 404, "that is not set up here"},
	{notify.ErrStalePosition, CodeStale, 409, "that position is of an older epoch: mark by ids, or take the position of the newest frame"},
	{notify.ErrLimit, CodeLimit, 429, "too many"},
	{notify.ErrBusy, CodeBusy, 429, "try again later"},
	{notify.ErrUnavailable, CodeUnavailable, 503, "the service cannot answer right now: try again"},
}

// ErrorOf is the frame for an error, and the status of an HTTP refusal with it. What the table does not know is "unavailable": a fault of ours.
func ErrorOf(err error) (f *Error, status int) {
	f, status = &Error{Code: CodeUnavailable, Message: "the service cannot answer right now: try again"}, 503
	for _, c := range codes {
		if !errors.Is(err, c.err) {
			continue
		}
		f.Code, f.Message, status = c.code, c.message, c.status
		var fe *notify.FieldError
		if errors.As(err, &fe) {
			f.Message = fe.Error()
			if fe.Field == "topic" && c.code == CodeBadFrame {
				f.Code = CodeBadTopic
			}
		}
		break
	}
	var re *notify.RetryError
	if errors.As(err, &re) {
		f.RetryAfter = max(1, int((re.After+time.Second-1)/time.Second))
	}
	return f, status
}
