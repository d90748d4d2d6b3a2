package deliver_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"allim/internal/deliver"
	"allim/internal/gateway"
	"allim/internal/keyspace"
	"allim/internal/lifecycle"
	"allim/internal/store"
	"allim/internal/testkit"
	"allim/pkg/auth"
)

func TestMain(m *testing.M) { testkit.Main(m) }

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := gateway.Listen(context.Background(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// start runs a bank with that many partitions; stop ends it and returns what its parts said.
func start(t *testing.T, url string, partitions int) (ops string, stop func() error) {
	t.Helper()
	r := startWith(t, url, partitions, func(*deliver.Options) {})
	return r.ops, r.stop
}

// A running bank, and where it listens.
type running struct {
	public, ops string
	store       *store.Store
	stop        func() error // returns what its parts said
}

func startWith(t *testing.T, url string, partitions int, set func(*deliver.Options)) *running {
	t.Helper()
	rdb, err := store.Connect(store.Connection{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	keys, err := keyspace.NewMap(partitions)
	if err != nil {
		t.Fatal(err)
	}
	st, err := store.New(store.Options{Redis: rdb, Keys: keys, Classes: longClasses})
	if err != nil {
		t.Fatal(err)
	}
	table, err := auth.NewKeys(nil)
	if err != nil {
		t.Fatal(err)
	}
	v, err := auth.NewVerifier(auth.Options{Keys: table})
	if err != nil {
		t.Fatal(err)
	}
	o := deliver.Options{Redis: rdb, Keys: keys, Store: st, Verify: v.Verify, Registry: prometheus.NewRegistry(), Log: slog.New(slog.DiscardHandler), Public: listen(t), Ops: listen(t)}
	set(&o)
	bank, err := deliver.New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- lifecycle.Run(ctx, bank.Parts()...) }()
	stop := sync.OnceValue(func() error {
		cancel()
		return errors.Join(<-done, rdb.Close())
	})
	t.Cleanup(func() { _ = stop() })
	return &running{public: "http://" + o.Public.Addr().String(), ops: "http://" + o.Ops.Addr().String(), store: st, stop: stop}
}

// publisher is a store with a publisher's rights.
func publisher(t *testing.T, srv *testkit.RedisServer) *store.Store {
	t.Helper()
	rdb, err := store.Connect(store.Connection{URL: srv.As("publisher")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = rdb.Close() })
	keys, err := keyspace.NewMap(0)
	if err != nil {
		t.Fatal(err)
	}
	p, err := store.New(store.Options{Redis: rdb, Keys: keys, Classes: longClasses})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// longClasses have topics long/… keep all that a test writes.
var longClasses = []store.Class{{Prefix: "long/", History: store.History{Size: 10_000}}}

func get(url string) (int, string) {
	c := &http.Client{Timeout: 5 * time.Second}
	defer c.CloseIdleConnections()
	resp, err := c.Get(url)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b)
}

func TestReadyMeansThatAProbeCameBack(t *testing.T) {
	srv := testkit.Redis(t)
	srv.Stop()
	ops, stop := start(t, srv.As("gateway"), 0)
	testkit.Eventually(t, 5*time.Second, func() bool { s, _ := get(ops + "/healthz/live"); return s == 200 }, "live without Redis")
	if s, body := get(ops + "/healthz/ready"); s != 503 {
		t.Fatalf("ready without Redis: %d %s", s, body)
	}
	srv.Restart()
	testkit.Eventually(t, 20*time.Second, func() bool { s, _ := get(ops + "/healthz/ready"); return s == 200 }, "ready with Redis")
	_, metrics := get(ops + "/metrics")
	for _, want := range []string{"allim_sessions 0", "allim_feed_link_up 1", `allim_limit_hits_total{limit="topics"} 0`, `allim_feed_drops_total{reason=`, "allim_feed_probe_age_seconds 0."} {
		if !strings.Contains(metrics, want) {
			t.Errorf("no %q in the metrics", want)
		}
	}
	if err := stop(); err != nil {
		t.Errorf("the bank ended with %v", err)
	}
}

// From the moment it is asked to end a gateway is not ready, but alive, and for the pause it takes whoever is still sent to it.
func TestWhoIsAskedToEndIsNotReadyAndStillTakesConnections(t *testing.T) {
	r := startWith(t, testkit.Redis(t).As("gateway"), 0, func(o *deliver.Options) { o.Pause = 3 * time.Second })
	public, ops := r.public, r.ops
	testkit.Eventually(t, 20*time.Second, func() bool { s, _ := get(ops + "/healthz/ready"); return s == 200 }, "ready")
	ended := make(chan error, 1)
	go func() { ended <- r.stop() }()
	testkit.Eventually(t, 2*time.Second, func() bool { s, _ := get(ops + "/healthz/ready"); return s == 503 }, "not ready")
	if s, body := get(public + "/v1/ws"); s != 426 {
		t.Errorf("the public port answers %d %s", s, body)
	}
	if s, _ := get(ops + "/healthz/live"); s != 200 {
		t.Errorf("live is %d", s)
	}
	if err := testkit.Receive(t, 10*time.Second, ended, "the end"); err != nil {
		t.Errorf("the bank ended with %v", err)
	}
	if s, _ := get(public + "/v1/ws"); s != 0 {
		t.Errorf("after the end the public port answers %d", s)
	}
}

func TestRedisWithOtherPartitionsEndsTheProcess(t *testing.T) {
	srv := testkit.Redis(t)
	ops, _ := start(t, srv.As("gateway"), 0)
	testkit.Eventually(t, 10*time.Second, func() bool { s, _ := get(ops + "/healthz/ready"); return s == 200 }, "ready")
	other, stop := start(t, srv.As("gateway"), 64)
	testkit.Eventually(t, 10*time.Second, func() bool { s, _ := get(other + "/healthz/live"); return s == 0 }, "the other one ends by itself")
	if err := stop(); err == nil || !strings.Contains(err.Error(), "128 partitions") {
		t.Errorf("it ended with %v", err)
	}
}
