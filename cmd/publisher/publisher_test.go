package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"allim/internal/boot"
	"allim/internal/settings"
	"allim/internal/testkit"
	pb "allim/proto/allim/v1"
)

func TestMain(m *testing.M) { testkit.Main(m) }

const key = "an-api-key-of-at-least-32-characters"

const goodFile = "api_keys:\n  - {id: shop, key: " + key + ", allow: ['publish:*', 'notify:*', inbox]}\n"

func file(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "allim.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// load reads settings and checks them.
func load(t *testing.T, args ...string) (*settings.Loaded, boot.Run, error) {
	t.Helper()
	l, err := settings.Load(settings.Publisher, args, nil)
	start, wrong := prepare(l)
	return l, start, boot.Mistakes(l, err, wrong)
}

// A running publisher; addr maps "grpc", "http" and "ops" to where it listens.
type running struct {
	addr map[string]string
	stop func() error // asks it to stop and returns what run did
}

// journal keeps the attributes of a log's lines.
type journal struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) { j.mu.Lock(); defer j.mu.Unlock(); return j.b.Write(p) }

func (j *journal) value(name string) string {
	j.mu.Lock()
	defer j.mu.Unlock()
	for line := range strings.Lines(j.b.String()) {
		var m map[string]any
		if json.Unmarshal([]byte(line), &m) == nil && m[name] != nil {
			return fmt.Sprint(m[name])
		}
	}
	return ""
}

// startPublisher runs a publisher on free ports and waits until it names those given.
func startPublisher(t *testing.T, redisURL string, ports ...string) *running {
	t.Helper()
	return startWith(t, goodFile, redisURL, ports...)
}

// startWith is startPublisher with settings of its own.
func startWith(t *testing.T, text, redisURL string, ports ...string) *running {
	t.Helper()
	l, start, err := load(t, "--listen-grpc=127.0.0.1:0", "--listen-http=127.0.0.1:0", "--listen-ops=127.0.0.1:0", "--redis-url="+redisURL, "--config="+file(t, text))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	log, done := &journal{}, make(chan error, 1)
	go func() {
		done <- start(ctx, boot.Process{Log: slog.New(slog.NewJSONHandler(log, nil)), Level: &slog.LevelVar{}, Settings: l})
	}()
	stop := sync.OnceValue(func() error { cancel(); return <-done })
	t.Cleanup(func() { _ = stop() })
	r := &running{addr: map[string]string{}, stop: stop}
	for _, p := range ports {
		testkit.Eventually(t, 10*time.Second, func() bool { return log.value(p) != "" }, "listen for "+p)
		r.addr[p] = log.value(p)
	}
	return r
}

func (r *running) get(t *testing.T, path string) (int, string) {
	t.Helper()
	w, err := http.Get("http://" + r.addr["ops"] + path)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Body.Close()
	body, err := io.ReadAll(w.Body)
	if err != nil {
		t.Fatal(err)
	}
	return w.StatusCode, string(body)
}

func (r *running) isReady(t *testing.T) bool {
	code, _ := r.get(t, "/healthz/ready")
	return code == 200
}

func (r *running) publish(t *testing.T) error {
	t.Helper()
	return r.call(t, func(ctx context.Context, c pb.PublisherClient) error {
		_, err := c.Publish(ctx, &pb.PublishRequest{Topics: []string{"a"}, Data: []byte("1")})
		return err
	})
}

func (r *running) notify(t *testing.T, q *pb.NotifyRequest) error {
	t.Helper()
	return r.call(t, func(ctx context.Context, c pb.PublisherClient) error {
		_, err := c.Notify(ctx, q)
		return err
	})
}

func (r *running) call(t *testing.T, do func(context.Context, pb.PublisherClient) error) error {
	t.Helper()
	conn, err := grpc.NewClient(r.addr["grpc"], grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx := metadata.AppendToOutgoingContext(testkit.Context(t, 5*time.Second), "authorization", "Bearer "+key)
	return do(ctx, pb.NewPublisherClient(conn))
}

func TestItServesUntilItIsAskedToStop(t *testing.T) {
	t.Parallel()
	r := startPublisher(t, testkit.Redis(t).As("publisher"), "ops", "grpc", "http")
	testkit.Eventually(t, 5*time.Second, func() bool { return r.isReady(t) }, "be ready")
	if err := r.publish(t); err != nil {
		t.Fatal(err)
	}
	q, err := http.NewRequest(http.MethodPost, "http://"+r.addr["http"]+"/v1/publish", strings.NewReader(`{"topics":["a"],"data":1}`))
	if err != nil {
		t.Fatal(err)
	}
	q.Header.Set("Authorization", "Bearer "+key)
	q.Header.Set("Content-Type", "application/json")
	w, err := http.DefaultClient.Do(q)
	if err != nil {
		t.Fatal(err)
	}
	_ = w.Body.Close()
	if w.StatusCode != http.StatusOK {
		t.Errorf("HTTP: got %d", w.StatusCode)
	}
	if _, text := r.get(t, "/metrics"); !strings.Contains(text, `allim_publisher_calls_total{code="OK",method="Publish"} 2`) ||
		!strings.Contains(text, "allim_build_info{") || !strings.Contains(text, "go_goroutines") {
		t.Errorf("metrics: got %s", text)
	}
	for _, path := range []string{"/healthz/live", "/debug/pprof/"} {
		if code, _ := r.get(t, path); code != http.StatusOK {
			t.Errorf("%s: got %d", path, code)
		}
	}
	if err := r.stop(); err != nil {
		t.Errorf("stop: %v", err)
	}
}

func TestItWaitsForARedisThatIsNotThereYet(t *testing.T) {
	t.Parallel()
	redis := testkit.Redis(t)
	redis.Stop()
	r := startPublisher(t, redis.As("publisher"), "ops")
	if code, _ := r.get(t, "/healthz/live"); code != http.StatusOK {
		t.Errorf("live: got %d", code)
	}
	if r.isReady(t) {
		t.Error("ready without a Redis")
	}
	redis.Restart()
	testkit.Eventually(t, 10*time.Second, func() bool { return r.isReady(t) }, "be ready")
	if err := r.stop(); err != nil {
		t.Errorf("stop: %v", err)
	}
}

func TestItStopsWhileItWaitsForRedis(t *testing.T) {
	t.Parallel()
	redis := testkit.Redis(t)
	redis.Stop()
	r := startPublisher(t, redis.As("publisher"), "ops")
	if err := r.stop(); err != nil {
		t.Errorf("stop: %v", err)
	}
}

func TestItRefusesARedisWithAnotherNumberOfPartitions(t *testing.T) {
	t.Parallel()
	redis := testkit.Redis(t)
	r := startPublisher(t, redis.As("publisher"), "grpc")
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	l, start, err := load(t, "--listen-ops=127.0.0.1:0", "--redis-url="+redis.As("publisher"), "--redis-partitions=7", "--config="+file(t, goodFile))
	if err != nil {
		t.Fatal(err)
	}
	err = start(testkit.Context(t, 20*time.Second), boot.Process{Log: slog.New(slog.DiscardHandler), Settings: l})
	if err == nil || !strings.Contains(err.Error(), "128 partitions") {
		t.Errorf("got %v", err)
	}
}
