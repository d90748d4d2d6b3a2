package publish

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"allim/pkg/notify"
)

// Bounds of a call where Limits name none (contract, section 4).
const (
	DefaultData         = 64 << 10
	DefaultNotification = 16 << 10
	DefaultRequest      = 4 << 20
	DefaultTopics       = 100
	DefaultUsers        = 10_000
	DefaultMarkIDs      = 500 // and the most: the store takes no more at once
	DefaultRetention    = 90 * 24 * time.Hour
)

// Limits bound what one call may ask for. A zero is the default of that name.
type Limits struct {
	Data         int           // bytes of data of a Publish
	Notification int           // bytes of data of a Notify
	Request      int           // bytes of a request, gRPC and HTTP alike
	Topics       int           // of a Publish
	Users        int           // of a Notify
	MarkIDs      int           // of a Mark
	Retention    time.Duration // how far ahead a notification may come, or expire: as long as inboxes are kept
}

func (l Limits) withDefaults() Limits {
	return Limits{Data: cmp.Or(l.Data, DefaultData), Notification: cmp.Or(l.Notification, DefaultNotification), Request: cmp.Or(l.Request, DefaultRequest),
		Topics: cmp.Or(l.Topics, DefaultTopics), Users: cmp.Or(l.Users, DefaultUsers), MarkIDs: cmp.Or(l.MarkIDs, DefaultMarkIDs),
		Retention: cmp.Or(l.Retention, DefaultRetention)}
}

// errBody is a request over Limits.Request, in either form.
var errBody = errors.New("request body")

func (l *Limits) tooLong() error {
	return &limited{fmt.Errorf("%w: expected at most %d bytes", errBody, l.Request), "request"}
}

// A limited is an error with the limit that was met, for the metric: the name of a setting. Mistakes in a field need none, their field says it.
type limited struct {
	error
	limit string
}

func (l *limited) Unwrap() error { return l.error }

// check finds limits that exclude each other.
func (o *Options) check() error {
	if o.InFlightBytes < o.Limits.Request {
		return &notify.FieldError{Field: "limits.calls_bytes", Want: fmt.Sprintf("at least limits.request, which is %d", o.Limits.Request)}
	}
	return nil
}
