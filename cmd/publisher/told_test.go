package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"allim/internal/keyspace"
	"allim/internal/store"
	"allim/internal/testkit"
	"allim/pkg/notify"
)

// From what the settings say to the request: a running publisher tells the tenant's backend, once, of what nobody looked at.
func TestABackendIsToldOfWhatNobodyLookedAt(t *testing.T) {
	t.Parallel()
	told := make(chan string, 8)
	hook := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		told <- r.URL.Path + " " + r.Header.Get("webhook-signature")[:3]
	}))
	t.Cleanup(hook.Close)
	srv := testkit.Redis(t)
	r := startWith(t, goodFile+"webhooks:\n  - {url: '"+hook.URL+"/hook', secret: whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw}\n", srv.As("publisher"), "ops", "grpc")
	testkit.Eventually(t, 5*time.Second, func() bool { return r.isReady(t) }, "be ready")

	client, err := store.Connect(store.Connection{URL: srv.As("publisher")})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	keys, err := keyspace.NewMap(0)
	if err != nil {
		t.Fatal(err)
	}
	st, err := store.New(store.Options{Redis: client, Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	m := &notify.Message{Change: notify.ChangeNotification, ID: "n1", Time: time.Now(), Data: []byte(`{"title":"Tea"}`),
		Terms: &notify.Terms{Escalate: &notify.Escalate{Unless: notify.ChangeSeen, After: time.Millisecond, Via: notify.ViaWebhook}}}
	if got := st.Write(testkit.Context(t, 5*time.Second), []notify.Stream{{Tenant: notify.DefaultTenant, Topic: "user:ann"}}, m, store.Committed)[0]; got.Err != nil {
		t.Fatal(got.Err)
	}
	if got := testkit.Receive(t, 10*time.Second, told, "a webhook"); got != "/hook v1," {
		t.Errorf("got %s", got)
	}
	testkit.Eventually(t, 5*time.Second, func() bool {
		_, text := r.get(t, "/metrics")
		return strings.Contains(text, `allim_escalations_total{result="sent",via="webhook"} 1`)
	}, "it is counted")
	if err := r.stop(); err != nil {
		t.Error(err)
	}
	if len(told) > 0 {
		t.Error("it is told twice")
	}
}

func TestSettingsOfWhoIsToldAreChecked(t *testing.T) {
	_, _, err := load(t, "--config="+file(t, goodFile+"webhooks:\n  - {url: 'http://hooks.example.com/hunter2', secret: hunter2}\npush: {public_key: x, hosts: [localhost]}\n"))
	if err == nil {
		t.Fatal("they are taken")
	}
	for _, want := range []string{"webhooks[0].url: expected https", "push.hosts[0]: ", "push.subject: "} {
		if !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}
