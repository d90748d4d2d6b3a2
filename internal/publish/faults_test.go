package publish

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"allim/internal/store"
	"allim/internal/testkit"
	"allim/pkg/notify"
	pb "allim/proto/allim/v1"
)

func TestEveryErrorOfNotifyHasACode(t *testing.T) {
	known := map[string]error{"ErrInvalid": notify.ErrInvalid, "ErrUnauthorized": notify.ErrUnauthorized, "ErrForbidden": notify.ErrForbidden,
		"ErrStalePosition": notify.ErrStalePosition, "ErrTooLarge": notify.ErrTooLarge, "ErrLimit": notify.ErrLimit, "ErrBusy": notify.ErrBusy, "ErrUnavailable": notify.ErrUnavailable,
		"ErrNotFound": notify.ErrNotFound, "ErrConflict": notify.ErrConflict, "ErrPast": notify.ErrPast, "ErrNotConfigured": notify.ErrNotConfigured}
	file, err := parser.ParseFile(token.NewFileSet(), "../../pkg/notify/errors.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range file.Decls {
		g, ok := d.(*ast.GenDecl)
		if !ok || g.Tok != token.VAR {
			continue
		}
		for _, s := range g.Specs {
			name := s.(*ast.ValueSpec).Names[0].Name
			if known[name] == nil {
				t.Errorf("notify.%s: not in this test", name)
			} else if f := faultOf(known[name]); f.code == codes.Internal || httpStatus[f.code] == 0 || f.reason == "" || f.message == "" {
				t.Errorf("notify.%s: %+v", name, f)
			}
		}
	}
	if f := faultOf(errors.New("dial tcp 10.0.0.7:6379")); f.code != codes.Internal || strings.Contains(f.message, "10.0.0.7") {
		t.Errorf("an unknown error: got %+v", f)
	}
	for _, row := range table {
		if httpStatus[row.code] == 0 {
			t.Errorf("%v has no HTTP status", row.code)
		}
	}
}

func TestRedisAwayIsUnavailableWithinTheDeadline(t *testing.T) {
	t.Parallel()
	for name, away := range map[string]func(*testkit.RedisServer){
		"gone": (*testkit.RedisServer).Stop, "mute": (*testkit.RedisServer).Pause,
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			if _, err := b.publisher().Publish(b.as("all"), &pb.PublishRequest{Topics: []string{"a"}, Data: []byte("1")}); err != nil {
				t.Fatal(err)
			}
			away(b.redis)
			for call, c := range calls {
				_, reply := c.new()
				start := time.Now()
				err := b.conn.Invoke(b.asWithin("all", 800*time.Millisecond), c.method, good(call), reply)
				if status.Code(err) != codes.Unavailable || detail[*errdetails.RetryInfo](err).GetRetryDelay().AsDuration() == 0 {
					t.Errorf("%s: got %v after %v", call, err, time.Since(start))
				}
				if strings.Contains(status.Convert(err).Message(), "127.0.0.1") {
					t.Errorf("%s: an address shows in %v", call, err)
				}
			}
		})
	}
}

func TestAFailingPublishCarriesItsResults(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	broken := b.keys.Event(notify.Stream{Tenant: "default", Topic: "broken"})
	if err := b.rdb.Set(b.as("all"), broken.Meta, "not a hash", 0).Err(); err != nil {
		t.Fatal(err)
	}
	q := &pb.PublishRequest{Id: "a", Topics: []string{"fine", "broken"}, Data: []byte("1")}
	_, err := b.publisher().Publish(b.as("all"), q)
	reply := detail[*pb.PublishResponse](err)
	if status.Code(err) != codes.Internal || reply.GetId() != "a" || len(reply.GetResults()) != 2 ||
		reply.Results[0].Code != code.Code_OK || reply.Results[0].Pos == "" || reply.Results[1].Code != code.Code_INTERNAL || reply.Results[1].Message == nil {
		t.Errorf("got %v with %v", err, reply)
	}
	if strings.Contains(status.Convert(err).Message(), "WRONGTYPE") || !strings.Contains(b.log.String(), "WRONGTYPE") {
		t.Errorf("the caller is told %v, the log %s", err, b.log)
	}
	httpCode, _, body := b.post("/v1/publish", "all", `{"id":"a","topics":["fine","broken"],"data":1}`)
	if httpCode != 500 || !strings.Contains(body, `"id":"a","results":[{"topic":"fine","code":"OK","pos":"`) ||
		!strings.Contains(body, `"duplicate":true,"receivers":0},{"topic":"broken","code":"INTERNAL","message":"internal error","pos":"","duplicate":false,"receivers":0}]}`) {
		t.Errorf("HTTP: got %d %s", httpCode, body)
	}
	b.rdb.Del(b.as("all"), broken.Meta)
	again, err := b.publisher().Publish(b.as("all"), q) // the whole call, with the same id
	if err != nil || !again.Results[0].Duplicate || again.Results[1].Duplicate {
		t.Errorf("repeated: got %v, %v", again, err)
	}
}

func TestTheResultsOfAFailingPublishFitIntoATrailer(t *testing.T) {
	reply := &pb.PublishResponse{Id: strings.Repeat("i", 64)}
	for range DefaultTopics {
		reply.Results = append(reply.Results, &pb.PublishResult{Topic: strings.Repeat("t", 255), Code: code.Code_UNAVAILABLE,
			Message: proto.String(strings.Repeat("m", 60)), Pos: "abcdef.9007199254740991", Duplicate: true, Receivers: 1000})
	}
	small := fit(reply).(*pb.PublishResponse)
	if proto.Size(small) > maxReplyDetail || len(small.Results) != DefaultTopics || small.Results[99].Code != code.Code_UNAVAILABLE {
		t.Errorf("got %d bytes", proto.Size(small))
	}
	if reply.Results[0].Topic == "" {
		t.Error("the reply itself was changed")
	}
	many := &pb.NotifyResponse{Id: "n"}
	for i := range 600 {
		many.Results = append(many.Results, &pb.NotifyResult{User: fmt.Sprint("u", i), Code: code.Code_UNAVAILABLE, Message: proto.String("m"), Pos: "abcdef.1"})
		if small := fit(many); i < 300 && small == nil || small != nil && (proto.Size(small) > maxReplyDetail || small.(*pb.NotifyResponse).Results[i].Pos == "") {
			t.Fatalf("of %d users: got %d bytes", i+1, proto.Size(small))
		}
	}
	if fit(many) != nil {
		t.Error("the results of 600 users are no trailer")
	}
}

func TestNotifyGivesEachUserItsOwnResult(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	broken := b.keys.Inbox(notify.Stream{Tenant: "default", Topic: "user:b"})
	if err := b.rdb.Set(b.as("all"), broken.Meta, "not a hash", 0).Err(); err != nil {
		t.Fatal(err)
	}
	q := &pb.NotifyRequest{Id: "n", To: &pb.Audience{Users: []string{"a", "b", "c", "b"}}, Data: []byte("1")}
	got, err := b.publisher().Notify(b.as("all"), q)
	if err != nil || len(got.Results) != 4 {
		t.Fatalf("got %v, %v", got, err)
	}
	for i, want := range []code.Code{code.Code_OK, code.Code_INTERNAL, code.Code_OK, code.Code_INTERNAL} {
		if r := got.Results[i]; r.Code != want || r.User != q.To.Users[i] || r.Duplicate || (want == code.Code_OK) != (r.Unread == 1) {
			t.Errorf("result %d: got %v, want %v", i, r, want)
		}
	}
	q.To.Users = []string{"b"}
	if _, err = b.publisher().Notify(b.as("all"), q); status.Code(err) != codes.Internal {
		t.Errorf("nobody could be notified: got %v", err)
	}
}

func TestNotifyStopsBeforeTheDeadlineAndSaysWhoIsLeft(t *testing.T) {
	t.Parallel()
	streams, _ := distinct("default", topicsOf(t, names(1000, "u%d")))
	ctx, cancel := context.WithCancel(t.Context())
	var written atomic.Int64
	slow := func(_ context.Context, to []notify.Stream) []store.Result {
		if written.Add(int64(len(to))) >= 3*notifyChunk {
			cancel() // the time is over while the third chunk is at work
		}
		return make([]store.Result, len(to))
	}
	results := notifyAll(ctx, slow, streams, chunksAtOnce)
	for i, r := range results {
		if tried := i < 3*notifyChunk; (r.Err == nil) != tried || !tried && !errors.Is(r.Err, notify.ErrUnavailable) {
			t.Fatalf("result %d: got %v", i, r.Err)
		}
	}
	if len(results) != 1000 || written.Load() != 3*notifyChunk {
		t.Errorf("got %d results of %d written", len(results), written.Load())
	}
}

func TestUsersOfARedisThatIsAwayHoldUpNoOthers(t *testing.T) {
	t.Parallel()
	streams, _ := distinct("default", topicsOf(t, names(1000, "u%d")))
	away := func(i int) bool { return i%notifyChunk == 7 } // some of each chunk
	ctx, cancel := context.WithCancel(t.Context())
	var chunks atomic.Int64
	do := func(ctx context.Context, to []notify.Stream) []store.Result {
		results := make([]store.Result, len(to))
		for i := range to {
			if away(i) {
				results[i].Err = notify.ErrUnavailable
			}
		}
		if chunks.Add(1) == 1000/notifyChunk+1 {
			cancel() // all were begun: nobody waits for those who are away any more
		}
		<-ctx.Done()
		return results
	}
	for i, r := range notifyAll(ctx, do, streams, 1000) {
		if (r.Err != nil) != away(i) {
			t.Fatalf("result %d: got %v", i, r.Err)
		}
	}
}

func TestALargeNotifyLeavesRoomForOthersWhileRedisIsSlow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		streams, _ := distinct("default", topicsOf(t, names(20*notifyChunk, "u%d")))
		var now, most atomic.Int64
		slow := func(_ context.Context, to []notify.Stream) []store.Result {
			most.Store(max(most.Load(), now.Add(1)))
			time.Sleep(time.Minute)
			now.Add(-1)
			return make([]store.Result, len(to))
		}
		for i, r := range notifyAll(t.Context(), slow, streams, chunksAtOnce) {
			if r.Err != nil {
				t.Fatalf("result %d: %v", i, r.Err)
			}
		}
		if most.Load() != chunksAtOnce {
			t.Errorf("%d chunks were under way, want %d", most.Load(), chunksAtOnce)
		}
	})
}

func TestATopicThatStandsTwiceIsWrittenOnce(t *testing.T) {
	streams, at := distinct("acme", []notify.Topic{"a", "b", "a"})
	if len(streams) != 2 || streams[0] != (notify.Stream{Tenant: "acme", Topic: "a"}) {
		t.Errorf("got %v", streams)
	}
	results := []store.Result{{Ack: store.Ack{Receivers: 1}}, {Err: notify.ErrBusy}}
	if r, again := at.result(results, 2); r.Receivers != 1 || !again {
		t.Errorf("got %+v, %v", r, again)
	}
	results[0].Err = notify.ErrBusy
	if r, again := at.result(results, 2); r.Err == nil || again {
		t.Errorf("a failure is no duplicate: got %+v, %v", r, again)
	}
}

func topicsOf(t *testing.T, users []string) []notify.Topic {
	all := make([]notify.Topic, len(users))
	for i, u := range users {
		var err error
		if all[i], err = notify.UserTopic(u); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

func TestTheReserveIsKeptOfEveryDeadline(t *testing.T) {
	for within, least := range map[time.Duration]time.Duration{10 * time.Second: 99 * time.Millisecond, 200 * time.Millisecond: 45 * time.Millisecond} {
		ctx, cancel := context.WithTimeout(context.Background(), within)
		inner, cancelInner := withReserve(ctx)
		outerEnd, _ := ctx.Deadline()
		innerEnd, ok := inner.Deadline()
		if got := outerEnd.Sub(innerEnd); !ok || got < least || got > reserve+time.Millisecond {
			t.Errorf("of %v: kept %v", within, got)
		}
		cancelInner()
		cancel()
	}
}

func TestABlipIsBridgedByOurOwnRetries(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.redis.Stop()
	ephemeral := &pb.PublishRequest{Topics: []string{"a"}, Data: []byte("1"), Mode: pb.PublishRequest_EPHEMERAL}
	if _, err := b.publisher().Publish(b.asWithin("all", 20*time.Second), ephemeral); status.Code(err) != codes.Unavailable {
		t.Errorf("an ephemeral message is sent once: got %v", err)
	}
	ends, writes := make(chan error, len(calls)), 0
	for call, c := range calls {
		if call == "List" || call == "Counts" {
			continue // reads are the caller's to repeat
		}
		writes++
		_, reply := c.new()
		go func() {
			err := b.conn.Invoke(b.asWithin("all", 20*time.Second), c.method, good(call), reply)
			if call == "Update" && status.Code(err) == codes.NotFound { // so Redis said
				err = nil
			}
			ends <- err
		}()
	}
	atWork := func() int { b.srv.gate.mu.Lock(); defer b.srv.gate.mu.Unlock(); return b.srv.gate.calls }
	testkit.Eventually(t, 5*time.Second, func() bool { return atWork() == writes }, "have all calls at work")
	b.redis.Restart()
	for range writes {
		if err := testkit.Receive(t, 10*time.Second, ends, "a call's end"); err != nil {
			t.Error(err)
		}
	}
}

func TestAPanicEndsOneCallAndNothingElse(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(o *Options) { o.Now = func() time.Time { panic("secret detail") } })
	for range 3 {
		_, err := b.publisher().Publish(b.as("all"), &pb.PublishRequest{Topics: []string{"a"}, Data: []byte("1")})
		if status.Code(err) != codes.Internal || strings.Contains(err.Error(), "secret") {
			t.Errorf("gRPC: got %v", err)
		}
		httpCode, _, body := b.post("/v1/publish", "all", `{"topics":["a"],"data":1}`)
		if httpCode != http.StatusInternalServerError || strings.Contains(body, "secret") {
			t.Errorf("HTTP: got %d %s", httpCode, body)
		}
	}
	if !strings.Contains(b.log.String(), "secret detail") {
		t.Error("the log says nothing of it")
	}
	if b.srv.gate.calls != 0 || b.srv.gate.bytes != 0 {
		t.Errorf("the gate still counts %d calls, %d bytes", b.srv.gate.calls, b.srv.gate.bytes)
	}
}

func TestCallsBeyondTheGateAreRefusedAtOnce(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	b := newBench(t, func(o *Options) { o.InFlight = 1; o.Metrics = NewMetrics(registry) })
	b.redis.Pause()
	first := make(chan error, 1)
	go func() {
		_, err := b.publisher().Publish(b.asWithin("all", 20*time.Second), &pb.PublishRequest{Id: "a", Topics: []string{"a"}, Data: []byte("1")})
		first <- err
	}()
	atWork := func() int { b.srv.gate.mu.Lock(); defer b.srv.gate.mu.Unlock(); return b.srv.gate.calls }
	testkit.Eventually(t, 5*time.Second, func() bool { return atWork() == 1 }, "have a call at work")
	_, err := b.publisher().Publish(b.as("all"), &pb.PublishRequest{Topics: []string{"a"}, Data: []byte("1")})
	if status.Code(err) != codes.ResourceExhausted || detail[*errdetails.RetryInfo](err).GetRetryDelay().AsDuration() < 100*time.Millisecond {
		t.Errorf("gRPC: got %v", err)
	}
	httpCode, header, body := b.post("/v1/publish", "all", `{"topics":["a"],"data":1}`)
	if httpCode != http.StatusTooManyRequests || header.Get("Retry-After") != "1" || !strings.Contains(body, `"reason":"BUSY"`) {
		t.Errorf("HTTP: got %d %s", httpCode, body)
	}
	if _, err := healthpb.NewHealthClient(b.conn).Check(b.as("none"), &healthpb.HealthCheckRequest{}); err != nil {
		t.Errorf("health: %v", err)
	}
	b.redis.Resume()
	if err := testkit.Receive(t, 10*time.Second, first, "the first call's end"); err != nil {
		t.Errorf("the call at work: %v", err)
	}
	if got := metric(t, registry, "allim_publisher_refused_total", "calls"); got != 2 {
		t.Errorf("refused_total: got %v, want 2", got)
	}
	g := newGate(10, 100, NewMetrics(nil))
	for _, c := range []struct {
		size int
		met  string
	}{{60, ""}, {41, "calls_bytes"}, {40, ""}, {1, "calls_bytes"}, {0, ""}} {
		if met := g.enter(c.size); met != c.met {
			t.Errorf("%d bytes more: got %q, want %q", c.size, met, c.met)
		}
	}
}

// metric is the sum of a metric's values with all these label values.
func metric(t *testing.T, r *prometheus.Registry, name string, labels ...string) float64 {
	t.Helper()
	return testkit.Metric(t, r, name, labels...)
}

func TestRefusalsAreCountedByReasonAndField(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	b := newBench(t, func(o *Options) { o.Metrics = NewMetrics(registry) })
	_, _ = b.publisher().Publish(b.as("none"), good("Publish").(*pb.PublishRequest))
	_, _ = b.publisher().Publish(b.as("orders"), good("Publish").(*pb.PublishRequest))
	_, _ = b.publisher().Publish(b.as("all"), &pb.PublishRequest{Topics: []string{"a b"}, Data: []byte("1")})
	_, _ = b.publisher().Publish(b.as("all"), &pb.PublishRequest{Topics: []string{"a"}, Data: text(64<<10 + 1)})
	for _, label := range []string{"unauthorized", "forbidden", "invalid", "topics", "too_large", "data"} {
		if got := metric(t, registry, "allim_publisher_refused_total", label); got != 1 {
			t.Errorf("%s: got %v, want 1", label, got)
		}
	}
}
