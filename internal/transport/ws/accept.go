// Package ws is the WebSocket transport: it accepts the upgrade, hands text frames to the session and pulls frames from its
// outbox. It is the only room that knows coder/websocket.
package ws

import (
	"net/http"
	"strings"
	"time"
)

// Subprotocol is what a client names, with its token as "bearer.<jwt>" beside it.
const Subprotocol = "allim.v1"

const bearerPrefix = "bearer."

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

// A pingLimit bounds the pings of a client that are answered (pitfalls C23); the rest stay without a pong. The zero value has seen none.
type pingLimit struct {
	since int64 // nanoseconds
	n     int
}

const (
	pingWindow = 10 * time.Second
	maxPings   = 20
)

// take is called by the goroutine that reads alone.
func (p *pingLimit) take(now int64, most int) bool {
	if time.Duration(now-p.since) > pingWindow {
		p.since, p.n = now, 0
	}
	p.n++
	return p.n <= most
}
