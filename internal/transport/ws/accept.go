// Package ws is the WebSocket transport: it accepts the upgrade, hands text frames to the session and pulls frames from its
// outbox. It is the only room that knows coder/websocket.
package ws

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/coder/websocket"

	"allim/internal/session"
	"allim/pkg/auth"
)

// Subprotocol is what a client names, with its token as "bearer.<jwt>" beside it.
const Subprotocol = "allim.v1"

const bearerPrefix = "bearer."

// Options say how connections are kept, within Sessions.Limits: a frame over Limits.Frame closes with 1009.
type Options struct {
	Sessions *session.Sessions
	Metrics  *session.Metrics
	Write    time.Duration // how long one frame may take to be written; 0: 35 s, more than the hub lets a slow reader lag
}

// IsUpgrade tells whether a request asks for a WebSocket (RFC 6455, section 4.1).
func IsUpgrade(r *http.Request) bool {
	return hasToken(r.Header.Values("Connection"), "upgrade") && hasToken(r.Header.Values("Upgrade"), "websocket")
}

// Token is the bearer token among the subprotocols of an upgrade.
func Token(r *http.Request) (token string, ok bool) {
	for _, p := range protocols(r) {
		if t, is := strings.CutPrefix(p, bearerPrefix); is {
			return t, true
		}
	}
	return "", false
}

func protocols(r *http.Request) []string {
	var out []string
	for _, h := range r.Header.Values("Sec-WebSocket-Protocol") {
		for _, p := range strings.Split(h, ",") {
			out = append(out, strings.TrimSpace(p))
		}
	}
	return out
}

func hasToken(values []string, token string) bool {
	for _, v := range values {
		for _, t := range strings.Split(v, ",") {
			if strings.EqualFold(strings.TrimSpace(t), token) {
				return true
			}
		}
	}
	return false
}

// Serve accepts the upgrade and serves the connection until it ends. Who may connect from where was decided before.
func Serve(w http.ResponseWriter, r *http.Request, o Options, h session.Hello, identity *auth.Identity) {
	var conn *conn // read by the reader alone, which begins below
	pings := newPingLimit()
	c, err := websocket.Accept(w, r, &websocket.AcceptOptions{
		Subprotocols:       []string{Subprotocol},
		InsecureSkipVerify: true, // the front door checks Origin and Host: the library lets every Host of its own choosing pass (pitfalls C27)
		CompressionMode:    websocket.CompressionDisabled,
		OnPingReceived:     func(context.Context, []byte) bool { return pings.take() && !conn.writing.Load() },
	})
	if err != nil {
		return // the library has answered
	}
	c.SetReadLimit(int64(o.Sessions.Limits().Frame))
	conn = newConn(c, o)
	conn.session = o.Sessions.Open(conn, h, identity)
	conn.serve()
}
