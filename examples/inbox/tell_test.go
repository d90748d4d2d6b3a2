package inbox

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	allimv1 "allim/proto/allim/v1"
)

func TestACallWithUnknownOutcomeIsRepeatedWithTheSameID(t *testing.T) {
	c := open(t, nil)
	c.rec.onPublish = func(call int) error {
		if call < 3 {
			return status.Error(codes.Unavailable, "redis is away")
		}
		return nil
	}
	if got := c.post(201, "/api/orders", `{"by":"ann"}`); got.Warning != "" {
		t.Errorf("got warning %q, want none: the third try worked", got.Warning)
	}
	published, _ := c.rec.told()
	if len(published) != 3 || published[0].Id != published[1].Id || published[1].Id != published[2].Id {
		t.Errorf("got %v, want three tries with one id", published)
	}
}

func TestOnlyThoseWhomANotifyDidNotReachAreTriedAgain(t *testing.T) {
	c := open(t, nil)
	c.rec.onNotify = func(call int, req *allimv1.NotifyRequest) (*allimv1.NotifyResponse, error) {
		reply := &allimv1.NotifyResponse{Id: req.Id}
		for _, user := range req.To.Users {
			result := &allimv1.NotifyResult{User: user}
			if call == 1 && user == "cem" {
				result.Code = code.Code_UNAVAILABLE
			}
			reply.Results = append(reply.Results, result)
		}
		return reply, nil
	}
	if got := c.post(201, "/api/orders", `{"by":"ann"}`); got.Warning != "" {
		t.Errorf("got warning %q, want none", got.Warning)
	}
	_, notified := c.rec.told()
	if len(notified) != 2 || !slices.Equal(notified[1].To.Users, []string{"cem"}) || notified[0].Id != notified[1].Id {
		t.Errorf("got %v, want ben and cem, then cem alone with the same id", notified)
	}
}

func TestARefusalIsToldToThePersonAndLoggedAndNotRepeated(t *testing.T) {
	c := open(t, nil)
	c.rec.onPublish = func(int) error { return status.Error(codes.PermissionDenied, "key may not publish here") }
	made := c.post(201, "/api/orders", `{"by":"ann"}`)
	if !strings.Contains(made.Warning, "did not take the news") {
		t.Errorf("got warning %q, want one", made.Warning)
	}
	if strings.Contains(made.Warning, "key may not") || !strings.Contains(c.log.String(), "key may not publish here") {
		t.Errorf("warning %q, log %q: the reason belongs into the log alone", made.Warning, c.log)
	}
	published, notified := c.rec.told()
	if len(published) != 1 || len(notified) != 1 {
		t.Errorf("got %d publications and %d notifications, want one try each", len(published), len(notified))
	}
	if first := c.get(200, "/api/orders").Orders[0]; first.ID != made.Order.ID {
		t.Errorf("newest order is %d, want %d: the change itself stands", first.ID, made.Order.ID)
	}
}

func TestAMentionThatNobodyTookFails(t *testing.T) {
	c := open(t, nil)
	c.rec.onNotify = func(int, *allimv1.NotifyRequest) (*allimv1.NotifyResponse, error) {
		return nil, status.Error(codes.ResourceExhausted, "slow down")
	}
	if got := c.post(502, "/api/mention", `{"by":"ann","to":"ben","text":"hello"}`); got.Code != "not_told" {
		t.Errorf("got %+v, want not_told", got)
	}
	if log := c.log.String(); !strings.Contains(log, "slow down") || strings.Contains(log, "hello") {
		t.Errorf("log %q: want the reason and not the text", log)
	}
}

func TestAChangeIsToldThoughThePersonClosedThePage(t *testing.T) {
	c := open(t, nil)
	rec := &recorder{}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	tell := teller{to: rec.client(t)}
	if err := tell.changed(gone, "order.updated", order{ID: 1, Version: 2}, []string{"ben"}, notice{Title: "x"}); err != nil {
		t.Errorf("got %v, want it told", err)
	}
	if published, notified := rec.told(); len(published) != 1 || len(notified) != 1 {
		t.Errorf("got %d publications and %d notifications, want one of each", len(published), len(notified))
	}
	c.wantNothingTold()
}

func TestTriesEndWithTheTimeTheyHave(t *testing.T) {
	rec := &recorder{onPublish: func(int) error { return status.Error(codes.Unavailable, "away") }}
	tell := teller{to: rec.client(t)}
	short, cancel := context.WithTimeout(t.Context(), tryAgainIn/3)
	defer cancel()
	began := time.Now()
	err := tell.publish(short, "order-1-2", Topic, "order.updated", order{ID: 1, Version: 2})
	if took := time.Since(began); err == nil || took >= tryAgainIn {
		t.Errorf("got %v after %v, want an error before the pause of %v is over", err, took, tryAgainIn)
	}
}
