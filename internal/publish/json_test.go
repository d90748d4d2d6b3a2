package publish

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"allim/pkg/notify"
	pb "allim/proto/allim/v1"
)

// TestWhatIsWrittenIsProtobufsMapping compares with protojson, as values: only bytes fields differ, so there are none here.
func TestWhatIsWrittenIsProtobufsMapping(t *testing.T) {
	odd := "<&> \u2028 \x01 \"\\ é 한"
	for _, m := range []proto.Message{
		&pb.PublishResponse{},
		&pb.PublishResponse{Id: odd, Results: []*pb.PublishResult{{}, {Topic: "a", Code: code.Code_UNAVAILABLE, Message: proto.String(""), Pos: "a.1", Duplicate: true, Receivers: -1}, {Code: 99}}},
		&pb.NotifyResponse{Results: []*pb.NotifyResult{{User: odd, Unread: math.MaxInt32, Muted: true}}},
		&pb.NotifyRequest{To: &pb.Audience{Users: []string{"b", "a"}}},
		&pb.ListResponse{Before: proto.String("x"), At: map[string]string{"b": "1", "a": odd}, Badge: &pb.Badge{Unread: 3, By: map[string]int32{"z": 1, "": 2}}},
		&pb.ListRequest{Status: pb.ListRequest_ALL, Limit: 7},
		&pb.CountsResponse{},
		&pb.NotifyResponse{Results: []*pb.NotifyResult{{Segment: proto.String("org-7")}}},
		&pb.NotifyRequest{CollapseKey: "k", ExpiresAt: &timestamppb.Timestamp{Seconds: 1_800_000_000}, Escalate: &pb.NotifyRequest_Escalate{AfterMs: 1000, Via: pb.NotifyRequest_Escalate_WEB_PUSH}},
		&pb.UpdateRequest{To: &pb.Audience{Segment: "all"}, Version: proto.Int32(0)},
		&pb.UpdateResponse{Results: []*pb.ChangeResult{{User: "ann", Changed: true}, {Segment: proto.String("org-7"), Code: code.Code_NOT_FOUND}}},
		&pb.PreferencesResponse{Mute: []string{"a"}, Pos: proto.String("p")},
		&pb.MarkResponse{Unknown: []string{"a"}, Pos: proto.String("p")},
	} {
		got, err := encodeJSON(nil, m.ProtoReflect())
		if err != nil {
			t.Fatal(err)
		}
		want, err := protojson.MarshalOptions{UseProtoNames: true, EmitUnpopulated: true}.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(value(t, got), value(t, dataAsValue(t, m, want))) {
			t.Errorf("got  %s\nwant %s", got, want)
		}
		if bytes.ContainsAny(got, "\n\t") {
			t.Errorf("white space in %s", got)
		}
	}
}

// dataAsValue puts null where protojson writes the empty bytes field of a request.
func dataAsValue(t *testing.T, m proto.Message, text []byte) []byte {
	t.Helper()
	if m.ProtoReflect().Descriptor().Fields().ByName("data") != nil {
		text = bytes.Replace(text, []byte(`"data":""`), []byte(`"data":null`), 1)
	}
	return text
}

func value(t *testing.T, text []byte) (v any) {
	t.Helper()
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return v
}

func TestTimesAndDataAreWrittenAsTheyStand(t *testing.T) {
	got, err := encodeJSON(nil, (&pb.Item{Id: "a", Time: &timestamppb.Timestamp{Seconds: 1_800_000_000, Nanos: 120_000_000}, Data: []byte(`{"b":1.0,"a":"<"}`)}).ProtoReflect())
	want := `{"id":"a","topic":"","pos":"","category":"","time":"2027-01-15T08:00:00.120Z","data":{"b":1.0,"a":"<"},"seen":false,"read":false,"archived":false}`
	if err != nil || string(got) != want {
		t.Errorf("got  %s, %v\nwant %s", got, err, want)
	}
}

func TestWhatIsRead(t *testing.T) {
	for _, c := range []struct {
		body string
		want proto.Message
	}{
		{`{}`, &pb.PublishRequest{}},
		{" \n{ }\t", &pb.PublishRequest{}},
		{`{"mode":"EPHEMERAL","data":{"a" : 1}}`, &pb.PublishRequest{Mode: 1, Data: []byte(`{"a" : 1}`)}},
		{`{"mode":1,"topics":[],"id":null}`, &pb.PublishRequest{Mode: 1}},
		{`{"mode":7}`, &pb.PublishRequest{Mode: 7}},
		{`{"x":1,"x":2,"topics":["a","b"]}`, &pb.PublishRequest{Topics: []string{"a", "b"}}},
		{`{"to":{"users":["a"],"later":{}}}`, &pb.NotifyRequest{To: &pb.Audience{Users: []string{"a"}}}},
		{`{"to":null}`, &pb.NotifyRequest{}},
		{`{"user":"a","all":true,"mark":"DELETE"}`, &pb.MarkRequest{User: "a", All: true, Mark: pb.MarkRequest_DELETE.Enum()}},
		{`{"expires_at":"2027-01-15T09:00:00.5+01:00","escalate":{"unless":"READ","after_ms":1000,"via":1}}`, &pb.NotifyRequest{ExpiresAt: &timestamppb.Timestamp{Seconds: 1_800_000_000, Nanos: 500_000_000},
			Escalate: &pb.NotifyRequest_Escalate{Unless: pb.NotifyRequest_Escalate_READ, AfterMs: 1000, Via: pb.NotifyRequest_Escalate_WEB_PUSH}}},
		{`{"version":0,"collapseKey":"k"}`, &pb.UpdateRequest{Version: proto.Int32(0), CollapseKey: "k"}},
		{`{"set":true,"mute":[]}`, &pb.PreferencesRequest{Set: true}},
		{`{"limit":5.0,"status":"ALL"}`, &pb.ListRequest{Limit: 5, Status: pb.ListRequest_ALL}},
	} {
		got := c.want.ProtoReflect().New().Interface()
		if err := decodeJSON([]byte(c.body), got.ProtoReflect(), ""); err != nil || !proto.Equal(got, c.want) {
			t.Errorf("%s: got %v, %v, want %v", c.body, got, err, c.want)
		}
	}
	for _, c := range []struct {
		body  string
		m     proto.Message
		field string
		want  string
	}{
		{``, &pb.PublishRequest{}, "body", "object"},
		{`[]`, &pb.PublishRequest{}, "body", "object"},
		{`null`, &pb.PublishRequest{}, "body", "object"},
		{`{}{}`, &pb.PublishRequest{}, "body", "object"},
		{`{"id":"a"`, &pb.PublishRequest{}, "body", "object"},
		{`{"id":"a",}`, &pb.PublishRequest{}, "body", "object"},
		{`{"data":{x}}`, &pb.PublishRequest{}, "body", "object"},
		{`{"data":1,"data":2}`, &pb.PublishRequest{}, "data", "one value"},
		{`{"id":"a","id":"b"}`, &pb.PublishRequest{}, "id", "one value"},
		{`{"id":7}`, &pb.PublishRequest{}, "id", "a string"},
		{`{"id":"` + "\xff" + `"}`, &pb.PublishRequest{}, "id", "UTF-8"},
		{`{"id":"\ud800"}`, &pb.PublishRequest{}, "id", "a string"},
		{`{"topics":"a"}`, &pb.PublishRequest{}, "topics", "a list"},
		{`{"topics":["a",7]}`, &pb.PublishRequest{}, "topics[1]", "a string"},
		{`{"topics":["a",null]}`, &pb.PublishRequest{}, "topics[1]", "a string"},
		{`{"topics":["a\\\"]",{"b":"\\\""}]}`, &pb.PublishRequest{}, "topics[1]", "a string"},
		{`{"topics":["\u00e9\ud83d\ude00", "\ufffd" ,"\udc00"]}`, &pb.PublishRequest{}, "topics[2]", "a string"},
		{`{"mode":"EPHEMERL"}`, &pb.PublishRequest{}, "mode", "one of EVENT, EPHEMERAL"},
		{`{"mode":"ephemeral"}`, &pb.PublishRequest{}, "mode", "one of EVENT, EPHEMERAL"},
		{`{"to":["a"]}`, &pb.NotifyRequest{}, "to", "object"},
		{`{"to":{"users":["a",{}]}}`, &pb.NotifyRequest{}, "to.users[1]", "a string"},
		{`{"to":{"users":["a"],"users":["b"]}}`, &pb.NotifyRequest{}, "to.users", "one value"},
		{`{"expires_at":1795406706}`, &pb.NotifyRequest{}, "expires_at", "a time such as 2026-11-23T04:05:06Z"},
		{`{"not_before":"tomorrow"}`, &pb.NotifyRequest{}, "not_before", "a time such as"},
		{`{"escalate":{"via":"SMS"}}`, &pb.NotifyRequest{}, "escalate.via", "one of WEBHOOK, WEB_PUSH"},
		{`{"escalate":5}`, &pb.NotifyRequest{}, "escalate", "object"},
		{`{"all":1}`, &pb.MarkRequest{}, "all", "true or false"},
		{`{"limit":1.5}`, &pb.ListRequest{}, "limit", "int32"},
		{`{"limit":3000000000}`, &pb.ListRequest{}, "limit", "int32"},
	} {
		err := decodeJSON([]byte(c.body), c.m.ProtoReflect(), "")
		var fe *notify.FieldError
		if !errors.As(err, &fe) || fe.Field != c.field || !strings.Contains(fe.Want, c.want) {
			t.Errorf("%s: got %v, want %s: %s", c.body, err, c.field, c.want)
		}
	}
}

// TestListsOfStringsAreReadLikeProtojson has it for each list that is made of these elements, on its own and among others.
func TestListsOfStringsAreReadLikeProtojson(t *testing.T) {
	elements := []string{`"a"`, `""`, `"\""`, `"\\\\"`, `"\\\\\""`, `"]"`, `","`, `"\u0000\ufffd"`, `"é한"`, `"�"`, `"\ud83d\ude00�"`, `"\ud800"`, `"\ude00\ud83d"`, `7`, `null`, `[]`, `{"a":"]"}`, `true`, `[["a"]]`}
	for _, one := range elements {
		for _, form := range []string{"[%s]", "[ %s\t]", `["x",%s]`, `[%s,"x"]`, "[ \"[\\\\\" ,\r\n%s , \"\\\"\" ]", "[]", "[ ]"} {
			list := form
			if strings.Contains(form, "%s") {
				list = strings.Replace(form, "%s", one, 1)
			}
			var got, want pb.PublishRequest
			err := decodeJSON([]byte(`{"topics":`+list+`}`), got.ProtoReflect(), "")
			wantErr := protojson.Unmarshal([]byte(`{"topics":`+list+`}`), &want)
			if (err == nil) != (wantErr == nil) || err == nil && !proto.Equal(&got, &want) {
				t.Errorf("%s: got %v, %v, want %v, %v", list, &got, err, &want, wantErr)
			}
		}
	}
}

// TestAWrongElementCostsNoMoreThanTheRest counts allocations, which do not depend on the machine: a million elements are read in
// one pass, wherever the wrong one is.
func TestAWrongElementCostsNoMoreThanTheRest(t *testing.T) {
	const n = 20_000
	list := strings.Repeat(`"a",`, n)
	for _, body := range []string{`{"topics":[` + list + `1]}`, `{"topics":[1,` + list + `1]}`} {
		allocs := testing.AllocsPerRun(1, func() {
			if decodeJSON([]byte(body), (&pb.PublishRequest{}).ProtoReflect(), "") == nil {
				t.Error("a number among the topics was accepted")
			}
		})
		if allocs > 2*n {
			t.Errorf("%.20s…: %v allocations for %d elements", body, allocs, n)
		}
	}
}

// FuzzJSON reads any body as any request: what is accepted comes out again as it went in, and says the same to the checks.
func FuzzJSON(f *testing.F) {
	f.Add([]byte(`{"id":"a","topics":["orders/1","user:42"],"data":{"a":[1,2.50,null]},"mode":"EPHEMERAL","event":"x","origin":"abcdefghijklmnop"}`))
	f.Add([]byte(`{"id":"n","to":{"users":["42"]},"category":"c","data":"é","x":{}}`))
	f.Add([]byte(`{"user":"42","status":"ALL","limit":5,"before":"x","mark":3,"ids":["a"],"upto":"abcdef.1","all":true}`))
	f.Add([]byte(`{"id":"n","collapse_key":"k","expires_at":"2027-01-15T08:00:00Z","not_before":"2027-01-15T07:00:00Z","escalate":{"via":"WEB_PUSH","after_ms":1000},"to":{"segment":"all"},"data":1,"version":3}`))
	f.Add([]byte(`{"user":"42","set":true,"mute":["a","b"]}`))
	f.Add([]byte(`{"data":"\ud800","to":{"users":[]},"to":{}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		for name, c := range calls {
			m, _ := c.new()
			err := decodeJSON(body, m.ProtoReflect(), "")
			var fe *notify.FieldError
			if err != nil {
				if !errors.As(err, &fe) || fe.Field == "" || fe.Want == "" {
					t.Fatalf("%s: %v", name, err)
				}
				continue
			}
			text, err := encodeJSON(nil, m.ProtoReflect())
			if err != nil || !json.Valid(text) {
				t.Fatalf("%s: %s, %v", name, text, err)
			}
			again, _ := c.new()
			if err := decodeJSON(text, again.ProtoReflect(), ""); err != nil {
				t.Fatalf("%s: %s: %v", name, text, err)
			}
			limits := Limits{}.withDefaults()
			switch m := m.(type) { // must not panic, and leaves only data that is one compact value
			case *pb.PublishRequest:
				if _, err := limits.checkPublish(m); err == nil && notify.CheckData(m.Data, limits.Data) != nil {
					t.Fatalf("accepted: %q", m.Data)
				}
			case *pb.NotifyRequest:
				if _, err := limits.checkNotify(m, &notify.Message{}, time.Now()); err == nil && notify.CheckData(m.Data, limits.Notification) != nil {
					t.Fatalf("accepted: %q", m.Data)
				}
			case *pb.ListRequest:
				_, _, _ = checkList(m)
			case *pb.MarkRequest:
				_, _, _ = limits.checkMark(m)
			case *pb.PreferencesRequest:
				if _, mute, err := checkPreferences(m); err == nil && (mute != nil) != m.Set {
					t.Fatalf("accepted: %v", m)
				}
			}
		}
	})
}
