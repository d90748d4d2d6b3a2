package session_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"allim/internal/session"
	"allim/internal/store"
	"allim/internal/testkit"
	"allim/pkg/auth"
	"allim/pkg/notify"
)

// bounded is a stage whose sessions have limits and count what meets them.
func bounded(t *testing.T, l session.Limits) (*stage, func(limit string) float64) {
	st, registry := newStage(t, "redis-server"), prometheus.NewRegistry()
	st.sessions = session.New(session.Options{Hub: st.hub, Store: st.store, Verify: verifier(t), Tick: 20 * time.Millisecond, Grace: 50 * time.Millisecond, Limits: l, Metrics: session.NewMetrics(registry)})
	run(t, st.sessions.Run)
	return st, func(limit string) float64 { return hits(t, registry, limit) }
}

func hits(t *testing.T, r *prometheus.Registry, limit string) float64 {
	t.Helper()
	return testkit.Metric(t, r, "allim_limit_hits_total", limit)
}

// Each limit is set small and met: what is at it passes, one more is refused in words that name it, and counted.
func TestLimitsAreThoseOfTheOptions(t *testing.T) {
	ids := func(n int) string {
		return strings.TrimSuffix(strings.Repeat(`"i",`, n), ",")
	}
	for _, c := range []struct {
		name, limit string
		limits      session.Limits
		connect     string // what it connects with
		at, over    string // frames
		passes, not string // parts of the answers
	}{
		{"topics asked for", "topics", session.Limits{Topics: 4}, "subscribe=*", `{"type":"subscribe","topics":{"a":null,"b":null},"ref":1}`, `{"type":"subscribe","topics":{"c":null},"ref":2}`,
			`{"type":"subscribed","ref":1`, `"ref":2,"code":"limit","topic":"c"`},
		{"topics of one frame", "topics", session.Limits{Topics: 4}, "subscribe=*", `{"type":"subscribe","topics":{"a":null,"b":null,"me":null,"segment:all":null},"ref":1}`, `{"type":"subscribe","topics":{"a":null,"b":null,"me":null,"segment:all":null,"!":null},"ref":2}`,
			`{"type":"subscribed","ref":1`, `"ref":2,"code":"limit","message":"topics: expected at most 4 topics in one frame"`},
		{"topics left in one frame", "topics", session.Limits{Topics: 3}, "", `{"type":"unsubscribe","topics":["a","b","c"],"ref":1}`, `{"type":"unsubscribe","topics":["a","b","c","d"],"ref":2}`,
			`"ref":1`, `"ref":2,"code":"limit","message":"topics: expected at most 3 topics in one frame"`},
		{"more topics than by default", "topics", session.Limits{Topics: 103}, "subscribe=*", `{"type":"subscribe","topics":{` + numbered(101) + `},"ref":1}`, `{"type":"subscribe","topics":{"one more":null,"c":null},"ref":2}`,
			`{"type":"subscribed","ref":1`, `"ref":2,"code":"limit","topic":"c"`},
		{"ids of a mark", "mark_ids", session.Limits{MarkIDs: 2}, "", `{"type":"read","ids":[` + ids(2) + `],"ref":1}`, `{"type":"read","ids":[` + ids(3) + `],"ref":2}`,
			`{"type":"ok","ref":1`, `"ref":2,"code":"bad_frame","message":"ids: expected at most 2, not 3"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			st, hits := bounded(t, c.limits)
			st.step(append([]string{"connect", "ann", "user=ann"}, strings.Fields(c.connect)...), "")
			st.clients["ann"].s.Handle([]byte(c.at))
			st.wantFrame("ann", c.passes)
			if n := hits(c.limit); n != 0 {
				t.Errorf("at the bound: counted %v", n)
			}
			st.clients["ann"].s.Handle([]byte(c.over))
			st.wantFrame("ann", c.not)
			if n := hits(c.limit); n != 1 {
				t.Errorf("over it: counted %v", n)
			}
		})
	}
}

func numbered(n int) string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf(`"t/%d":null`, i)
	}
	return strings.Join(all, ",")
}

func TestTokensAreWithinTheLimitsOfTheOptions(t *testing.T) {
	st := newStage(t, "redis-server")
	at, _ := st.token([]string{"user=ann", "hear=a,b"})
	over, _ := st.token([]string{"user=ann", "hear=a,b,c"})
	for _, c := range []struct {
		name, limit, token, why string
		limits                  session.Limits
	}{
		{"its topics", "", at, "", session.Limits{Topics: 4}},
		{"one topic more", "token_topics", over, "hear: expected at most 4 topics with the own stream and the segments, all among them, not 5", session.Limits{Topics: 4}},
		{"its bytes", "", at, "", session.Limits{Token: len(at)}},
		{"one byte more", "token_bytes", at, fmt.Sprintf("token: expected at most %d bytes, not %d", len(at)-1, len(at)), session.Limits{Token: len(at) - 1}},
	} {
		registry := prometheus.NewRegistry()
		sessions := session.New(session.Options{Limits: c.limits, Metrics: session.NewMetrics(registry)})
		id, err := sessions.Within(verifier(t))(c.token)
		if c.limit == "" && (err != nil || id == nil) || c.limit != "" && (err == nil || id != nil || session.WhyRefused(err) != c.why) {
			t.Errorf("%s: got %v, %v", c.name, id, err)
		}
		for _, name := range []string{"token_topics", "token_bytes"} {
			want := 0.0
			if name == c.limit {
				want = 1
			}
			if n := hits(t, registry, name); n != want {
				t.Errorf("%s: %s counted %v times", c.name, name, n)
			}
		}
	}
	// What the verifier itself refuses for its number of topics is the same limit.
	registry := prometheus.NewRegistry()
	sessions := session.New(session.Options{Metrics: session.NewMetrics(registry)})
	tooMany := fmt.Errorf("%w: %w", notify.ErrUnauthorized, notify.ErrLimit)
	if _, err := sessions.Within(func(string) (*auth.Identity, error) { return nil, tooMany })("x"); !errors.Is(err, tooMany) || hits(t, registry, "token_topics") != 1 {
		t.Errorf("got %v, counted %v", err, hits(t, registry, "token_topics"))
	}
}

func TestATokenOverALimitEndsItsConnection(t *testing.T) {
	st, hits := bounded(t, session.Limits{Topics: 3})
	st.step([]string{"connect", "ann", "user=ann"}, "")
	token, _ := st.token([]string{"user=ann", "hear=a,b,c"})
	st.clients["ann"].s.Handle(fmt.Appendf(nil, `{"type":"auth","token":%q,"ref":1}`, token))
	st.wantFrame("ann", "close 4401")
	if n := hits("token_topics"); n != 1 {
		t.Errorf("counted %v", n)
	}
}

func TestTimeToAuthenticateIsThatOfTheOptions(t *testing.T) {
	st, hits := bounded(t, session.Limits{AuthTimeout: 50 * time.Millisecond})
	st.step([]string{"connect", "page", "silent"}, "")
	st.wantFrame("page", "close 4401")
	if n := hits("auth_timeout"); n != 1 {
		t.Errorf("counted %v", n)
	}
}

// Who reads nothing is sent no more than the queue takes, and all of the rest once it reads again.
func TestTheQueueIsThatOfTheOptions(t *testing.T) {
	for name, l := range map[string]session.Limits{"frames": {QueueFrames: 4}, "bytes": {Queue: 600}} {
		t.Run(name, func(t *testing.T) {
			st, hits := bounded(t, l)
			st.step(strings.Fields("connect ann user=ann hear=a"), "")
			st.settle()
			st.clients["ann"].take()
			st.clients["ann"].stall(true)
			for i := range 10 {
				st.publish("a", fmt.Sprint("m", i))
			}
			testkit.Eventually(t, 5*time.Second, func() bool { return hits("queue") > 0 }, "a message that waits elsewhere")
			st.clients["ann"].stall(false)
			st.wantFrame("ann", `"id":"m9"`)
		})
	}
}

// What is of its moment gives way to what is newer, and to nothing else.
func TestASlowReaderGetsTheNewestEphemeralMessages(t *testing.T) {
	st, registry := newStage(t, "redis-server"), prometheus.NewRegistry()
	st.sessions = session.New(session.Options{Hub: st.hub, Store: st.store, Verify: verifier(t), Grace: 50 * time.Millisecond, Limits: session.Limits{QueueFrames: 4}, Metrics: session.NewMetrics(registry)})
	run(t, st.sessions.Run)
	st.step(strings.Fields("connect ann user=ann hear=a"), "")
	st.step(strings.Fields("connect ben user=ben hear=a"), "") // is given each message after ann
	st.settle()
	st.clients["ann"].take()
	st.clients["ben"].take()
	st.clients["ann"].stall(true)
	want := []string{"m0", "t7", "t8", "t9"}
	heard := 0
	for i := range 10 {
		if i == 2 {
			st.publish("a", "m0")
			heard++
		}
		st.step(strings.Fields(fmt.Sprintf("ephemeral a t%d 1", i)), "")
		heard++
		testkit.Eventually(t, 5*time.Second, func() bool { return st.clients["ben"].waiting() == heard }, "who reads has it")
	}
	st.clients["ann"].stall(false)
	testkit.Eventually(t, 5*time.Second, func() bool { return st.clients["ann"].waiting() >= len(want) }, "the newest")
	got := st.clients["ann"].take()
	for i, id := range want {
		if len(got) != len(want) || !strings.Contains(got[i], `"id":"`+id+`"`) {
			t.Fatalf("got %v, want %v", got, want)
		}
	}
	if n := testkit.Metric(t, registry, "allim_ephemeral_drops_total", "oldest"); n != 7 {
		t.Errorf("counted %v drops, want 7", n)
	}
	if s := st.hub.Stats(); s.Lagging != 0 || s.Dropped["ephemeral_refused"] != 0 {
		t.Errorf("%d lag, %d refused", s.Lagging, s.Dropped["ephemeral_refused"])
	}
}

func (st *stage) publish(topic, id string) {
	st.t.Helper()
	m := &notify.Message{Change: notify.ChangeMessage, ID: id, Event: "e", Time: time.Now(), Data: []byte(`1`)}
	for _, r := range st.writer.Write(st.ctx, []notify.Stream{{Tenant: "default", Topic: notify.Topic(topic)}}, m, store.Committed) {
		if r.Err != nil {
			st.t.Fatal(r.Err)
		}
	}
}
