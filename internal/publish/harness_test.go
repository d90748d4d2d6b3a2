package publish

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"allim/internal/keyspace"
	"allim/internal/store"
	"allim/internal/testkit"
	"allim/pkg/auth"
	pb "allim/proto/allim/v1"
)

func TestMain(m *testing.M) {
	redis.SetLogger(silent{}) // what it would say of a Redis that a test took away
	testkit.Main(m)
}

type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}

// The credentials of the tests and vectors, by name.
var credentials = map[string]string{
	"all":    "Bearer all-rights-0123456789-0123456789-01",
	"orders": "Bearer orders-only-0123456789-0123456789",
	"ann":    "Bearer anns-alone-0123456789-0123456789-0",
	"acme":   "Bearer another-tenant-0123456789-0123456",
	"wrong":  "Bearer no-such-key-0123456789-0123456789",
}

var tokenSecret = []byte("0123456789abcdef0123456789abcdef")

// A bench is a whole publisher on loopback with a Redis of its own.
type bench struct {
	*testing.T
	srv   *Server
	redis *testkit.RedisServer
	rdb   *redis.Client // may do all
	keys  *keyspace.Map
	conn  *grpc.ClientConn
	url   string
	log   *lines
}

// lines is a log that tests can read.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) { l.mu.Lock(); defer l.mu.Unlock(); return l.b.Write(p) }
func (l *lines) String() string              { l.mu.Lock(); defer l.mu.Unlock(); return l.b.String() }

func services(t testing.TB) *auth.Services {
	t.Helper()
	keys, err := auth.NewKeys([]auth.Key{{Algorithm: "HS256", Secret: tokenSecret}})
	if err != nil {
		t.Fatal(err)
	}
	key := func(name string) string { return strings.TrimPrefix(credentials[name], "Bearer ") }
	everything := []string{"publish:*", "notify:*", "inbox", "events"}
	s, err := auth.NewServices(auth.Options{Keys: keys}, []auth.APIKey{
		{ID: "all", Key: key("all"), Allow: everything},
		{ID: "orders", Key: key("orders"), Allow: []string{"publish:orders/*"}},
		{ID: "ann", Key: key("ann"), Allow: []string{"notify:user:ann"}},
		{ID: "acme", Key: key("acme"), Tenant: "acme", Allow: everything},
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func newBench(t *testing.T, change ...func(*Options)) *bench {
	t.Helper()
	return newBenchOn(t, testkit.Redis(t), store.Options{}, change...)
}

// newBenchOn is newBench with a Redis and a store of one's own.
func newBenchOn(t *testing.T, srv *testkit.RedisServer, so store.Options, change ...func(*Options)) *bench {
	t.Helper()
	b := &bench{T: t, redis: srv, log: &lines{}}
	b.rdb = b.redis.Client()
	rdb, err := store.Connect(store.Connection{URL: b.redis.As("publisher")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = rdb.Close() })
	if b.keys, err = keyspace.NewMap(0); err != nil {
		t.Fatal(err)
	}
	so.Redis, so.Keys = rdb, b.keys
	st, err := store.New(so)
	if err != nil {
		t.Fatal(err)
	}
	if err := st.Open(testkit.Context(t, 10*time.Second)); err != nil {
		t.Fatal(err)
	}
	o := Options{Store: st, Services: services(t), Log: slog.New(slog.NewTextHandler(b.log, nil))}
	for _, c := range change {
		c(&o)
	}
	if b.srv, err = New(o); err != nil {
		t.Fatal(err)
	}
	b.serve()
	return b
}

// serve runs both ports until the test ends.
func (b *bench) serve() {
	b.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	rpc, web := listen(b), listen(b)
	var wg sync.WaitGroup
	for _, part := range []func() error{
		func() error { return b.srv.RunGRPC(ctx, rpc) },
		func() error { return b.srv.RunHTTP(ctx, web) },
	} {
		wg.Go(func() {
			if err := part(); err != nil {
				b.Errorf("run: %v", err)
			}
		})
	}
	b.Cleanup(func() { cancel(); wg.Wait() })
	b.url = "http://" + web.Addr().String()
	b.conn = dial(b, rpc.Addr().String())
}

func listen(t testing.TB) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func dial(t testing.TB, addr string, o ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(addr, append(o, grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// as is a context with a credential and a deadline of 10 s.
func (b *bench) as(name string) context.Context {
	return b.asWithin(name, 10*time.Second)
}

func (b *bench) asWithin(name string, d time.Duration) context.Context {
	ctx := testkit.Context(b, d)
	if c := credentials[name]; c != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", c)
	}
	return ctx
}

func (b *bench) publisher() pb.PublisherClient { return pb.NewPublisherClient(b.conn) }
func (b *bench) inbox() pb.InboxClient         { return pb.NewInboxClient(b.conn) }

// post makes a call in the HTTP form.
func (b *bench) post(path, credential, body string, header ...string) (int, http.Header, string) {
	b.Helper()
	r, err := http.NewRequestWithContext(testkit.Context(b, 20*time.Second), http.MethodPost, b.url+path, strings.NewReader(body))
	if err != nil {
		b.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	if c := credentials[credential]; c != "" {
		r.Header.Set("Authorization", c)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	return b.do(r)
}

func (b *bench) do(r *http.Request) (int, http.Header, string) {
	b.Helper()
	w, err := http.DefaultClient.Do(r)
	if err != nil {
		b.Fatal(err)
	}
	defer w.Body.Close()
	text, err := io.ReadAll(w.Body)
	if err != nil {
		b.Fatal(err)
	}
	line, ended := strings.CutSuffix(string(text), "\n") // an answer is a line
	if !ended && len(text) > 0 {
		b.Errorf("an answer without a line's end: %s", text)
	}
	return w.StatusCode, w.Header, line
}

// details are those of a call's error, by type.
func detail[T any](err error) (d T) {
	for _, any := range status.Convert(err).Details() {
		if v, ok := any.(T); ok {
			return v
		}
	}
	return d
}
