package gateway

import (
	"errors"
	"fmt"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strings"

	"allim/internal/session"
	"allim/internal/transport/ws"
	"allim/internal/wire"
	"allim/pkg/auth"
	"allim/pkg/notify"
)

const cookieName = "__Host-allim"

// An admit decides who may come in, before anything is read or upgraded.
type admit struct {
	opt     Options
	verify  func(token string) (*auth.Identity, error)
	hosts   map[string]bool
	origins map[string]bool
}

// A statusError is a refusal that no error of notify stands for.
type statusError struct {
	status  int
	code    string
	message string
}

func (e *statusError) Error() string { return e.message }

// CheckNames checks the lists of hosts and origins. Its error joins one notify.FieldError for each that is none.
func CheckNames(hosts, origins []string) error {
	var errs []error
	for i, h := range hosts {
		if net.ParseIP(h) == nil && (h == "" || strings.ContainsAny(h, "/*:@ ")) {
			errs = append(errs, &notify.FieldError{Field: fmt.Sprintf("hosts[%d]", i), Want: "a host name without port, such as push.example.com"})
		}
	}
	for i, text := range origins {
		u, err := url.Parse(text)
		if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.Scheme+"://"+u.Host != text || strings.Contains(text, "*") || u.Scheme == "https" && u.Port() == "443" || u.Scheme == "http" && u.Port() == "80" {
			errs = append(errs, &notify.FieldError{Field: fmt.Sprintf("origins[%d]", i), Want: "an exact origin such as https://app.example.com"})
		}
	}
	return errors.Join(errs...)
}

func newAdmit(o Options) (*admit, error) {
	if err := CheckNames(o.Hosts, o.Origins); err != nil {
		return nil, err
	}
	a := &admit{opt: o, hosts: map[string]bool{}, origins: map[string]bool{}}
	for _, h := range o.Hosts {
		a.hosts[strings.ToLower(h)] = true
	}
	for _, text := range o.Origins {
		a.origins[strings.ToLower(text)] = true
	}
	return a, nil
}

// request checks what holds for every request: the size of its head, and Host and Origin against the lists, so that neither a page from
// elsewhere nor a name that was rebound to us gets in (pitfalls C27).
func (a *admit) request(r *http.Request) error {
	if most := a.opt.Sessions.Limits().Header; headSize(r) > most {
		a.opt.Metrics.Limit("header_bytes")
		return &statusError{http.StatusRequestEntityTooLarge, wire.CodeTooLarge, fmt.Sprintf("expected at most %d bytes of request line and headers", most)}
	}
	if !a.hostAllowed(r.Host) {
		return &statusError{http.StatusForbidden, wire.CodeForbidden, "this gateway does not answer to that host name: add it to `hosts` or set `public_url`"}
	}
	if o := r.Header.Get("Origin"); o != "" && !a.originAllowed(o) {
		return &statusError{http.StatusForbidden, wire.CodeForbidden, "pages of that origin are not allowed here: add it to `origins`"}
	}
	return nil
}

func headSize(r *http.Request) int {
	n := len(r.Method) + len(r.RequestURI) + len(r.Proto) + len("  \r\n") + len("Host: \r\n") + len(r.Host)
	for name, values := range r.Header {
		for _, v := range values {
			n += len(name) + len(": \r\n") + len(v)
		}
	}
	return n
}

func (a *admit) hostAllowed(host string) bool {
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	name = strings.ToLower(strings.Trim(name, "[]"))
	return isLoopback(name) || a.hosts[name]
}

func (a *admit) originAllowed(origin string) bool {
	if a.origins[strings.ToLower(origin)] {
		return true
	}
	u, err := url.Parse(origin)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && isLoopback(u.Hostname())
}

func isLoopback(name string) bool {
	ip := net.ParseIP(name)
	return name == "localhost" || ip != nil && ip.IsLoopback()
}

// identity is who a request comes from: the first credential found decides alone, explicit ones before the ambient cookie. Nil: none was shown.
func (a *admit) identity(r *http.Request) (*auth.Identity, error) {
	token, ambient := credential(r)
	if token == "" && !ambient {
		return nil, nil
	}
	if ambient {
		if err := a.ownPage(r); err != nil {
			return nil, err
		}
	}
	id, err := a.verify(token)
	if errors.Is(err, notify.ErrUnavailable) {
		return nil, err
	}
	if err != nil {
		a.opt.Log.Info("token_refused", "why", session.WhyRefused(err))
		return nil, notify.ErrUnauthorized
	}
	return id, nil
}

// ownPage checks that a request with a cookie was made by a page that may use it, since the browser shows the cookie by itself. What opens a connection or
// changes something names an origin that is let in (not empty: only a page can have sent the cookie) and has a body that no form can send; what only
// reads may come without an origin, as browsers send it within a site, but not from another site.
func (a *admit) ownPage(r *http.Request) error {
	site, origin := r.Header.Get("Sec-Fetch-Site"), r.Header.Get("Origin")
	reads := (r.Method == http.MethodGet || r.Method == http.MethodHead) && !ws.IsUpgrade(r)
	switch {
	case reads && site != "" && site != "same-origin" && site != "same-site", site == "cross-site":
		return &notify.FieldError{Field: "Sec-Fetch-Site", Want: "same-origin or same-site where a cookie is shown", Kind: notify.ErrForbidden}
	case !reads && !a.originAllowed(origin), origin != "" && !a.originAllowed(origin):
		return &notify.FieldError{Field: "Origin", Want: "that of a page which is let in, where a cookie is shown", Kind: notify.ErrForbidden}
	case r.Method == http.MethodPost && !isJSON(r):
		return &notify.FieldError{Field: "Content-Type", Want: "application/json where a cookie is shown", Kind: notify.ErrForbidden}
	}
	return nil
}

func isJSON(r *http.Request) bool {
	t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	return err == nil && t == "application/json"
}

// credential finds the token of a request; ambient says that the browser sent it by itself. A header or cookie that is there but no good is still the one that
// decides: it stands as a token that nothing verifies.
func credential(r *http.Request) (token string, ambient bool) {
	const none = "none" // no JWT
	if h := r.Header.Get("Authorization"); h != "" {
		scheme, t, _ := strings.Cut(h, " ")
		if t = strings.TrimSpace(t); !strings.EqualFold(scheme, "Bearer") || t == "" {
			return none, false
		}
		return t, false
	}
	if t, ok := ws.Token(r); ok {
		if t == "" {
			return none, false
		}
		return t, false
	}
	if r.URL.Query().Has("ticket") { // there are none yet, so none is good
		return none, false
	}
	if c, err := r.Cookie(cookieName); err == nil {
		return c.Value, true
	}
	return "", false
}
