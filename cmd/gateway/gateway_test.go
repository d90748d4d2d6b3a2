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
redis: redis://from-the-file:6379
public_url: https://push.example.com
origins: [https://app.example.com]
keys:
  - {algorithm: HS256, secret: "a secret of at least thirty-two bytes"}
anonymous: {subscribe: ["public/*"], hear: ["public/chat"]}
topics: [{prefix: orders/, history: 50, ttl: 1h}]
`

func TestFlagBeatsEnvironmentBeatsFile(t *testing.T) {
	path := file(t, goodFile)
	c, err := configure([]string{"--config", path})
	if err != nil {
		t.Fatal(err)
	}
	if c.redis != "redis://from-the-file:6379" || c.listen != ":8080" || c.anonymous == nil || len(c.classes) != 1 ||
		strings.Join(c.origins, " ") != "https://app.example.com https://push.example.com" || strings.Join(c.hosts, " ") != "push.example.com" {
		t.Errorf("from the file: %+v", c)
	}
	t.Setenv("ALLIM_REDIS", "redis://from-the-environment:6379")
	t.Setenv("ALLIM_CONFIG", path)
	if c, err = configure(nil); err != nil || c.redis != "redis://from-the-environment:6379" {
		t.Errorf("from the environment: %s, %v", c.redis, err)
	}
	if c, err = configure([]string{"--redis", "redis://from-the-flag:6379"}); err != nil || c.redis != "redis://from-the-flag:6379" {
		t.Errorf("from the flag: %s, %v", c.redis, err)
	}
}

func TestEveryMistakeIsNamed(t *testing.T) {
	_, err := configure([]string{"--config", file(t, "partitions: 5000\npublic_url: push.example.com\ninbox: {size: -1}\ntopics: [{prefix: 'a b'}]\nanonymous: {hear: ['a*']}\nkeys: [{algorithm: HS256, secret: short}]\n")})
	for _, want := range []string{"partitions", "public_url", "inbox.size", "topics[0].prefix", "hear[0]", "keys[0].secret"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("nothing of %s in: %v", want, err)
		}
	}
	for _, args := range [][]string{{"--no-such-flag"}, {"--config", "no-such-file.yaml"}, {"--log-level", "loud"}, {}} {
		if code := boot.Main("gateway", args, prepare); code != boot.Mistaken {
			t.Errorf("%v ended with %d", args, code)
		}
	}
	for _, args := range [][]string{{"--version"}, {"--help"}} {
		if code := boot.Main("gateway", args, prepare); code != 0 {
			t.Errorf("%v ended with %d", args, code)
		}
	}
}

func TestGatewayRunsAndStops(t *testing.T) {
	srv := testkit.Redis(t)
	c, err := configure([]string{"--config", file(t, goodFile), "--redis", srv.As("gateway"), "--listen", "127.0.0.1:0", "--listen-ops", "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	addr := make(chan string, 1)
	log := slog.New(slog.NewTextHandler(writer(func(line string) {
		if _, rest, ok := strings.Cut(line, "ops="); ok {
			addr <- strings.Fields(rest)[0]
		}
	}), nil))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx, c, log) }()
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
	c, err := configure([]string{"--config", file(t, goodFile), "--listen", "256.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	if err := run(context.Background(), c, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "listen") {
		t.Errorf("got %v", err)
	}
}
