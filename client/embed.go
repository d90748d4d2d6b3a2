// Package client holds the browser client, ready to be served as /allim.js. It imports the standard library alone.
package client

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"net/http"
	"time"
)

// JS is the client as one minified ES module, made from src/ by `npm run build`. Not to be changed.
//
//go:embed dist/allim.js
var JS []byte

// Handler serves JS for GET and HEAD. The entity tag is the content's hash, so a page asks at each load and gets the
// file again only after an upgrade. Every origin may read it: an ES module of another host is fetched with CORS, and
// the file holds nothing of anybody.
func Handler() http.Handler {
	sum := sha256.Sum256(JS)
	tag := `"` + hex.EncodeToString(sum[:12]) + `"`
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			h.Set("Allow", "GET, HEAD")
			http.Error(w, http.StatusText(http.StatusMethodNotAllowed), http.StatusMethodNotAllowed)
			return
		}
		h.Set("Content-Type", "text/javascript; charset=utf-8")
		h.Set("Cache-Control", "no-cache")
		h.Set("ETag", tag)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Access-Control-Allow-Origin", "*")
		h.Set("Cross-Origin-Resource-Policy", "cross-origin")
		http.ServeContent(w, r, "allim.js", time.Time{}, bytes.NewReader(JS))
	})
}
