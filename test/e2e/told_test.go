package e2e

import (
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"allim/internal/testkit"
	pb "allim/proto/allim/v1"
	"allim/test/pods"
)

const webhook = pb.NotifyRequest_Escalate_WEBHOOK

// Two publishers race for what nobody looked at, and the one that won is killed while its receiver has not answered: when its lease is over the other one tells it
// once more, by the same id, and nobody ever again. That the lease ends is said to Redis, since it lasts 30 s; internal/due waits for a shorter one.
func TestAPublisherThatIsKilledWhileItTellsIsFollowedByAnotherOnce(t *testing.T) {
	t.Parallel()
	killed, cut := make(chan struct{}), make(chan bool, 1)
	held := make(chan string, 8)
	h := newHook(t, func(w http.ResponseWriter, r *http.Request, n int, m told) {
		select {
		case held <- m.Query:
		default: // far too many: the test has failed
		}
		if n > 1 {
			return
		}
		<-r.Context().Done() // the connection is gone, unless the test has failed
		select {
		case <-killed:
			cut <- true
		default:
			cut <- false
		}
	})
	stage := pods.Start(t, pods.Options{Gateways: -1, Publishers: -1})
	racing := map[string]*pods.Pod{}
	for _, name := range []string{"a", "b"} {
		racing[name] = stage.AddPublisher("--webhooks=[" + h.as("default", name) + "]")
	}
	b := pods.NewBackend(t, racing["a"], "default")
	pos := sent(t, b, "ann", &pb.NotifyRequest{Id: "n1", Category: "tea", Escalate: unlessSeen(webhook)}).Pos
	first := testkit.Receive(t, pods.Within, held, "the first request")
	close(killed)
	racing[first].Kill()
	if bit := testkit.Receive(t, pods.Within, cut, "its connection ends"); !bit {
		t.Fatal("the first request had ended before its publisher was killed")
	}
	other := racing["b"]
	if first == "b" {
		other = racing["a"]
	}
	due := deadlines{t, stage.Redis, "ann"}
	if left := due.until(); left > 30*time.Second || left < 10*time.Second { // a very slow machine had 20 s for what is above
		t.Errorf("the lease ends in %v, want almost 30 s", left)
	}
	looks := func() float64 { return other.Metric("allim_redis_operations_total", "operation", "due") }
	before := looks()
	testkit.Eventually(t, pods.Within, func() bool { return looks() >= before+4 }, "the other one looks at the deadlines again and again")
	if n := len(h.all()); n != 1 {
		t.Fatalf("%d requests while the lease holds, want 1", n)
	}
	due.pass()
	if second := testkit.Receive(t, pods.Within, held, "the second request"); second == first {
		t.Errorf("%s tells it again, but is dead", second)
	}
	due.wantNone()
	all := h.all()
	if len(all) != 2 || all[0].MessageID != all[1].MessageID {
		t.Fatalf("got %+v, want two requests of one id", all)
	}
	for _, m := range all {
		if m.Type != "notification.unseen" || m.Data.User != "ann" || m.Data.ID != "n1" || m.Data.Pos != pos || m.Data.Category != "tea" || string(m.Data.Data) != `{"title":"Tea"}` {
			t.Errorf("told %+v, want n1 of ann at %s", m, pos)
		}
	}
	if n := escalations("sent", other); n != 1 {
		t.Errorf("the other one counts %v escalations, want 1", n)
	}
}

// Many are due at once, more than there are places, and two publishers race for them: each is told by one of them, and only once.
func TestTwoPublishersThatRaceTellOfEachOnce(t *testing.T) {
	t.Parallel()
	const many = 150
	h := newHook(t, func(http.ResponseWriter, *http.Request, int, told) {})
	stage := pods.Start(t, pods.Options{Gateways: -1, Publishers: 2, Settings: "webhooks: [" + h.as("default", "") + "]\n"})
	b := pods.NewBackend(t, stage.Publishers[0], "default")
	r, err := b.Publisher.Notify(b.Call(), &pb.NotifyRequest{Id: "n1", To: &pb.Audience{Users: names(many, "u%d")}, Data: []byte("1"), Escalate: unlessSeen(webhook)})
	if err != nil || len(r.Results) != many {
		t.Fatalf("%d results, %v", len(r.GetResults()), err)
	}
	testkit.Eventually(t, pods.Within, func() bool { return escalations("sent", stage.Publishers...) >= many }, "all are told")
	for _, p := range stage.Publishers {
		if n := escalations("sent", p); n == 0 || n == many {
			t.Errorf("%s told %v of %d: there was no race", p.Name, n, many)
		}
	}
	users, ids := map[string]bool{}, map[string]bool{}
	for _, m := range h.all() {
		users[m.Data.User], ids[m.MessageID] = true, true
	}
	if n := len(h.all()); n != many || len(users) != many || len(ids) != many {
		t.Errorf("told %d times, of %d users by %d ids, want %d of each", n, len(users), len(ids), many)
	}
}

// Each tenant's receiver decides for itself: one fails and takes it when it is told again, one wants no more, one sends us elsewhere, where nobody goes, and one
// says nothing at all, which no other tenant waits for.
func TestReceiversThatFailDecideForThemselves(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	elsewhere := newHook(t, func(http.ResponseWriter, *http.Request, int, told) {})
	fails := newHook(t, func(w http.ResponseWriter, _ *http.Request, n int, _ told) {
		if n == 1 {
			w.WriteHeader(http.StatusInternalServerError)
		}
	})
	gone := newHook(t, func(w http.ResponseWriter, _ *http.Request, _ int, _ told) { w.WriteHeader(http.StatusGone) })
	away := newHook(t, func(w http.ResponseWriter, r *http.Request, _ int, _ told) {
		http.Redirect(w, r, elsewhere.URL, http.StatusTemporaryRedirect)
	})
	var open atomic.Int32
	hangs := newHook(t, func(_ http.ResponseWriter, r *http.Request, _ int, _ told) {
		open.Add(1)
		defer open.Add(-1)
		select {
		case <-release:
		case <-r.Context().Done():
		}
	})
	stage := pods.Start(t, pods.Options{Gateways: -1, Settings: fmt.Sprintf("webhooks:\n  - %s\n  - %s\n  - %s\n  - %s\n",
		fails.as("default", ""), gone.as("acme", ""), away.as("globex", ""), hangs.as("umbrella", ""))})
	pub := stage.Publishers[0]
	pub.Expect("webhook_failed")
	const stuck = 40
	for i := range stuck {
		sent(t, pods.NewBackend(t, pub, "umbrella"), fmt.Sprint("u", i), &pb.NotifyRequest{Id: "n1", Escalate: unlessSeen(webhook)})
	}
	testkit.Eventually(t, pods.Within, func() bool { return open.Load() == 16 }, "one tenant's receiver holds half of the places")
	for _, tenant := range []string{"default", "acme", "globex"} {
		sent(t, pods.NewBackend(t, pub, tenant), "ann", &pb.NotifyRequest{Id: "n1", Escalate: unlessSeen(webhook)})
	}
	testkit.Eventually(t, pods.Within, func() bool { return len(gone.all()) > 0 && len(away.all()) > 0 && len(fails.all()) == 2 }, "the other tenants are told")
	if n := open.Load(); n > 16 {
		t.Errorf("%d requests wait for one tenant's receiver, want 16 at most", n)
	}
	close(release)
	a, z := fails.all()[0], fails.all()[1]
	if a.MessageID != z.MessageID || z.Came.Sub(a.Came) < 4*time.Second {
		t.Errorf("told %s and, %v later, %s, want one id and 5 s ± 20 %%", a.MessageID, z.Came.Sub(a.Came), z.MessageID)
	}
	(deadlines{t, stage.Redis, "ann"}).wantNone()
	testkit.Eventually(t, pods.Within, func() bool { return len(hangs.all()) >= stuck }, "who hung is told, too")
	if n := escalations("gave_up", pub); n != 1 || pub.Said("webhook_failed", "tenant", "acme") == nil {
		t.Errorf("%v are given up, want that of acme, and a line of the log: %v", n, pub.Said("webhook_failed", "", ""))
	}
	if n := len(elsewhere.all()); n != 0 {
		t.Errorf("a redirect is followed: %d", n)
	}
	if n := len(gone.all()); n != 1 {
		t.Errorf("who wants no more is told %d times", n)
	}
}

// What a device shows is needless to tell: before it is told, and also between an attempt that failed and the next one.
func TestADeviceThatShowsItEndsTheEscalation(t *testing.T) {
	t.Parallel()
	h := newHook(t, func(w http.ResponseWriter, _ *http.Request, _ int, _ told) {
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	stage := pods.Start(t, pods.Options{Settings: "webhooks: [" + h.as("default", "") + "]\n"})
	pub := stage.Publishers[0]
	b := pods.NewBackend(t, pub, "default")
	device := pods.Connect(t, stage.Gateways[0], pods.Hello{Token: pods.Token(t, "ann", pods.Grant{})})
	device.Next("welcome")
	early := pods.Connect(t, stage.Gateways[0], pods.Hello{Token: pods.Token(t, "ben", pods.Grant{})})
	early.Next("welcome")

	sent(t, b, "ben", &pb.NotifyRequest{Id: "n1", Escalate: unlessSeen(webhook)})
	early.Next("notification")
	early.Send(`{"type":"seen","ids":["n1"],"ref":1}`)
	if f := early.Answer(1); f.Changed != 1 {
		t.Fatalf("ben's mark: %s", f.Raw)
	}
	sent(t, b, "ann", &pb.NotifyRequest{Id: "n1", Escalate: unlessSeen(webhook)})
	testkit.Eventually(t, pods.Within, func() bool { return escalations("retried", pub) == 1 }, "an attempt fails")
	device.Send(`{"type":"seen","ids":["n1"],"ref":1}`)
	if f := device.Answer(1); f.Changed != 1 {
		t.Fatalf("ann's mark: %s", f.Raw)
	}
	testkit.Eventually(t, pods.Within, func() bool { return escalations("cancelled", pub) == 2 }, "both escalations are cancelled")
	(deadlines{t, stage.Redis, "ann"}).wantNone()
	if a, z := h.of("ann"), h.of("ben"); len(a) != 1 || len(z) != 0 {
		t.Errorf("ann was told of %d times, ben %d times, want the one attempt that failed", len(a), len(z))
	}
}
