package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"allim/internal/testkit"
	pb "allim/proto/allim/v1"
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

	q := &pb.NotifyRequest{Id: "n1", To: &pb.Audience{Users: []string{"ann"}}, Data: []byte(`{"title":"Tea"}`),
		Escalate: &pb.NotifyRequest_Escalate{Unless: pb.NotifyRequest_Escalate_SEEN, AfterMs: 1000, Via: pb.NotifyRequest_Escalate_WEB_PUSH}}
	if err := r.notify(t, q); status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), "setting push") {
		t.Errorf("without keys of Web Push: %v", err)
	}
	q.Escalate.Via = pb.NotifyRequest_Escalate_WEBHOOK
	if err := r.notify(t, q); err != nil {
		t.Fatal(err)
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
