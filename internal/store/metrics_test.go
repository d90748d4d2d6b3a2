package store_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"allim/internal/keyspace"
	"allim/internal/store"
	"allim/internal/testkit"
	"allim/pkg/notify"
)

func registry() *prometheus.Registry { return prometheus.NewPedanticRegistry() }

func storeOn(t *testing.T, c redis.UniversalClient) *store.Store {
	t.Helper()
	keys, err := keyspace.NewMap(0)
	if err != nil {
		t.Fatal(err)
	}
	s, err := store.New(store.Options{Redis: c, Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// value is what a metric stands at; labels as "a=x b=y", in the order of their names. A histogram has its count.
func value(t *testing.T, r *prometheus.Registry, name, labels string) float64 {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.Metric {
			var all []string
			for _, l := range m.Label {
				all = append(all, l.GetName()+"="+l.GetValue())
			}
			if f.GetName() == name && strings.Join(all, " ") == labels {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
			}
		}
	}
	t.Fatalf("no metric %s{%s}", name, labels)
	return 0
}

func TestRoundTripsAndTheirCallsAreCounted(t *testing.T) {
	srv := testkit.Redis(t)
	r := registry()
	m := store.NewMetrics(r)
	for _, op := range []string{"open", "publish", "ephemeral", "notify", "mark", "list", "counts", "recover", "tops", "renew"} {
		for _, res := range []string{"ok", "unavailable", "busy", "error", "canceled"} {
			if n := value(t, r, "allim_redis_operations_total", "operation="+op+" result="+res); n != 0 { // it is there from the start
				t.Errorf("%s %s: %v before the first call", op, res, n)
			}
		}
	}
	b := newBench(t, srv.As, store.Options{Metrics: m}, func(c *store.Connection) { c.Metrics = m })
	b.publish(stream("warm"), "x")
	broken := b.keys.Event(stream("broken")).Meta
	b.rdb.Set(b.ctx, broken, "not a hash", 0)
	b.Publish(b.ctx, []notify.Stream{stream("a"), stream("b"), ann, stream("broken")}, message("m"))
	b.Publish(b.ctx, []notify.Stream{stream("a"), stream("b")}, &notify.Message{Change: notify.ChangeEphemeral, ID: "e", Data: []byte(`1`)})
	b.notify(ann, "", "n1")
	b.mark(ann, "read", store.Mark{All: true})
	b.wantBadge(ann, "0/0")
	b.wantList(ann, store.Query{}, "n1/sr")
	b.recover(ann, notify.Position{}, 10)
	for range 2 {
		if _, err := b.Tops(b.ctx, []notify.Stream{ann, stream("a"), stream("none")}); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Renew(b.ctx, []notify.Stream{ann, stream("a")}); err != nil {
		t.Fatal(err)
	}
	gone, cancel := context.WithCancel(b.ctx)
	cancel()
	_, _ = b.Tops(gone, []notify.Stream{ann})
	srv.Stop()
	_ = b.Open(b.ctx)
	for labels, want := range map[string]float64{
		"publish result=ok": 4, "publish result=error": 1, "publish result=unavailable": 0, "ephemeral result=ok": 2, "notify result=ok": 1, "mark result=ok": 1,
		"counts result=ok": 1, "list result=ok": 1, "recover result=ok": 1, "tops result=ok": 6, "tops result=canceled": 1, "renew result=ok": 3, // of a user two: what it is a member of has a life of its own
		"open result=ok": 2, "open result=unavailable": 1,
	} {
		if got := value(t, r, "allim_redis_operations_total", "operation="+labels); got != want {
			t.Errorf("%s: got %v, want %v", labels, got, want)
		}
	}
	for op, want := range map[string]float64{"publish": 2, "ephemeral": 1, "tops": 3, "renew": 1, "open": 3} {
		if got := value(t, r, "allim_redis_operation_seconds", "operation="+op); got != want {
			t.Errorf("%s: got %v round trips, want %v", op, got, want)
		}
	}
	if ok, bad := value(t, r, "allim_redis_dials_total", "result=ok"), value(t, r, "allim_redis_dials_total", "result=error"); ok < 2 || bad < 1 {
		t.Errorf("dials: got %v ok and %v errors", ok, bad)
	}
}

func TestThePoolsAreShown(t *testing.T) {
	srv := testkit.Redis(t)
	r := registry()
	m := store.NewMetrics(r)
	if n := value(t, r, "allim_redis_pool_connections", "pool=commands state=idle"); n != 0 { // without a client
		t.Errorf("%v connections of nobody", n)
	}
	c, err := store.Connect(store.Connection{URL: srv.As("gateway") + "?pool_timeout=50ms", PoolSize: 1, Metrics: m})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	ctx := testkit.Context(t, 10*time.Second)
	if err := c.Ping(ctx).Err(); err != nil {
		t.Fatal(err)
	}
	if _, err := storeOn(t, c).Tops(ctx, []notify.Stream{ann}); err != nil {
		t.Fatal(err)
	}
	one := c.(*redis.Client).Conn() // the pool's only one
	if err := one.Ping(ctx).Err(); err != nil {
		t.Fatal(err)
	}
	if err := c.Ping(ctx).Err(); err == nil {
		t.Error("a pool of one has two")
	}
	for labels, want := range map[string]float64{"pool=commands state=used": 1, "pool=commands state=idle": 0, "pool=pipelines state=idle": 1} {
		if got := value(t, r, "allim_redis_pool_connections", labels); got != want {
			t.Errorf("%s: got %v, want %v", labels, got, want)
		}
	}
	if n := value(t, r, "allim_redis_pool_timeouts_total", "pool=commands"); n != 1 {
		t.Errorf("got %v commands that got no connection, want 1", n)
	}
	if err := one.Close(); err != nil {
		t.Fatal(err)
	}
	if got := value(t, r, "allim_redis_pool_connections", "pool=commands state=idle"); got != 1 {
		t.Errorf("given back: got %v idle", got)
	}
}

func TestThePoolsOfEveryKindOfClientAreShown(t *testing.T) {
	t.Parallel()
	cluster, watched := testkit.Cluster(t, 3, 0), testkit.Sentinel(t, testkit.SentinelOptions{})
	for name, c := range map[string]struct {
		store.Connection
		nodes int
	}{
		"a cluster": {store.Connection{URL: cluster.As("gateway"), Cluster: cluster.Addresses()}, 3}, "Sentinels": {behind(t, watched, "gateway"), 1},
	} {
		r := registry()
		c.Metrics = store.NewMetrics(r)
		rdb, ctx := connected(t, c.Connection), testkit.Context(t, 20*time.Second)
		s := storeOn(t, rdb)
		keys, err := keyspace.NewMap(0)
		if err != nil {
			t.Fatal(err)
		}
		all, _ := everywhere(keys)
		if _, err := s.Tops(ctx, all); err != nil {
			t.Fatal(err)
		}
		for labels, want := range map[string]float64{"pool=pipelines state=idle": float64(c.nodes)} {
			if got := value(t, r, "allim_redis_pool_connections", labels); got != want {
				t.Errorf("%s: %s: got %v, want %v", name, labels, got, want)
			}
		}
	}
}

func TestCountingAllocatesNothing(t *testing.T) {
	b := realBench(t, store.Options{})
	with, err := store.New(store.Options{Redis: b.rdb, Keys: b.keys, Metrics: store.NewMetrics(nil)})
	if err != nil {
		t.Fatal(err)
	}
	streams := []notify.Stream{ann, stream("a"), stream("b"), stream("c")}
	run := func(s *store.Store) float64 {
		return testing.AllocsPerRun(200, func() {
			if err := s.Renew(b.ctx, streams); err != nil {
				t.Fatal(err)
			}
		})
	}
	without := storeOn(t, b.rdb)
	run(without) // the script is known from here on
	bare, counted := run(without), run(with)
	if counted > bare+1 { // the function that doneAll asks for the errors
		t.Errorf("%v allocations with metrics, %v without", counted, bare)
	}
}
