package e2e

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/code"

	"allim/internal/testkit"
	pb "allim/proto/allim/v1"
	"allim/test/pods"
)

// A repeater sends messages on a stream and keeps those that have no reply.
type repeater struct {
	*testing.T
	mu   sync.Mutex // guards left
	left []*pb.PublishStreamRequest
}

// goOn sends what is left on a stream of a publisher, in order, until all has a reply or the stream ends.
func (r *repeater) goOn(p *pods.Pod) (answered int) {
	b := pods.NewBackend(r, p, "default")
	ctx, cancel := context.WithCancel(b.As(testkit.Context(r, 60*time.Second)))
	defer cancel()
	out, err := b.Publisher.PublishStream(ctx)
	if err != nil {
		return 0
	}
	all := r.left
	go func() {
		for _, m := range all {
			if out.Send(m) != nil {
				return // Recv says why
			}
		}
		_ = out.CloseSend()
	}()
	for {
		got, err := out.Recv()
		if err != nil {
			return answered
		}
		for _, reply := range got.Replies {
			if want := all[answered].GetPublish().GetId(); reply.Id != want || reply.Code != code.Code_OK {
				r.Errorf("reply %d: got %v, want OK of %s", answered, reply, want)
				return answered
			}
			answered++
		}
		r.mu.Lock()
		r.left = all[answered:]
		r.mu.Unlock()
	}
}

func (r *repeater) waiting() int { r.mu.Lock(); defer r.mu.Unlock(); return len(r.left) }

func TestAPublisherThatIsKilledInAStreamLosesAndDoublesNothing(t *testing.T) {
	t.Parallel()
	stage := pods.Start(t, pods.Options{Publishers: 2})
	user := pods.Connect(t, stage.Gateways[0], pods.Hello{Token: pods.Token(t, "ann", pods.Grant{Subscribe: []string{"long/*"}}), Topics: []string{"long/stream"}})
	user.Next("welcome")
	const n = 1500 // less than such a topic keeps
	r := &repeater{T: t}
	for i := range n {
		r.left = append(r.left, &pb.PublishStreamRequest{Call: &pb.PublishStreamRequest_Publish{Publish: &pb.PublishRequest{
			Id: fmt.Sprint("m", i), Topics: []string{"long/stream"}, Event: "e", Data: fmt.Append(nil, i)}}})
	}
	var first sync.WaitGroup
	first.Go(func() { r.goOn(stage.Publishers[0]) })
	testkit.Eventually(t, 30*time.Second, func() bool { return r.waiting() < n-50 }, "be in the middle of it")
	stage.Publishers[0].Kill()
	first.Wait()
	left := r.waiting()
	if left == 0 || left == n {
		t.Fatalf("%d of %d were left when it was killed", left, n)
	}
	if got := r.goOn(stage.Publishers[1]); got != left {
		t.Fatalf("%d of %d were answered by the other one", got, left)
	}
	for i := range n {
		if f := user.Next("message"); f.ID != fmt.Sprint("m", i) {
			t.Fatalf("message %d: heard %s", i, f.Raw)
		}
	}
}
