package programs

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"allim/internal/testkit"
	"allim/test/pods"
)

// do calls an HTTP port over a connection of its own.
func do(method, url, body string) (code int, answer string, err error) {
	return doWithin(90*time.Second, method, url, body)
}

func doWithin(most time.Duration, method, url, body string) (code int, answer string, err error) {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: most}
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	r, err := client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	return r.StatusCode, string(b), err
}

// A sample is one that a program must show: by its name, its labels as name and value in turn, and its least value.
type sample struct {
	name   string
	labels []string
	least  float64
}

func TestTheOperationsPortShowsWhatOperatorsAreToldAndNoOtherPortDoes(t *testing.T) {
	t.Parallel()
	s := newSite(t, ending)
	gateway, publisher := s.start("gateway", "gateway"), s.start("publisher", "publisher")
	client := pods.Connect(t, gateway, pods.Hello{Token: token(t, "user0", secretOf("ending")), Topics: []string{topicOf(0)}})
	client.Next("welcome")
	caller := newCaller(t, publisher.Addr("grpc"), nil)
	if err := errors.Join(caller.publish(apiKeyOf("ending"), topicOf(0), "m1"), caller.notify(0, "n1")); err != nil {
		t.Fatal(err)
	}
	if err := caller.publish("nobody", topicOf(0), "m2"); status.Code(err) != codes.Unauthenticated {
		t.Errorf("nobody may publish: %v", err)
	}
	client.AwaitAll("message", "notification")
	gone := pods.Connect(t, gateway, pods.Hello{Token: token(t, "gone", secretOf("ending"))})
	gone.Send(`{"type":"subscribe","topics":{"a b":null},"ref":1}`)
	gone.Answer(1)
	gone.Drop()
	for program, samples := range map[*pods.Pod][]sample{
		gateway: {
			{"allim_build_info", []string{"program", "gateway", "version", "devel"}, 1},
			{"allim_sessions", nil, 1},
			{"allim_session_closes_total", nil, 1},
			{"allim_frames_sent_total", nil, 3},
			{"allim_frames_received_total", []string{"type", "subscribe"}, 1},
			{"allim_refusals_total", []string{"code", "bad_topic"}, 1},
			{"allim_limit_hits_total", []string{"limit", "queue"}, 0},
			{"allim_feed_deliveries_total", nil, 2},
			{"allim_feed_messages_total", nil, 2},
			{"allim_feed_drops_total", []string{"reason", "corrupt"}, 0},
			{"allim_feed_resyncs_total", []string{"reason", "gap"}, 0},
			{"allim_feed_link_up", nil, 1},
			{"allim_feed_probe_age_seconds", nil, 0},
			{"allim_redis_operations_total", []string{"operation", "open", "result", "ok"}, 1},
			{"allim_redis_operation_seconds_count", []string{"operation", "open"}, 1},
			{"allim_redis_pool_connections", []string{"pool", "pipelines", "state", "idle"}, 1},
			{"allim_feed_links", []string{"state", "up"}, 1},
			{"allim_reloads_total", []string{"what", "keys", "result", "failed"}, 0},
		},
		publisher: {
			{"allim_build_info", []string{"program", "publisher", "version", "devel"}, 1},
			{"allim_publisher_calls_total", []string{"method", "Publish", "code", "OK"}, 1},
			{"allim_publisher_call_seconds_count", []string{"method", "Publish"}, 1},
			{"allim_publisher_messages_total", []string{"mode", "NOTIFICATION"}, 1},
			{"allim_publisher_refused_total", nil, 1},
			{"allim_publisher_connections", []string{"port", "grpc"}, 1},
			{"allim_redis_operations_total", []string{"operation", "publish", "result", "ok"}, 1},
			{"allim_redis_operations_total", []string{"operation", "notify", "result", "ok"}, 1},
			{"allim_redis_dials_total", []string{"result", "ok"}, 1},
			{"allim_reloads_total", []string{"what", "keys", "result", "ok"}, 0},
		},
	} {
		for _, want := range samples {
			testkit.EventuallyNil(t, pods.Within, func() error { return want.in(program) }, program.Name+" counts")
		}
		_, text, _ := get("http://" + program.Addr("ops") + "/metrics")
		if !regexp.MustCompile(`allim_build_info\{commit="\w+",go="go1\.\d+\S*",`).MatchString(text) {
			t.Errorf("%s does not say which commit and Go it is of", program.Name)
		}
		wantLevels(t, program)
	}
	for _, public := range []string{gateway.Addr("public"), publisher.Addr("http")} {
		for _, path := range []string{"/metrics", "/healthz/live", "/healthz/ready", "/log/level", "/debug/pprof/"} {
			if code, text, err := get("http://" + public + path); code != http.StatusNotFound || strings.Contains(text, "go_") {
				t.Errorf("%s%s answers %d %q (%v), want 404", public, path, code, text, err)
			}
		}
	}
	client.Drop()
	s.wantReadyAsRedisIs(gateway, publisher)
}

// in wants the sample among a program's metrics.
func (s sample) in(p *pods.Pod) error {
	_, text, err := get("http://" + p.Addr("ops") + "/metrics")
	if err != nil {
		return err
	}
	if !regexp.MustCompile(`(?m)^` + s.name + `[{ ]`).MatchString(text) {
		return fmt.Errorf("no %s", s.name)
	}
	if got := p.Metric(s.name, s.labels...); got < s.least {
		return fmt.Errorf("%s %v is %v, want %v at least", s.name, s.labels, got, s.least)
	}
	for i := 0; i+1 < len(s.labels); i += 2 { // Metric takes a sample that is not there for 0
		if label := fmt.Sprintf(`%s=%q`, s.labels[i], s.labels[i+1]); !strings.Contains(text, label) {
			return fmt.Errorf("no %s with %s", s.name, label)
		}
	}
	return nil
}

// wantLevels sets the log's level while the program runs.
func wantLevels(t *testing.T, p *pods.Pod) {
	t.Helper()
	url := "http://" + p.Addr("ops") + "/log/level"
	for _, c := range []struct {
		method, body string
		code         int
		after        string
	}{{http.MethodGet, "", 200, "info\n"}, {http.MethodPut, "debug", 200, "debug\n"}, {http.MethodPut, "loud", 400, "debug\n"}, {http.MethodDelete, "", 405, "debug\n"}} {
		code, _, err := do(c.method, url, c.body)
		if _, now, _ := get(url); code != c.code || now != c.after {
			t.Errorf("%s of %s %q answers %d (%v), then the level is %q; want %d and %q", c.method, p.Name, c.body, code, err, now, c.code, c.after)
		}
	}
	if p.Said("log_level_changed", "to", "debug") == nil {
		t.Errorf("%s does not log that its level changed", p.Name)
	}
}

// wantReadyAsRedisIs takes Redis away and gives it back: the programs live on, and say whether they are of use.
func (s *site) wantReadyAsRedisIs(all ...*pods.Pod) {
	s.t.Helper()
	ready := func(p *pods.Pod, want int) error {
		ops := "http://" + p.Addr("ops")
		code, text, err := get(ops + "/healthz/ready")
		live, _, _ := get(ops + "/healthz/live")
		if code != want || live != http.StatusOK {
			return fmt.Errorf("ready answers %d %q (%v), live %d; want %d and 200", code, text, err, live, want)
		}
		return nil
	}
	for _, p := range all {
		testkit.EventuallyNil(s.t, pods.Within, func() error { return ready(p, http.StatusOK) }, p.Name+" is ready")
	}
	s.redis.Stop()
	for _, p := range all {
		testkit.EventuallyNil(s.t, 2*pods.Within, func() error { return ready(p, http.StatusServiceUnavailable) }, p.Name+" is not ready without Redis")
	}
	s.redis.Restart()
	for _, p := range all {
		testkit.EventuallyNil(s.t, 2*pods.Within, func() error { return ready(p, http.StatusOK) }, p.Name+" is ready again")
	}
}
