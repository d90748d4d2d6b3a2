package notify

import (
	"errors"
	"fmt"
	"time"
)

// The errors that cross rooms. Each edge (gRPC, HTTP, client frames) has one table that says how it names them.
var (
	ErrInvalid       = errors.New("invalid")        // bad input; see FieldError
	ErrUnauthorized  = errors.New("unauthorized")   // no or a wrong credential
	ErrForbidden     = errors.New("forbidden")      // a good credential without this right
	ErrStalePosition = errors.New("stale position") // a position of another epoch, in a command
	ErrTooLarge      = errors.New("too large")      // over a limit in bytes
	ErrLimit         = errors.New("limit")          // over a limit in number
	ErrBusy          = errors.New("busy")           // overload: again after a pause; see RetryAfter
	ErrUnavailable   = errors.New("unavailable")    // Redis cannot be reached, or nobody is there
	ErrNotFound      = errors.New("not found")      // what is to be changed is not there
	ErrConflict      = errors.New("conflict")       // a newer version is there
	ErrPast          = errors.New("past")           // its time is over, by Redis' clock
	ErrNotConfigured = errors.New("not configured") // it needs a setting that is not made
)

// A FieldError is bad input: it names the field and what was expected. It is ErrInvalid, or ErrTooLarge where a size was passed.
type FieldError struct {
	Field string // as the caller spelled it in its API, e.g. "topics[1]"
	Want  string // what was expected
	Kind  error  // nil means ErrInvalid
}

func (e *FieldError) Error() string { return e.Field + ": expected " + e.Want }

// Unwrap makes a FieldError its kind.
func (e *FieldError) Unwrap() error {
	if e.Kind != nil {
		return e.Kind
	}
	return ErrInvalid
}

// InField gives the FieldError in err the name that the caller of an API knows the field by. Other errors stay as they are.
func InField(field string, err error) error {
	var fe *FieldError
	if errors.As(err, &fe) {
		return &FieldError{Field: field, Want: fe.Want, Kind: fe.Kind}
	}
	return err
}

func invalid(field, want string, args ...any) error {
	return &FieldError{Field: field, Want: fmt.Sprintf(want, args...)}
}

// A RetryError is an error that passes: try again after a pause.
type RetryError struct {
	Err   error
	After time.Duration
}

func (e *RetryError) Error() string { return e.Err.Error() }
func (e *RetryError) Unwrap() error { return e.Err }

// An EachError is of a call for many of which some went wrong: one error for each, nil where it went well.
type EachError []error

func (e EachError) Error() string {
	for i, err := range e {
		if err != nil {
			return fmt.Sprintf("the first of those that failed is number %d of %d: %v", i+1, len(e), err)
		}
	}
	return "none failed"
}

func (e EachError) Unwrap() []error { return e }

func sizeWant(limit, got int) string { return fmt.Sprintf("at most %d bytes, not %d", limit, got) }
