package client_test

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"testing"

	"allim/client"
)

func serve(method, ifNoneMatch string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "/allim.js", nil)
	if ifNoneMatch != "" {
		r.Header.Set("If-None-Match", ifNoneMatch)
	}
	w := httptest.NewRecorder()
	client.Handler().ServeHTTP(w, r)
	return w
}

func TestTheClientIsServedAsAModuleAndOnlyOnce(t *testing.T) {
	first := serve(http.MethodGet, "")
	if first.Code != http.StatusOK || !bytes.Equal(first.Body.Bytes(), client.JS) {
		t.Fatalf("GET: got %d and %d bytes, want 200 and %d", first.Code, first.Body.Len(), len(client.JS))
	}
	want := map[string]string{
		"Content-Type":                "text/javascript; charset=utf-8",
		"X-Content-Type-Options":      "nosniff",
		"Access-Control-Allow-Origin": "*",
	}
	for name, value := range want {
		if got := first.Header().Get(name); got != value {
			t.Errorf("%s: got %q, want %q", name, got, value)
		}
	}
	again := serve(http.MethodGet, first.Header().Get("ETag"))
	if again.Code != http.StatusNotModified || again.Body.Len() != 0 {
		t.Errorf("GET with the ETag: got %d and %d bytes, want 304 and none", again.Code, again.Body.Len())
	}
	if other := serve(http.MethodGet, `"other"`); other.Code != http.StatusOK {
		t.Errorf("GET with another ETag: got %d, want 200", other.Code)
	}
	if head := serve(http.MethodHead, ""); head.Code != http.StatusOK || head.Body.Len() != 0 {
		t.Errorf("HEAD: got %d and %d bytes, want 200 and none", head.Code, head.Body.Len())
	}
	if post := serve(http.MethodPost, ""); post.Code != http.StatusMethodNotAllowed {
		t.Errorf("POST: got %d, want 405", post.Code)
	}
}

func TestTheFileIsTheBuiltModule(t *testing.T) {
	if !bytes.HasPrefix(client.JS, []byte("/*! Allim browser client. SPDX-License-Identifier: Apache-2.0 */\n")) {
		t.Errorf("got %.80q, want the licence line", client.JS)
	}
	if !bytes.Contains(client.JS, []byte("as connect")) {
		t.Error("the module does not export connect")
	}
}
