// Package gateway is the front door of the delivery bank: its routes, and who is let in from where.
package gateway

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/time/rate"

	"allim/client"
	"allim/internal/session"
	"allim/internal/transport/rest"
	"allim/internal/transport/ws"
	"allim/internal/wire"
	"allim/pkg/auth"
	"allim/pkg/notify"
)

// Options make a Gateway.
type Options struct {
	Sessions *session.Sessions
	Sockets  *ws.Server
	Metrics  *session.Metrics
	Verify   func(token string) (*auth.Identity, error) // within the limits of Sessions
	Hosts    []string                                   // names this gateway answers to, besides loopback
	Origins  []string                                   // exact origins that pages may come from, such as https://app.example.com, besides loopback's
	Fallback http.Handler                               // answers what is not the gateway's, on loopback demos; nil: 404
	Upgrades int                                        // new connections in a second; 0: 500 for each CPU
	Pause    time.Duration                              // how long Serve goes on as before when it is asked to end
	Log      *slog.Logger
}

// A Gateway answers HTTP on the public port.
type Gateway struct {
	opt      Options
	admit    *admit
	upgrades *rate.Limiter
	mux      *http.ServeMux
}

// New makes a gateway. The error names the origin or host that is none.
func New(o Options) (*Gateway, error) {
	a, err := newAdmit(o)
	if err != nil {
		return nil, err
	}
	a.verify = o.Sessions.Within(o.Verify)
	if o.Upgrades == 0 {
		o.Upgrades = upgradesOfCPU * runtime.GOMAXPROCS(0)
	}
	// A second's worth at once, and no more: who comes back after an outage of everything comes with everybody.
	g := &Gateway{opt: o, admit: a, upgrades: rate.NewLimiter(rate.Limit(o.Upgrades), o.Upgrades), mux: http.NewServeMux()}
	g.mux.HandleFunc("/v1/ws", g.socket)
	g.route(rest.Endpoints(o.Sessions.Calls()))
	g.mux.Handle("GET /allim.js", client.Handler())
	g.mux.HandleFunc("/v1/", g.unknown)
	g.mux.HandleFunc("/", g.root)
	return g, nil
}

// upgradesOfCPU is how many new connections a second a CPU can take beside those that are there (delivery.md, Storm).
const upgradesOfCPU = 500

// ServeHTTP checks what holds for every request, then routes it.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := g.admit.request(r); err != nil {
		g.refuse(w, err)
		return
	}
	share(w.Header(), r)
	g.mux.ServeHTTP(w, r)
}

// root is a WebSocket too, so that `new WebSocket("ws://host")` works.
func (g *Gateway) root(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path == "/" && ws.IsUpgrade(r):
		g.socket(w, r)
	case g.opt.Fallback != nil:
		g.opt.Fallback.ServeHTTP(w, r)
	default:
		g.unknown(w, r)
	}
}

func (g *Gateway) unknown(w http.ResponseWriter, r *http.Request) {
	if asksFirst(r) && strings.HasPrefix(r.URL.Path, "/v1/") {
		mayAsk(w, "GET, POST")
		return
	}
	answer(w, http.StatusNotFound, &wire.Error{Code: wire.CodeBadFrame, Message: "no such endpoint: the WebSocket is at /v1/ws, the inbox at /v1/inbox, the browser client at /allim.js"})
}

// socket lets a WebSocket in, or says why not before the upgrade.
func (g *Gateway) socket(w http.ResponseWriter, r *http.Request) {
	if !ws.IsUpgrade(r) {
		if r.ProtoMajor == 1 { // no such header in HTTP/2 (RFC 9113, section 8.2.2): clients take it for a broken answer
			w.Header().Set("Upgrade", "websocket")
		}
		answer(w, http.StatusUpgradeRequired, &wire.Error{Code: wire.CodeBadFrame, Message: "this endpoint speaks WebSocket: new WebSocket(url)"})
		return
	}
	if g.opt.Sessions.Full() {
		g.opt.Metrics.Limit("sessions")
		g.refuse(w, &notify.RetryError{Err: notify.ErrUnavailable, After: retryAfter()})
		return
	}
	if !g.upgrades.Allow() { // before a signature is looked at
		g.opt.Metrics.Limit("upgrades")
		g.refuse(w, &notify.RetryError{Err: notify.ErrUnavailable, After: retryAfter()})
		return
	}
	identity, err := g.admit.identity(r)
	if err != nil {
		g.refuse(w, err)
		return
	}
	hello, err := hello(r)
	if err != nil {
		g.refuse(w, err)
		return
	}
	g.opt.Sockets.Serve(w, r, func(c session.Conn) ws.Peer { return ws.Of(g.opt.Sessions.Open(c, hello, identity)) })
}

// hello reads what the URL asks for.
func hello(r *http.Request) (session.Hello, error) {
	q := r.URL.Query()
	// Clones: what a connection keeps must not keep the whole request line.
	h := session.Hello{Cursor: strings.Clone(q.Get("cursor")), HasCursor: q.Has("cursor"), Origin: strings.Clone(q.Get("origin"))}
	for _, t := range q["topic"] {
		h.Topics = append(h.Topics, strings.Clone(t))
	}
	if err := cmp.Or(noTokenIn(q), notify.CheckOrigin(h.Origin)); err != nil {
		return h, err
	}
	if n := q.Get("inbox"); n != "" {
		i, err := strconv.Atoi(n)
		if err != nil || i < 0 || i > maxInbox {
			return h, &notify.FieldError{Field: "inbox", Want: fmt.Sprintf("0 to %d", maxInbox)}
		}
		h.Inbox = i
	}
	return h, nil
}

const maxInbox = 100

// noTokenIn refuses tokens in URLs: they would stand in every log on the way.
func noTokenIn(q url.Values) error {
	if q.Has("token") || q.Has("access_token") {
		return &notify.FieldError{Field: "token", Want: "none in a URL: send it as subprotocols [\"allim.v1\", \"bearer.<jwt>\"], as a header or in the first frame"}
	}
	return nil
}

// refuse answers what is not let in or could not be done: the body is the error frame, which it returns.
func (g *Gateway) refuse(w http.ResponseWriter, err error) *wire.Error {
	f, status := wire.ErrorOf(err)
	var se *statusError
	if errors.As(err, &se) {
		status, f.Code, f.Message = se.status, se.code, se.message
	}
	g.opt.Metrics.Refuse(f.Code)
	h := w.Header()
	switch {
	case status == http.StatusUnauthorized:
		h.Set("WWW-Authenticate", "Bearer") // RFC 9110, section 15.5.2
	case status == http.StatusServiceUnavailable && f.RetryAfter == 0:
		f.RetryAfter = int(retryAfter() / time.Second)
	}
	if f.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(f.RetryAfter))
	}
	answer(w, status, f)
	return f
}

func answer(w http.ResponseWriter, status int, f *wire.Error) {
	b, err := wire.Encode(f)
	if err != nil {
		status, b = http.StatusInternalServerError, nil
	}
	write(w, status, b)
}

// write answers with one JSON object, or with none.
func write(w http.ResponseWriter, status int, body []byte) {
	h := w.Header()
	if body != nil {
		h.Set("Content-Type", "application/json")
	}
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	w.WriteHeader(status)
	_, _ = w.Write(body) // a client that does not wait for its answer has gone
}
