package inbox

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"allim/internal/testkit"
	allimv1 "allim/proto/allim/v1"
)

// wantStates wants the pages to be told of these states of calls, in this order and in the end, and returns the last.
func (c *counter) wantStates(want ...string) (last call) {
	c.t.Helper()
	var got []string
	testkit.Eventually(c.t, 10*time.Second, func() bool {
		got = nil
		published, _ := c.rec.told()
		for _, p := range published {
			if err := json.Unmarshal(p.Data, &last); err != nil || p.Event != "call" || !slices.Equal(p.Topics, []string{CallsTopic}) || p.Id != last.ID+"-"+last.State {
				c.t.Fatalf("published %v", p)
			}
			got = append(got, last.State)
		}
		return len(got) >= len(want)
	}, fmt.Sprint(want))
	if !slices.Equal(got, want) {
		c.t.Fatalf("the pages were told of %v, want %v", got, want)
	}
	return last
}

// rings posts what Allim posts when nobody looked.
func (c *counter) rings(id string) int {
	c.t.Helper()
	body := fmt.Sprintf(`{"type":"notification.unseen","timestamp":"2026-11-24T02:00:00.000Z","data":{"user":"ann","id":%q}}`, id)
	res, _ := c.do("POST", "/hook", body, signed(hookSecret, "msg_1", time.Now(), body)...)
	return res.StatusCode
}

func TestAQuestionIsANotificationWithAPhoneBehindIt(t *testing.T) {
	c := open(t, nil)
	c.post(200, "/api/ask", `{"by":"ben","to":"ann"}`)
	_, notified := c.rec.told()
	n := notified[0]
	e := n.Escalate
	if len(notified) != 1 || !slices.Equal(n.To.Users, []string{"ann"}) || n.Category != "question" || !n.Mandatory ||
		e.GetUnless() != allimv1.NotifyRequest_Escalate_SEEN || e.GetAfterMs() != 10_000 || e.GetVia() != allimv1.NotifyRequest_Escalate_WEBHOOK || !bytes.Contains(n.Data, []byte("Ben asks")) {
		t.Errorf("notified %v", notified)
	}
	got := c.wantStates(callWaiting)
	if got.ID != n.Id || got.From != (colleague{"ben", "Ben"}) || got.To != (colleague{"ann", "Ann"}) || got.AfterMS != 10_000 || time.Since(got.At).Abs() > time.Minute {
		t.Errorf("the pages hear of %+v", got)
	}
	if again := c.post(409, "/api/ask", `{"by":"cem","to":"ann"}`); again.Code != "asked" {
		t.Errorf("while ann is asked: %+v", again)
	}
	c.post(200, "/api/ask", `{"by":"ann","to":"ben"}`) // others are not
	if s := c.get(200, "/api/session"); s.Calls != CallsTopic || s.CallAfterMS != 10_000 {
		t.Errorf("the page knows %+v", s)
	}
}

func TestWhoLooksInTimeIsNotCalled(t *testing.T) {
	c := open(t, nil)
	c.post(200, "/api/ask", `{"by":"ben","to":"ann"}`)
	one := c.wantStates(callWaiting)
	c.rec.look()
	c.wantStates(callWaiting, callLooked)
	if got := c.rings(one.ID); got != 204 { // it was on its way
		t.Errorf("a webhook that is late: %d", got)
	}
	c.post(200, "/api/ask", `{"by":"ben","to":"ann"}`)
	if two := c.wantStates(callWaiting, callLooked, callWaiting); two.ID == one.ID {
		t.Errorf("two questions have the id %s", two.ID)
	}
}

func TestThePhoneOfWhoDoesNotLookRingsOnceAndUntilTheyDo(t *testing.T) {
	c := open(t, nil)
	c.post(200, "/api/ask", `{"by":"ben","to":"ann"}`)
	one := c.wantStates(callWaiting)
	for _, id := range []string{"order-1-2", one.ID, one.ID} {
		if got := c.rings(id); got != 204 {
			t.Errorf("%s: %d", id, got)
		}
	}
	c.wantStates(callWaiting, callRings)
	c.rec.look()
	c.wantStates(callWaiting, callRings, callAnswered)
}

func TestAPhoneDoesNotRingForever(t *testing.T) {
	c := newBareCalls(t)
	for _, states := range [][]string{{callWaiting}, {callWaiting, callRings}} {
		if !c.begin("q1", colleague{ID: "ben"}, colleague{ID: "ann"}) {
			t.Fatal("ann is still asked")
		}
		for _, state := range states {
			c.become("q1", state)
		}
		one := c.snapshot()[0]
		one.At = time.Now().Add(-c.after - ringFor - time.Second)
		c.look(t.Context(), one)
		if last := c.drain(); last[len(last)-1] != callMissed || len(c.snapshot()) != 0 {
			t.Errorf("got %v", last)
		}
	}
}

// What the order of the states forbids changes nothing.
func TestACallGoesForwardOnly(t *testing.T) {
	c := newBareCalls(t)
	c.begin("q1", colleague{ID: "ben"}, colleague{ID: "ann"})
	if len(c.snapshot()) != 0 {
		t.Error("a look at a question that nobody has yet says that it was seen")
	}
	for _, state := range []string{callLooked, callRings, callWaiting, callLooked, callRings, callAnswered, callRings, callMissed} {
		c.become("q1", state)
	}
	if got := c.drain(); !slices.Equal(got, []string{callRings, callAnswered}) {
		t.Errorf("got %v", got)
	}
}

type bareCalls struct{ *calls }

func newBareCalls(t *testing.T) bareCalls {
	t.Helper()
	c, err := newCalls(Options{Inbox: allimv1.NewInboxClient(nil), HookSecret: hookSecret}, teller{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return bareCalls{c}
}

// drain are the states that would be published.
func (c bareCalls) drain() (all []string) {
	for len(c.news) > 0 {
		one := <-c.news
		all = append(all, one.State)
	}
	return all
}

func TestAQuestionThatNobodyTookIsNotAsked(t *testing.T) {
	c := open(t, nil)
	c.rec.onNotify = func(n int, req *allimv1.NotifyRequest) (*allimv1.NotifyResponse, error) {
		if n == 1 {
			return nil, status.Error(codes.FailedPrecondition, "escalate.via: no webhook")
		}
		return &allimv1.NotifyResponse{Id: req.Id, Results: []*allimv1.NotifyResult{{User: "ann"}}}, nil
	}
	if got := c.post(502, "/api/ask", `{"by":"ben","to":"ann"}`); got.Code != "not_told" {
		t.Errorf("got %+v", got)
	}
	c.post(200, "/api/ask", `{"by":"ben","to":"ann"}`)
	for _, body := range []string{`{"by":"ben","to":"ben"}`, `{"by":"ben","to":"zoe"}`} {
		if got := c.post(400, "/api/ask", body); got.Code != "bad_to" {
			t.Errorf("%s: %+v", body, got)
		}
	}
	c.post(403, "/api/ask", `{"by":"zoe","to":"ann"}`)
}

func TestWithoutAWebhookNobodyIsCalled(t *testing.T) {
	c := open(t, func(o *Options) { o.HookSecret = "" })
	if s := c.get(200, "/api/session"); s.CallAfterMS != 0 {
		t.Errorf("the page would offer it: %+v", s)
	}
	if got := c.rings("x"); got != http.StatusNotFound {
		t.Errorf("a webhook: %d", got)
	}
	if res, _ := c.do("POST", "/api/ask", `{"by":"ben","to":"ann"}`, "Content-Type: application/json"); res.StatusCode != 404 {
		t.Errorf("a question: %s", res.Status)
	}
	for want, o := range map[string]Options{
		"HookSecret needs Inbox": {HookSecret: hookSecret}, "CallAfter": {HookSecret: hookSecret, Inbox: allimv1.NewInboxClient(nil), CallAfter: time.Millisecond},
		"want whsec_": {HookSecret: "whsec_short", Inbox: allimv1.NewInboxClient(nil)},
	} {
		o.Publisher, o.Users = allimv1.NewPublisherClient(nil), colleagues
		if _, err := New(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v", want, err)
		}
	}
}

func TestAMentionThatWasMutedIsSaid(t *testing.T) {
	c := open(t, nil)
	if got := c.post(200, "/api/mention", `{"by":"ann","to":"ben","text":"x"}`); got.Muted {
		t.Errorf("got %+v", got)
	}
	c.rec.muted = true
	if got := c.post(200, "/api/mention", `{"by":"ann","to":"ben","text":"x"}`); !got.Muted {
		t.Errorf("got %+v", got)
	}
}
