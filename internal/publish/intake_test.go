package publish

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	reflectpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	"allim/internal/testkit"
	"allim/pkg/notify"
	pb "allim/proto/allim/v1"
)

const checkMethod = "/grpc.health.v1.Health/Check"

// begin makes a call of which the server has the headers and nothing else.
func (b *bench) begin(ctx context.Context, method string) grpc.ClientStream {
	b.Helper()
	s, err := b.conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true}, method)
	if err != nil {
		b.Fatal(err)
	}
	return s
}

// half makes a call whose message the server has, but not its end: it waits for more.
func (b *bench) half(ctx context.Context, method string, message any) grpc.ClientStream {
	b.Helper()
	s := b.begin(ctx, method)
	if err := s.SendMsg(message); err != nil {
		b.Fatal(err)
	}
	return s
}

func (i *intake) counts() (reading, waiting int) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.reading.used, i.waiting.used
}

func wantCounts(t *testing.T, i *intake, reading, waiting int) {
	t.Helper()
	testkit.Eventually(t, 5*time.Second, func() bool { r, w := i.counts(); return r == reading && w == waiting },
		fmt.Sprintf("read %d requests with %d waiting", reading, waiting))
}

func TestAStrangerIsRefusedBeforeTheRequestIsRead(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for call, c := range calls {
		for _, credential := range []string{"none", "wrong"} {
			_, reply := c.new()
			if err := b.begin(b.asWithin(credential, 5*time.Second), c.method).RecvMsg(reply); status.Code(err) != codes.Unauthenticated {
				t.Errorf("%s as %s: got %v", call, credential, err)
			}
			if code := b.bodyless(c.path, credentials[credential]); code != http.StatusUnauthorized {
				t.Errorf("%s over HTTP as %s: got %d", call, credential, code)
			}
		}
	}
}

// bodyless is the answer to the headers of a call with a large body.
func (b *bench) bodyless(path, authorization string) int {
	b.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(b.url, "http://"))
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		b.Fatal(err)
	}
	if authorization != "" {
		authorization = "Authorization: " + authorization + "\r\n"
	}
	_, err = fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n%sContent-Length: %d\r\n\r\n", path, authorization, DefaultRequest)
	if err != nil {
		b.Fatal(err)
	}
	r, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		b.Errorf("POST %s: no answer to the headers: %v", path, err)
		return 0
	}
	defer r.Body.Close()
	return r.StatusCode
}

func TestARequestThatDoesNotEndIsCutOff(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.srv.intake.within, b.srv.opening.within = 100*time.Millisecond, 100*time.Millisecond
	for method, c := range map[string]struct {
		message, reply any
		credential     string
	}{
		calls["Publish"].method:        {good("Publish"), &pb.PublishResponse{}, "all"},
		checkMethod:                    {&healthpb.HealthCheckRequest{}, &healthpb.HealthCheckResponse{}, "none"},
		"/grpc.health.v1.Health/Watch": {&healthpb.HealthCheckRequest{}, &healthpb.HealthCheckResponse{}, "none"},
		"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo": {
			&reflectpb.ServerReflectionRequest{MessageRequest: &reflectpb.ServerReflectionRequest_ListServices{}}, &reflectpb.ServerReflectionResponse{}, "none"},
	} {
		s := b.half(b.as(c.credential), method, c.message)
		var err error
		for err == nil { // reflection answers first
			err = s.RecvMsg(c.reply)
		}
		if status.Code(err) != codes.Canceled {
			t.Errorf("%s: got %v", method, err)
		}
	}
	wantCounts(t, b.srv.intake, 0, 0)
	wantCounts(t, b.srv.opening, 0, 0)
	if _, err := b.publisher().Publish(b.as("all"), good("Publish").(*pb.PublishRequest)); err != nil {
		t.Errorf("a call after that: %v", err)
	}
}

func TestSlowRequestsHoldABoundAndLeaveRoomForOthers(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	b := newBench(t, func(o *Options) { o.Receiving = 4; o.Metrics = NewMetrics(registry) })
	slow := make([]grpc.ClientStream, 6)
	for i := range slow {
		slow[i] = b.half(b.as("all"), calls["Publish"].method, good("Publish"))
	}
	wantCounts(t, b.srv.intake, 2, 4)
	if got := metric(t, registry, "allim_publisher_receiving_calls", "credential"); got != 2 {
		t.Errorf("receiving_calls: got %v, want 2", got)
	}
	body, writer := io.Pipe() // HTTP counts with the rest
	r, err := http.NewRequestWithContext(b.as("all"), http.MethodPost, b.url+"/v1/publish", body)
	if err != nil {
		t.Fatal(err)
	}
	r.Header = http.Header{"Content-Type": {"application/json"}, "Authorization": {credentials["all"]}}
	answered := make(chan int, 1)
	go func() {
		code := 0
		if w, err := http.DefaultClient.Do(r); err == nil {
			_ = w.Body.Close()
			code = w.StatusCode
		}
		answered <- code
	}()
	wantCounts(t, b.srv.intake, 2, 5)
	if _, err := b.publisher().Publish(b.as("acme"), good("Publish").(*pb.PublishRequest)); err != nil {
		t.Errorf("another caller's call: %v", err)
	}
	for _, s := range slow { // which of them are being read, only the server knows
		if err := s.CloseSend(); err != nil {
			t.Fatal(err)
		}
	}
	for i, s := range slow { // once some end, those that waited are read
		if err := s.RecvMsg(&pb.PublishResponse{}); err != nil {
			t.Errorf("slow call %d: %v", i, err)
		}
	}
	wantCounts(t, b.srv.intake, 1, 0)
	if _, err := fmt.Fprint(writer, `{"topics":["a"],"data":1}`); err != nil {
		t.Fatal(err)
	}
	_ = writer.Close()
	if got := testkit.Receive(t, 5*time.Second, answered, "the answer over HTTP"); got != http.StatusOK {
		t.Errorf("over HTTP: got %d", got)
	}
	wantCounts(t, b.srv.intake, 0, 0)
}

func TestPlacesAreShared(t *testing.T) {
	t.Parallel()
	ctx := testkit.Context(t, 10*time.Second)
	i := newIntake(4, 4, NewMetrics(nil).receiving.WithLabelValues("x"))
	for n, sender := range []string{"a", "a", "b"} { // a may take half, then b half of the rest
		if err := i.enter(ctx, sender); err != nil {
			t.Fatalf("place %d: %v", n, err)
		}
	}
	entered := make(chan string, 8)
	wait := func(ctx context.Context, sender string) {
		go func() {
			if err := i.enter(ctx, sender); err != nil {
				sender = err.Error()
			}
			entered <- sender
		}()
	}
	impatient, cancel := context.WithCancel(ctx)
	wait(impatient, "a")
	wantCounts(t, i, 3, 1)
	wait(ctx, "a")
	wantCounts(t, i, 3, 2)
	wait(ctx, "b")
	wantCounts(t, i, 3, 3)
	var again *notify.RetryError
	if err := i.enter(ctx, "a"); !errors.As(err, &again) || !errors.Is(err, notify.ErrBusy) || again.After <= 0 {
		t.Errorf("a third of a's in the queue: got %v", err)
	}
	cancel()
	if got := testkit.Receive(t, 5*time.Second, entered, "the end of the impatient"); !strings.Contains(got, notify.ErrBusy.Error()) {
		t.Errorf("got %s", got)
	}
	wantCounts(t, i, 3, 2)
	i.leave("a")
	if got := testkit.Receive(t, 5*time.Second, entered, "a's turn"); got != "a" {
		t.Errorf("got %s, want a", got)
	}
	wantCounts(t, i, 3, 1)
	i.leave("b")
	if got := testkit.Receive(t, 5*time.Second, entered, "b's turn"); got != "b" {
		t.Errorf("got %s, want b", got)
	}
	for _, sender := range []string{"a", "a", "b"} {
		i.leave(sender)
	}
	if wantCounts(t, i, 0, 0); len(i.reading.of)+len(i.waiting.of)+len(i.queue) != 0 {
		t.Errorf("senders are remembered: %v, %v", i.reading.of, i.waiting.of)
	}
}

func TestConnectionsBeyondTheBoundAreClosed(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	b := newBench(t, func(o *Options) { o.Connections = 1; o.Metrics = NewMetrics(registry) })
	for port, addr := range map[string]string{"grpc": b.conn.Target(), "http": strings.TrimPrefix(b.url, "http://")} {
		connect := func() net.Conn {
			c, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = c.Close() })
			return c
		}
		first := connect()
		testkit.Eventually(t, 5*time.Second, func() bool { return metric(t, registry, "allim_publisher_connections", port) == 1 }, "have a connection")
		second := connect()
		if err := second.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
			t.Fatal(err)
		}
		_, err := second.Read(make([]byte, 1))
		if refused := metric(t, registry, "allim_publisher_refused_connections_total", port); err == nil || errors.Is(err, os.ErrDeadlineExceeded) || refused != 1 {
			t.Errorf("%s: a second connection: got %v with %v refused", port, err, refused)
		}
		_ = first.Close()
		testkit.Eventually(t, 5*time.Second, func() bool { return metric(t, registry, "allim_publisher_connections", port) == 0 }, "count no connection")
	}
	if _, err := b.publisher().Publish(b.as("all"), good("Publish").(*pb.PublishRequest), grpc.WaitForReady(true)); err != nil {
		t.Errorf("a call when there is room again: %v", err)
	}
}

func TestARequestThatIsNoneIsTheCallersFault(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	b := newBench(t, func(o *Options) { o.Metrics = NewMetrics(registry) })
	// A field of another type: wire type 5 where a string is.
	err := b.conn.Invoke(b.as("all"), calls["Publish"].method, []byte{0x0d, 1, 2}, &pb.PublishResponse{}, grpc.ForceCodec(rawRequests{}))
	if status.Code(err) != codes.Internal { // gRPC's own answer
		t.Errorf("got %v", err)
	}
	// gRPC answers before the call ends.
	testkit.Eventually(t, 5*time.Second, func() bool { return metric(t, registry, "allim_publisher_calls_total", "INTERNAL") == 1 }, "count the call")
	if strings.Contains(b.log.String(), "level=ERROR") {
		t.Errorf("logged %s", b.log)
	}
}

// rawRequests sends bytes as they are.
type rawRequests struct{}

func (rawRequests) Marshal(v any) ([]byte, error) { return v.([]byte), nil }
func (rawRequests) Unmarshal([]byte, any) error   { return nil }
func (rawRequests) Name() string                  { return "proto" }

func TestAServiceWithoutARuleIsRefused(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	strange := healthpb.Health_ServiceDesc
	strange.ServiceName = "strange.Service"
	past := strange
	past.ServiceName = "past.Register"
	g := grpc.NewServer(b.srv.ServerOptions()...)
	b.srv.register(g, &strange, b.srv.health)
	g.RegisterService(&past, b.srv.health)
	l := listen(t)
	served := make(chan error, 1)
	go func() { served <- g.Serve(l) }()
	defer func() {
		g.Stop()
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
	}()
	conn := dial(t, l.Addr().String())
	for _, name := range []string{strange.ServiceName, past.ServiceName} {
		for _, method := range []string{"Check", "Watch"} {
			s, err := conn.NewStream(b.as("all"), &grpc.StreamDesc{ServerStreams: true}, "/"+name+"/"+method)
			if err != nil {
				t.Fatal(err)
			}
			err = errors.Join(s.SendMsg(&healthpb.HealthCheckRequest{}), s.CloseSend())
			if got := s.RecvMsg(&healthpb.HealthCheckResponse{}); err != nil || status.Code(got) != codes.PermissionDenied {
				t.Errorf("%s/%s: got %v, %v", name, method, err, got)
			}
		}
	}
}
