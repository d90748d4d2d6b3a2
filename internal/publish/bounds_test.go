package publish

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"allim/internal/testkit"
	"allim/pkg/notify"
	pb "allim/proto/allim/v1"
)

func TestLimitsAreThoseOfTheOptions(t *testing.T) {
	t.Parallel()
	data := []byte("1")
	publish := func(topics int, data []byte) proto.Message {
		return &pb.PublishRequest{Topics: names(topics, "t%d"), Data: data}
	}
	send := func(users int, data []byte) proto.Message {
		return &pb.NotifyRequest{Id: fmt.Sprintf("n-%d-%d", users, len(data)), To: &pb.Audience{Users: names(users, "u%d")}, Data: data}
	}
	mark := func(ids int) proto.Message {
		return &pb.MarkRequest{User: "u0", Mark: pb.MarkRequest_READ.Enum(), Ids: names(ids, "i%d")}
	}
	for _, c := range []struct {
		name         string
		limits       Limits
		at, over     proto.Message
		field, words string // words name the bound that is set
		reason       string
	}{
		{"topics", Limits{Topics: 2}, publish(2, data), publish(3, data), "topics", "1 to 2 topics, not 3", "invalid"},
		{"more topics than by default", Limits{Topics: 150}, publish(150, data), publish(151, data), "topics", "1 to 150 topics, not 151", "invalid"},
		{"users", Limits{Users: 3}, send(3, data), send(4, data), "to.users", "1 to 3 users, not 4", "invalid"},
		{"ids of a mark", Limits{MarkIDs: 2}, mark(2), mark(3), "ids", "at most 2, not 3", "invalid"},
		{"data", Limits{Data: 100}, publish(1, text(100)), publish(1, text(101)), "data", "at most 100 bytes, not 101", "too_large"},
		{"more data than by default", Limits{Data: 128 << 10}, publish(1, text(128<<10)), publish(1, text(128<<10+1)), "data", "at most 131072 bytes, not 131073", "too_large"},
		{"data of a notification", Limits{Notification: 50}, send(1, text(50)), send(1, text(51)), "data", "at most 50 bytes, not 51", "too_large"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			registry := prometheus.NewRegistry()
			b := newBench(t, func(o *Options) { o.Limits, o.Metrics = c.limits, NewMetrics(registry) })
			invoke := func(q proto.Message) error {
				call := calls[callOf(q)]
				_, reply := call.new()
				return b.conn.Invoke(b.as("all"), call.method, q, reply)
			}
			if err := invoke(c.at); err != nil {
				t.Errorf("at the bound: %v", err)
			}
			if err := invoke(c.over); status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), c.field+": expected "+c.words) {
				t.Errorf("over it: got %v", err)
			}
			body, err := encodeJSON(nil, c.over.ProtoReflect())
			if err != nil {
				t.Fatal(err)
			}
			if code, _, answer := b.post(calls[callOf(c.over)].path, "all", string(body)); code != http.StatusBadRequest || !strings.Contains(answer, c.words) {
				t.Errorf("over it in HTTP: got %d %s", code, answer)
			}
			if got := metric(t, registry, "allim_publisher_refused_total", c.reason, c.field); got != 2 {
				t.Errorf("counted %v times", got)
			}
		})
	}
}

func TestTheSizeOfARequestIsThatOfTheOptions(t *testing.T) {
	t.Parallel()
	const most = 1000
	registry := prometheus.NewRegistry()
	b := newBench(t, func(o *Options) { o.Limits.Request, o.InFlightBytes, o.Metrics = most, most, NewMetrics(registry) })
	q := &pb.PublishRequest{Topics: []string{"a"}, Data: text(500)}
	q.Data = text(500 + most - proto.Size(q))
	if _, err := b.publisher().Publish(b.as("all"), q); err != nil || proto.Size(q) != most {
		t.Errorf("gRPC at %d: %v", proto.Size(q), err)
	}
	q.Data = text(len(q.Data) + 1)
	if _, err := b.publisher().Publish(b.as("all"), q); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("gRPC over it: %v", err)
	}
	body := func(n int) string {
		const around = `{"topics":["a"],"data":""}`
		return strings.Replace(around, `""`, `"`+strings.Repeat("x", n-len(around))+`"`, 1)
	}
	if code, _, answer := b.post("/v1/publish", "all", body(most)); code != http.StatusOK {
		t.Errorf("HTTP at %d: got %d %s", most, code, answer)
	}
	if code, _, answer := b.post("/v1/publish", "all", body(most+1)); code != http.StatusRequestEntityTooLarge || !strings.Contains(answer, "at most 1000 bytes") {
		t.Errorf("HTTP over it: got %d %s", code, answer)
	}
	testkit.Eventually(t, 5*time.Second, func() bool { return metric(t, registry, "allim_publisher_refused_total", "too_large", "request") == 2 }, "two refusals counted")
}

func TestLimitsThatExcludeEachOtherAreAMistake(t *testing.T) {
	b := newBench(t)
	_, err := New(Options{Store: b.srv.Store, Services: b.srv.Services, InFlightBytes: 100, Limits: Limits{Request: 101}})
	var fe *notify.FieldError
	if !errors.As(err, &fe) || fe.Field != "limits.calls_bytes" || !strings.Contains(err.Error(), "101") {
		t.Errorf("got %v", err)
	}
}
