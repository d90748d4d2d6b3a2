package e2e

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	pb "allim/proto/allim/v1"
	"allim/test/pods"
)

// Of two devices of a user, at two gateways, one marks and the other shows it, for each of the marks, while both gateways and the publisher are busy with others.
// How long that took is said.
func TestAMarkOnOneDeviceReachesTheOtherAtAnotherGateway(t *testing.T) {
	t.Parallel()
	const marks = 200
	stage := pods.Start(t, pods.Options{Gateways: 2})
	b := pods.NewBackend(t, stage.Publishers[0], "default")
	var devices, others []*pods.Client
	for _, gw := range stage.Gateways {
		devices = append(devices, pods.Connect(t, gw, pods.Hello{Token: pods.Token(t, "ann", pods.Grant{})}))
		others = append(others, pods.Connect(t, gw, pods.Hello{Token: pods.Token(t, "ben", pods.Grant{})}))
	}
	for i, c := range append(others, devices...) {
		if f := c.Next("welcome"); f.Badge == nil {
			t.Fatalf("client %d: %s", i, f.Raw)
		}
	}
	ids := names(marks/4, "n%d")
	for _, id := range ids {
		b.Notify("ann", id, "order", `{"title":"hi"}`)
	}
	var busy sync.WaitGroup
	end := make(chan struct{})
	busy.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-end:
				return
			default:
				_, _ = b.Publisher.Notify(b.Call(), &pb.NotifyRequest{Id: fmt.Sprint("b", i), To: &pb.Audience{Users: []string{"ben"}}, Data: []byte("1")}) // load
			}
		}
	})
	want := pods.Badge{Unread: len(ids), Unseen: len(ids)}
	var took []time.Duration
	for i := range marks {
		from, to := devices[i%2], devices[(i+1)%2]
		mark, id := []string{"seen", "read", "archive", "delete"}[i*4/marks], ids[i%len(ids)]
		switch mark {
		case "seen":
			want.Unseen--
		case "read":
			want.Unread--
		}
		start := time.Now()
		from.Send(map[string]any{"type": mark, "ids": []string{id}})
		f := to.Await(mark+" "+id, func(f pods.Frame) bool { return f.Type == "badge" && slices.Equal(f.Change[mark], []string{id}) })
		took = append(took, time.Since(start))
		if f.Badge.Unread != want.Unread || f.Badge.Unseen != want.Unseen {
			t.Fatalf("%s of %s: the other device counts %+v, want %+v", mark, id, *f.Badge, want)
		}
	}
	close(end)
	busy.Wait()
	if left := inboxOf(b, "ann"); len(left) != 0 {
		t.Errorf("%q are left", left)
	}
	others[0].Next("notification") // there was load
	slices.Sort(took)
	t.Logf("%d marks were at the other device after %v, of a hundred one after more than %v, the last after %v", marks, took[marks/2], took[marks*99/100], took[marks-1])
}
