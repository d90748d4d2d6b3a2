package due

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"allim/internal/keyspace"
	"allim/internal/store"
	"allim/internal/testkit"
	"allim/internal/webhook"
	"allim/pkg/notify"
)

const (
	childRedis = "ALLIM_DUE_CHILD_REDIS" // of a program of this test: the URL
	childHook  = "ALLIM_DUE_CHILD_HOOK"
	shortLease = 2 * time.Second
)

// TestMain runs this test's programs, too.
func TestMain(m *testing.M) {
	if url := os.Getenv(childRedis); url != "" {
		if err := child(url, os.Getenv(childHook)); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		return
	}
	testkit.Main(m)
}

// child looks after deadlines until it is killed.
func child(url, hook string) error {
	client, err := store.Connect(store.Connection{URL: url})
	if err != nil {
		return err
	}
	st, err := storeOn(client)
	if err != nil {
		return err
	}
	to, err := webhook.NewEndpoint(hook, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", false)
	if err != nil {
		return err
	}
	fmt.Println("running")
	return New(Options{Store: st, Endpoint: func(string) (webhook.Endpoint, bool) { return to, true }, Webhook: webhook.New(webhook.Options{}), Every: 20 * time.Millisecond}).Run(context.Background())
}

func storeOn(client redis.UniversalClient) (*store.Store, error) {
	keys, err := keyspace.NewMap(0)
	if err != nil {
		return nil, err
	}
	return store.New(store.Options{Redis: client, Keys: keys, Lease: shortLease})
}

// program starts a child that tells that URL.
func program(t *testing.T, srv *testkit.RedisServer, hook string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childRedis+"="+srv.As("publisher"), childHook+"="+hook)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may be dead
		_ = cmd.Wait()
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "running\n" {
		t.Fatalf("a program that does not run: %q, %v", line, err)
	}
	return cmd
}

// bed is a Redis with a store that writes into it.
func bed(t *testing.T, redisArgs ...string) (*testkit.RedisServer, *store.Store) {
	t.Helper()
	srv := testkit.Redis(t, redisArgs...)
	client, err := store.Connect(store.Connection{URL: srv.As("publisher")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	st, err := storeOn(client)
	if err != nil {
		t.Fatal(err)
	}
	if err := st.Open(testkit.Context(t, within)); err != nil {
		t.Fatal(err)
	}
	return srv, st
}

var ann = notify.Stream{Tenant: notify.DefaultTenant, Topic: "user:ann"}

func escalating(t *testing.T, st *store.Store, id string, via notify.Via, after time.Duration) {
	t.Helper()
	m := &notify.Message{Change: notify.ChangeNotification, ID: id, Category: "tea", Time: time.Now(), Data: []byte(`{"title":"Tea"}`),
		Terms: &notify.Terms{Escalate: &notify.Escalate{Unless: notify.ChangeSeen, After: after, Via: via}}}
	if r := st.Write(testkit.Context(t, within), []notify.Stream{ann}, m, store.Committed)[0]; r.Err != nil {
		t.Fatal(r.Err)
	}
}

// wantOver waits until Redis has nothing due any more.
func wantOver(t *testing.T, srv *testkit.RedisServer) {
	t.Helper()
	rdb := srv.Client()
	keys, err := keyspace.NewMap(0)
	if err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, within, func() bool {
		return rdb.Exists(t.Context(), keys.Inbox(ann).Deadlines, keys.Due(keys.Partition(ann))).Val() == 0
	}, "nothing is due")
}

// Two programs race, and the one that won is killed while its receiver has not answered: the other tells it when the lease is over, once, with the same id.
func TestAProgramThatIsKilledIsFollowedByAnotherOnce(t *testing.T) {
	srv, st := bed(t)
	killed, gone := make(chan struct{}), make(chan bool, 1)
	who := make(chan string, 8)
	var r *receiver
	r = receive(t, func(w http.ResponseWriter, q *http.Request) {
		who <- q.URL.Query().Get("of")
		if r.got.Load() == 1 {
			<-q.Context().Done() // its program is gone
			select {
			case <-killed:
				gone <- true
			default:
				gone <- false
			}
		}
	})
	programs := map[string]*exec.Cmd{}
	for _, name := range []string{"a", "b"} {
		programs[name] = program(t, srv, r.URL+"/?of="+name)
	}
	escalating(t, st, "n1", notify.ViaWebhook, 50*time.Millisecond)
	first := testkit.Receive(t, within, who, "the first request")
	close(killed)
	if err := programs[first].Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if bit := testkit.Receive(t, within, gone, "its connection ends"); !bit {
		t.Fatal("the first request had ended before its program was killed")
	}
	if second := testkit.Receive(t, within, who, "the second request"); second == first {
		t.Errorf("%s tells it again", second)
	}
	wantOver(t, srv)
	r.mu.Lock()
	ids := strings.Join(r.ids, " ")
	r.mu.Unlock()
	if len(r.ids) != 2 || r.ids[0] != r.ids[1] || r.ids[0] == "" {
		t.Errorf("requests %s", ids)
	}
	testkit.Never(t, shortLease+time.Second, func() bool { return r.got.Load() > 2 }, "a third request")
}

// Redis answers nothing any more, and the program is to end: it does in time, though a read that waits ends by no context.
func TestARedisThatHangsDoesNotHoldUpTheEnd(t *testing.T) {
	srv := testkit.Redis(t)
	proxy := testkit.NewProxy(t, srv.Addr)
	client, err := store.Connect(store.Connection{URL: strings.Replace(srv.As("publisher"), srv.Addr, proxy.Addr, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	st, err := storeOn(client)
	if err != nil {
		t.Fatal(err)
	}
	if err := st.Open(testkit.Context(t, within)); err != nil {
		t.Fatal(err)
	}
	to := receive(t, func(_ http.ResponseWriter, q *http.Request) { <-q.Context().Done() })
	r, _, _ := runner(t, st, map[string]string{"default": to.URL})
	ctx, end := context.WithCancel(context.Background())
	defer end()
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	escalating(t, st, "n1", notify.ViaWebhook, time.Millisecond)
	testkit.Eventually(t, within, func() bool { return to.got.Load() == 1 }, "a request is on its way")
	proxy.Blackhole(true)
	testkit.Never(t, 5*r.Every, func() bool { return to.got.Load() > 1 }, "another request") // and a look waits
	end()
	if err := testkit.Receive(t, StopBudget+time.Second, ended, "Run ends"); err != nil {
		t.Error(err)
	}
}

// A device shows it between two attempts: there is no second.
func TestWhatIsSeenBetweenTwoAttemptsIsNotToldAgain(t *testing.T) {
	srv, st := bed(t)
	to := receive(t, status(503))
	r, counted, _ := runner(t, st, map[string]string{"default": to.URL})
	run(t, r)
	escalating(t, st, "n1", notify.ViaWebhook, time.Millisecond)
	rdb := srv.Client()
	testkit.Eventually(t, within, func() bool { return counted("allim_escalations_total", "retried webhook") == 1 }, "the first attempt fails")
	if _, err := st.Mark(testkit.Context(t, within), ann, store.Mark{Change: notify.ChangeSeen, IDs: []string{"n1"}}); err != nil {
		t.Fatal(err)
	}
	keys, err := keyspace.NewMap(0)
	if err != nil {
		t.Fatal(err)
	}
	for key, member := range map[string]string{keys.Inbox(ann).Deadlines: "w\x00n1", keys.Due(keys.Partition(ann)): keyspace.Member(ann)} { // now, not in 5 s
		if err := rdb.ZAddXX(t.Context(), key, redis.Z{Score: 1, Member: member}).Err(); err != nil {
			t.Fatal(err)
		}
	}
	wantOver(t, srv)
	testkit.Eventually(t, within, func() bool { return counted("allim_escalations_total", "cancelled webhook") == 1 }, "it is cancelled")
	if n := to.got.Load(); n != 1 {
		t.Errorf("%d requests", n)
	}
}

// From the store to the browser: who has ended is forgotten in Redis.
func TestABrowserThatHasEndedIsForgottenInRedis(t *testing.T) {
	srv, st := bed(t)
	service := testkit.NewPushService(t)
	well, ended := service.Device(t), service.Device(t)
	service.Answer(func(d *testkit.Device) int { return map[*testkit.Device]int{well: 201, ended: 410}[d] })
	for _, d := range []*testkit.Device{well, ended} {
		if err := st.PushSubscribe(testkit.Context(t, within), ann, store.Subscription{Endpoint: d.Endpoint, P256dh: d.P256dh, Auth: d.Auth}); err != nil {
			t.Fatal(err)
		}
	}
	r, counted, _ := runner(t, st, nil)
	r.Push = pushing(t, service)
	run(t, r)
	escalating(t, st, "n1", notify.ViaWebPush, time.Millisecond)
	testkit.Eventually(t, within, func() bool { return counted("allim_escalations_total", "sent web_push") == 1 }, "it is pushed")
	wantOver(t, srv)
	all, err := st.PushSubscriptions(testkit.Context(t, within), ann)
	if err != nil || len(all) != 1 || all[0].Endpoint != well.Endpoint {
		t.Errorf("got %+v, %v", all, err)
	}
	pushes := service.Pushes()
	if len(pushes) != 2 || !strings.Contains(pushes[0].Text, `"title":"Tea"`) {
		t.Errorf("%+v", pushes)
	}
}

// What is due is in Redis: a restart with its append file between the notification and its deadline loses nothing.
func TestADeadlineSurvivesARestartOfRedis(t *testing.T) {
	srv, st := bed(t, "--appendonly", "yes", "--appendfsync", "always")
	escalating(t, st, "n1", notify.ViaWebhook, time.Second)
	srv.Stop()
	srv.Restart()
	to := receive(t, status(200))
	r, _, _ := runner(t, st, map[string]string{"default": to.URL})
	run(t, r)
	testkit.Eventually(t, within, func() bool { return to.got.Load() == 1 }, "it is told")
	wantOver(t, srv)
}
