package session_test

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"allim/internal/embedded"
	"allim/internal/keyspace"
	"allim/internal/session"
	"allim/internal/store"
	"allim/internal/testkit"
	"allim/pkg/auth"
	"allim/pkg/fanout"
)

// A stage is one gateway's delivery bank without its transport, on a Redis of its own.
type stage struct {
	t        *testing.T
	ctx      context.Context
	rdb      *redis.Client
	admin    *redis.Client
	keys     *keyspace.Map
	inbox    store.Inbox
	store    *store.Store
	writer   *store.Store // a publisher's
	hub      *fanout.Hub
	sessions *session.Sessions
	strict   *session.Sessions // without an anonymous identity
	second   *session.Sessions // of another gateway, so to say
	degraded atomic.Bool
	shutdown map[*session.Sessions]func()
	lost     map[string]kept // what a replica has; nil: everything
	wipe     func()
	embedded *embedded.Server // nil: it is a real one
	clients  map[string]*peer
	order    []string
	names    map[string]string // what stands for epochs
	out      strings.Builder
	cursors  map[string]string
	lastPos  map[string]string // client.topic to position
}

// newStage makes one whose inboxes are as usual, or as the last of inbox says.
func newStage(t *testing.T, backend string, inbox ...store.Inbox) *stage {
	t.Helper()
	st := &stage{t: t, ctx: testkit.Context(t, time.Minute), clients: map[string]*peer{}, names: map[string]string{},
		cursors: map[string]string{}, lastPos: map[string]string{}}
	url, writer, admin := "", "", ""
	if backend == "embedded" {
		srv, err := embedded.Listen(embedded.Options{})
		if err != nil {
			t.Fatal(err)
		}
		run(t, srv.Run)
		st.embedded = srv
		url, writer, admin = srv.URL(), srv.URL(), srv.URL()
	} else {
		srv := testkit.Redis(t, "--enable-debug-command", "yes")
		url, writer, admin = srv.As("gateway"), srv.As("publisher"), srv.As("admin")
	}
	rdb := connect(t, url)
	st.rdb, st.admin = rdb, connect(t, admin)
	st.wipe = func() { st.admin.FlushAll(st.ctx) }
	keys, err := keyspace.NewMap(0)
	if err != nil {
		t.Fatal(err)
	}
	st.keys = keys
	for _, st.inbox = range inbox {
	}
	classes := []store.Class{{Prefix: "short/", History: store.History{Size: 3}}}
	if st.store, err = store.New(store.Options{Redis: rdb, Keys: keys, Classes: classes, Inbox: st.inbox}); err != nil {
		t.Fatal(err)
	}
	if st.writer, err = store.New(store.Options{Redis: connect(t, writer), Keys: keys, Classes: classes, Inbox: st.inbox}); err != nil {
		t.Fatal(err)
	}
	st.hub = fanout.New(fanout.Options{Redis: rdb, Keys: keys, History: st.store, Gateway: "g1", RingSize: 2, Sweep: 20 * time.Millisecond, CheckEvery: -1})
	run(t, st.hub.Run)
	anonymous, err := auth.Anonymous(auth.Grant{Subscribe: []string{"public/*"}, Hear: []string{"public/chat"}, Send: []string{"chat message"}})
	if err != nil {
		t.Fatal(err)
	}
	o := session.Options{Hub: st.hub, Store: st.store, Verify: verifier(t), Tick: 20 * time.Millisecond, BadgePause: 20 * time.Millisecond, Limits: session.Limits{AuthTimeout: 500 * time.Millisecond}}
	st.strict = session.New(o)
	o.Anonymous = anonymous
	st.second = session.New(o)
	o.Degraded, o.Window = st.degraded.Load, time.Minute
	st.sessions = session.New(o)
	st.shutdown = map[*session.Sessions]func(){st.sessions: run(t, st.sessions.Run), st.second: run(t, st.second.Run)}
	run(t, st.strict.Run)
	t.Cleanup(func() {
		for _, p := range st.clients {
			p.s.Gone()
		}
	})
	return st
}

func connect(t *testing.T, url string) *redis.Client {
	t.Helper()
	rdb, err := store.Connect(store.Connection{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = rdb.Close() })
	return rdb.(*redis.Client)
}

// run runs a part until the test ends, or stop is called, which does not wait for it.
func run(t *testing.T, part func(context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- part(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return cancel
}

// storyKey signs the tokens of the stories' users.
var storyKey = []byte("a secret of stories, 32 bytes long")

func verifier(t *testing.T) func(string) (*auth.Identity, error) {
	t.Helper()
	keys, err := auth.NewKeys([]auth.Key{{Algorithm: "HS256", Secret: storyKey, Tenants: []string{"default", "acme"}}})
	if err != nil {
		t.Fatal(err)
	}
	v, err := auth.NewVerifier(auth.Options{Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	return v.Verify
}

func (st *stage) connect(name string, args []string) {
	st.t.Helper()
	h := session.Hello{}
	wait, sessions := true, st.sessions
	for _, a := range args {
		k, v, _ := strings.Cut(a, "=")
		switch k {
		case "topic":
			h.Topics = append(h.Topics, v)
		case "inbox":
			h.Inbox = atoi(v)
		case "origin":
			h.Origin = v
		case "cursor":
			h.HasCursor, h.Cursor = true, st.cursors[v]
			if v != "" && h.Cursor == "" {
				h.Cursor = v
			}
		case "silent":
			wait = false
		case "noanon":
			sessions = st.strict
		case "gateway":
			sessions = st.second
		}
	}
	var id *auth.Identity
	if text, ok := st.token(args); ok {
		var err error
		if id, err = verifier(st.t)(text); err != nil {
			st.t.Fatal(auth.Why(err))
		}
	}
	p := &peer{wake: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{})}
	p.s = sessions.Open(p, h, id)
	go p.pull()
	st.t.Cleanup(func() { close(p.stop); <-p.done })
	st.clients[name] = p
	if !slices.Contains(st.order, name) {
		st.order = append(st.order, name)
	}
	if wait {
		testkit.Eventually(st.t, 10*time.Second, func() bool { return p.waiting() > 0 }, "the first frame for "+name)
	}
}

// token is what the arguments ask for; ok is false where they name no user.
func (st *stage) token(args []string) (token string, ok bool) {
	st.t.Helper()
	grant := map[string]any{}
	claims := map[string]any{"exp": time.Now().Add(time.Hour).Unix(), "allim": grant}
	for _, a := range args {
		switch k, v, _ := strings.Cut(a, "="); k {
		case "user":
			claims["sub"], ok = v, true
		case "subscribe", "hear", "segments", "send":
			grant[k] = strings.Split(v, ",")
		case "tenant":
			grant[k] = v
		case "iat":
			claims["iat"] = time.Now().Add(time.Duration(atoi(v)-30) * time.Second).Unix()
		case "exp":
			claims["exp"] = time.Now().Add(time.Duration(atoi(v)) * time.Second).Unix()
		}
	}
	token, err := auth.Sign(auth.SigningKey{Algorithm: "HS256", Secret: storyKey}, claims)
	if err != nil {
		st.t.Fatal(err)
	}
	return token, ok
}

func atoi(s string) int {
	n, _ := strconv.Atoi(s)
	return n
}
