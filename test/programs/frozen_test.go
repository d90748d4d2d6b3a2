package programs

import (
	"fmt"
	"testing"
	"time"

	"allim/internal/testkit"
	"allim/test/pods"
)

// A Redis that stands still answers nothing and refuses nothing: whatever asks it something while a gateway ends has a bound of its own.
func TestAGatewayEndsInTimeWhileRedisStandsStill(t *testing.T) {
	t.Parallel()
	s := newSite(t, ending)
	gateway := s.start("gateway", "gateway")
	idle := s.start("gateway", "idle gateway") // nothing but its probes is under way
	pages := make([]*pods.Client, 20)
	for i := range pages {
		pages[i] = pods.Connect(t, gateway, pods.Hello{Token: token(t, fmt.Sprint("user", i), secretOf("ending")), Topics: []string{"load/0"}})
		pages[i].Next("welcome")
	}
	s.redis.Pause()
	defer s.redis.Resume()
	for _, p := range pages { // each waits for Redis
		p.Send(`{"type":"read","all":true,"ref":1}`)
		p.Send(`{"type":"subscribe","topics":{"load/1":"0"},"ref":2}`)
	}
	testkit.Eventually(t, pods.Within, func() bool {
		return gateway.Metric("allim_frames_received_total", "type", "read") == float64(len(pages))
	}, "the marks are under way")
	stop := func(p *pods.Pod) {
		began, most := time.Now(), budget(t, p)
		p.Stop() // wants exit code 0
		if took := time.Since(began); took > most {
			t.Errorf("%s took %v, and said %v at most", p.Name, took, most)
		}
	}
	stop(gateway)
	testkit.Eventually(t, pods.Within, func() bool { return idle.Metric("allim_feed_probe_age_seconds") > 5.2 }, "a probe is under way")
	stop(idle)
	for i, p := range pages {
		if code, _ := p.Closed(pods.Within); code != 1012 {
			t.Errorf("page %d was closed with %d", i, code)
		}
	}
}

// Whoever is connected is told once that messages may come late, and once that they do not, and stays connected all the while.
func TestClientsAreToldOfAnOutageAndOfItsEnd(t *testing.T) {
	t.Parallel()
	s := newSite(t, ending)
	gateway, publisher := s.start("gateway", "gateway"), s.start("publisher", "publisher")
	c := pods.Connect(t, gateway, pods.Hello{Token: token(t, "ann", secretOf("ending")), Topics: []string{topicOf(0)}})
	c.Next("welcome")
	s.redis.Pause()
	defer s.redis.Resume()
	if f := c.Next("degraded"); f.What != "broker" {
		t.Errorf("got %s", f.Raw)
	}
	testkit.EventuallyNil(t, pods.Within, func() error {
		code, body, err := get("http://" + gateway.Addr("ops") + "/healthz/ready")
		if err == nil && code != 503 {
			err = fmt.Errorf("%d %s", code, body)
		}
		return err
	}, "not ready either")
	s.redis.Resume()
	c.Next("restored")
	pods.BackendWith(t, publisher, apiKeyOf("ending")).Publish(topicOf(0), "after", "1")
	c.Await("what is published afterwards", func(f pods.Frame) bool { return f.ID == "after" })
	told := 0
	for _, f := range c.Frames() {
		if f.Type == "degraded" || f.Type == "restored" {
			told++
		}
	}
	if told != 2 || !c.Open() {
		t.Errorf("told %d times; still connected: %v\n%s", told, c.Open(), c.Transcript())
	}
}
