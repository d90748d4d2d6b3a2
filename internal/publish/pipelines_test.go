package publish

import (
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"allim/internal/store"
	"allim/internal/testkit"
	pb "allim/proto/allim/v1"
)

func TestUnaryCallsShareAPipelineToRedis(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	b := newBenchOn(t, testkit.Redis(t), store.Options{Metrics: store.NewMetrics(registry)})
	if _, err := b.publisher().Publish(b.as("all"), &pb.PublishRequest{Topics: []string{"warm"}, Data: []byte("1")}); err != nil {
		t.Fatal(err)
	}
	b.redis.Pause()
	const calls = 200
	ended := make(chan error, calls)
	for i := range calls {
		go func() {
			_, err := b.publisher().Publish(b.asWithin("all", 20*time.Second), &pb.PublishRequest{Topics: []string{fmt.Sprint("t/", i)}, Data: []byte("1")})
			ended <- err
		}()
	}
	testkit.Eventually(t, 10*time.Second, func() bool { n, _ := b.srv.gate.counts(); return n == calls }, "be at work")
	b.redis.Resume()
	for range calls {
		if err := testkit.Receive(t, 20*time.Second, ended, "a call"); err != nil {
			t.Error(err)
		}
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "allim_redis_operation_seconds" {
			continue
		}
		for _, m := range f.Metric {
			// the first found one write each, the rest went together
			if n := m.GetHistogram().GetSampleCount(); m.Label[0].GetValue() == "publish" && (n == 0 || n > calls/5) {
				t.Errorf("%d round trips for %d calls", n, calls)
			}
		}
	}
}
