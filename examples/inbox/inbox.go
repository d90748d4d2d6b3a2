// Package inbox is the web demo of Allim: the back office of a small shop, and the backend behind it.
//
// It is what an application that uses Allim looks like. The backend keeps its own data (orders, in memory), changes them on
// request, and after each change tells Allim by gRPC: Publish on the topic orders/all for every page that shows the table,
// Notify for the people who should know. It holds no connection to a browser. The page gets both over the gateway, with the
// browser client from /allim.js. Who is asked something and does not look is called: Allim posts a signed webhook to /hook.
//
// It is a demo in one thing: it has no login. GET /api/session gives anyone who can open the page a token of either user.
package inbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	allimv1 "allim/proto/allim/v1"
)

// Topic is the event topic on which every change of an order is published; a user's token must let them subscribe to it.
const Topic = "orders/all"

// Options of New.
type Options struct {
	// Publisher is a client of Allim's publisher whose calls carry their key. Required. It stays the caller's to close.
	// Its key must allow publish:orders/* and notify:*, and inbox where there is Inbox.
	Publisher allimv1.PublisherClient
	// Inbox is of the same publisher. Needed with HookSecret: the page shows who looked in time.
	Inbox allimv1.InboxClient
	// HookSecret is that of the publisher's webhook, whose URL is /hook of this page: whsec_ and base64. Empty: nobody can be called, and the page
	// does not offer it.
	HookSecret string
	// CallAfter is how long somebody who is asked has for a look before the phone rings, at least a second. 0: 10 s.
	CallAfter time.Duration
	// Users are the colleagues, at least one; the first is shown when the page is opened without ?user=.
	Users []User
	// GatewayURL is where the page finds the gateway, as http:// or https:// without a path. Empty: on the page's own host,
	// where then somebody else serves /v1/ws and /allim.js.
	GatewayURL string
	// Hosts are names (without port) under which the page may be opened besides localhost and plain IP addresses. Any other
	// name is refused, so that a stranger's name made to point here (DNS rebinding) gets no token.
	Hosts []string
	// Log gets what went wrong between this backend and others; nil: nothing is logged.
	Log *slog.Logger
}

// A User is one colleague at the shop.
type User struct {
	ID    string // sub of the token, in ?user= and in the audience of Notify
	Name  string // as people call them; empty: ID
	Token string // ready-made JWT for the gateway: sub = ID, may subscribe to Topic
}

// A Shop answers HTTP: the page and its backend. Make it with New.
type Shop struct {
	http.Handler
	calls *calls
}

// Run tells the pages what becomes of those who are asked, until ctx ends. Without HookSecret there is nothing to do.
func (s *Shop) Run(ctx context.Context) error {
	s.calls.run(ctx)
	return nil
}

type handler struct {
	users   []User
	gateway string // scheme://host[:port], or empty
	hosts   []string
	shop    *shop
	tell    teller
	calls   *calls
	page    *page
	script  http.Client // fetches /allim.js from the gateway
	log     *slog.Logger
}

// New returns the page and its backend, for paths /, /assets/, /api/, with HookSecret /hook and, with GatewayURL, /allim.js. It
// starts no goroutine and needs no closing.
func New(opts Options) (*Shop, error) {
	h, err := newHandler(opts)
	if err != nil {
		return nil, err
	}
	api := http.NewServeMux()
	api.HandleFunc("GET /api/session", h.session)
	api.HandleFunc("GET /api/orders", h.listOrders)
	api.HandleFunc("POST /api/orders", h.createOrder)
	api.HandleFunc("POST /api/orders/{id}/advance", h.advanceOrder)
	api.HandleFunc("POST /api/mention", h.mention)
	api.HandleFunc("POST /api/everyone", h.everyone)
	if opts.HookSecret != "" {
		api.HandleFunc("POST /api/ask", h.ask)
	}

	mux := http.NewServeMux()
	mux.Handle("/api/", sameOrigin(jsonBody(api)))
	mux.HandleFunc("GET /{$}", h.index)
	mux.HandleFunc("GET /assets/{name}", h.asset)
	if h.gateway != "" {
		mux.HandleFunc("GET /allim.js", h.clientScript)
	}
	if opts.HookSecret != "" {
		mux.HandleFunc("POST /hook", h.hook)
	}
	return &Shop{h.guard(mux), h.calls}, nil
}

func newHandler(opts Options) (*handler, error) {
	if opts.Publisher == nil {
		return nil, errors.New("inbox options: Publisher is required")
	}
	if len(opts.Users) == 0 {
		return nil, errors.New("inbox options: Users is empty")
	}
	users := slices.Clone(opts.Users)
	for i, u := range users {
		if u.ID == "" || u.Token == "" {
			return nil, fmt.Errorf("inbox options: Users[%d] needs ID and Token", i)
		}
		if slices.ContainsFunc(users[:i], func(o User) bool { return o.ID == u.ID }) {
			return nil, fmt.Errorf("inbox options: user %q stands twice", u.ID)
		}
		if u.Name == "" {
			users[i].Name = u.ID
		}
	}
	gateway, err := gatewayOrigin(opts.GatewayURL)
	if err != nil {
		return nil, err
	}
	log := opts.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	page, err := loadPage()
	if err != nil {
		return nil, err
	}
	tell := teller{to: opts.Publisher, log: log}
	calls, err := newCalls(opts, tell, log)
	if err != nil {
		return nil, err
	}
	return &handler{
		users: users, gateway: gateway, hosts: opts.Hosts, log: log, page: page,
		shop: openShop(time.Now()), tell: tell, calls: calls,
		script: http.Client{Timeout: scriptTimeout},
	}, nil
}

// gatewayOrigin reads GatewayURL. What it returns stands in a header, so nothing but an origin is taken.
func gatewayOrigin(raw string) (string, error) {
	if raw == "" {
		return "", nil
	}
	u, err := url.Parse(raw)
	if err != nil {
		return "", fmt.Errorf("inbox options: GatewayURL: %w", err)
	}
	bare := u.Path == "" || u.Path == "/"
	if (u.Scheme != "http" && u.Scheme != "https") || u.Hostname() == "" || !bare ||
		u.User != nil || u.RawQuery != "" || u.Fragment != "" || strings.ContainsAny(u.Host, " ;,'\"") {
		return "", fmt.Errorf("inbox options: GatewayURL %q: want http://host:port or https://host:port", raw)
	}
	return u.Scheme + "://" + u.Host, nil
}

// guard refuses host names that are not ours and sets the headers of every answer.
func (h *handler) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		head := w.Header()
		head.Set("X-Content-Type-Options", "nosniff")
		head.Set("Referrer-Policy", "no-referrer")
		head.Set("Cross-Origin-Resource-Policy", "same-origin")
		if !h.knownHost(r.Host) {
			http.Error(w, "this host name is not served here", http.StatusMisdirectedRequest)
			return
		}
		head.Set("Content-Security-Policy", h.policy(r.Host))
		next.ServeHTTP(w, r)
	})
}

// knownHost: an IP address can not be rebound, a name can.
func (h *handler) knownHost(hostport string) bool {
	host, port, err := net.SplitHostPort(hostport)
	if err != nil {
		host = strings.Trim(hostport, "[]")
	}
	if strings.Trim(port, "0123456789") != "" { // it will stand in a header
		return false
	}
	return net.ParseIP(host) != nil || host == "localhost" || slices.Contains(h.hosts, host)
}

// policy is the Content-Security-Policy of the page: nothing inline, nothing from elsewhere but the gateway's frames. The
// page's own host is named with ws: because not every browser counts that as 'self'. hostport has passed knownHost.
func (h *handler) policy(hostport string) string {
	connect := "ws://" + hostport + " wss://" + hostport
	if h.gateway != "" {
		connect = h.gateway + " ws" + strings.TrimPrefix(h.gateway, "http")
	}
	return "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self' " + connect +
		"; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
}

func (h *handler) user(id string) (User, bool) {
	i := slices.IndexFunc(h.users, func(u User) bool { return u.ID == id })
	if i < 0 {
		return User{}, false
	}
	return h.users[i], true
}

// others are the ids of everybody but id.
func (h *handler) others(id string) []string {
	var ids []string
	for _, u := range h.users {
		if u.ID != id {
			ids = append(ids, u.ID)
		}
	}
	return ids
}
