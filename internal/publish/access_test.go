package publish

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	reflectpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"allim/internal/testkit"
	"allim/pkg/auth"
	"allim/pkg/notify"
	pb "allim/proto/allim/v1"
)

// good is a request of each call that every right is enough for.
func good(call string) proto.Message {
	return map[string]proto.Message{
		"Publish":     &pb.PublishRequest{Topics: []string{"feed"}, Data: []byte("1")},
		"Notify":      &pb.NotifyRequest{Id: "n", To: &pb.Audience{Users: []string{"ann"}}, Data: []byte("1")},
		"Update":      &pb.UpdateRequest{Id: "u", To: &pb.Audience{Users: []string{"ann"}}, Data: []byte("2")},
		"Retract":     &pb.RetractRequest{Id: "n", To: &pb.Audience{Users: []string{"ann"}}},
		"Preferences": &pb.PreferencesRequest{User: "ann", Set: true, Mute: []string{"noise"}},
		"List":        &pb.ListRequest{User: "ann"},
		"Counts":      &pb.CountsRequest{User: "ann"},
		"Mark":        &pb.MarkRequest{User: "ann", Mark: pb.MarkRequest_SEEN.Enum(), All: true},
	}[call]
}

func TestEveryCallNeedsItsRight(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	if _, err := b.publisher().Notify(b.as("all"), &pb.NotifyRequest{Id: "u", To: &pb.Audience{Users: []string{"ann"}}, Data: []byte("1")}); err != nil { // for Update
		t.Fatal(err)
	}
	for call, c := range calls {
		for credential, want := range map[string]codes.Code{"none": codes.Unauthenticated, "wrong": codes.Unauthenticated, "orders": codes.PermissionDenied, "all": codes.OK} {
			_, reply := c.new()
			err := b.conn.Invoke(b.as(credential), c.method, good(call), reply)
			if status.Code(err) != want {
				t.Errorf("%s as %s: got %v, want %v", call, credential, err, want)
			}
			body, jsonErr := encodeJSON(nil, good(call).ProtoReflect())
			if jsonErr != nil {
				t.Fatal(jsonErr)
			}
			code, header, text := b.post(c.path, credential, string(body))
			if wantCode := httpStatus[want]; code != wantCode && !(want == codes.OK && code == http.StatusOK) {
				t.Errorf("%s over HTTP as %s: got %d %s", call, credential, code, text)
			}
			if (code == http.StatusUnauthorized) != (header.Get("WWW-Authenticate") == "Bearer") {
				t.Errorf("%s over HTTP as %s: %d with WWW-Authenticate %q", call, credential, code, header.Get("WWW-Authenticate"))
			}
		}
	}
}

func TestNothingIsAllowedThatAuthorizeDoesNotKnow(t *testing.T) {
	t.Parallel()
	p, err := services(t).Authenticate(strings.TrimPrefix(credentials["all"], "Bearer "))
	if err != nil {
		t.Fatal(err)
	}
	if authorize(p, toPublish, "a", "topics[0]") != nil || authorize(p, toNotify, "a", "user") != nil || authorize(p, toInbox, "a", "user") != nil || authorize(p, toNotifySegment, "a", "to.segment") != nil || authorize(p, toEvents, "", "group") != nil {
		t.Error("a right that is there is not seen")
	}
	for a := range action(10) {
		if authorize(nil, a, "a", "x") == nil || authorize(&auth.Principal{}, a, "a", "x") == nil || a > toEvents && authorize(p, a, "a", "x") == nil || a == 0 && authorize(p, a, "a", "x") == nil {
			t.Errorf("action %d is allowed", a)
		}
	}
}

func TestCredentialsInOtherFormsAreRefused(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	key := strings.TrimPrefix(credentials["all"], "Bearer ")
	for _, c := range []struct {
		values []string
		want   codes.Code
	}{
		{[]string{"bearer " + key}, codes.OK},
		{[]string{key}, codes.Unauthenticated},
		{[]string{"Basic " + key}, codes.Unauthenticated},
		{[]string{"Bearer "}, codes.Unauthenticated},
		{[]string{"Bearer " + key, "Bearer " + key}, codes.Unauthenticated},
		{[]string{"Bearer " + strings.Repeat("x", 5000)}, codes.Unauthenticated},
	} {
		ctx := testkit.Context(t, 5*time.Second)
		for _, v := range c.values {
			ctx = metadata.AppendToOutgoingContext(ctx, "authorization", v)
		}
		_, err := b.publisher().Publish(ctx, &pb.PublishRequest{Topics: []string{"a"}, Data: []byte("1")})
		if status.Code(err) != c.want {
			t.Errorf("%.60q: got %v, want %v", c.values, err, c.want)
		}
	}
	if strings.Contains(b.log.String(), key) {
		t.Error("the log holds a credential")
	}
}

func TestAServiceTokenIsACredential(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for aud, want := range map[string]codes.Code{auth.PublisherAudience: codes.OK, "web": codes.Unauthenticated} {
		token, err := auth.Sign(auth.SigningKey{Algorithm: "HS256", Secret: tokenSecret}, map[string]any{"sub": "shop", "aud": aud,
			"exp": time.Now().Add(time.Hour).Unix(), "allim": map[string]any{"allow": []string{"publish:orders/*"}}})
		if err != nil {
			t.Fatal(err)
		}
		ctx := metadata.AppendToOutgoingContext(testkit.Context(t, 5*time.Second), "authorization", "Bearer "+token)
		if _, err = b.publisher().Publish(ctx, &pb.PublishRequest{Topics: []string{"orders/1"}, Data: []byte("1")}); status.Code(err) != want {
			t.Errorf("aud %s: got %v, want %v", aud, err, want)
		}
	}
}

func TestATenantSeesItsOwnOnly(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	if _, err := b.publisher().Notify(b.as("all"), &pb.NotifyRequest{Id: "n", To: &pb.Audience{Users: []string{"ann"}}, Data: []byte("1")}); err != nil {
		t.Fatal(err)
	}
	for credential, want := range map[string]int32{"all": 1, "acme": 0} {
		got, err := b.inbox().Counts(b.as(credential), &pb.CountsRequest{User: "ann"})
		if err != nil || got.Badge.Unread != want {
			t.Errorf("%s: got %v, %v, want %d", credential, got, err, want)
		}
	}
	m, err := b.inbox().Mark(b.as("acme"), &pb.MarkRequest{User: "ann", Mark: pb.MarkRequest_DELETE.Enum(), All: true})
	if err != nil || m.Changed != 0 {
		t.Errorf("another tenant's mark: got %v, %v", m, err)
	}
}

func TestACallThatIsForbiddenInOnePartWritesNothing(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	_, err := b.publisher().Publish(b.as("orders"), &pb.PublishRequest{Topics: []string{"orders/1", "feed"}, Data: []byte("1")})
	if status.Code(err) != codes.PermissionDenied {
		t.Errorf("got %v", err)
	}
	if n := b.rdb.Exists(b.as("all"), b.keys.Event(notify.Stream{Tenant: "default", Topic: "orders/1"}).Events).Val(); n != 0 {
		t.Error("the allowed part was written")
	}
}

func TestHealthAndReflectionNeedNoCredential(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	ctx := b.as("none")
	for _, service := range []string{"", "allim.v1.Publisher", "allim.v1.Inbox"} {
		got, err := healthpb.NewHealthClient(b.conn).Check(ctx, &healthpb.HealthCheckRequest{Service: service})
		if err != nil || got.Status != healthpb.HealthCheckResponse_SERVING {
			t.Errorf("health of %q: got %v, %v", service, got, err)
		}
	}
	s, err := reflectpb.NewServerReflectionClient(b.conn).ServerReflectionInfo(ctx)
	if err != nil {
		t.Fatal(err)
	}
	ask := &reflectpb.ServerReflectionRequest{MessageRequest: &reflectpb.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: "allim.v1.Publisher"}}
	if err := s.Send(ask); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Recv(); err != nil || len(got.GetFileDescriptorResponse().GetFileDescriptorProto()) == 0 {
		t.Errorf("reflection: got %v, %v", got, err)
	}
	if err := s.CloseSend(); err != nil {
		t.Fatal(err)
	}
}

func TestReflectionCanBeOff(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(o *Options) { o.NoReflection = true })
	s, err := reflectpb.NewServerReflectionClient(b.conn).ServerReflectionInfo(b.as("all"))
	if err == nil {
		_, err = s.Recv()
	}
	if status.Code(err) != codes.Unimplemented {
		t.Errorf("got %v", err)
	}
}

func TestOnlyTheCallsOfTheHTTPFormAreServed(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	body := `{"topics":["a"],"data":1}`
	for _, c := range []struct {
		method, path, contentType string
		want                      int
	}{
		{http.MethodPost, "/v1/publish", "application/json", 200},
		{http.MethodPost, "/v1/publish", "application/json; charset=UTF-8", 200},
		{http.MethodPost, "/v1/publish", "application/json; charset=latin1", 415},
		{http.MethodPost, "/v1/publish", "text/plain", 415},
		{http.MethodPost, "/v1/publish", "", 415},
		{http.MethodPost, "/v1/publish/", "application/json", 404},
		{http.MethodPost, "//v1/publish", "application/json", 404},
		{http.MethodPost, "/", "application/json", 404},
		{http.MethodGet, "/v1/publish", "application/json", 405},
		{http.MethodPut, "/v1/inbox/mark", "application/json", 405},
	} {
		r, err := http.NewRequestWithContext(context.Background(), c.method, b.url+c.path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if c.contentType != "" {
			r.Header.Set("Content-Type", c.contentType)
		}
		r.Header.Set("Authorization", credentials["all"])
		code, header, text := b.do(r)
		if code != c.want || code != 200 && header.Get("Content-Type") != "application/problem+json" || header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s %s %q: got %d %s %v", c.method, c.path, c.contentType, code, text, header)
		}
		if (code == 405) != (header.Get("Allow") == "POST") {
			t.Errorf("%s %s: Allow %q", c.method, c.path, header.Get("Allow"))
		}
	}
}
