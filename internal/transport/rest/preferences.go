package rest

import (
	"net/http"

	"allim/internal/session"
	"allim/internal/wire"
	"allim/pkg/auth"
	"allim/pkg/notify"
)

// preferences is GET /v1/inbox/preferences: the frame `preferences`.
func (i *inbox) preferences(r *http.Request, id *auth.Identity) ([]byte, error) {
	if err := i.calls.Allow(id, session.Light); err != nil {
		return nil, err
	}
	return i.choose(r, id, &wire.Command{Type: "preferences"})
}

// mute is POST /v1/inbox/preferences {mute, origin?}: the frame `ok`.
func (i *inbox) mute(r *http.Request, id *auth.Identity) ([]byte, error) {
	if err := i.calls.Allow(id, session.Light); err != nil { // before the body is read
		return nil, err
	}
	cmd, err := command(r, "preferences")
	if err != nil {
		return nil, err
	}
	if cmd.Mute == nil { // who only asks does not post
		return nil, &notify.FieldError{Field: "mute", Want: `a list of categories, as in {"mute":["mention"]}`}
	}
	return i.choose(r, id, &cmd)
}

func (i *inbox) choose(r *http.Request, id *auth.Identity, cmd *wire.Command) ([]byte, error) {
	leave, err := i.enter()
	if err != nil {
		return nil, err
	}
	defer leave()
	return frame(i.calls.Preferences(r.Context(), id, cmd, ""))
}
