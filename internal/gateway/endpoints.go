package gateway

import (
	"errors"
	"maps"
	"net/http"
	"slices"
	"strings"

	"allim/internal/transport/rest"
	"allim/internal/wire"
	"allim/pkg/notify"
)

// route takes up what the inbox offers over HTTP.
func (g *Gateway) route(all []rest.Endpoint) {
	paths := map[string]map[string]rest.Endpoint{}
	for _, e := range all {
		if paths[e.Path] == nil {
			paths[e.Path] = map[string]rest.Endpoint{}
		}
		paths[e.Path][e.Method] = e
	}
	for path, methods := range paths {
		g.mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) { g.endpoint(w, r, methods) })
	}
	g.mux.HandleFunc(rest.Inbox+"/", g.noMark)
}

// endpoint answers a request for one of the methods of a path.
func (g *Gateway) endpoint(w http.ResponseWriter, r *http.Request, methods map[string]rest.Endpoint) {
	method := r.Method
	if method == http.MethodHead { // net/http leaves the body out
		method = http.MethodGet
	}
	e, ok := methods[method]
	if !ok {
		g.noMethod(w, r, slices.Sorted(maps.Keys(methods)))
		return
	}
	body, err := g.ask(w, r, e)
	switch {
	case err == nil:
		write(w, http.StatusOK, body)
	case r.Context().Err() != nil: // who asked has gone; or has only said that nothing follows, and must not read 200 with nothing behind it
		panic(http.ErrAbortHandler)
	default:
		var passes *notify.RetryError
		if f := g.refuse(w, err); f.Code == wire.CodeUnavailable && !errors.As(err, &passes) {
			g.opt.Log.Warn("command_failed", "path", e.Path, "error", err)
		}
	}
}

// ask lets a request in and has it answered.
func (g *Gateway) ask(w http.ResponseWriter, r *http.Request, e rest.Endpoint) ([]byte, error) {
	if err := noTokenIn(r.URL.Query()); err != nil {
		return nil, err
	}
	id, err := g.admit.identity(r)
	if err != nil {
		return nil, err
	}
	if id == nil { // who shows nothing is nobody here, whatever the setting `anonymous` lets him hear: he has no inbox
		return nil, notify.ErrUnauthorized
	}
	r.Body = http.MaxBytesReader(w, r.Body, int64(g.opt.Sessions.Limits().Frame))
	body, err := e.Answer(r, id)
	if errors.Is(err, notify.ErrTooLarge) {
		g.opt.Metrics.Limit("frame_bytes")
	}
	return body, err
}

// noMethod answers what no endpoint of a path is for: the question of a browser, whether it may ask, and everything else.
func (g *Gateway) noMethod(w http.ResponseWriter, r *http.Request, methods []string) {
	if slices.Contains(methods, http.MethodGet) {
		methods = append(methods, http.MethodHead)
	}
	list := strings.Join(methods, ", ")
	w.Header().Set("Allow", list+", OPTIONS")
	switch {
	case asksFirst(r):
		mayAsk(w, list)
	case r.Method == http.MethodOptions:
		write(w, http.StatusNoContent, nil)
	default:
		g.refuse(w, &statusError{http.StatusMethodNotAllowed, wire.CodeBadFrame, "this endpoint takes " + list})
	}
}

// asksFirst tells whether a browser asks on behalf of a page whether it may ask (Fetch, CORS-preflight request).
func asksFirst(r *http.Request) bool {
	return r.Method == http.MethodOptions && r.Header.Get("Origin") != ""
}

// mayAsk answers it. Where nothing is the page may ask as well: else it would never read why it got nothing.
func mayAsk(w http.ResponseWriter, methods string) {
	h := w.Header()
	h.Set("Access-Control-Allow-Methods", methods)
	h.Set("Access-Control-Allow-Headers", "Authorization, Content-Type, Last-Event-ID, If-None-Match")
	h.Set("Access-Control-Max-Age", "600") // seconds: what changes meanwhile is seen at the request itself
	write(w, http.StatusNoContent, nil)
}

func (g *Gateway) noMark(w http.ResponseWriter, r *http.Request) {
	if asksFirst(r) {
		mayAsk(w, "POST")
		return
	}
	g.refuse(w, &statusError{http.StatusNotFound, wire.CodeBadFrame, "no such mark: expected " + rest.Inbox + "/ and one of " + strings.Join(rest.MarkNames(), ", ")})
}

// share lets a page read the answer, of /v1 but for sockets, if its origin is one that may come in: all others were refused before (Fetch, CORS protocol).
func share(h http.Header, r *http.Request) {
	if !strings.HasPrefix(r.URL.Path, "/v1/") || r.URL.Path == "/v1/ws" {
		return
	}
	h.Set("Vary", "Origin")
	if o := r.Header.Get("Origin"); o != "" {
		h.Set("Access-Control-Allow-Origin", o)
		h.Set("Access-Control-Allow-Credentials", "true")
		h.Set("Access-Control-Expose-Headers", "ETag, Retry-After")
	}
}
