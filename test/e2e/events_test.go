package e2e

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"allim/internal/testkit"
	pb "allim/proto/allim/v1"
	"allim/test/pods"
)

// A watcher is a stream of Events.Watch, and what it heard.
type watcher struct {
	*testing.T
	b    *pods.Backend
	acks bool // it acknowledges at once
	done chan struct{}

	mu   sync.Mutex
	had  []*pb.Event
	once map[string]int // how often each came, by id
}

// watch watches in a group until its publisher, or the test, ends.
func watch(t *testing.T, b *pods.Backend, group string, acks bool) *watcher {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	out, err := b.Events.Watch(b.As(ctx), &pb.WatchRequest{Group: group})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := out.Recv(); err != nil {
		t.Fatalf("watch: %v", err)
	}
	w := &watcher{T: t, b: b, acks: acks, done: make(chan struct{}), once: map[string]int{}}
	t.Cleanup(func() { cancel(); <-w.done })
	go func() {
		defer close(w.done)
		for {
			r, err := out.Recv()
			if err != nil {
				return
			}
			w.take(ctx, r.Events)
		}
	}()
	return w
}

func (w *watcher) take(ctx context.Context, all []*pb.Event) {
	var ids []string
	w.mu.Lock()
	for _, e := range all {
		if w.once[e.EventId]++; w.once[e.EventId] == 1 {
			w.had = append(w.had, e)
		}
		ids = append(ids, e.EventId)
	}
	w.mu.Unlock()
	if w.acks {
		_, _ = w.b.Events.Ack(w.b.As(ctx), &pb.AckRequest{Group: "g", EventIds: ids}) // what is not acknowledged comes again
	}
}

// texts are the events of a type as "ann n1".
func (w *watcher) texts(types ...pb.Event_Type) (all []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.had {
		if slices.Contains(types, e.Type) {
			text := e.User
			for _, id := range e.Ids {
				text += " " + id
			}
			all = append(all, text)
		}
	}
	return all
}

// read puts a notification into each of these inboxes and reads it.
func read(t *testing.T, b *pods.Backend, id string, users []string) {
	t.Helper()
	if _, err := b.Publisher.Notify(b.Call(), &pb.NotifyRequest{Id: id, To: &pb.Audience{Users: users}, Data: []byte(`1`)}); err != nil {
		t.Fatal(err)
	}
	for _, u := range users {
		if _, err := b.Inbox.Mark(b.Call(), &pb.MarkRequest{User: u, Mark: pb.MarkRequest_READ.Enum(), Ids: []string{id}}); err != nil {
			t.Fatal(err)
		}
	}
}

// Two watchers of a group, each at a publisher of its own. One publisher is killed while its watcher has events that it did not acknowledge; Redis is killed, too, and comes
// back with its append file. Each event comes to somebody who acknowledges it, those of a user in their order.
func TestEventsComeThoughAPublisherAndRedisAreKilled(t *testing.T) {
	t.Parallel()
	stage := pods.Start(t, pods.Options{Gateways: -1, Publishers: 2, Redis: testkit.Redis(t, "--appendonly", "yes", "--appendfsync", "always")})
	one, two := pods.NewBackend(t, stage.Publishers[0], "default"), pods.NewBackend(t, stage.Publishers[1], "default")
	lazy, good := watch(t, one, "g", false), watch(t, two, "g", true)
	users := make([]string, 60)
	for i := range users {
		users[i] = fmt.Sprint("u", i)
	}
	round := 0
	testkit.Eventually(t, time.Minute, func() bool { // the second watcher has its share when the first has heard of it
		round++
		read(t, two, fmt.Sprint("n", round), users)
		return len(lazy.texts(pb.Event_READ)) >= 20 && len(good.texts(pb.Event_READ)) >= 20
	}, "both watchers have some")
	if had := len(lazy.texts(pb.Event_READ)); had < 20 {
		t.Fatalf("the one that is killed has %d events", had)
	}
	stage.Publishers[0].Kill()
	<-lazy.done
	round++
	read(t, two, fmt.Sprint("n", round), users)
	stage.Redis.Stop()
	stage.Redis.Restart()
	stage.Publishers[1].WaitReady()
	round++
	read(t, two, fmt.Sprint("n", round), users)
	testkit.EventuallyNil(t, 3*time.Minute, func() error { // a lease of 15 s and 30 s without an acknowledgement, of a machine that is busy
		if got := len(good.texts(pb.Event_READ)); got < round*len(users) {
			return fmt.Errorf("it has %d of %d", got, round*len(users))
		}
		return nil
	}, "the other one has all of them")
	last := map[string]int{}
	for _, text := range good.texts(pb.Event_READ) {
		var user string
		var n int
		if _, err := fmt.Sscanf(text, "%s n%d", &user, &n); err != nil {
			t.Fatal(err)
		}
		if n <= last[user] {
			t.Errorf("%s: n%d after n%d", user, n, last[user])
		}
		last[user] = n
	}
	if gaps := good.texts(pb.Event_GAP); len(gaps) > 0 {
		t.Errorf("%d gaps: nothing was lost", len(gaps))
	}
}

// A gateway is killed: who was there alone is gone, once, when its lease and the time to come back are over; who has another connection is not.
func TestTheUsersOfAKilledGatewayAreGoneOnce(t *testing.T) {
	t.Parallel()
	stage := pods.Start(t, pods.Options{Gateways: 2, Publishers: 2, Settings: "presence: {debounce: 1s}\n"})
	b := pods.NewBackend(t, stage.Publishers[0], "default")
	come := func(user string, gateway int) *pods.Client {
		c := pods.Connect(t, stage.Gateways[gateway], pods.Hello{Token: pods.Token(t, user, pods.Grant{})})
		c.Next("welcome")
		return c
	}
	come("ann", 0)
	come("bob", 0)
	bob := come("bob", 1)
	w := watch(t, b, "g", true)
	wait := func(what string, online, offline []string) {
		t.Helper()
		testkit.EventuallyNil(t, time.Minute, func() error {
			on, off := w.texts(pb.Event_ONLINE), w.texts(pb.Event_OFFLINE)
			slices.Sort(on)
			slices.Sort(off)
			if !slices.Equal(on, online) || !slices.Equal(off, offline) {
				return fmt.Errorf("came %v, want %v; left %v, want %v", on, online, off, offline)
			}
			return nil
		}, what)
	}
	wait("who is there", []string{"ann", "bob"}, nil) // they came before anybody listened
	stage.Gateways[0].Kill()
	wait("ann is gone", []string{"ann", "bob"}, []string{"ann"})
	bob.Ping()
	ann := come("ann", 1)
	wait("ann is back", []string{"ann", "ann", "bob"}, []string{"ann"})
	ann.Drop()
	ann = come("ann", 1) // at once: nobody hears of it
	come("carl", 1).Drop()
	wait("carl came and left", []string{"ann", "ann", "bob", "carl"}, []string{"ann", "carl"})
	ann.Ping()
	for id, n := range w.once {
		if n != 1 {
			t.Errorf("event %s came %d times, and was acknowledged", id, n)
		}
	}
}
