package store_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"allim/internal/embedded"
	"allim/internal/keyspace"
	"allim/internal/store"
	"allim/internal/testkit"
	"allim/pkg/notify"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// A bench is a Redis of its own with the two stores on it: the gateway's, and the publisher's for what only it does.
type bench struct {
	*testing.T
	*store.Store
	publisher *store.Store

	ctx  context.Context
	rdb  redis.UniversalClient // may do all
	keys *keyspace.Map
	real bool
	as   func(role string) string // URL of the Redis
	opt  store.Options
}

// onEach runs a story on the real Redis, on a cluster and on the embedded one, so that they cannot drift apart.
func onEach(t *testing.T, o store.Options, story func(b *bench)) {
	t.Run("redis-server", func(t *testing.T) { story(realBench(t, o)) })
	t.Run("cluster", func(t *testing.T) {
		b := clusterBench(t, testkit.SharedCluster(t), o)
		b.real = true
		story(b)
	})
	t.Run("embedded", func(t *testing.T) {
		srv, err := embedded.Listen(embedded.Options{})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- srv.Run(ctx) }()
		t.Cleanup(func() { cancel(); <-done })
		story(newBench(t, func(string) string { return srv.URL() }, o))
	})
}

func realBench(t *testing.T, o store.Options) *bench {
	b := newBench(t, testkit.Redis(t).As, o)
	b.real = true
	return b
}

// newBench makes a bench of the Redis that has that URL for each role. change, if any, has a say in each connection.
func newBench(t *testing.T, as func(role string) string, o store.Options, change ...func(*store.Connection)) *bench {
	t.Helper()
	var err error
	if o.Keys, err = keyspace.NewMap(0); err != nil {
		t.Fatal(err)
	}
	b := &bench{T: t, ctx: testkit.Context(t, 30*time.Second), rdb: connect(t, as("admin"), change...), keys: o.Keys, as: as, opt: o}
	b.Store, b.publisher = open(b, connect(t, as("gateway"), change...), o), open(b, connect(t, as("publisher"), change...), o)
	return b
}

func open(b *bench, rdb redis.UniversalClient, o store.Options) *store.Store {
	b.Helper()
	o.Redis = rdb
	s, err := store.New(o)
	if err != nil {
		b.Fatal(err)
	}
	if err := s.Open(b.ctx); err != nil {
		b.Fatal(err)
	}
	return s
}

func connect(t *testing.T, url string, change ...func(*store.Connection)) redis.UniversalClient {
	t.Helper()
	c := store.Connection{URL: url}
	for _, f := range change {
		f(&c)
	}
	rdb, err := store.Connect(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

// Publish is a write of the publisher's.
func (b *bench) Publish(ctx context.Context, to []notify.Stream, m *notify.Message) []store.Result {
	return b.publisher.Write(ctx, to, m, store.Committed)
}

// Counts is the publisher's: a gateway never asks.
func (b *bench) Counts(ctx context.Context, s notify.Stream) (notify.Badge, error) {
	return b.publisher.Counts(ctx, s)
}

func stream(topic string) notify.Stream {
	return notify.Stream{Tenant: notify.DefaultTenant, Topic: notify.Topic(topic)}
}

var ann = stream("user:ann")

func message(id string) *notify.Message {
	return &notify.Message{Change: notify.ChangeMessage, ID: id, Event: "order.updated", Time: time.UnixMilli(1_795_000_000_123).UTC(),
		Data: fmt.Appendf(nil, `{"id":%q}`, id)}
}

func notification(id, category string) *notify.Message {
	m := message(id)
	m.Change, m.Event, m.Category = notify.ChangeNotification, "", category
	return m
}

func (b *bench) publish(s notify.Stream, ids ...string) (last store.Ack) {
	b.Helper()
	for _, id := range ids {
		r := b.Publish(b.ctx, []notify.Stream{s}, message(id))[0]
		if r.Err != nil {
			b.Fatalf("publish %s: %v", id, r.Err)
		}
		last = r.Ack
	}
	return last
}

func (b *bench) notify(s notify.Stream, category string, ids ...string) (last store.Ack) {
	b.Helper()
	for _, id := range ids {
		r := b.Publish(b.ctx, []notify.Stream{s}, notification(id, category))[0]
		if r.Err != nil {
			b.Fatalf("notify %s: %v", id, r.Err)
		}
		last = r.Ack
	}
	return last
}

func (b *bench) mark(s notify.Stream, name string, m store.Mark) store.Marked {
	b.Helper()
	m.Change = notify.Marks[name]
	got, err := b.Mark(b.ctx, s, m)
	if err != nil {
		b.Fatalf("%s %+v: %v", name, m, err)
	}
	return got
}

func (b *bench) recover(s notify.Stream, from notify.Position, limit int) notify.Recovery {
	b.Helper()
	r, err := b.Recover(b.ctx, s, from, limit)
	if err != nil {
		b.Fatalf("recover %s: %v", from, err)
	}
	return r
}

// listen hears the channel of a stream from now on.
func (b *bench) listen(s notify.Stream) *redis.PubSub {
	b.Helper()
	subscribe := b.rdb.Subscribe
	if _, ok := b.rdb.(*redis.ClusterClient); ok {
		subscribe = b.rdb.SSubscribe
	}
	sub := subscribe(b.ctx, b.keys.Channel(s))
	b.Cleanup(func() { _ = sub.Close() })
	if _, err := sub.Receive(b.ctx); err != nil {
		b.Fatal(err)
	}
	return sub
}

// wantBadge compares unread, unseen and the counts by category, written as "2/1 mention=2".
func (b *bench) wantBadge(s notify.Stream, want string) {
	b.Helper()
	badge, err := b.Counts(b.ctx, s)
	if err != nil {
		b.Fatal(err)
	}
	if got := badgeText(&badge); got != want {
		b.Fatalf("badge of %s: got %q, want %q", s.Topic, got, want)
	}
}

func badgeText(badge *notify.Badge) string {
	s := fmt.Sprintf("%d/%d", badge.Unread, badge.Unseen)
	for _, c := range badge.By {
		s += fmt.Sprintf(" %s=%d", c.Category, c.Unread)
	}
	return s
}

// wantList compares a list written as "id" with r for read, s for seen, a for archived behind a slash: "n2 n1/rs".
func (b *bench) wantList(s notify.Stream, q store.Query, want string) store.Page {
	b.Helper()
	p, err := b.List(b.ctx, s, q)
	if err != nil {
		b.Fatal(err)
	}
	b.wantItemsOf(q, p, want)
	return p
}

func (b *bench) wantItemsOf(q store.Query, p store.Page, want string) {
	b.Helper()
	got := ""
	for _, i := range p.Items {
		flags := ""
		for _, f := range []struct {
			on bool
			c  string
		}{{i.Seen, "s"}, {i.Read, "r"}, {i.Archived, "a"}} {
			if f.on {
				flags += f.c
			}
		}
		if flags != "" {
			flags = "/" + flags
		}
		got += " " + i.ID + flags
	}
	if got != "" {
		got = got[1:]
	}
	if got != want {
		b.Fatalf("list %+v: got %q, want %q", q, got, want)
	}
}

func ids(ms []notify.Message) (out []string) {
	for _, m := range ms {
		out = append(out, m.ID)
	}
	return out
}

func (b *bench) dbsize() int64 {
	b.Helper()
	n, err := b.rdb.DBSize(b.ctx).Result()
	if err != nil {
		b.Fatal(err)
	}
	return n
}
