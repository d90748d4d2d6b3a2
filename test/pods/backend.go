package pods

import (
	"context"
	"fmt"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"allim/internal/testkit"
	pb "allim/proto/allim/v1"
)

// A Backend calls a publisher by gRPC for one tenant. Its connection is closed when the test ends.
type Backend struct {
	Publisher pb.PublisherClient
	Inbox     pb.InboxClient
	Events    pb.EventsClient

	tb    testing.TB
	token string
}

// NewBackend is the backend of a tenant, with its API key.
func NewBackend(t testing.TB, p *Pod, tenant string) *Backend {
	t.Helper()
	return newBackend(t, p, APIKey(tenant))
}

// BackendWith is a backend with a credential of its own; "" is none.
func BackendWith(t testing.TB, p *Pod, token string) *Backend {
	t.Helper()
	return newBackend(t, p, token)
}

func newBackend(t testing.TB, p *Pod, token string) *Backend {
	t.Helper()
	conn, err := grpc.NewClient(p.Addr("grpc"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &Backend{Publisher: pb.NewPublisherClient(conn), Inbox: pb.NewInboxClient(conn), Events: pb.NewEventsClient(conn), tb: t, token: token}
}

// Call is the context of one call: the credential and a deadline.
func (b *Backend) Call() context.Context {
	b.tb.Helper()
	return b.As(testkit.Context(b.tb, Within))
}

// As is ctx with the backend's credential.
func (b *Backend) As(ctx context.Context) context.Context {
	if b.token == "" {
		return ctx
	}
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+b.token)
}

// Publish publishes an event on a topic and is its position.
func (b *Backend) Publish(topic, id, data string) string {
	b.tb.Helper()
	r, err := b.Publisher.Publish(b.Call(), &pb.PublishRequest{Id: id, Topics: []string{topic}, Event: "e", Data: []byte(data)})
	if err != nil {
		b.tb.Fatalf("publish %s on %s: %v", id, topic, err)
	}
	return r.Results[0].Pos
}

// Notify notifies a user and is the notification's position.
func (b *Backend) Notify(user, id, category, data string) string {
	b.tb.Helper()
	r, err := b.Publisher.Notify(b.Call(), &pb.NotifyRequest{Id: id, To: &pb.Audience{Users: []string{user}}, Category: category, Data: []byte(data)})
	if err == nil && r.Results[0].Code != 0 {
		err = fmt.Errorf("%v %s", r.Results[0].Code, r.Results[0].GetMessage())
	}
	if err != nil {
		b.tb.Fatalf("notify %s of %s: %v", user, id, err)
	}
	return r.Results[0].Pos
}

// List is a user's whole inbox of that status, newest first, pulled page by page.
func (b *Backend) List(user string, status pb.ListRequest_Status) (items []*pb.Item) {
	b.tb.Helper()
	for before := ""; ; {
		r, err := b.Inbox.List(b.Call(), &pb.ListRequest{User: user, Status: status, Limit: 37, Before: before})
		if err != nil {
			b.tb.Fatalf("list inbox of %s: %v", user, err)
		}
		items = append(items, r.Items...)
		if before = r.GetBefore(); before == "" {
			return items
		}
	}
}

// Counts is a user's badge.
func (b *Backend) Counts(user string) *pb.Badge {
	b.tb.Helper()
	r, err := b.Inbox.Counts(b.Call(), &pb.CountsRequest{User: user})
	if err != nil {
		b.tb.Fatalf("count inbox of %s: %v", user, err)
	}
	return r.Badge
}
