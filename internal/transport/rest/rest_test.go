package rest

import (
	"errors"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"allim/internal/session"
	"allim/internal/wire"
	"allim/pkg/auth"
	"allim/pkg/notify"
)

// While Redis answers nobody those who ask more are told so at once: no queue grows.
func TestMoreRequestsThanPlacesAreToldToComeBack(t *testing.T) {
	calls := session.New(session.Options{Push: &session.Push{}}).Calls() // without a store: who is let in panics
	i := &inbox{calls, make(chan struct{}, 1)}
	leave, err := i.enter()
	if err != nil {
		t.Fatal(err)
	}
	ann := &auth.Identity{User: "ann", Tenant: "default"}
	for name, answer := range map[string]func() ([]byte, error){
		"list":  func() ([]byte, error) { return i.list(httptest.NewRequest("GET", Inbox, nil), ann) },
		"badge": func() ([]byte, error) { return i.badge(httptest.NewRequest("GET", "/v1/badge", nil), ann) },
		"mark": func() ([]byte, error) {
			return i.mark("read")(httptest.NewRequest("POST", Inbox+"/read", strings.NewReader(`{"all":true}`)), ann)
		},
		"preferences": func() ([]byte, error) { return i.preferences(httptest.NewRequest("GET", Inbox, nil), ann) },
		"mute": func() ([]byte, error) {
			return i.mute(httptest.NewRequest("POST", Inbox, strings.NewReader(`{"mute":[]}`)), ann)
		},
		"subscribe": func() ([]byte, error) {
			return i.pushSubscribe(httptest.NewRequest("POST", pushPath, strings.NewReader(`{"subscription":{"keys":{"p256dh":"AA","auth":"AA"}}}`)), ann)
		},
		"forget": func() ([]byte, error) { return i.pushForget(httptest.NewRequest("DELETE", pushPath, nil), ann) },
	} {
		body, err := answer()
		var re *notify.RetryError
		if body != nil || !errors.Is(err, notify.ErrUnavailable) || !errors.As(err, &re) || re.After < time.Second || re.After > 11*time.Second {
			t.Errorf("%s: got %s, %v", name, body, err)
		}
	}
	leave()
	if leave, err = i.enter(); err != nil {
		t.Errorf("a place that was given back: %v", err)
	}
	leave()
}

func TestABodyThatEndsTooSoonIsNobodysFault(t *testing.T) {
	r := httptest.NewRequest("POST", Inbox+"/read", iotest.TimeoutReader(strings.NewReader(`{"ids":["n1"]}`+strings.Repeat(" ", 600))))
	_, err := command(r, "read")
	if f, status := wire.ErrorOf(err); status != 400 || f.Message != "body: expected all of it in time" {
		t.Errorf("got %d %+v", status, f)
	}
}

// Every mark that frames have is an endpoint.
func TestEveryMarkHasItsEndpoint(t *testing.T) {
	paths := map[string]bool{}
	for _, e := range Endpoints(session.New(session.Options{}).Calls()) {
		if paths[e.Method+" "+e.Path] {
			t.Errorf("%s %s is there twice", e.Method, e.Path)
		}
		paths[e.Method+" "+e.Path] = true
	}
	for name := range notify.Marks {
		if !paths["POST "+Inbox+"/"+name] {
			t.Errorf("%s has none", name)
		}
	}
}
