// Package rest is the inbox over HTTP, for who needs no socket: requests become the commands that frames are, answers the frames that answer
// those. It knows no credentials and writes no headers: the door lets requests in, bounds their bodies and says who they come from.
package rest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"

	"allim/internal/session"
	"allim/internal/wire"
	"allim/pkg/auth"
	"allim/pkg/notify"
)

// An Endpoint is one thing that can be asked for.
type Endpoint struct {
	Method string // GET, POST or DELETE
	Path   string
	// Answer is the body of the answer to a user's request, one JSON object, or an error that wire.ErrorOf tells. The body of r is bounded by
	// http.MaxBytesReader. Anonymous identities have no inbox: they are not let in.
	Answer func(r *http.Request, id *auth.Identity) ([]byte, error)
}

// Inbox is the path below which the inbox is.
const Inbox = "/v1/inbox"

// MarkNames are the marks that can be posted to Inbox/<name>.
func MarkNames() []string {
	names := make([]string, 0, len(notify.Marks))
	for name := range notify.Marks {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Endpoints are all that there is.
func Endpoints(c *session.Calls) []Endpoint {
	i := &inbox{c, make(chan struct{}, atWork)}
	all := []Endpoint{
		{http.MethodGet, Inbox, i.list},
		{http.MethodGet, "/v1/badge", i.badge},
		{http.MethodGet, Inbox + "/preferences", i.preferences},
		{http.MethodPost, Inbox + "/preferences", i.mute},
		{http.MethodGet, pushPath, i.pushKey},
		{http.MethodPost, pushPath, i.pushSubscribe},
		{http.MethodDelete, pushPath, i.pushForget},
	}
	for _, name := range MarkNames() {
		all = append(all, Endpoint{http.MethodPost, Inbox + "/" + name, i.mark(name)})
	}
	return all
}

// atWork is how many requests wait for Redis at once. While it answers none, the others are told to come back at once.
const atWork = 256

// command reads the body of a request for a command of a type.
func command(r *http.Request, typ string) (wire.Command, error) {
	b, err := body(r)
	if err != nil {
		return wire.Command{}, err
	}
	return wire.DecodeAs(typ, b)
}

// body is all of it, or why not.
func body(r *http.Request) ([]byte, error) {
	b, err := io.ReadAll(r.Body)
	var over *http.MaxBytesError
	if errors.As(err, &over) {
		return nil, &notify.FieldError{Field: "body", Want: fmt.Sprintf("at most %d bytes", over.Limit), Kind: notify.ErrTooLarge}
	}
	if err != nil { // who sent it has gone, or takes too long: nobody reads this
		return nil, &notify.FieldError{Field: "body", Want: "all of it in time"}
	}
	return b, nil
}

// object is the JSON of an answer that is no frame.
func object(v any, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	return json.Marshal(v)
}

// frame is the JSON of an answer that is one.
func frame(f wire.Frame, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	return wire.Encode(f)
}
