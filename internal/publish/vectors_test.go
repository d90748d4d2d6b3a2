package publish

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"allim/internal/store"
	"allim/internal/testkit"
	"allim/pkg/notify"
	pb "allim/proto/allim/v1"
)

const vectorDir = "../../proto/publisher/vectors"

// A vector is one file of proto/publisher/vectors; its README says what stands there.
type vector struct {
	Given          []vector
	Replica        bool // Redis has one
	Fsync          bool // Redis synchronises its append file with each write, and the publisher knows
	Credential     string
	Call           string
	Request        json.RawMessage
	Status         int
	Reply, Problem json.RawMessage
}

// calls are the calls of the HTTP form and how gRPC makes them.
var calls = map[string]struct {
	path   string
	method string
	new    func() (request, reply proto.Message)
}{
	"Publish":     {"/v1/publish", pb.Publisher_Publish_FullMethodName, func() (q, r proto.Message) { return &pb.PublishRequest{}, &pb.PublishResponse{} }},
	"Notify":      {"/v1/notify", pb.Publisher_Notify_FullMethodName, func() (q, r proto.Message) { return &pb.NotifyRequest{}, &pb.NotifyResponse{} }},
	"Update":      {"/v1/update", pb.Publisher_Update_FullMethodName, func() (q, r proto.Message) { return &pb.UpdateRequest{}, &pb.UpdateResponse{} }},
	"Retract":     {"/v1/retract", pb.Publisher_Retract_FullMethodName, func() (q, r proto.Message) { return &pb.RetractRequest{}, &pb.RetractResponse{} }},
	"Preferences": {"/v1/inbox/preferences", pb.Inbox_Preferences_FullMethodName, func() (q, r proto.Message) { return &pb.PreferencesRequest{}, &pb.PreferencesResponse{} }},
	"List":        {"/v1/inbox/list", pb.Inbox_List_FullMethodName, func() (q, r proto.Message) { return &pb.ListRequest{}, &pb.ListResponse{} }},
	"Counts":      {"/v1/inbox/counts", pb.Inbox_Counts_FullMethodName, func() (q, r proto.Message) { return &pb.CountsRequest{}, &pb.CountsResponse{} }},
	"Mark":        {"/v1/inbox/mark", pb.Inbox_Mark_FullMethodName, func() (q, r proto.Message) { return &pb.MarkRequest{}, &pb.MarkResponse{} }},
}

func TestEveryCallHasAVectorOfAReplyAndOfAProblem(t *testing.T) {
	has := map[string]bool{}
	for _, v := range vectors(t) {
		has[fmt.Sprintf("%s %t", v.Call, v.Reply != nil)] = true
	}
	for name, c := range calls {
		if !has[name+" true"] || !has[name+" false"] {
			t.Errorf("%s has no vector of a reply, or none of a problem", name)
		}
		if (&Server{}).routes()[c.path].method != name {
			t.Errorf("%s is not served at %s", name, c.path)
		}
	}
	if got := len((&Server{}).routes()); got != len(calls) {
		t.Errorf("%d routes, %d calls", got, len(calls))
	}
}

func vectors(t *testing.T) map[string]vector {
	files, err := filepath.Glob(vectorDir + "/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no vectors: %v", err)
	}
	all := map[string]vector{}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		var v vector
		if err := json.Unmarshal(text, &v); err != nil {
			t.Fatalf("%s: %v", f, err)
		}
		if v.Credential == "" {
			v.Credential = "all"
		}
		all[strings.TrimSuffix(filepath.Base(f), ".json")] = v
	}
	return all
}

func TestVectorsOverHTTP(t *testing.T) {
	t.Parallel()
	eachVector(t, func(b *bench, credential string, v vector) (int, string) {
		status, header, body := b.post(calls[v.Call].path, credential, string(v.Request))
		want := "application/json"
		if status != http.StatusOK {
			want = "application/problem+json"
		}
		if got := header.Get("Content-Type"); got != want {
			b.Errorf("content type: got %q, want %q", got, want)
		}
		return status, body
	})
}

func TestVectorsOverGRPC(t *testing.T) {
	t.Parallel()
	eachVector(t, func(b *bench, credential string, v vector) (int, string) {
		c := calls[v.Call]
		request, reply := c.new()
		if err := decodeJSON(v.Request, request.ProtoReflect(), ""); err != nil {
			b.Fatal(err)
		}
		if err := b.conn.Invoke(b.as(credential), c.method, request, reply); err != nil {
			return asProblem(b, err)
		}
		text, err := encodeJSON(nil, reply.ProtoReflect())
		if err != nil {
			b.Fatal(err)
		}
		return http.StatusOK, string(text)
	})
}

// asProblem makes the problem document of a gRPC status: that it can says that nothing is lost between the two.
func asProblem(b *bench, err error) (int, string) {
	b.Helper()
	s := status.Convert(err)
	f := &fault{code: s.Code(), message: s.Message(), reason: detail[*errdetails.ErrorInfo](err).GetReason(),
		retry: detail[*errdetails.RetryInfo](err).GetRetryDelay().AsDuration(), reply: detail[failing](err)}
	for _, v := range detail[*errdetails.BadRequest](err).GetFieldViolations() {
		f.fields = append(f.fields, &notify.FieldError{Field: v.Field, Want: strings.TrimPrefix(v.Description, "expected ")})
	}
	if domain := detail[*errdetails.ErrorInfo](err).GetDomain(); domain != Domain {
		b.Errorf("domain: got %q", domain)
	}
	text, jsonErr := f.problem(httpStatus[s.Code()]).text()
	if jsonErr != nil {
		b.Fatal(jsonErr)
	}
	return httpStatus[s.Code()], string(text)
}

func eachVector(t *testing.T, call func(b *bench, credential string, v vector) (int, string)) {
	for name, v := range vectors(t) {
		t.Run(name, func(t *testing.T) {
			b := v.bench(t)
			var replies []any
			for i, g := range v.Given {
				g.Request = soon(g.Request)
				status, body := call(b, "all", g)
				var reply any
				if err := json.Unmarshal([]byte(body), &reply); err != nil || status != http.StatusOK {
					t.Fatalf("given %d: %d %s", i, status, body)
				}
				replies = append(replies, reply)
			}
			v.Request = soon([]byte(fromGiven(t, string(v.Request), replies)))
			status, body := call(b, v.Credential, v)
			want := v.Reply
			if want == nil {
				want = v.Problem
			}
			var compact bytes.Buffer
			if err := json.Compact(&compact, want); err != nil {
				t.Fatal(err)
			}
			text := fromGiven(t, compact.String(), replies)
			if status != v.Status || !pattern(text).MatchString(body) {
				t.Errorf("got  %d %s\nwant %d %s", status, body, v.Status, text)
			}
		})
	}
}

// bench is a publisher on the Redis that the vector wants.
func (v vector) bench(t *testing.T) *bench {
	var args []string
	if v.Fsync {
		args = []string{"--appendonly", "yes", "--appendfsync", "always"}
	}
	b := newBenchOn(t, testkit.Redis(t, args...), store.Options{FsyncAlways: v.Fsync})
	if v.Replica {
		testkit.Replica(t, b.redis)
	}
	return b
}

// soon puts a time that is to come in place of <soon>.
func soon(request []byte) []byte {
	return bytes.ReplaceAll(request, []byte("<soon>"), []byte(time.Now().Add(time.Hour).UTC().Format(time.RFC3339)))
}

var given = regexp.MustCompile(`<given\.([^>]*)>`)

// fromGiven puts what earlier replies said in place of <given.0.path>.
func fromGiven(t *testing.T, text string, replies []any) string {
	return given.ReplaceAllStringFunc(text, func(s string) string {
		var at any = replies
		for _, step := range strings.Split(given.FindStringSubmatch(s)[1], ".") {
			switch v := at.(type) {
			case []any:
				i, err := strconv.Atoi(step)
				if err != nil || i >= len(v) {
					t.Fatalf("%s: no %s", s, step)
				}
				at = v[i]
			case map[string]any:
				at = v[step]
			}
		}
		value, ok := at.(string)
		if !ok {
			t.Fatalf("%s is %v", s, at)
		}
		return value
	})
}

// pattern makes the whole text a regular expression, with the places of a vector open.
func pattern(text string) *regexp.Regexp {
	text = regexp.QuoteMeta(text)
	for place, form := range map[string]string{
		`"<pos>"`:    `"[a-z2-7]{6}\.[0-9]+"`,
		`"<empty>"`:  `"-[0-9]+\.0"`,
		`"<time>"`:   `"20[0-9]{2}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{3})?Z"`,
		`"<id>"`:     `"[A-Z2-7]{26}"`,
		`"<before>"`: `"[A-Za-z0-9_.-]+"`,
	} {
		text = strings.ReplaceAll(text, place, form)
	}
	return regexp.MustCompile("^" + text + "$")
}

func TestLevelsHaveTheNumbersOfTheStores(t *testing.T) {
	levels := map[string]store.Level{"COMMITTED": store.Committed, "REPLICATED": store.Replicated, "DISK": store.Disk}
	for _, names := range []map[string]int32{pb.PublishRequest_Level_value, pb.NotifyRequest_Level_value, pb.UpdateRequest_Level_value, pb.RetractRequest_Level_value} {
		for name, n := range names {
			if l, ok := levels[name]; !ok || int32(l) != n || len(names) != len(levels) {
				t.Errorf("%s is %d, the store has %v", name, n, levels)
			}
		}
	}
}

func TestCodesHaveTheNamesOfGoogleRPC(t *testing.T) {
	for c := range httpStatus {
		if _, known := code.Code_name[int32(c)]; !known {
			t.Errorf("%v has no name", c)
		}
	}
}
