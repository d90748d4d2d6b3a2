package boot

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"allim/internal/settings"
)

func TestHealthcheckAsksTheOperationsPort(t *testing.T) {
	ready := true
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/healthz/ready" || !ready {
			http.Error(w, "no probe came back", http.StatusServiceUnavailable)
		}
	}))
	defer s.Close()
	_, port, _ := strings.Cut(s.Listener.Addr().String(), ":")
	ask := func(listen string) int {
		return Main(settings.Gateway, []string{"healthcheck", "--listen-ops=" + listen}, func(*settings.Loaded) (Run, error) { t.Error("prepared"); return nil, nil })
	}
	for _, listen := range []string{":" + port, "0.0.0.0:" + port, "127.0.0.1:" + port} {
		if got := ask(listen); got != 0 {
			t.Errorf("ready at %s: got %d", listen, got)
		}
	}
	ready = false
	if got := ask(":" + port); got != Failed {
		t.Errorf("not ready: got %d", got)
	}
	if err := healthcheck(":" + port); err == nil || err.Error() != "not ready: no probe came back" {
		t.Errorf("got %v", err)
	}
	s.Close()
	if got := ask(":" + port); got != Failed {
		t.Errorf("nobody there: got %d", got)
	}
	if got := ask("nowhere"); got != Failed {
		t.Errorf("no port: got %d", got)
	}
}
