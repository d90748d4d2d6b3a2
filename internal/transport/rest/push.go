package rest

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"unicode/utf8"

	"allim/internal/session"
	"allim/internal/wire"
	"allim/pkg/auth"
	"allim/pkg/notify"
)

const pushPath = "/v1/push"

// What the bodies look like: a browser's PushSubscription as JSON.stringify writes it (Push API, section 5.1), and its endpoint.
const (
	subscriptionExample = `{"subscription":{"endpoint":"https://…","keys":{"p256dh":"…","auth":"…"}}}`
	endpointExample     = `{"endpoint":"https://…"}`
)

// pushKey is GET /v1/push: what a page needs to subscribe its browser.
func (i *inbox) pushKey(_ *http.Request, id *auth.Identity) ([]byte, error) {
	if err := i.calls.Allow(id, session.Light); err != nil {
		return nil, err
	}
	key, err := i.calls.PushKey(id)
	return object(map[string]string{"public_key": key}, err)
}

// pushSubscribe is POST /v1/push {subscription}: the frame `ok`.
func (i *inbox) pushSubscribe(r *http.Request, id *auth.Identity) ([]byte, error) {
	if err := i.calls.Allow(id, session.Light); err != nil { // before the body is read
		return nil, err
	}
	var body struct {
		Subscription *struct {
			Endpoint string
			Keys     struct{ P256dh, Auth string }
		}
	}
	if err := read(r, &body, subscriptionExample); err != nil {
		return nil, err
	}
	s := body.Subscription
	if s == nil {
		return nil, &notify.FieldError{Field: "subscription", Want: "a browser's PushSubscription, as in " + subscriptionExample}
	}
	p256dh, err := binary("p256dh", s.Keys.P256dh)
	if err != nil {
		return nil, err
	}
	secret, err := binary("auth", s.Keys.Auth)
	if err != nil {
		return nil, err
	}
	leave, err := i.enter()
	if err != nil {
		return nil, err
	}
	defer leave()
	err = i.calls.PushSubscribe(r.Context(), id, s.Endpoint, p256dh, secret)
	var fe *notify.FieldError
	if errors.As(err, &fe) && fe.Kind == nil {
		err = notify.InField("subscription."+fe.Field, err)
	}
	return frame(&wire.OK{}, err)
}

// pushForget is DELETE /v1/push {endpoint?}: the frame `ok`. Without an endpoint no browser of the user is pushed to any more.
func (i *inbox) pushForget(r *http.Request, id *auth.Identity) ([]byte, error) {
	if err := i.calls.Allow(id, session.Light); err != nil { // before the body is read
		return nil, err
	}
	var body struct{ Endpoint *string }
	if err := read(r, &body, endpointExample); err != nil && !errors.Is(err, errNothing) {
		return nil, err
	}
	endpoint := ""
	if body.Endpoint != nil {
		if endpoint = *body.Endpoint; endpoint == "" { // a page that has none must not forget all
			return nil, &notify.FieldError{Field: "endpoint", Want: "that of a subscription, as in " + endpointExample}
		}
	}
	leave, err := i.enter()
	if err != nil {
		return nil, err
	}
	defer leave()
	return frame(&wire.OK{}, i.calls.PushForget(r.Context(), id, endpoint))
}

// errNothing is of a body without a byte.
var errNothing = &notify.FieldError{Field: "body", Want: "a JSON object such as " + subscriptionExample + ", not nothing"}

// read decodes the body of a request, one JSON object. What it has besides the fields of into is passed over.
func read(r *http.Request, into any, example string) error {
	b, err := body(r)
	if err != nil {
		return err
	}
	if len(b) == 0 {
		return errNothing
	}
	if !utf8.Valid(b) {
		return &notify.FieldError{Field: "body", Want: "UTF-8"}
	}
	var object map[string]json.RawMessage
	if json.Unmarshal(b, &object) != nil || object == nil {
		return &notify.FieldError{Field: "body", Want: "a JSON object such as " + example}
	}
	var wrong *json.UnmarshalTypeError
	switch err := json.Unmarshal(b, into); {
	case errors.As(err, &wrong) && wrong.Field != "":
		return &notify.FieldError{Field: strings.ToLower(wrong.Field), Want: "another kind of value than " + wrong.Value + ", as in " + example}
	case err != nil:
		return &notify.FieldError{Field: "body", Want: "a JSON object such as " + example}
	}
	return nil
}

// binary is what a browser writes as base64url (Push API, section 5.1), with or without padding.
func binary(name, text string) ([]byte, error) {
	b, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(text, "="))
	if err != nil || len(b) == 0 {
		return nil, &notify.FieldError{Field: fmt.Sprintf("subscription.keys.%s", name), Want: "base64url, as a browser's PushSubscription has it"}
	}
	return b, nil
}
