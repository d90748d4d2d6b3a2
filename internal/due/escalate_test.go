package due

import (
	"bytes"
	"encoding/json"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"allim/internal/store"
	"allim/internal/testkit"
	"allim/internal/webhook"
	"allim/internal/webpush"
	"allim/pkg/notify"
)

// A receiver of webhooks answers as it is told.
type receiver struct {
	*httptest.Server
	answer http.HandlerFunc
	got    atomic.Int32

	mu  sync.Mutex
	ids []string // of the requests: webhook-id
}

func receive(t *testing.T, answer http.HandlerFunc) *receiver {
	t.Helper()
	r := &receiver{answer: answer}
	r.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		body, _ := io.ReadAll(q.Body)
		if !json.Valid(body) {
			t.Errorf("the receiver got %s", body)
		}
		r.mu.Lock()
		r.ids = append(r.ids, q.Header.Get("webhook-id"))
		r.mu.Unlock()
		r.got.Add(1)
		r.answer(w, q)
	}))
	r.Config.ErrorLog = log.New(io.Discard, "", 0)
	r.Start()
	t.Cleanup(r.Close)
	return r
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

// endpoints are those of tenants.
func endpoints(t *testing.T, urls map[string]string) func(string) (webhook.Endpoint, bool) {
	t.Helper()
	all := map[string]webhook.Endpoint{}
	for tenant, url := range urls {
		e, err := webhook.NewEndpoint(url, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", false)
		if err != nil {
			t.Fatal(err)
		}
		all[tenant] = e
	}
	return func(tenant string) (webhook.Endpoint, bool) { e, ok := all[tenant]; return e, ok }
}

// runner is one that looks often, with what it counts and what it says.
func runner(t *testing.T, st Store, urls map[string]string) (r *Runner, counted func(name, labels string) float64, said *bytes.Buffer) {
	t.Helper()
	registry := prometheus.NewRegistry()
	said = &bytes.Buffer{}
	hooks := webhook.New(webhook.Options{})
	t.Cleanup(hooks.Close)
	r = New(Options{Store: st, Endpoint: endpoints(t, urls), Webhook: hooks, Every: 10 * time.Millisecond, Metrics: NewMetrics(registry), Log: slog.New(slog.NewTextHandler(said, nil))})
	return r, func(name, labels string) float64 { return value(t, registry, name, labels) }, said
}

// value is that of a counter or gauge, its labels as values in the order of their names, with a blank between them.
func value(t *testing.T, registry *prometheus.Registry, name, labels string) float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			var values []string
			for _, l := range m.GetLabel() {
				values = append(values, l.GetValue())
			}
			if f.GetName() == name && strings.Join(values, " ") == labels {
				if h := m.GetHistogram(); h != nil {
					return float64(h.GetSampleCount())
				}
				return m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	t.Fatalf("no metric %s of %q", name, labels)
	return 0
}

func wantOutcome(t *testing.T, st *recorded, id string, check func(store.Outcome) bool) {
	t.Helper()
	testkit.Eventually(t, within, func() bool { return len(st.of(id)) == 1 }, "what became of "+id)
	if got := st.of(id); !check(got[0]) {
		t.Errorf("%s: got %+v", id, got)
	}
}

func over(o store.Outcome) bool { return !o.Again && len(o.Done) == 0 }

func TestWhatAReceiverAnswersDecidesWhatComesNext(t *testing.T) {
	later := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "60")
		w.WriteHeader(503)
	}
	in := func(least, most time.Duration) func(store.Outcome) bool {
		return func(o store.Outcome) bool { return o.Again && !o.Same && o.After >= least && o.After <= most }
	}
	for _, c := range []struct {
		name    string
		answer  http.HandlerFunc
		attempt int
		want    func(store.Outcome) bool
		counted string // the result
		said    bool   // that it was given up
	}{
		{"it takes it", status(204), 1, over, "sent", false},
		{"it takes it in the end", status(200), 7, over, "sent", false},
		{"it fails", status(500), 1, in(4*time.Second, 6*time.Second), "retried", false},
		{"it fails again", status(500), 2, in(24*time.Second, 36*time.Second), "retried", false},
		{"it asks for time", later, 1, in(time.Minute, time.Minute), "retried", false},
		{"it asks for less than we would wait", later, 4, in(8*time.Minute, 12*time.Minute), "retried", false},
		{"it fails for the last time", status(500), 7, over, "gave_up", true},
		{"it wants no more", status(410), 1, over, "gave_up", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			to := receive(t, c.answer)
			one := claim("a", "n1")
			one.Attempt = c.attempt
			st := &recorded{due: []store.Due{{Claims: []store.Claim{one}, Expired: 2, Scheduled: 3, Lag: time.Second, Cancelled: map[notify.Via]int{notify.ViaWebPush: 4}}}}
			r, counted, said := runner(t, st, map[string]string{"a": to.URL + "/hunter2"})
			stop := run(t, r)
			wantOutcome(t, st, "n1", c.want)
			stop()
			if to.got.Load() != 1 || counted("allim_escalations_total", c.counted+" webhook") != 1 || counted("allim_webhook_seconds", "") != 1 {
				t.Errorf("%d requests, %s %v", to.got.Load(), c.counted, counted("allim_escalations_total", c.counted+" webhook"))
			}
			if got := strings.Contains(said.String(), "webhook_failed"); got != c.said || strings.Contains(said.String(), "hunter2") {
				t.Errorf("log: %s", said)
			}
			for labels, want := range map[string]float64{"expired": 2, "scheduled": 3, "escalated": 1} {
				if got := counted("allim_due_done_total", labels); got != want {
					t.Errorf("%s: %v", labels, got)
				}
			}
			if got := counted("allim_escalations_total", "cancelled web_push"); got != 4 {
				t.Errorf("cancelled: %v", got)
			}
		})
	}
}

// The name in topics is ours; a backend knows its users by their own.
func TestAWebhookNamesTheUserAsTheBackendDoes(t *testing.T) {
	bodies := make(chan []byte, 1)
	to := receive(t, nil)
	to.Config.Handler = http.HandlerFunc(func(_ http.ResponseWriter, q *http.Request) {
		body, _ := io.ReadAll(q.Body)
		bodies <- body
	})
	c := claim("a", "n1")
	const user = "auth0|ann bob"
	var err error
	if c.Stream.Topic, err = notify.UserTopic(user); err != nil {
		t.Fatal(err)
	}
	r, _, _ := runner(t, &recorded{due: []store.Due{{Claims: []store.Claim{c}}}}, map[string]string{"a": to.URL})
	run(t, r)
	var got struct{ Data struct{ User string } }
	if body := testkit.Receive(t, within, bodies, "the webhook"); json.Unmarshal(body, &got) != nil || got.Data.User != user {
		t.Errorf("it says %s", body)
	}
}

func TestATenantWithoutAWebhookIsTriedAgain(t *testing.T) {
	st := &recorded{due: []store.Due{{Claims: []store.Claim{claim("b", "n1")}}}}
	to := receive(t, status(200))
	r, _, _ := runner(t, st, map[string]string{"a": to.URL})
	run(t, r)
	wantOutcome(t, st, "n1", func(o store.Outcome) bool { return o.Again && o.After > 0 })
	if to.got.Load() != 0 {
		t.Error("another tenant's receiver got it")
	}
}

// One tenant's server stands still: it has half of the places, and the other tenants' webhooks go on.
func TestAReceiverThatStandsStillStopsNobodyElse(t *testing.T) {
	still := receive(t, func(_ http.ResponseWriter, q *http.Request) {
		if q.URL.Path != "/fine" {
			<-q.Context().Done()
		}
	})
	var all []store.Claim
	for i := range 40 {
		all = append(all, claim("still", "s"+string(rune('A'+i))))
	}
	st := &recorded{due: []store.Due{{Claims: all}}}
	r, _, _ := runner(t, st, map[string]string{"still": still.URL, "fine": still.URL + "/fine"}) // one host
	r.finish = 10 * time.Millisecond
	stop := run(t, r)
	testkit.Eventually(t, within, func() bool { return still.got.Load() == ofOneTenant }, "its half")
	st.mu.Lock()
	st.due[0].Claims = append(st.due[0].Claims, claim("fine", "n1"))
	st.mu.Unlock()
	wantOutcome(t, st, "n1", over)
	looks := len(st.lookedAt())
	testkit.Eventually(t, within, func() bool { return len(st.lookedAt()) > looks+3 }, "more looks")
	if n := still.got.Load() - 1; n != ofOneTenant {
		t.Errorf("%d requests at once", n)
	}
	stop()
}

func TestAtTheEndWhatIsOnItsWayHasTimeAndTheRestIsGivenBack(t *testing.T) {
	hold, release := make(chan struct{}), make(chan struct{})
	to := receive(t, func(_ http.ResponseWriter, q *http.Request) {
		if q.URL.Path == "/slow" {
			close(hold)
			<-release
			return
		}
		<-q.Context().Done()
	})
	st := &recorded{due: []store.Due{{Claims: []store.Claim{claim("slow", "n1"), claim("still", "n2")}}, {}, {}}}
	r, _, _ := runner(t, st, map[string]string{"slow": to.URL + "/slow", "still": to.URL + "/still"})
	r.finish = time.Second
	stop := run(t, r)
	testkit.Closed(t, within, hold, "the first is on its way")
	testkit.Eventually(t, within, func() bool { return to.got.Load() == 2 }, "both are")
	stopped := make(chan struct{})
	go func() { defer close(stopped); stop() }()
	close(release)
	testkit.Closed(t, within, stopped, "Run ends")
	wantOutcome(t, st, "n1", over)
	wantOutcome(t, st, "n2", func(o store.Outcome) bool { return o.Again && o.Same && o.After == 0 })
}

func browsers(all ...*testkit.Device) (list []store.Subscription) {
	for i, d := range all {
		list = append(list, store.Subscription{Key: string(rune('a' + i)), Endpoint: d.Endpoint, P256dh: d.P256dh, Auth: d.Auth})
	}
	return list
}

func pushing(t *testing.T, service *testkit.PushService) *webpush.Sender {
	t.Helper()
	public, private, err := webpush.Generate()
	if err != nil {
		t.Fatal(err)
	}
	keys, err := webpush.NewKeys("mailto:ops@example.com", public, private)
	if err != nil {
		t.Fatal(err)
	}
	hosts, err := webpush.NewHosts([]string{service.Host})
	if err != nil {
		t.Fatal(err)
	}
	s := webpush.New(webpush.Options{Keys: keys, Hosts: hosts, Roots: service.Roots})
	t.Cleanup(s.Close)
	return s
}

func byPush(id string, attempt int, done ...string) store.Claim {
	c := claim("a", id)
	c.Via, c.Attempt, c.Done = notify.ViaWebPush, attempt, done
	return c
}

// Of a user's browsers one takes it, one has ended, one is to wait, and one is refused: only the third gets another attempt.
func TestEachBrowserIsToldOnce(t *testing.T) {
	service := testkit.NewPushService(t)
	well, ended, busy, refused := service.Device(t), service.Device(t), service.Device(t), service.Device(t)
	service.Answer(func(d *testkit.Device) int {
		return map[*testkit.Device]int{well: 201, ended: 410, busy: 503, refused: 403}[d]
	})
	st := &recorded{browsers: browsers(well, ended, busy, refused), due: []store.Due{{Claims: []store.Claim{byPush("n1", 1)}}}}
	r, counted, _ := runner(t, st, nil)
	r.Push = pushing(t, service)
	run(t, r)
	wantOutcome(t, st, "n1", func(o store.Outcome) bool {
		slices.Sort(o.Done)
		return o.Again && o.After >= 4*time.Second && slices.Equal(o.Done, []string{"!d", "a"})
	})
	if !slices.Equal(st.forgotten, []string{"b"}) || st.renewed != 1 || len(service.Pushes()) != 4 {
		t.Errorf("forgotten %v, renewed %d, %d pushes", st.forgotten, st.renewed, len(service.Pushes()))
	}
	for labels, want := range map[string]float64{"sent": 1, "again": 1, "gone": 1, "refused": 1} {
		if got := counted("allim_push_total", labels); got != want {
			t.Errorf("%s: %v", labels, got)
		}
	}
	if counted("allim_push_removed_total", "") != 1 || counted("allim_escalations_total", "retried web_push") != 1 {
		t.Error("it is counted wrong")
	}

	service.Answer(func(*testkit.Device) int { return 201 })
	st.mu.Lock()
	st.due = []store.Due{{Claims: []store.Claim{byPush("n2", 2, "a", "!d", "b")}}}
	st.mu.Unlock()
	wantOutcome(t, st, "n2", over)
	if pushes := service.Pushes(); len(pushes) != 5 || pushes[4].To != busy {
		t.Errorf("%d pushes", len(pushes))
	}
	if counted("allim_escalations_total", "sent web_push") != 1 {
		t.Error("it is counted wrong")
	}
}

func TestAUserWithoutABrowserIsNobody(t *testing.T) {
	service := testkit.NewPushService(t)
	ended := service.Device(t)
	service.Answer(func(*testkit.Device) int { return 404 })
	st := &recorded{due: []store.Due{{Claims: []store.Claim{byPush("n1", 1)}}}}
	r, counted, _ := runner(t, st, nil)
	r.Push = pushing(t, service)
	run(t, r)
	wantOutcome(t, st, "n1", over)
	st.mu.Lock()
	st.browsers, st.due = browsers(ended), []store.Due{{Claims: []store.Claim{byPush("n2", 1)}}}
	st.mu.Unlock()
	wantOutcome(t, st, "n2", over)
	if counted("allim_escalations_total", "nobody web_push") != 2 || !slices.Equal(st.forgotten, []string{"a"}) {
		t.Errorf("nobody %v, forgotten %v", counted("allim_escalations_total", "nobody web_push"), st.forgotten)
	}
}

func TestWherePushIsRefusedEverywhereItIsGivenUp(t *testing.T) {
	service := testkit.NewPushService(t)
	d := service.Device(t)
	service.Answer(func(*testkit.Device) int { return 403 })
	st := &recorded{browsers: browsers(d), due: []store.Due{{Claims: []store.Claim{byPush("n1", 1)}}}}
	r, counted, said := runner(t, st, nil)
	r.Push = pushing(t, service)
	stop := run(t, r)
	wantOutcome(t, st, "n1", over)
	stop()
	if counted("allim_escalations_total", "gave_up web_push") != 1 || !strings.Contains(said.String(), "push_failed") || strings.Contains(said.String(), d.Endpoint) {
		t.Errorf("log: %s", said)
	}
}

// What became of it is what became of the whole: one browser that was told is enough, and one that refused is none.
func TestWhoWasToldCountsAndWhoRefusedDoesNot(t *testing.T) {
	service := testkit.NewPushService(t)
	well, busy, ended := service.Device(t), service.Device(t), service.Device(t)
	service.Answer(func(d *testkit.Device) int { return map[*testkit.Device]int{well: 201, busy: 503, ended: 410}[d] })
	for _, c := range []struct {
		of     []*testkit.Device
		done   []string // before
		result string
	}{
		{[]*testkit.Device{well, busy}, nil, "sent"},
		{[]*testkit.Device{busy}, []string{"x"}, "sent"},
		{[]*testkit.Device{busy}, []string{"!x"}, "gave_up"},
		{[]*testkit.Device{ended}, []string{"x"}, "sent"},
		{[]*testkit.Device{ended}, []string{"!x"}, "gave_up"},
	} {
		st := &recorded{browsers: browsers(c.of...), due: []store.Due{{Claims: []store.Claim{byPush("n1", 7, c.done...)}}}}
		r, counted, said := runner(t, st, nil)
		r.Push = pushing(t, service)
		stop := run(t, r)
		wantOutcome(t, st, "n1", over)
		stop()
		if counted("allim_escalations_total", c.result+" web_push") != 1 || strings.Contains(said.String(), "push_failed") != (c.result == "gave_up") {
			t.Errorf("%d browsers, done %q: want %s; log: %s", len(c.of), c.done, c.result, said)
		}
	}
}

func TestWithoutKeysNothingIsPushedYet(t *testing.T) {
	st := &recorded{due: []store.Due{{Claims: []store.Claim{byPush("n1", 1)}}}}
	r, _, _ := runner(t, st, nil)
	run(t, r)
	wantOutcome(t, st, "n1", func(o store.Outcome) bool { return o.Again })
}
