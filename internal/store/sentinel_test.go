package store_test

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"allim/internal/store"
	"allim/internal/testkit"
	"allim/pkg/notify"
)

// soonAfter is how long writes may fail after the Sentinels know a new primary.
const soonAfter = 5 * time.Second

// behind is a connection to the primary of w for a role.
func behind(t *testing.T, w *testkit.Watched, role string) store.Connection {
	t.Helper()
	name, pass := testkit.User(t, role)
	return store.Connection{URL: w.As(role), Sentinel: store.Sentinel{Master: testkit.WatchedName, Addresses: w.Addresses(), Username: name, Password: pass}}
}

func connected(t *testing.T, c store.Connection) redis.UniversalClient {
	t.Helper()
	rdb, err := store.Connect(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

// An answer that was on its way while a failover was heard of from another question must not set the former primary back.
func TestAnAnswerFromBeforeAFailoverDoesNotCountAfterIt(t *testing.T) {
	for _, c := range []struct {
		epoch, known, asked int64
		want                string
	}{
		{epoch: 2, known: 1, asked: 1, want: "new"},
		{epoch: 1, known: 2, asked: 1, want: "known"},
		{epoch: 1, known: 2, asked: 2, want: "new"}, // they were set up anew, since all say so now
	} {
		if got := store.Primary("new", c.epoch, c.known, c.asked); got != c.want {
			t.Errorf("%+v: got %s", c, got)
		}
	}
}

func TestAFailoverMovesWritesReadsAndLinks(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*testkit.RedisServer){"killed": (*testkit.RedisServer).Stop, "frozen": (*testkit.RedisServer).Pause} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, ctx := testkit.Sentinel(t, testkit.SentinelOptions{}), testkit.Context(t, time.Minute)
			publisher, gateway := storeOn(t, connected(t, behind(t, w, "publisher"))), connected(t, behind(t, w, "gateway"))
			if err := publisher.Open(ctx); err != nil {
				t.Fatal(err)
			}
			if r := publisher.Write(ctx, []notify.Stream{stream("a")}, message("before"), store.Committed)[0]; r.Err != nil {
				t.Fatal(r.Err)
			}
			link := gateway.Subscribe(ctx, "al:{0}:probe:x")
			defer link.Close()
			if _, err := link.Receive(ctx); err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() { _, err := link.Receive(ctx); ended <- err }()

			end(w.Servers[0])
			w.Promoted(w.Servers[0], 30*time.Second)
			start := time.Now()
			testkit.EventuallyNil(t, soonAfter, func() error {
				call := testkit.Context(t, time.Second)
				return publisher.Write(call, []notify.Stream{stream("a")}, message("after"), store.Committed)[0].Err
			}, "a write to the new primary")
			t.Logf("the first write %v after the promotion", time.Since(start).Round(time.Millisecond))
			var got notify.Recovery
			testkit.EventuallyNil(t, soonAfter, func() (err error) {
				got, err = storeOn(t, gateway).Recover(testkit.Context(t, time.Second), stream("a"), notify.Position{}, 10)
				return err
			}, "a read of the new primary")
			if list := strings.Join(ids(got.Messages), " "); !strings.HasSuffix(list, "after") {
				t.Errorf("the new primary has %q", list)
			}
			if err := testkit.Receive(t, soonAfter, ended, "the link to the old primary ends"); err == nil {
				t.Error("the link received something")
			}
		})
	}
}

// A Sentinel on the machine of the primary is frozen with it.
func TestAFailoverIsFollowedWhileASentinelIsFrozen(t *testing.T) {
	t.Parallel()
	w, ctx := testkit.Sentinel(t, testkit.SentinelOptions{}), testkit.Context(t, time.Minute)
	for _, frozen := range w.Sentinels {
		frozen.Pause()
		c := connected(t, behind(t, w, "publisher"))
		start := time.Now()
		if err := c.Ping(ctx).Err(); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took > 2*time.Second {
			t.Errorf("a client connected after %v", took)
		}
		frozen.Resume()
	}
	c := connected(t, behind(t, w, "publisher"))
	if err := c.Ping(ctx).Err(); err != nil {
		t.Fatal(err)
	}
	w.Sentinels[0].Pause()
	w.Servers[0].Pause()
	w.Promoted(w.Servers[0], 30*time.Second)
	testkit.EventuallyNil(t, soonAfter, func() error { return c.Ping(testkit.Context(t, time.Second)).Err() }, "a command to the new primary")
}

// One address is enough: it knows the others.
func TestSentinelsThatNobodyNamedAreAsked(t *testing.T) {
	t.Parallel()
	w, ctx := testkit.Sentinel(t, testkit.SentinelOptions{}), testkit.Context(t, time.Minute)
	one := behind(t, w, "gateway")
	one.Sentinel.Addresses = one.Sentinel.Addresses[:1]
	c := connected(t, one)
	testkit.EventuallyNil(t, soonAfter, func() error {
		if err := c.Ping(ctx).Err(); err != nil {
			return err
		}
		for _, s := range w.Sentinels {
			if list := s.Client().ClientList(ctx).Val(); !strings.Contains(list, "user=allim-gateway") {
				return errors.New(s.Addr + " is not asked")
			}
		}
		return nil
	}, "all Sentinels are asked")
	w.Sentinels[0].Stop()
	if err := fresh(ctx, c); err != nil {
		t.Errorf("without the one that was named: %v", err)
	}
}

func TestANewPasswordOfTheSentinelsNeedsNoRestart(t *testing.T) {
	t.Parallel()
	w, ctx := testkit.Sentinel(t, testkit.SentinelOptions{}), testkit.Context(t, time.Minute)
	name, pass := testkit.User(t, "gateway")
	path := put(t, filepath.Join(t.TempDir(), "password"), "not yet\n")
	c := connected(t, store.Connection{URL: w.As("gateway"), Sentinel: store.Sentinel{Master: testkit.WatchedName, Addresses: w.Addresses(), Username: name, PasswordFile: path}})
	err := c.Ping(ctx).Err()
	if err == nil || !strings.Contains(err.Error(), "WRONGPASS") || strings.Contains(err.Error(), "not yet") {
		t.Errorf("with a wrong password: %v", err)
	}
	if _, err := storeOn(t, c).Tops(ctx, []notify.Stream{ann}); !errors.Is(err, notify.ErrUnavailable) {
		t.Errorf("with a wrong password: got %v, want %v", err, notify.ErrUnavailable)
	}
	put(t, path, pass+"\n")
	if err := c.Ping(ctx).Err(); err != nil {
		t.Errorf("with the right one: %v", err)
	}
}

func TestAPrimaryThatSentinelsDoNotKnowIsAnOutage(t *testing.T) {
	t.Parallel()
	w, ctx := testkit.Sentinel(t, testkit.SentinelOptions{}), testkit.Context(t, time.Minute)
	other := behind(t, w, "gateway")
	other.Sentinel.Master = "other"
	_, err := storeOn(t, connected(t, other)).Tops(ctx, []notify.Stream{ann})
	if !errors.Is(err, notify.ErrUnavailable) || !strings.Contains(err.Error(), `"other"`) || !strings.Contains(err.Error(), "No such master") {
		t.Errorf("got %v", err)
	}
	for _, s := range w.Sentinels {
		s.Stop()
	}
	if err := connected(t, behind(t, w, "gateway")).Ping(ctx).Err(); err == nil || !strings.Contains(err.Error(), "ask 3 Sentinels") {
		t.Errorf("without Sentinels: %v", err)
	}
}

func TestSentinelsAndRedisSpeakTLS(t *testing.T) {
	t.Parallel()
	a, others := testkit.NewAuthority(t), testkit.NewAuthority(t)
	w, ctx := testkit.Sentinel(t, testkit.SentinelOptions{TLS: a}), testkit.Context(t, time.Minute)
	c := behind(t, w, "gateway")
	c.CAFile = a.CAFile
	c.CertFile, c.KeyFile = a.Pair("gateway")
	if err := connected(t, c).Ping(ctx).Err(); err != nil {
		t.Fatal(err)
	}
	c.CAFile = others.CAFile
	if err := connected(t, c).Ping(ctx).Err(); err == nil || !strings.Contains(err.Error(), "unknown authority") {
		t.Errorf("with Sentinels of another authority: %v", err)
	}
}
