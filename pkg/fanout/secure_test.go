package fanout_test

import (
	"testing"

	"github.com/redis/go-redis/v9"

	"allim/internal/keyspace"
	"allim/internal/store"
	"allim/internal/testkit"
	"allim/pkg/fanout"
	"allim/pkg/notify"
)

// The feed as it is in production: the client of a gateway's Store, with TLS and certificates on both sides.
func TestTheFeedWorksOverTLSAndComesBackWithANewCertificate(t *testing.T) {
	t.Parallel()
	a := testkit.NewAuthority(t)
	srv := testkit.RedisTLS(t, a)
	keys, err := keyspace.NewMap(0)
	if err != nil {
		t.Fatal(err)
	}
	cert, key := a.Pair("gateway")
	connect := func(role string) (*redis.Client, *store.Store) {
		c, err := store.Connect(store.Connection{URL: srv.As(role), CAFile: a.CAFile, CertFile: cert, KeyFile: key})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		s, err := store.New(store.Options{Redis: c, Keys: keys})
		if err != nil {
			t.Fatal(err)
		}
		return c.(*redis.Client), s
	}
	rdb, history := connect("gateway")
	_, publisher := connect("publisher")
	b := &bed{RedisServer: srv, keys: keys, client: srv.Client(), gateway: rdb}
	h := b.hub(t, "g1", "", func(o *fanout.Options) { o.History = history })
	s := newSink()
	h.Attach(topic("orders"), fromNow, s)
	wantBegin(t, s, 1)
	ready(t, h)
	publish := func(id string) {
		t.Helper()
		m := &notify.Message{Change: notify.ChangeMessage, ID: id, Data: []byte(`1`)}
		if r := publisher.Write(testkit.Context(t, soon), []notify.Stream{topic("orders")}, m, store.Committed)[0]; r.Err != nil {
			t.Fatal(r.Err)
		}
	}
	publish("before")
	wantInOrder(t, s, 1, 1)
	stranger := testkit.NewAuthority(t)
	stranger.Issue("gateway", cert, key)
	b.killLinks(t)
	testkit.Eventually(t, soon, func() bool { return h.Stats().Generation > 2 && !h.Ready() }, "no link with a certificate that Redis does not know")
	publish("meanwhile")
	a.Issue("gateway", cert, key)
	wantInOrder(t, s, 1, 2)
	ready(t, h)
}
