package session_test

import (
	"fmt"
	"maps"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"allim/internal/session"
	"allim/internal/store"
	"allim/internal/testkit"
	"allim/pkg/notify"
)

// tell writes a notification to a segment.
func (st *stage) tell(segment string, m notify.Message) {
	st.t.Helper()
	m.Change, m.Time, m.Data = notify.ChangeNotification, time.Now(), []byte(`1`)
	st.ok(st.writer.Write(st.ctx, []notify.Stream{{Tenant: "default", Topic: notify.TopicOf(notify.KindSegment, segment)}}, &m, store.Committed))
}

var calledTimes = regexp.MustCompile(`(?m)^cmdstat_([^:]+):calls=(\d+)`)

// calls are how often Redis was asked what, but for what does not depend on anybody: probes of the link, and this question.
func (st *stage) calls() map[string]int {
	st.t.Helper()
	text, err := st.admin.Info(st.ctx, "commandstats").Result()
	if err != nil {
		st.t.Fatal(err)
	}
	n := map[string]int{}
	for _, c := range calledTimes.FindAllStringSubmatch(text, -1) {
		n[c[1]], _ = strconv.Atoi(c[2])
	}
	for _, probe := range []string{"info", "ping", "publish", "subscribe", "unsubscribe"} {
		delete(n, probe)
	}
	return n
}

// A notification for a segment costs Redis the same commands whether one member hears it here or a thousand, badges included.
func TestASegmentsWriteCostsRedisNothingPerMember(t *testing.T) {
	cost := func(members int) map[string]int {
		st := newStage(t, "redis-server")
		names := make([]string, members)
		for i := range names {
			names[i] = fmt.Sprint("user", i)
			st.connect(names[i], []string{"user=" + names[i], "segments=org-7"})
		}
		wantEach := func(id, badge string) {
			t.Helper()
			for _, name := range names {
				testkit.Eventually(t, 20*time.Second, func() bool { return st.clients[name].waiting() >= 2 }, "the notification and the badge of "+name)
				got := strings.Join(st.clients[name].take(), " ")
				if !strings.Contains(got, `"id":"`+id+`"`) || !strings.Contains(got, `"badge":{"unread":`+badge) {
					t.Fatalf("%s got %s", name, got)
				}
			}
		}
		st.settle()
		for _, name := range names {
			st.clients[name].take()
		}
		st.tell("org-7", notify.Message{ID: "n1"}) // the segment begins
		wantEach("n1", "1")
		var least map[string]int
		for n := 2; n < 5; n++ { // of three the cheapest: once in a while the gateway renews what Redis remembers of a topic
			id, before := fmt.Sprint("n", n), st.calls()
			st.tell("org-7", notify.Message{ID: id})
			wantEach(id, fmt.Sprint(n))
			cost, sum, most := st.calls(), 0, 0
			for c, n := range before {
				if cost[c] -= n; cost[c] == 0 {
					delete(cost, c)
				}
				sum, most = sum+cost[c], most+least[c]
			}
			if least == nil || sum < most {
				least = cost
			}
		}
		return least
	}
	one, many := cost(1), cost(1000)
	if !maps.Equal(one, many) || one["xadd"] != 1 {
		t.Errorf("one member costs  %v\na thousand cost   %v", one, many)
	}
}

// The bells of members follow the end of an item, whether or not somebody says that it is over.
func TestABadgeFollowsTheEndOfASegmentsItem(t *testing.T) {
	for _, backend := range []string{"redis-server", "embedded"} {
		t.Run(backend, func(t *testing.T) {
			st := newStage(t, backend)
			st.connect("ann", []string{"user=ann", "segments=org-7"})
			st.settle()
			st.tell("org-7", notify.Message{ID: "n1"})
			st.wantFrame("ann", `"badge":{"unread":1,"unseen":1,"rev"`)
			st.tell("org-7", notify.Message{ID: "n2", Category: "news", ExpiresAt: time.Now().Add(time.Second)})
			st.wantFrame("ann", `"badge":{"unread":2,"unseen":2,"by":{"news":1}`)
			st.wantFrame("ann", `"badge":{"unread":1,"unseen":1,"rev"`)
			if n := len(st.clients["ann"].take()); n != 0 {
				t.Errorf("and %d frames more", n)
			}
		})
	}
}

// Who does not read is told no counts either, and the newest once it does.
func TestAFullQueueTakesNoBadgesAndTheLastOneFollows(t *testing.T) {
	st, hits := bounded(t, session.Limits{QueueFrames: 4})
	st.step(strings.Fields("connect ann user=ann segments=org-7"), "")
	st.step(strings.Fields("connect ben user=ben segments=org-7"), "")
	st.settle()
	st.clients["ann"].take()
	st.clients["ann"].stall(true)
	const n = 12
	for i := range n {
		st.tell("org-7", notify.Message{ID: fmt.Sprint("n", i)})
		st.wantFrame("ben", fmt.Sprintf(`"badge":{"unread":%d,`, i+1))
	}
	if hits("queue") == 0 {
		t.Error("the queue was never full")
	}
	st.clients["ann"].stall(false)
	st.settle()
	got := st.clients["ann"].take()
	testkit.Eventually(t, 10*time.Second, func() bool {
		got = append(got, st.clients["ann"].take()...)
		return strings.Contains(strings.Join(got, " "), fmt.Sprintf(`"badge":{"unread":%d,`, n))
	}, "the newest counts")
	for i := range n {
		if strings.Count(strings.Join(got, "\n"), fmt.Sprintf(`"id":"n%d"`, i)) != 1 {
			t.Errorf("n%d did not come once: %v", i, got)
		}
	}
}

// A segment that cannot be read keeps those away who hear it, and nobody else: not who comes while they wait, nor who is told of marks.
func TestASegmentThatCannotBeReadIsNobodyElsesBusiness(t *testing.T) {
	st := newStage(t, "redis-server")
	st.tell("bad", notify.Message{ID: "n1"})
	st.tell("org-7", notify.Message{ID: "n2"})
	k := st.keys.Segment(notify.Stream{Tenant: "default", Topic: "segment:bad"})
	st.admin.Del(st.ctx, k.Index)
	st.admin.Set(st.ctx, k.Index, "x", 0)
	st.connect("ann", []string{"user=ann", "segments=bad,org-7", "silent"})
	testkit.Eventually(t, 10*time.Second, func() bool {
		text, _ := st.admin.Info(st.ctx, "errorstats").Result()
		return strings.Contains(text, "WRONGTYPE")
	}, "ann's segment is looked at")
	st.connect("ben", []string{"user=ben", "segments=org-7", "silent"})
	testkit.Eventually(t, 4*time.Second, func() bool { return st.clients["ben"].waiting() > 0 }, "the welcome of who does not hear it")
	if n := st.clients["ann"].waiting(); n != 0 {
		t.Errorf("%d frames for who hears it", n)
	}
	st.admin.Del(st.ctx, k.Index) // and it can be read again
	testkit.Eventually(t, 10*time.Second, func() bool { return st.clients["ann"].waiting() > 0 }, "the welcome of who hears it")
	if got := strings.Join(st.clients["ann"].take(), ""); !strings.Contains(got, `"type":"welcome"`) {
		t.Errorf("got %s", got)
	}
}
