package inbox

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"path"
	"time"
)

const (
	scriptTimeout = 5 * time.Second
	mostScript    = 1 << 20 // bytes of /allim.js taken from a gateway
)

// kinds are the media types of what is in web/: those that the machine knows may be others, and nosniff makes them matter.
var kinds = map[string]string{
	".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8",
	".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml",
}

//go:embed web
var web embed.FS

// A page holds the files of web/ with their content's hash as entity tag: embedded files have no time.
type page struct{ files map[string]file }

type file struct {
	body []byte
	tag  string
}

func loadPage() (*page, error) {
	entries, err := fs.ReadDir(web, "web")
	if err != nil {
		return nil, fmt.Errorf("read page: %w", err)
	}
	p := &page{files: make(map[string]file, len(entries))}
	for _, e := range entries {
		body, err := web.ReadFile(path.Join("web", e.Name()))
		if err != nil {
			return nil, fmt.Errorf("read page: %w", err)
		}
		sum := sha256.Sum256(body)
		p.files[e.Name()] = file{body, `"` + hex.EncodeToString(sum[:12]) + `"`}
	}
	return p, nil
}

func (h *handler) index(w http.ResponseWriter, r *http.Request) { h.serve(w, r, "index.html") }

func (h *handler) asset(w http.ResponseWriter, r *http.Request) { h.serve(w, r, r.PathValue("name")) }

func (h *handler) serve(w http.ResponseWriter, r *http.Request, name string) {
	f, ok := h.page.files[name]
	if !ok {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Cache-Control", "no-cache") // ask each time, by entity tag: a new build shows at once
	w.Header().Set("Content-Type", kinds[path.Ext(name)])
	w.Header().Set("ETag", f.tag)
	http.ServeContent(w, r, name, time.Time{}, bytes.NewReader(f.body))
}

// clientScript hands on the gateway's /allim.js, so that the page loads scripts from its own host only.
func (h *handler) clientScript(w http.ResponseWriter, r *http.Request) {
	body, err := h.fetchScript(r)
	if err != nil {
		h.log.Error("fetch the browser client", "gateway", h.gateway, "error", err)
		http.Error(w, "the gateway did not answer", http.StatusBadGateway)
		return
	}
	w.Header().Set("Cache-Control", "no-cache")
	w.Header().Set("Content-Type", kinds[".js"])
	http.ServeContent(w, r, "allim.js", time.Time{}, bytes.NewReader(body))
}

func (h *handler) fetchScript(r *http.Request) ([]byte, error) {
	req, err := http.NewRequestWithContext(r.Context(), http.MethodGet, h.gateway+"/allim.js", nil)
	if err != nil {
		return nil, err
	}
	res, err := h.script.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("get /allim.js: %s", res.Status)
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, mostScript+1))
	if err == nil && len(body) > mostScript {
		err = fmt.Errorf("get /allim.js: more than %d bytes", mostScript)
	}
	return body, err
}
