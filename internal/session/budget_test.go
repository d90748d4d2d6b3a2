package session_test

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"allim/internal/keyspace"
	"allim/internal/session"
	"allim/internal/store"
	"allim/internal/testkit"
	"allim/pkg/auth"
	"allim/pkg/fanout"
)

// idle is a connection that costs nothing of its own.
type idle struct{ s *session.Session }

func (*idle) Wake()  {}
func (*idle) Ping()  {}
func (*idle) Abort() {}

// The budget of delivery.md ("The gateway"): at most 1.5 KB per session with its own stream and the segment of all, its identity included, its topics
// not, which pkg/fanout measures.
func TestSessionFitsItsBudget(t *testing.T) {
	rdb, err := store.Connect(store.Connection{URL: testkit.Redis(t).As("gateway")})
	if err != nil {
		t.Fatal(err)
	}
	defer rdb.Close()
	keys, err := keyspace.NewMap(0)
	if err != nil {
		t.Fatal(err)
	}
	st, err := store.New(store.Options{Redis: rdb, Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	hub := fanout.New(fanout.Options{Redis: rdb, Keys: keys, History: st, Gateway: "g1"})
	run(t, hub.Run)
	sessions := session.New(session.Options{Hub: hub, Store: st, Verify: verifier(t)})
	run(t, sessions.Run)

	const n, topics = 10_000, 100 // topics are few, so that their cost does not count
	conns := make([]idle, n)
	open := func(c *idle, i int) {
		text, err := auth.Sign(auth.SigningKey{Algorithm: "HS256", Secret: storyKey}, map[string]any{
			"sub": fmt.Sprint("user-", i%topics), "exp": time.Now().Add(time.Hour).Unix(), "allim": map[string]any{"subscribe": []string{"orders/*"}}})
		if err != nil {
			t.Fatal(err)
		}
		id, err := verifier(t)(text)
		if err != nil {
			t.Fatal(err)
		}
		c.s = sessions.Open(c, session.Hello{Origin: fmt.Sprintf("origin-of-page-%05d", i), Cursor: "", HasCursor: true}, id)
	}
	warm := make([]idle, topics)
	for i := range warm {
		open(&warm[i], i)
	}
	drain(t, warm)
	before := heap()
	for i := range conns {
		open(&conns[i], i)
	}
	drain(t, conns)
	per := int64(heap()-before) / n
	t.Logf("%d B per session with its own stream and the segment of all", per)
	if per > 1536 {
		t.Errorf("%d B per session, budget 1,536", per)
	}
	for i := range conns {
		conns[i].s.Gone()
	}
	for i := range warm {
		warm[i].s.Gone()
	}
}

// drain pulls every session's welcome.
func drain(t *testing.T, conns []idle) {
	t.Helper()
	for i := range conns {
		testkit.Eventually(t, 20*time.Second, func() bool { f, _ := conns[i].s.Pull(); return f != nil }, "a welcome")
	}
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
