package inbox

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"allim/internal/testkit"
	allimv1 "allim/proto/allim/v1"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// A recorder is a publisher, behind real gRPC, that writes down what it is told and answers as the test says.
type recorder struct {
	allimv1.UnimplementedPublisherServer
	allimv1.UnimplementedInboxServer
	mu        sync.Mutex      // guards the fields below
	unseen    map[string]bool // ids of notifications; everything is, until a test says otherwise
	published []*allimv1.PublishRequest
	notified  []*allimv1.NotifyRequest
	muted     bool                 // what everybody has
	onPublish func(call int) error // call counts from 1; nil: it works
	onNotify  func(call int, req *allimv1.NotifyRequest) (*allimv1.NotifyResponse, error)
}

func (r *recorder) Publish(_ context.Context, req *allimv1.PublishRequest) (*allimv1.PublishResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.published = append(r.published, req)
	if r.onPublish != nil {
		if err := r.onPublish(len(r.published)); err != nil {
			return nil, err
		}
	}
	return &allimv1.PublishResponse{Id: req.Id}, nil
}

func (r *recorder) Notify(_ context.Context, req *allimv1.NotifyRequest) (*allimv1.NotifyResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.notified = append(r.notified, req)
	if r.onNotify != nil {
		return r.onNotify(len(r.notified), req)
	}
	reply := &allimv1.NotifyResponse{Id: req.Id}
	for _, user := range req.To.Users {
		reply.Results = append(reply.Results, &allimv1.NotifyResult{User: user, Muted: r.muted})
	}
	if r.unseen == nil {
		r.unseen = map[string]bool{}
	}
	r.unseen[req.Id] = true
	return reply, nil
}

// told returns what was heard so far.
func (r *recorder) told() ([]*allimv1.PublishRequest, []*allimv1.NotifyRequest) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.published, r.notified
}

// List lists what is unseen, to whomever it was sent.
func (r *recorder) List(_ context.Context, req *allimv1.ListRequest) (*allimv1.ListResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	page := &allimv1.ListResponse{}
	for id := range r.unseen {
		if req.Status == allimv1.ListRequest_UNSEEN && req.Category == question {
			page.Items = append(page.Items, &allimv1.Item{Id: id})
		}
	}
	return page, nil
}

// look is somebody's look at the bell.
func (r *recorder) look() {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.unseen)
}

func (r *recorder) client(t *testing.T) allimv1.PublisherClient {
	t.Helper()
	return allimv1.NewPublisherClient(r.serve(t))
}

// serve serves the recorder on a socket of its own until the test ends.
func (r *recorder) serve(t *testing.T) *grpc.ClientConn {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	allimv1.RegisterPublisherServer(server, r)
	allimv1.RegisterInboxServer(server, r)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	conn, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		server.Stop()
		if err := <-served; err != nil {
			t.Errorf("serve recorder: %v", err)
		}
	})
	return conn
}

var colleagues = []User{{ID: "ann", Name: "Ann", Token: "token-of-ann"}, {ID: "ben", Name: "Ben", Token: "token-of-ben"}, {ID: "cem", Name: "Cem", Token: "token-of-cem"}}

// A counter is the shop as a test visits it, over real HTTP.
type counter struct {
	t   *testing.T
	url string
	rec *recorder
	log *bytes.Buffer // read it only when no request is under way
}

func open(t *testing.T, change func(*Options)) *counter {
	t.Helper()
	c := &counter{t: t, rec: &recorder{}, log: &bytes.Buffer{}}
	conn := c.rec.serve(t)
	opts := Options{Publisher: allimv1.NewPublisherClient(conn), Inbox: allimv1.NewInboxClient(conn), HookSecret: hookSecret, Users: colleagues, Log: slog.New(slog.NewTextHandler(c.log, nil))}
	if change != nil {
		change(&opts)
	}
	h, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- h.Run(ctx) }()
	server := httptest.NewServer(h)
	t.Cleanup(func() {
		server.Close()
		stop()
		if err := <-ended; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	c.url = server.URL
	return c
}

// do sends a request with header lines "Name: value" and returns the answer with its body.
func (c *counter) do(method, path, body string, header ...string) (*http.Response, string) {
	c.t.Helper()
	req, err := http.NewRequestWithContext(c.t.Context(), method, c.url+path, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	for _, line := range header {
		name, value, _ := strings.Cut(line, ": ")
		if name == "Host" {
			req.Host = value
		} else {
			req.Header.Set(name, value)
		}
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return res, string(answer)
}

// A reply has the fields of every answer of the API.
type reply struct {
	Order       order
	Orders      []order
	Version     int64
	Warning     string
	Code        string
	Message     string
	Token       string
	Gateway     string
	Topic       string
	Muted       bool
	Calls       string
	CallAfterMS int64 `json:"call_after_ms"`
	User        colleague
	Users       []colleague
}

// post sends JSON as the page does and wants this status.
func (c *counter) post(status int, path, body string) reply {
	c.t.Helper()
	res, answer := c.do("POST", path, body, "Content-Type: application/json", "Sec-Fetch-Site: same-origin", "Origin: "+c.url)
	return c.decode(status, res, answer)
}

func (c *counter) get(status int, path string) reply {
	c.t.Helper()
	res, answer := c.do("GET", path, "")
	return c.decode(status, res, answer)
}

func (c *counter) decode(status int, res *http.Response, answer string) (r reply) {
	c.t.Helper()
	if res.StatusCode != status {
		c.t.Fatalf("%s %s: got %s %s, want %d", res.Request.Method, res.Request.URL.Path, res.Status, answer, status)
	}
	if err := json.Unmarshal([]byte(answer), &r); err != nil {
		c.t.Fatalf("%s: %v in %q", res.Request.URL.Path, err, answer)
	}
	return r
}

// wantNothingTold fails when the publisher heard anything.
func (c *counter) wantNothingTold() {
	c.t.Helper()
	if published, notified := c.rec.told(); len(published)+len(notified) != 0 {
		c.t.Errorf("got %d publications and %d notifications, want none", len(published), len(notified))
	}
}
