package e2e

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"allim/internal/testkit"
	"allim/test/pods"
)

// The limits of the contract's section 4 that are times, or that a slow client meets.

func TestWhoNeverAnswersAPingIsCut(t *testing.T) {
	t.Parallel()
	stage := pods.Start(t, pods.Options{Publishers: -1})
	gw := stage.Gateways[0]
	lively := pods.Connect(t, gw, pods.Hello{}) // answers, as every WebSocket library does
	start := time.Now()
	m := dialMute(t, gw)
	if op, err := m.next(pods.Within); op != 1 || err != nil {
		t.Fatalf("got opcode %d, %v, want the welcome", op, err)
	}
	const ping, pong = 25 * time.Second, 10 * time.Second
	op, err := m.next(ping * 3 / 2)
	pinged := time.Since(start)
	if op != 9 || err != nil {
		t.Fatalf("got opcode %d, %v, want a ping", op, err)
	}
	if pinged < ping*4/5-time.Second || pinged > ping*6/5+3*time.Second { // looked at once a second, on a busy machine
		t.Errorf("pinged after %v, want 20 to 30 s", pinged)
	}
	if n := gw.Metric("allim_limit_hits_total", "limit", "pong"); n != 0 {
		t.Errorf("the metric is %v before the time is over", n)
	}
	op, err = m.next(pong * 3 / 2)
	waited := time.Since(start) - pinged
	if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("got opcode %d, %v, want a cut connection", op, err)
	}
	if waited < pong-time.Second || waited > pong+3*time.Second {
		t.Errorf("cut %v after the ping, want 10 s", waited)
	}
	testkit.Eventually(t, pods.Within, func() bool { return gw.Metric("allim_limit_hits_total", "limit", "pong") == 1 }, "the metric moves")
	lively.Ping()
}

func TestFiveSecondsToAuthenticate(t *testing.T) {
	t.Parallel()
	stage := pods.Start(t, pods.Options{Publishers: -1, Strict: true})
	gw := stage.Gateways[0]
	hits := func() float64 { return gw.Metric("allim_limit_hits_total", "limit", "auth_timeout") }
	start := time.Now()
	late := pods.Connect(t, gw, pods.Hello{})
	inTime := pods.Connect(t, gw, pods.Hello{})
	late.Send(`{"type":"subscribe","topics":{"a":null},"ref":1}`)
	if f := late.Answer(1); f.Code != "unauthorized" {
		t.Errorf("got %s, want unauthorized", f.Raw)
	}
	testkit.Eventually(t, pods.Within, func() bool { return time.Since(start) > 4*time.Second }, "four seconds are over")
	if !late.Open() || hits() != 0 {
		t.Error("closed before the time was over")
	}
	inTime.Send(map[string]any{"type": "auth", "token": pods.Token(t, "ann", pods.Grant{})})
	inTime.Next("welcome")
	code, _ := late.Closed(pods.Within)
	if took := time.Since(start); code != 4401 || took < 5*time.Second-100*time.Millisecond || took > 8*time.Second {
		t.Errorf("closed with %d after %v, want 4401 after 5 s", code, took)
	}
	if n := hits(); n != 1 {
		t.Errorf("the metric is %v, want 1", n)
	}
	inTime.Ping()
}

// TestAStalledClientLagsAndCatchesUp shuts a client's network until more waits for it than its queue holds, and opens it again.
func TestAStalledClientLagsAndCatchesUp(t *testing.T) {
	t.Parallel()
	stage := pods.Start(t, pods.Options{})
	gw, b := stage.Gateways[0], pods.NewBackend(t, stage.Publishers[0], "default")
	hits := func() float64 { return gw.Metric("allim_limit_hits_total", "limit", "queue") }
	lagging := func() float64 { return gw.Metric("allim_feed_subscriptions_lagging") }
	tap := newTap()
	const topic = "long/stalled"
	token := pods.Token(t, "ann", pods.Grant{Hear: []string{topic}})
	slow := pods.Connect(t, gw, pods.Hello{Token: token, Client: tap.client()})
	fast := pods.Connect(t, gw, pods.Hello{Token: token})
	slow.Next("welcome")
	fast.Next("welcome")
	open := tap.shut()
	defer open()
	slow.Send(`{"type":"ping"}`) // its pong takes the read that was under way when the tap was shut
	big := string(jsonOf(60 << 10))
	n := 0
	for ; lagging() == 0; n++ {
		if n == 1000 {
			t.Fatal("the kernel took 60 MB for a client that reads nothing")
		}
		b.Publish(topic, fmt.Sprint("m", n), big)
	}
	if hits() == 0 {
		t.Error("the subscription lags, but the metric did not move")
	}
	b.Publish(topic, fmt.Sprint("m", n), `"the last"`)
	fast.Await("the last message, without waiting for the slow one", func(f pods.Frame) bool { return f.ID == fmt.Sprint("m", n) })
	open()
	for i := range n + 1 {
		f := slow.Next("message")
		if want := fmt.Sprint("m", i); f.ID != want {
			t.Fatalf("got %s, want %s", f.ID, want)
		}
	}
	slow.Ping()
	for _, f := range slow.Frames() {
		if f.Type == "reset" || f.Type == "error" {
			t.Errorf("got %s", f.Raw)
		}
	}
	testkit.Eventually(t, pods.Within, func() bool { return lagging() == 0 }, "nobody lags")
}

// TestRecoveryIsNoSlowness pulls a history that is many pages long, in messages and in bytes.
func TestRecoveryIsNoSlowness(t *testing.T) {
	t.Parallel()
	stage := pods.Start(t, pods.Options{})
	gw, b := stage.Gateways[0], pods.NewBackend(t, stage.Publishers[0], "default")
	for _, c := range []struct {
		topic string
		n     int
		data  string
	}{
		{"long/many", 3*64 + 1, "1"},
		{"long/large", 65, string(jsonOf(60 << 10))},
	} {
		for i := range c.n {
			b.Publish(c.topic, fmt.Sprint("m", i), c.data)
		}
		page := pods.Connect(t, gw, pods.Hello{Token: pods.Token(t, "ann", pods.Grant{Subscribe: []string{"long/*"}})})
		page.Send(map[string]any{"type": "subscribe", "topics": map[string]any{c.topic: "0"}, "ref": 1})
		page.Answer(1)
		for i := range c.n {
			if f := page.Next("message"); f.ID != fmt.Sprint("m", i) || !strings.HasSuffix(f.Pos, fmt.Sprint(".", i+1)) {
				t.Fatalf("%s: got %s at %s, want m%d", c.topic, f.ID, f.Pos, i)
			}
		}
		page.Ping()
	}
	if n := gw.Metric("allim_session_closes_total", "code", "4408"); n != 0 {
		t.Errorf("%v sessions were closed as too slow", n)
	}
	if n := gw.Metric("allim_resets_total"); n != 0 {
		t.Errorf("%v topics were reset", n)
	}
}
