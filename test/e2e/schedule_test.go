package e2e

import (
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"allim/internal/testkit"
	pb "allim/proto/allim/v1"
	"allim/test/pods"
)

func at(t time.Time) *timestamppb.Timestamp { return timestamppb.New(t) }

// retracted takes a notification of a user back.
func retracted(t *testing.T, b *pods.Backend, user string, r *pb.RetractRequest) {
	t.Helper()
	r.To = &pb.Audience{Users: []string{user}}
	if reply, err := b.Publisher.Retract(b.Call(), r); err != nil || reply.Results[0].Code != 0 || !reply.Results[0].Changed {
		t.Fatalf("retract %v: got %v, %v", r, reply, err)
	}
}

// inboxOf are the ids of a user's whole inbox, newest first.
func inboxOf(b *pods.Backend, user string) (ids []string) {
	for _, item := range b.List(user, pb.ListRequest_ALL) {
		ids = append(ids, item.Id)
	}
	return ids
}

// What waits for its time waits in Redis: a Redis that crashes and comes back with its append file, and a publisher that is killed for good, change nothing about
// what comes and what was cancelled, by its id or its collapse key, before and after. Who else is told of it is told so long after it came.
func TestWhatWaitsForItsTimeComesThoughEverythingIsRestarted(t *testing.T) {
	t.Parallel()
	h := newHook(t, func(http.ResponseWriter, *http.Request, int, told) {})
	stage := pods.Start(t, pods.Options{Redis: testkit.Redis(t, "--appendonly", "yes", "--appendfsync", "always"), Settings: "webhooks: [" + h.as("default", "") + "]\n"})
	b := pods.NewBackend(t, stage.Publishers[0], "default")
	pods.NewBackend(t, stage.Publishers[0], "default").Notify("ann", "n0", "", "0")
	due := time.Now().Add(6 * time.Second).Truncate(time.Millisecond)
	for i, r := range []*pb.NotifyRequest{
		{Id: "comes", Escalate: unlessSeen(webhook)},
		{Id: "cancelled-1"},
		{Id: "cancelled-2", CollapseKey: "c2"},
		{Id: "cancelled-3"},
		{Id: "cancelled-4", CollapseKey: "c4"},
		{Id: "last"},
	} {
		r.NotBefore = at(due.Add(time.Duration(i) * time.Millisecond)) // the last one comes when all others have
		if got := sent(t, b, "ann", r); got.Code != 0 || got.Pos != "" {
			t.Fatalf("schedule %s: %v", r.Id, got)
		}
	}
	retracted(t, b, "ann", &pb.RetractRequest{Id: "cancelled-1"})
	retracted(t, b, "ann", &pb.RetractRequest{CollapseKey: "c2"})

	stage.Publishers[0].Kill()
	stage.Redis.Stop()
	stage.Redis.Restart()
	b = pods.NewBackend(t, stage.AddPublisher(), "default")
	stage.Gateways[0].WaitReady()
	device := pods.Connect(t, stage.Gateways[0], pods.Hello{Token: pods.Token(t, "ann", pods.Grant{}), Inbox: 20})
	if f := device.Next("inbox"); len(f.Items) != 1 || f.Items[0].ID != "n0" {
		t.Fatalf("%v before its time the inbox is %s: the restarts took too long, or it came too soon", time.Until(due), f.Raw)
	}
	t.Logf("all was restarted %v before its time", time.Until(due))
	retracted(t, b, "ann", &pb.RetractRequest{Id: "cancelled-3"})
	retracted(t, b, "ann", &pb.RetractRequest{CollapseKey: "c4"})

	var heard []string
	device.Await("the last one", func(f pods.Frame) bool {
		if f.Type == "notification" {
			heard = append(heard, f.ID)
			if time.Now().Before(due) {
				t.Errorf("%s came %v before its time", f.ID, time.Until(due))
			}
		}
		return f.ID == "last"
	})
	if want := []string{"comes", "last"}; !slices.Equal(heard, want) {
		t.Errorf("the device heard %q, want %q", heard, want)
	}
	if got, want := inboxOf(b, "ann"), []string{"last", "comes", "n0"}; !slices.Equal(got, want) {
		t.Errorf("the inbox has %q, want %q", got, want)
	}
	testkit.Eventually(t, pods.Within, func() bool { return len(h.all()) == 1 }, "the webhook")
	(deadlines{t, stage.Redis, "ann"}).wantNone()
	if m := h.all()[0]; len(h.all()) != 1 || m.Data.ID != "comes" || m.Timestamp.Before(due.Add(time.Second)) {
		t.Errorf("told %+v, want what came at %v, a second later", m, due)
	}
}

// What has expired is taken back from whoever is connected, each by a frame of its own, and neither lists nor counts have it.
func TestWhatExpiresIsTakenBackFromWhoIsConnected(t *testing.T) {
	t.Parallel()
	const many = 20
	stage := pods.Start(t, pods.Options{})
	b := pods.NewBackend(t, stage.Publishers[0], "default")
	device := pods.Connect(t, stage.Gateways[0], pods.Hello{Token: pods.Token(t, "ann", pods.Grant{})})
	device.Next("welcome")
	ends := map[string]time.Time{}
	first := time.Now().Add(2 * time.Second).Truncate(time.Millisecond)
	for i := range many {
		id := fmt.Sprint("n", i)
		ends[id] = first.Add(time.Duration(i*97) * time.Millisecond)
		sent(t, b, "ann", &pb.NotifyRequest{Id: id, Category: "tea", ExpiresAt: at(ends[id])})
	}
	b.Notify("ann", "stays", "", "1")
	device.Await("the one that stays", func(f pods.Frame) bool { return f.ID == "stays" })
	var late []time.Duration
	left := many + 1
	for i := range many {
		f := device.Next("retract")
		end, ok := ends[f.ID]
		took := time.Since(end)
		if !ok || took < 0 || f.Reason != "expired" {
			t.Fatalf("%v after its end: %s, want one of those that expire", took, f.Raw)
		}
		if f.Badge != nil { // the first of those that go together has the counts of the last of them
			left = f.Badge.Unread
		}
		if left > many-i {
			t.Errorf("%s: the device counts %d, want at most %d", f.Raw, left, many-i)
		}
		late = append(late, took)
		delete(ends, f.ID)
	}
	if left != 1 {
		t.Errorf("in the end the device counts %d", left)
	}
	if got := inboxOf(b, "ann"); !slices.Equal(got, []string{"stays"}) {
		t.Errorf("the inbox has %q", got)
	}
	if c := b.Counts("ann"); c.Unread != 1 || c.Unseen != 1 || len(c.By) != 0 {
		t.Errorf("the counts are %v", c)
	}
	slices.Sort(late)
	t.Logf("taken back %v after their end in the middle, %v at most", late[many/2], late[many-1])
}
