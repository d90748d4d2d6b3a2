package publish

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	pb "allim/proto/allim/v1"
)

func text(n int) []byte { return []byte(`"` + strings.Repeat("x", n-2) + `"`) }

func nested(deep int) []byte {
	return []byte(strings.Repeat("[", deep) + strings.Repeat("]", deep))
}

func names(n int, form string) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf(form, i)
	}
	return all
}

// TestLimits has every bound of the contract for these calls: at it the call succeeds, above it (and below, where there is a
// least) it is INVALID_ARGUMENT and names the field, over both ways.
func TestLimits(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	one := []string{"a"}
	ann := &pb.Audience{Users: []string{"ann"}}
	data := []byte("1")
	for _, c := range []struct {
		name  string
		q     proto.Message
		field string // "": it succeeds
	}{
		{"100 topics", &pb.PublishRequest{Topics: names(100, "t%d"), Data: data}, ""},
		{"101 topics", &pb.PublishRequest{Topics: names(101, "t%d"), Data: data}, "topics"},
		{"no topics", &pb.PublishRequest{Data: data}, "topics"},
		{"255 bytes of topic", &pb.PublishRequest{Topics: []string{strings.Repeat("t", 255)}, Data: data}, ""},
		{"256 bytes of topic", &pb.PublishRequest{Topics: []string{"a", strings.Repeat("t", 256)}, Data: data}, "topics[1]"},
		{"no byte of topic", &pb.PublishRequest{Topics: []string{""}, Data: data}, "topics[0]"},
		{"64 KiB of data", &pb.PublishRequest{Topics: one, Data: text(64 << 10)}, ""},
		{"64 KiB and a byte", &pb.PublishRequest{Topics: one, Data: text(64<<10 + 1)}, "data"},
		{"no data", &pb.PublishRequest{Topics: one}, "data"},
		{"no JSON", &pb.PublishRequest{Topics: one, Data: []byte("{x}")}, "data"},
		{"two values", &pb.PublishRequest{Topics: one, Data: []byte("1 2")}, "data"},
		{"no UTF-8", &pb.PublishRequest{Topics: one, Data: []byte("\"\xff\"")}, "data"},
		{"32 deep", &pb.PublishRequest{Topics: one, Data: nested(32)}, ""},
		{"33 deep", &pb.PublishRequest{Topics: one, Data: nested(33)}, "data"},
		{"64 bytes of id", &pb.PublishRequest{Id: strings.Repeat("i", 64), Topics: one, Data: data}, ""},
		{"65 bytes of id", &pb.PublishRequest{Id: strings.Repeat("i", 65), Topics: one, Data: data}, "id"},
		{"128 bytes of event", &pb.PublishRequest{Event: strings.Repeat("e", 128), Topics: one, Data: data}, ""},
		{"129 bytes of event", &pb.PublishRequest{Event: strings.Repeat("e", 129), Topics: one, Data: data}, "event"},
		{"a control character in event", &pb.PublishRequest{Event: "a\u0085", Topics: one, Data: data}, "event"},
		{"an event of ours", &pb.PublishRequest{Event: "allim:x", Topics: one, Data: data}, "event"},
		{"an event of Socket.IO's", &pb.PublishRequest{Event: "disconnecting", Topics: one, Data: data}, "event"},
		{"an unknown mode", &pb.PublishRequest{Mode: 2, Topics: one, Data: data}, "mode"},
		{"16 bytes of origin", &pb.PublishRequest{Origin: strings.Repeat("o", 16), Topics: one, Data: data}, ""},
		{"15 bytes of origin", &pb.PublishRequest{Origin: strings.Repeat("o", 15), Topics: one, Data: data}, "origin"},
		{"33 bytes of origin", &pb.PublishRequest{Origin: strings.Repeat("o", 33), Topics: one, Data: data}, "origin"},
		{"10,000 users", &pb.NotifyRequest{Id: "n", To: &pb.Audience{Users: names(10_000, "u%d")}, Data: data}, ""},
		{"10,001 users", &pb.NotifyRequest{Id: "n", To: &pb.Audience{Users: names(10_001, "u%d")}, Data: data}, "to.users"},
		{"no users", &pb.NotifyRequest{Id: "n", To: &pb.Audience{}, Data: data}, "to.users"},
		{"180 bytes of user", &pb.NotifyRequest{Id: "n", To: &pb.Audience{Users: []string{strings.Repeat("한", 60)}}, Data: data}, ""},
		{"181 bytes of user", &pb.NotifyRequest{Id: "n", To: &pb.Audience{Users: []string{"a", "b", "c", strings.Repeat("u", 181)}}, Data: data}, "to.users[3]"},
		{"no id", &pb.NotifyRequest{To: ann, Data: data}, "id"},
		{"16 KiB of data", &pb.NotifyRequest{Id: "m", To: ann, Data: text(16 << 10)}, ""},
		{"16 KiB and a byte", &pb.NotifyRequest{Id: "m", To: ann, Data: text(16<<10 + 1)}, "data"},
		{"32 bytes of category", &pb.NotifyRequest{Id: "m", To: ann, Category: strings.Repeat("c", 32), Data: data}, ""},
		{"33 bytes of category", &pb.NotifyRequest{Id: "m", To: ann, Category: strings.Repeat("c", 33), Data: data}, "category"},
		{"100 items", &pb.ListRequest{User: "ann", Limit: 100}, ""},
		{"101 items", &pb.ListRequest{User: "ann", Limit: 101}, "limit"},
		{"-1 items", &pb.ListRequest{User: "ann", Limit: -1}, "limit"},
		{"500 ids", &pb.MarkRequest{User: "ann", Mark: pb.MarkRequest_READ.Enum(), Ids: names(500, "i%d")}, ""},
		{"501 ids", &pb.MarkRequest{User: "ann", Mark: pb.MarkRequest_READ.Enum(), Ids: names(501, "i%d")}, "ids"},
		{"an unknown mark", &pb.MarkRequest{User: "ann", Mark: pb.MarkRequest_Mark(6).Enum(), All: true}, "mark"},
		{"a bad origin of a mark", &pb.MarkRequest{User: "ann", Mark: pb.MarkRequest_SEEN.Enum(), All: true, Origin: "o"}, "origin"},
		{"no mark", &pb.MarkRequest{User: "ann", All: true}, "mark"},
		{"nobody's counts", &pb.CountsRequest{}, "user"},
	} {
		t.Run(c.name, func(t *testing.T) {
			call := callOf(c.q)
			_, reply := calls[call].new()
			err := b.conn.Invoke(b.as("all"), calls[call].method, c.q, reply)
			body, jsonErr := encodeJSON(nil, c.q.ProtoReflect())
			if jsonErr != nil {
				t.Fatal(jsonErr)
			}
			// What has no data in gRPC is null in our writing, which is a value: a caller leaves it out.
			code, _, answer := b.post(calls[call].path, "all", strings.Replace(string(body), `"data":null,`, "", 1))
			if c.field == "" {
				if err != nil || code != http.StatusOK {
					t.Errorf("got %v and %d %.300s", err, code, answer)
				}
				return
			}
			if v := detail[*errdetails.BadRequest](err).GetFieldViolations(); status.Code(err) != codes.InvalidArgument || len(v) != 1 || v[0].Field != c.field {
				t.Errorf("gRPC: got %v, %v", err, v)
			}
			var p problem
			if jsonErr := json.Unmarshal([]byte(answer), &p); jsonErr != nil || code != http.StatusBadRequest || len(p.Violations) == 0 {
				t.Fatalf("HTTP: got %d %s", code, answer)
			}
			// A text that is no JSON cannot stand in a JSON body: the whole of that is then wrong.
			if got := p.Violations[0].Field; got != c.field && !(got == "body" && slices.Contains([]string{"no JSON", "two values"}, c.name)) {
				t.Errorf("HTTP: got %s", answer)
			}
		})
	}
}

func callOf(q proto.Message) string {
	name := string(q.ProtoReflect().Descriptor().Name())
	return strings.TrimSuffix(name, "Request")
}

func TestTooLargeSaysSo(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	_, err := b.publisher().Publish(b.as("all"), &pb.PublishRequest{Topics: []string{"a"}, Data: text(64<<10 + 1)})
	if got := detail[*errdetails.ErrorInfo](err).GetReason(); got != "TOO_LARGE" || status.Code(err) != codes.InvalidArgument {
		t.Errorf("got %v, reason %q", err, got)
	}
	users := names(10_000, strings.Repeat("u", 176)+"%04d") // of each the longest name: within the 4 MiB
	if _, err := b.publisher().Notify(b.as("all"), &pb.NotifyRequest{Id: "n", To: &pb.Audience{Users: users}, Data: []byte("1")}); err != nil {
		t.Errorf("10,000 users with the longest names: %v", err)
	}
	large := strings.Repeat("x", DefaultRequest)
	if _, err = b.publisher().Publish(b.as("all"), &pb.PublishRequest{Event: large}); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("gRPC over 4 MiB: got %v", err)
	}
	code, _, body := b.post("/v1/publish", "all", `{"event":"`+large+`"}`)
	if code != http.StatusRequestEntityTooLarge || !strings.Contains(body, `"code":"RESOURCE_EXHAUSTED","reason":"TOO_LARGE"`) {
		t.Errorf("HTTP over 4 MiB: got %d %.300s", code, body)
	}
}
