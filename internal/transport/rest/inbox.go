package rest

import (
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"allim/internal/session"
	"allim/internal/wire"
	"allim/pkg/auth"
	"allim/pkg/notify"
)

// inbox is a user's list, its counts, and the marks.
type inbox struct {
	calls  *session.Calls
	places chan struct{} // of requests that wait for Redis
}

// enter takes a place, which leave gives back. The error is ErrUnavailable with a pause.
func (i *inbox) enter() (leave func(), err error) {
	select {
	case i.places <- struct{}{}:
		return func() { <-i.places }, nil
	default:
		return nil, &notify.RetryError{Err: notify.ErrUnavailable, After: time.Second + rand.N(10*time.Second)}
	}
}

// list is GET /v1/inbox?limit=&before=&status=&category=: the frame `inbox`.
func (i *inbox) list(r *http.Request, id *auth.Identity) ([]byte, error) {
	if err := i.calls.Allow(id, session.Heavy); err != nil {
		return nil, err
	}
	cmd, err := asked(r.URL)
	if err != nil {
		return nil, err
	}
	leave, err := i.enter()
	if err != nil {
		return nil, err
	}
	defer leave()
	return frame(i.calls.List(r.Context(), id, &cmd))
}

// asked is the page that a URL asks for. What stands there without a value does not count.
func asked(u *url.URL) (wire.Command, error) {
	cmd := wire.Command{Type: "inbox"}
	q, err := url.ParseQuery(u.RawQuery)
	if err != nil { // else what can not be read would be left out, and another page be answered than the one that was asked for
		return cmd, &notify.FieldError{Field: "query", Want: "name=value pairs in URL encoding, such as ?limit=20&status=unread"}
	}
	cmd.Before, cmd.Status, cmd.Filter = q.Get("before"), q.Get("status"), q.Get("category")
	if text := q.Get("limit"); text != "" {
		if cmd.Limit, err = strconv.Atoi(text); err != nil || cmd.Limit == 0 { // 0 stands for the default in frames
			return cmd, &notify.FieldError{Field: "limit", Want: "a whole number from 1 to 100"}
		}
	}
	return cmd, nil
}

// badge is GET /v1/badge: the counts, as frames carry them.
func (i *inbox) badge(r *http.Request, id *auth.Identity) ([]byte, error) {
	if err := i.calls.Allow(id, session.Light); err != nil {
		return nil, err
	}
	leave, err := i.enter()
	if err != nil {
		return nil, err
	}
	defer leave()
	return object(i.calls.Badge(r.Context(), id))
}

// mark is POST /v1/inbox/<name> {ids|upto|all, origin?}: the frame `ok`.
func (i *inbox) mark(name string) func(*http.Request, *auth.Identity) ([]byte, error) {
	return func(r *http.Request, id *auth.Identity) ([]byte, error) {
		if err := i.calls.Allow(id, session.Light); err != nil { // before the body is read
			return nil, err
		}
		cmd, err := command(r, name)
		if err != nil {
			return nil, err
		}
		if more := session.WeightOf(&cmd) - session.Light; more > 0 {
			if err := i.calls.Allow(id, more); err != nil {
				return nil, err
			}
		}
		leave, err := i.enter()
		if err != nil {
			return nil, err
		}
		defer leave()
		return frame(i.calls.Mark(r.Context(), id, &cmd, ""))
	}
}
