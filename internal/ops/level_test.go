package ops

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

func TestTheLogLevelIsShownAndSet(t *testing.T) {
	var out bytes.Buffer
	var now slog.LevelVar
	log := slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: &now}))
	h := Handler(Options{Ready: func() error { return nil }, Metrics: prometheus.NewRegistry(), Level: &now, Log: log})
	for _, c := range []struct {
		method, body string
		status       int
		answer       string
		level        slog.Level // after it
		logged       string     // of the change; "": nothing
	}{
		{"GET", "", 200, "info\n", slog.LevelInfo, ""},
		{"PUT", "debug", 200, "debug\n", slog.LevelDebug, "level=INFO msg=log_level_changed from=info to=debug"},
		{"PUT", "warn\n", 200, "warn\n", slog.LevelWarn, "level=INFO msg=log_level_changed from=debug to=warn"},
		{"PUT", "error", 200, "error\n", slog.LevelError, "level=WARN msg=log_level_changed from=warn to=error"},
		{"GET", "", 200, "error\n", slog.LevelError, ""},
		{"PUT", "", 400, wantLevel + "\n", slog.LevelError, ""},
		{"PUT", "loud", 400, wantLevel + "\n", slog.LevelError, ""},
		{"PUT", "info+1", 400, wantLevel + "\n", slog.LevelError, ""},
		{"PUT", "debug" + strings.Repeat(" ", 60), 400, wantLevel + "\n", slog.LevelError, ""},
		{"POST", "debug", 405, "expected GET or PUT\n", slog.LevelError, ""},
		{"PUT", "info", 200, "info\n", slog.LevelInfo, "level=INFO msg=log_level_changed from=error to=info"},
	} {
		out.Reset()
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(c.method, "/log/level", strings.NewReader(c.body)))
		if w.Code != c.status || w.Body.String() != c.answer || now.Level() != c.level {
			t.Errorf("%s %q: got %d %q, level %v", c.method, c.body, w.Code, w.Body, now.Level())
		}
		if got := out.String(); c.logged == "" && got != "" || !strings.Contains(got, c.logged) {
			t.Errorf("%s %q: logged %q, want %q", c.method, c.body, got, c.logged)
		}
	}
}

func TestWithoutALevelThereIsNoEndpoint(t *testing.T) {
	h := Handler(Options{Ready: func() error { return errors.New("no") }, Metrics: prometheus.NewRegistry(), Log: slog.New(slog.DiscardHandler)})
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("PUT", "/log/level", strings.NewReader("debug")))
	if w.Code != 404 {
		t.Errorf("got %d", w.Code)
	}
}

func TestFaultsOfConnectionsAreAtDebugAndPanicsAtError(t *testing.T) {
	var out bytes.Buffer
	f := faults{slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))}
	_, _ = io.WriteString(f, "http: TLS handshake error from x\n")
	_, _ = io.WriteString(f, "http: panic serving x\n")
	lines := strings.Split(out.String(), "\n")
	if !strings.Contains(lines[0], "level=DEBUG msg=connection_failed") || !strings.Contains(lines[1], "level=ERROR msg=request_panicked") {
		t.Errorf("got %q", lines)
	}
}
