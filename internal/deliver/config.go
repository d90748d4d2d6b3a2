package deliver

import (
	"errors"
	"fmt"
	"strings"

	"allim/internal/boot"
	"allim/internal/certs"
	"allim/internal/gateway"
	"allim/internal/keyspace"
	"allim/internal/session"
	"allim/internal/settings"
	"allim/internal/store"
	"allim/internal/transport/ws"
	"allim/pkg/auth"
	"allim/pkg/notify"
)

// A Config is what a gateway's settings mean.
type Config struct {
	Keys           *keyspace.Map
	Classes        []store.Class
	Verifier       *auth.Verifier
	Anonymous      *auth.Identity // nil: everybody needs a token
	Hosts, Origins []string
	Push           *session.Push // nil: nothing is pushed
	Pair           *certs.Pair   // nil: no TLS
}

// Configure checks what the settings mean. Its error joins a notify.FieldError for each mistake.
func Configure(l *settings.Loaded) (c Config, err error) {
	var errs [11]error
	var public []notify.Pattern
	c.Keys, errs[0] = keyspace.NewMap(l.Redis.Partitions)
	c.Classes, public, errs[1] = boot.Classes(l.Topics)
	c.Verifier, errs[2] = Verifier(l)
	c.Anonymous, errs[3] = anonymous(l.Anonymous, public)
	c.Hosts, c.Origins, errs[4] = boot.Public(&l.Settings)
	errs[5] = gateway.CheckNames(l.Hosts, l.Origins)
	c.Pair, errs[6] = boot.Pair("tls.public", l.TLS.Public)
	errs[7] = boot.Reachable(l.Redis)
	errs[8] = deflate(l.WebSocket)
	c.Push, errs[9] = push(l.Push)
	errs[10] = boot.Listening(settings.Listen{Public: l.Listen.Public, Ops: l.Listen.Ops})
	return c, errors.Join(errs[:]...)
}

// push is whether and how browsers subscribe, nil where they do not.
func push(p settings.Push) (*session.Push, error) {
	check, err := boot.Subscriptions(p)
	if check == nil {
		return nil, err
	}
	return &session.Push{PublicKey: strings.TrimRight(p.PublicKey, "="), Check: check}, err // as browsers take it
}

func deflate(w settings.Sockets) error {
	if 0 < w.Deflate && w.Deflate < ws.LeastDeflate {
		return &notify.FieldError{Field: "websocket.deflate", Want: fmt.Sprintf("0 for no compression, or at least %d: shorter messages do not get smaller", ws.LeastDeflate)}
	}
	return nil
}

// Verifier is who reads clients' tokens, from settings that may be read again.
func Verifier(l *settings.Loaded) (*auth.Verifier, error) {
	if len(l.Keys) == 0 && l.Anonymous == nil {
		return nil, &notify.FieldError{Field: "keys", Want: "at least one key for clients' tokens, or `anonymous`"}
	}
	keys, err := boot.Keys(l.Keys)
	if err != nil {
		return nil, err
	}
	_, public, err := boot.Classes(l.Topics)
	if err != nil {
		return nil, err // said where the classes are read, too
	}
	return auth.NewVerifier(auth.Options{Keys: keys, Audience: l.Audience, Public: public, OnlyMine: !l.Segments.All})
}

func anonymous(g *settings.Grant, public []notify.Pattern) (*auth.Identity, error) {
	if g == nil {
		return nil, nil
	}
	id, err := auth.Anonymous(auth.Grant{Subscribe: g.Subscribe, Hear: g.Hear, Send: g.Send, Public: public})
	return id, boot.Within("anonymous", err)
}
