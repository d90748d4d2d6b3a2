package session_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"allim/internal/keyspace"
	"allim/internal/session"
	"allim/internal/store"
	"allim/internal/testkit"
	"allim/pkg/fanout"
	"allim/pkg/notify"
)

// A gate holds what Redis answered to lists of an inbox: the answer is of then, and comes late.
type gate struct {
	testkit.Passes
	mu    sync.Mutex
	held  int
	first bool // only the first list is held
	open  chan struct{}
}

// passed is an open gate.
var passed = func() chan struct{} { ch := make(chan struct{}); close(ch); return ch }()

// listArgs is how many arguments the pipelined command of a list has: EVALSHA, hash, 11, eleven keys and five arguments.
const listArgs = 3 + 11 + 5

func (g *gate) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		err := next(ctx, cmds)
		if len(cmds[0].Args()) == listArgs {
			g.mu.Lock()
			g.held++
			ch := g.open
			if g.first && g.held > 1 {
				ch = passed
			}
			g.mu.Unlock()
			select {
			case <-ch:
			case <-ctx.Done():
			}
		}
		return err
	}
}

func (g *gate) waiting() int { g.mu.Lock(); defer g.mu.Unlock(); return g.held }

// gatedStage is a stage whose sessions list inboxes through a gate.
func gatedStage(t *testing.T) (*stage, *gate) {
	st := newStage(t, "redis-server")
	slow := redis.NewClient(st.rdb.Options())
	t.Cleanup(func() { _ = slow.Close() })
	keys, err := keyspace.NewMap(0)
	if err != nil {
		t.Fatal(err)
	}
	gated, err := store.New(store.Options{Redis: slow, Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := gated.List(st.ctx, notify.Stream{Tenant: "default", Topic: "user:ann"}, store.Query{}); err != nil { // Redis knows the script from now on
		t.Fatal(err)
	}
	g := &gate{open: make(chan struct{})}
	slow.AddHook(g)
	st.sessions = session.New(session.Options{Hub: st.hub, Store: gated, Verify: verifier(t), Tick: 20 * time.Millisecond, Grace: 50 * time.Millisecond})
	run(t, st.sessions.Run)
	return st, g
}

func TestListsNeverOvertakeEachOther(t *testing.T) {
	st, g := gatedStage(t)
	g.first = true
	st.step(strings.Fields("notify ann n1 - 1"), "")
	st.step(strings.Fields("connect ann user=ann inbox=20"), "")
	testkit.Eventually(t, 5*time.Second, func() bool { return g.waiting() == 1 }, "the list of the welcome")
	st.step(strings.Fields("notify ann n2 - 2"), "")
	asked := make(chan struct{})
	go func() { st.clients["ann"].s.Handle([]byte(`{"type":"inbox","ref":5}`)); close(asked) }()
	testkit.Never(t, 200*time.Millisecond, func() bool { // what was read later must not be sent before what was read first
		select {
		case <-asked:
			return true
		default:
			return false
		}
	}, "an answer while an older list is under way")
	close(g.open)
	testkit.Closed(t, 5*time.Second, asked, "the answer")
	st.settle()
	unread := -1
	for _, f := range st.clients["ann"].take() {
		var in struct {
			Type  string
			Items []any
			Badge *struct{ Unread int }
		}
		if err := json.Unmarshal([]byte(f), &in); err != nil {
			t.Fatal(err)
		}
		if in.Badge != nil && in.Badge.Unread < unread || in.Type == "inbox" && len(in.Items) < unread-1 {
			t.Errorf("after %d unread came %s", unread, f)
		}
		if in.Badge != nil {
			unread = in.Badge.Unread
		}
	}
	if unread != 2 {
		t.Errorf("the last badge shows %d", unread)
	}
}

func TestOneListAtATimeHoweverOftenTheInboxIsReset(t *testing.T) {
	st, g := gatedStage(t)
	st.step(strings.Fields("notify ann n1 - 1"), "")
	st.step(strings.Fields("connect ann user=ann inbox=20"), "")
	before := runtime.NumGoroutine()
	s := st.clients["ann"].s
	for range 100 {
		s.Handle([]byte(`{"type":"subscribe","topics":{"me":"aaaaaa.5"}}`))
	}
	if n := runtime.NumGoroutine(); n > before+10 || g.waiting() > 2 {
		t.Errorf("%d goroutines became %d, %d lists at once", before, n, g.waiting())
	}
	close(g.open)
	st.settle()
}

func TestWelcomeComesFirstHoweverFastThePage(t *testing.T) {
	st := newStage(t, "redis-server")
	for i := range 50 {
		p := &peer{wake: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{})}
		p.s = st.sessions.Open(p, session.Hello{}, nil)
		go p.pull()
		p.s.Handle([]byte("Hello Server!"))
		testkit.Eventually(t, 5*time.Second, func() bool { return p.waiting() == 2 }, "welcome and error")
		if f := p.take(); !strings.Contains(f[0], `"welcome"`) || !strings.Contains(f[1], `"bad_frame"`) {
			t.Fatalf("page %d got %v", i, f)
		}
		p.s.Gone()
		close(p.stop)
		<-p.done
	}
}

// A hub that does not run says nothing, so the welcome is held back while the sweep looks at the session again and again.
func TestNothingIsAnnouncedBeforeTheWelcome(t *testing.T) {
	keys, err := keyspace.NewMap(0)
	if err != nil {
		t.Fatal(err)
	}
	sessions := session.New(session.Options{Hub: fanout.New(fanout.Options{Keys: keys}), Verify: verifier(t), Tick: time.Millisecond, Limits: session.Limits{Ping: 5 * time.Millisecond}})
	run(t, sessions.Run)
	text, _ := (&stage{t: t}).token([]string{"user=ann", "exp=5"})
	id, err := verifier(t)(text)
	if err != nil {
		t.Fatal(err)
	}
	p := &peer{wake: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{})}
	p.s = sessions.Open(p, session.Hello{}, id)
	go p.pull()
	defer func() { p.s.Gone(); close(p.stop); <-p.done }()
	testkit.Eventually(t, 5*time.Second, func() bool { p.mu.Lock(); defer p.mu.Unlock(); return p.pings >= 5 }, "five looks of the sweep")
	if f := p.take(); len(f) != 0 {
		t.Fatalf("before the welcome came %v", f)
	}
}

func (st *stage) wantFrame(name, part string) {
	st.t.Helper()
	var all []string
	testkit.Eventually(st.t, 5*time.Second, func() bool {
		all = append(all, st.clients[name].take()...)
		for _, f := range all {
			if strings.Contains(f, part) {
				return true
			}
		}
		return false
	}, fmt.Sprintf("a frame with %s, not only %.2000v", part, all))
}

func TestAHundredTopicsAreTheLimitWhereverTheyComeFrom(t *testing.T) {
	st := newStage(t, "redis-server")
	hear := func(round int) string {
		var names []string
		for i := range 98 {
			names = append(names, fmt.Sprintf("h%d/%d", round, i))
		}
		return "hear=" + strings.Join(names, ",")
	}
	st.step([]string{"connect", "ann", "user=ann", "subscribe=*", hear(1)}, "")
	st.step([]string{"auth", "ann", "user=ann", "subscribe=*", hear(2), "ref=1"}, "")
	st.wantFrame("ann", `"code":"limit","topic":"h2/0"`)
	if n := st.hub.Stats().Subscriptions; n != 100 {
		t.Errorf("%d topics on one connection", n)
	}
	st.step([]string{"send", "ann"}, `send ann {"type":"subscribe","topics":{"x":null},"ref":2}`)
	st.wantFrame("ann", `"ref":2,"code":"limit","topic":"x"`)
}

func TestNamesOfOneFrameAreBounded(t *testing.T) {
	st := newStage(t, "redis-server")
	st.step(strings.Fields("connect ann user=ann"), "")
	names := strings.TrimSuffix(strings.Repeat(`"!",`, 4000), ",")
	st.step([]string{"send", "ann"}, `send ann {"type":"unsubscribe","ref":1,"topics":[`+names+`]}`)
	st.wantFrame("ann", `"ref":1,"code":"limit","message":"topics: expected at most 100 topics in one frame"`)
}

func TestNewTopicsCostWhatTheyCostRedis(t *testing.T) {
	st := newStage(t, "redis-server")
	st.step(strings.Fields("connect ann user=ann subscribe=*"), "")
	s := st.clients["ann"].s
	for round := range 30 {
		var names []string
		for i := range 90 {
			names = append(names, fmt.Sprintf(`"churn/%d/%d":null`, round, i))
		}
		s.Handle([]byte(`{"type":"subscribe","topics":{` + strings.Join(names, ",") + `}}`))
		s.Handle([]byte(strings.NewReplacer(`"subscribe"`, `"unsubscribe"`, ":null", "", "topics\":{", "topics\":[", "}}", "]}").Replace(
			`{"type":"subscribe","topics":{` + strings.Join(names, ",") + `}}`)))
	}
	if n := st.hub.Stats().Topics; n > 1000 { // 200 at once and 50 a second, not 2,700
		t.Errorf("one connection made %d topics", n)
	}
}

// Sessions that come, ask for everything at once and go leave nothing behind.
func TestSessionsUnderStressLeaveNothing(t *testing.T) {
	st := newStage(t, "redis-server")
	for i := range 20 {
		st.step([]string{"notify", "ann", fmt.Sprint("n", i), "-", "1"}, "")
	}
	token := func(args ...string) string { text, _ := st.token(args); return text }
	first, second := token("user=ann", "subscribe=*", "hear=a,b"), token("user=ann", "subscribe=x*")
	frames := []string{`{"type":"subscribe","topics":{"me":"0","user:ann":null,"z":"0","x2":null}}`, `{"type":"unsubscribe","topics":["z","x2"]}`, `{"type":"auth","token":"` + second + `"}`,
		`{"type":"inbox"}`, `{"type":"subscribe","topics":{"me":"aaaaaa.3"},"cursor":"!"}`, `{"type":"read","all":true}`, `nonsense`}
	id, err := verifier(t)(first)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for w := range 16 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(w), 1))
			for range 30 {
				p := &peer{wake: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{})}
				p.s = st.sessions.Open(p, session.Hello{Topics: []string{"q", "x1"}, Inbox: 5, HasCursor: true}, id)
				go p.pull()
				for range rng.IntN(12) {
					p.s.Handle([]byte(frames[rng.IntN(len(frames))]))
				}
				p.s.Gone()
				close(p.stop)
				<-p.done
			}
		})
	}
	wg.Wait()
	testkit.Eventually(t, 20*time.Second, func() bool {
		s := st.hub.Stats()
		return s.Subscriptions == 0 && s.Lagging == 0 && st.sessions.Len() == 0
	}, "everybody is gone")
}

// Who is refused messages since its inbox can not be listed does not read too slowly. It comes back later, and whatever it asked for meanwhile ends.
func TestWhoWaitsForItsInboxTooLongComesBackAndIsNotBlamed(t *testing.T) {
	st, g := gatedStage(t)
	st.step(strings.Fields("notify ann n1 - 1"), "")
	st.step(strings.Fields("connect ann user=ann inbox=20"), "")
	s := st.clients["ann"].s
	testkit.Eventually(t, 5*time.Second, func() bool { return g.waiting() == 1 }, "the list of the welcome")
	st.step(strings.Fields("notify ann n2 - 2"), "")
	testkit.Eventually(t, 5*time.Second, func() bool { return st.hub.Stats().Lagging == 1 }, "the message is refused")
	asked := make(chan struct{})
	go func() { s.Handle([]byte(`{"type":"inbox","ref":5}`)); close(asked) }()
	session.Late(s, 0)
	st.wantFrame("ann", "close 1013 unavailable")
	testkit.Closed(t, 5*time.Second, asked, "the command that waited")
	close(g.open)
	st.step(strings.Fields("connect again user=ann inbox=20"), "")
	st.wantFrame("again", `"id":"n2"`)
}
