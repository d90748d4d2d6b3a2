package main

import (
	"context"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"allim/internal/boot"
	"allim/internal/settings"
	"allim/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

func file(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "allim.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

const goodFile = `
public_url: https://push.example.com
origins: [https://app.example.com]
keys:
  - {algorithm: HS256, secret: "a secret of at least thirty-two bytes"}
anonymous: {subscribe: ["public/*"], hear: ["public/chat"]}
topics: [{prefix: orders/, history: 50, ttl: 1h}]
`

// load reads settings and checks them.
func load(t *testing.T, args ...string) (*settings.Loaded, boot.Run) {
	t.Helper()
	l, err := settings.Load(settings.Gateway, append(args, "--config="+file(t, goodFile)), nil)
	start, wrong := prepare(l)
	if err := boot.Mistakes(l, err, wrong); err != nil {
		t.Fatal(err)
	}
	return l, start
}

func TestGatewayRunsAndStops(t *testing.T) {
	srv := testkit.Redis(t)
	l, start := load(t, "--redis-url="+srv.As("gateway"), "--listen-public=127.0.0.1:0", "--listen-ops=127.0.0.1:0", "--drain-pause=0s")
	addr := make(chan string, 1)
	log := slog.New(slog.NewTextHandler(writer(func(line string) {
		if _, rest, ok := strings.Cut(line, "ops="); ok {
			addr <- strings.Fields(rest)[0]
		}
	}), nil))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- start(ctx, boot.Process{Log: log, Level: &slog.LevelVar{}, Settings: l}) }()
	ops := testkit.Receive(t, 5*time.Second, addr, "where it listens")
	testkit.Eventually(t, 10*time.Second, func() bool {
		resp, err := http.Get("http://" + ops + "/healthz/ready")
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		return resp.StatusCode == 200
	}, "ready")
	cancel()
	if err := testkit.Receive(t, 10*time.Second, done, "its end"); err != nil {
		t.Errorf("it ended with %v", err)
	}
}

type writer func(string)

func (w writer) Write(p []byte) (int, error) { w(string(p)); return len(p), nil }

func TestTakenPortIsAnError(t *testing.T) {
	l, start := load(t, "--listen-public=256.0.0.1:0")
	if err := start(context.Background(), boot.Process{Log: slog.New(slog.DiscardHandler), Settings: l}); err == nil || !strings.Contains(err.Error(), "listen") {
		t.Errorf("got %v", err)
	}
}
