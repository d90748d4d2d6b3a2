package publish

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"allim/internal/store"
	"allim/internal/testkit"
	"allim/pkg/notify"
	pb "allim/proto/allim/v1"
)

// All attempts of a message have one id, also where its caller gave none: a frozen Redis executes every one of them.
func TestAMessageWithoutAnIDIsWrittenOnceHoweverOftenItIsTried(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	b := newBenchOn(t, testkit.Redis(t), store.Options{Metrics: store.NewMetrics(registry)})
	q := &pb.PublishRequest{Topics: []string{"a"}, Data: []byte("1")}
	if _, err := b.publisher().Publish(b.as("all"), q); err != nil {
		t.Fatal(err)
	}
	b.redis.Pause()
	end := make(chan error, 1)
	go func() {
		_, err := b.publisher().Publish(b.asWithin("all", 20*time.Second), q)
		end <- err
	}()
	testkit.Eventually(t, 15*time.Second, func() bool { return metric(t, registry, "allim_redis_retries_total") >= 1 }, "try again")
	b.redis.Resume()
	if err := testkit.Receive(t, 15*time.Second, end, "the call's end"); err != nil {
		t.Fatal(err)
	}
	if n := b.rdb.XLen(b.as("all"), b.keys.Event(notify.Stream{Tenant: "default", Topic: "a"}).Events).Val(); n != 2 {
		t.Errorf("%d messages", n)
	}
}
