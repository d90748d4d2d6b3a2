package store_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"allim/internal/store"
	"allim/internal/testkit"
	"allim/pkg/notify"
)

func put(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestMistakesInAConnectionAreNamed(t *testing.T) {
	dir := t.TempDir()
	a := testkit.NewAuthority(t)
	cert, key := a.Pair("x")
	_, otherKey := a.Pair("y")
	file, empty, gone := put(t, filepath.Join(dir, "file"), "text\n"), put(t, filepath.Join(dir, "empty"), "\r\n"), filepath.Join(dir, "gone")
	large := put(t, filepath.Join(dir, "large"), strings.Repeat("x", 2<<20))
	const plain, secure, named = "redis://h", "rediss://h", "redis://u:sesame@h"
	hosts := []string{"h:1", "[::1]:2"}
	for _, c := range []struct {
		field, want string
		c           store.Connection
	}{
		{"redis.url", "a URL", store.Connection{}},
		{"redis.url", "port", store.Connection{URL: "redis://h:65536"}},
		{"redis.url", "port", store.Connection{URL: "rediss://u:p@[::1]:0/3"}},
		{"redis.url", "scheme", store.Connection{URL: "http://h"}},
		{"redis.url", "%XX", store.Connection{URL: "redis://u:sesame/open@h"}},
		{"redis.url", "%XX", store.Connection{URL: "redis://u:sesame%zz@h"}},
		{"redis.url", "no parameter max_retries", store.Connection{URL: plain + "?max_retries=3"}},
		{"redis.url", "no parameter read_timeout", store.Connection{URL: plain + "?read_timeout=0"}},
		{"redis.url", "no parameter skip_verify", store.Connection{URL: secure + "?skip_verify=true"}},
		{"redis.url", "no parameter nonsense", store.Connection{URL: plain + "?nonsense=1"}},
		{"redis.url", "pool_size", store.Connection{URL: plain + "?pool_size=many"}},
		{"redis.pool_size", "at least 1", store.Connection{URL: plain, PoolSize: -1}},
		{"redis.pool_size", "redis.url", store.Connection{URL: plain + "?pool_size=3", PoolSize: 3}},
		{"redis.username", "redis.url", store.Connection{URL: named, Username: "v"}},
		{"redis.username_file", "redis.url", store.Connection{URL: named, UsernameFile: file}},
		{"redis.password", "redis.url", store.Connection{URL: named, Password: "v"}},
		{"redis.password_file", "redis.url", store.Connection{URL: named, PasswordFile: file}},
		{"redis.username_file", "redis.username", store.Connection{URL: plain, Username: "u", UsernameFile: file, Password: "p"}},
		{"redis.password_file", "redis.password", store.Connection{URL: plain, Password: "p", PasswordFile: file}},
		{"redis.password", "since a user", store.Connection{URL: plain, Username: "u"}},
		{"redis.password", "since a user", store.Connection{URL: plain, UsernameFile: file}},
		{"redis.username_file", "no such file", store.Connection{URL: plain, UsernameFile: gone, Password: "p"}},
		{"redis.password_file", "no such file", store.Connection{URL: plain, PasswordFile: gone}},
		{"redis.password_file", "empty", store.Connection{URL: plain, PasswordFile: empty}},
		{"redis.password_file", "larger", store.Connection{URL: plain, PasswordFile: large}},
		{"redis.password_file", "directory", store.Connection{URL: plain, PasswordFile: dir}},
		{"redis.ca_file", "rediss://", store.Connection{URL: plain, CAFile: a.CAFile}},
		{"redis.cert_file", "rediss://", store.Connection{URL: plain, CertFile: cert, KeyFile: key}},
		{"redis.key_file", "rediss://", store.Connection{URL: "unix:///x", KeyFile: key}},
		{"redis.ca_file", "no such file", store.Connection{URL: secure, CAFile: gone}},
		{"redis.ca_file", "PEM", store.Connection{URL: secure, CAFile: file}},
		{"redis.key_file", "the key of", store.Connection{URL: secure, CertFile: cert}},
		{"redis.cert_file", "the certificate of", store.Connection{URL: secure, KeyFile: key}},
		{"redis.cert_file", "no such file", store.Connection{URL: secure, CertFile: gone, KeyFile: key}},
		{"redis.key_file", "no such file", store.Connection{URL: secure, CertFile: cert, KeyFile: gone}},
		{"redis.cert_file", "does not match", store.Connection{URL: secure, CertFile: cert, KeyFile: otherKey}},
		{"redis.sentinel.master", "other settings", store.Connection{URL: plain, Sentinel: store.Sentinel{Addresses: hosts}}},
		{"redis.sentinel.master", "other settings", store.Connection{URL: plain, Sentinel: store.Sentinel{PasswordFile: file}}},
		{"redis.sentinel.addresses", "or more", store.Connection{URL: plain, Sentinel: store.Sentinel{Master: "m"}}},
		{"redis.sentinel.addresses[1]", "host:port", store.Connection{URL: plain, Sentinel: store.Sentinel{Master: "m", Addresses: []string{"h:1", "h"}}}},
		{"redis.sentinel.addresses[0]", "host:port", store.Connection{URL: plain, Sentinel: store.Sentinel{Master: "m", Addresses: []string{"redis://h:1"}}}},
		{"redis.sentinel.addresses[0]", "host:port", store.Connection{URL: plain, Sentinel: store.Sentinel{Master: "m", Addresses: []string{"u:sesame@h:1"}}}},
		{"redis.sentinel.username_file", "redis.sentinel.username", store.Connection{URL: plain, Sentinel: store.Sentinel{Master: "m", Addresses: hosts, Username: "u", UsernameFile: file, Password: "p"}}},
		{"redis.sentinel.password_file", "redis.sentinel.password", store.Connection{URL: plain, Sentinel: store.Sentinel{Master: "m", Addresses: hosts, Password: "p", PasswordFile: file}}},
		{"redis.sentinel.password", "since a user", store.Connection{URL: plain, Sentinel: store.Sentinel{Master: "m", Addresses: hosts, Username: "u"}}},
		{"redis.sentinel.password_file", "no such file", store.Connection{URL: plain, Sentinel: store.Sentinel{Master: "m", Addresses: hosts, PasswordFile: gone}}},
		{"redis.sentinel.username_file", "empty", store.Connection{URL: plain, Sentinel: store.Sentinel{Master: "m", Addresses: hosts, UsernameFile: empty, Password: "p"}}},
		{"redis.cluster.addresses", "no Sentinels", store.Connection{URL: plain, Cluster: hosts, Sentinel: store.Sentinel{Master: "m", Addresses: hosts}}},
		{"redis.cluster.addresses[0]", "host:port", store.Connection{URL: plain, Cluster: []string{":6379"}}},
		{"redis.cluster.addresses[0]", "host:port", store.Connection{URL: plain, Cluster: []string{"h:0"}}},
		{"redis.cluster.addresses[0]", "host:port", store.Connection{URL: plain, Cluster: []string{"h:70000"}}},
		{"redis.url", "redis:// or rediss://", store.Connection{URL: "unix:///x", Cluster: hosts}},
		{"redis.url", "redis:// or rediss://", store.Connection{URL: "unix:///x", Sentinel: store.Sentinel{Master: "m", Addresses: hosts}}},
		{"redis.url", "database 0", store.Connection{URL: plain + "/1", Cluster: hosts}},
	} {
		client, err := store.Connect(c.c)
		var fe *notify.FieldError
		if client != nil || !errors.As(err, &fe) || fe.Field != c.field || !strings.Contains(fe.Want, c.want) || strings.Contains(err.Error(), "sesame") {
			t.Errorf("%+v: got %v, want %s with %q", c.c, err, c.field, c.want)
		}
	}
}

func TestAURLMaySetWhatIsNotFixed(t *testing.T) {
	c, err := store.Connect(store.Connection{URL: "redis://h/3?pool_size=7&conn_max_lifetime=1h&client_name=x", PoolSize: 0})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if o := c.(*redis.Client).Options(); o.PoolSize != 7 || o.ConnMaxLifetime != time.Hour || o.DB != 3 || o.MaxRetries != 0 || !o.ContextTimeoutEnabled || o.ReadTimeout != 5*time.Second {
		t.Errorf("got %+v", o)
	}
}

// fresh makes the client's next command dial: it takes no connection that is there.
func fresh(ctx context.Context, c redis.UniversalClient) error {
	sub := c.Subscribe(ctx) // a link of its own each time
	defer sub.Close()
	return sub.Ping(ctx)
}

// killAll ends all connections of a user.
func killAll(t *testing.T, admin *redis.Client, user string) {
	t.Helper()
	if err := admin.Do(t.Context(), "CLIENT", "KILL", "USER", user).Err(); err != nil {
		t.Fatal(err)
	}
}

func TestANewPasswordNeedsNoRestart(t *testing.T) {
	srv := testkit.Redis(t)
	admin, ctx := srv.Client(), testkit.Context(t, 20*time.Second)
	name, old := testkit.User(t, "gateway")
	dir := t.TempDir()
	path := put(t, filepath.Join(dir, "password"), old+"\n")
	r := registry()
	c, err := store.Connect(store.Connection{URL: "redis://" + srv.Addr, UsernameFile: put(t, filepath.Join(dir, "name"), name), PasswordFile: path, Metrics: store.NewMetrics(r)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.Ping(ctx).Err(); err != nil {
		t.Fatal(err)
	}
	if err := admin.Do(ctx, "ACL", "SETUSER", name, "resetpass", ">another password").Err(); err != nil {
		t.Fatal(err)
	}
	killAll(t, admin, name)
	testkit.Eventually(t, 5*time.Second, func() bool {
		err := c.Ping(ctx).Err()
		return err != nil && strings.Contains(err.Error(), "WRONGPASS")
	}, "the old password is refused")
	s := storeOn(t, c)
	if _, err := s.Tops(ctx, []notify.Stream{ann}); !errors.Is(err, notify.ErrUnavailable) {
		t.Errorf("between the two passwords: got %v, want %v", err, notify.ErrUnavailable)
	}
	put(t, path, "another password\r\n")
	if err := c.Ping(ctx).Err(); err != nil {
		t.Fatalf("with the new password: %v", err)
	}
	if n := value(t, r, "allim_redis_stale_secrets_total", ""); n != 0 {
		t.Errorf("%v stale secrets", n)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	killAll(t, admin, name)
	testkit.Eventually(t, 5*time.Second, func() bool { return c.Ping(ctx).Err() == nil }, "the last good password goes on")
	if n := value(t, r, "allim_redis_stale_secrets_total", ""); n < 1 {
		t.Errorf("%v stale secrets after one was removed", n)
	}
}

func TestTLSShowsOurCertificateAndChecksTheirs(t *testing.T) {
	ours, others := testkit.NewAuthority(t), testkit.NewAuthority(t)
	srv := testkit.RedisTLS(t, ours)
	cert, key := ours.Pair("gateway")
	theirCert, theirKey := others.Pair("stranger")
	url, ctx := srv.As("gateway"), testkit.Context(t, 20*time.Second)
	b := newBench(t, srv.As, store.Options{}, func(c *store.Connection) { c.CAFile, c.CertFile, c.KeyFile = ours.CAFile, cert, key })
	b.publish(stream("a"), "x")
	if got := b.recover(stream("a"), notify.Position{}, 10); len(got.Messages) != 1 {
		t.Errorf("recovered %+v", got)
	}
	for name, f := range map[string]struct {
		c    store.Connection
		want string
	}{
		"no certificate of ours":      {store.Connection{URL: url, CAFile: ours.CAFile}, "certificate required"},
		"another's certificate":       {store.Connection{URL: url, CAFile: ours.CAFile, CertFile: theirCert, KeyFile: theirKey}, "tls: "},
		"another authority":           {store.Connection{URL: url, CAFile: others.CAFile, CertFile: cert, KeyFile: key}, "unknown authority"},
		"the system's authorities":    {store.Connection{URL: url, CertFile: cert, KeyFile: key}, "unknown authority"},
		"a name not of the server":    {store.Connection{URL: strings.Replace(url, "127.0.0.1", "localhost", 1), CAFile: ours.CAFile, CertFile: cert, KeyFile: key}, "x509: certificate is "},
		"no TLS where TLS is spoken":  {store.Connection{URL: strings.Replace(url, "rediss:", "redis:", 1)}, ""},
		"TLS where none is spoken":    {store.Connection{URL: "rediss://" + testkit.Redis(t).Addr}, "handshake: "},
		"a password that is not ours": {store.Connection{URL: "rediss://allim-gateway:x@" + srv.Addr, CAFile: ours.CAFile, CertFile: cert, KeyFile: key}, "WRONGPASS"},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := store.Connect(f.c)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			st := storeOn(t, c)
			testkit.EventuallyNil(t, 10*time.Second, func() error { // a certificate is refused behind the handshake, and a reset may overtake the reason
				_, err := st.Tops(ctx, []notify.Stream{ann})
				if !errors.Is(err, notify.ErrUnavailable) || !strings.Contains(err.Error(), f.want) {
					return fmt.Errorf("got %v, want %q", err, f.want)
				}
				return nil
			}, "be told why")
		})
	}
}

func TestANewClientCertificateNeedsNoRestart(t *testing.T) {
	a, others := testkit.NewAuthority(t), testkit.NewAuthority(t)
	srv := testkit.RedisTLS(t, a)
	ctx := testkit.Context(t, 20*time.Second)
	cert, key := others.Pair("gateway") // of the wrong authority
	c, err := store.Connect(store.Connection{URL: srv.As("gateway"), CAFile: a.CAFile, CertFile: cert, KeyFile: key})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := fresh(ctx, c); err == nil {
		t.Fatal("a certificate of another authority was taken")
	}
	a.Issue("gateway", cert, key)
	if err := fresh(ctx, c); err != nil {
		t.Fatalf("with the new certificate: %v", err)
	}
	put(t, key, "half a k") // a certificate and its key are not written at once
	if err := fresh(ctx, c); err != nil {
		t.Fatalf("with a key half written: %v", err)
	}
}

// A server that accepts and says nothing must not hold a dial longer than its bound.
func TestAHandshakeThatNobodyAnswersEnds(t *testing.T) {
	srv := testkit.Redis(t)
	srv.Pause() // the kernel accepts
	defer srv.Resume()
	c, err := store.Connect(store.Connection{URL: "rediss://" + srv.Addr})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	start := time.Now()
	if err := fresh(testkit.Context(t, 20*time.Second), c); err == nil { // a link: go-redis bounds the dials of commands by itself
		t.Fatal("a paused server answers")
	}
	if took := time.Since(start); took > 8*time.Second {
		t.Errorf("gave up after %v", took)
	}
}

// Errors go into logs, and a user's name is none of theirs.
func TestErrorsNameNobody(t *testing.T) {
	t.Parallel()
	srv := testkit.Redis(t)
	b := newBench(t, srv.As, store.Options{})
	b.notify(ann, "", "n1")
	at := b.mark(ann, "read", store.Mark{IDs: []string{"n1"}}).Position
	at.Epoch = "other2"
	_, stale := b.Mark(b.ctx, ann, store.Mark{Change: notify.ChangeRead, Upto: &at})
	srv.Stop()
	ctx := testkit.Context(t, 100*time.Millisecond)
	errs := map[string]error{"a stale mark": stale, "a write": b.Publish(ctx, []notify.Stream{ann}, message("m"))[0].Err,
		"a page for a topic": b.publisher.Write(ctx, []notify.Stream{stream("page:ann")}, message("m"), store.Committed)[0].Err, "a renewal": b.Renew(ctx, []notify.Stream{ann})}
	_, errs["a mark"] = b.Mark(ctx, ann, store.Mark{Change: notify.ChangeRead, All: true})
	_, errs["a list"] = b.List(ctx, ann, store.Query{})
	_, errs["counts"] = b.Counts(ctx, ann)
	_, errs["a recovery"] = b.Recover(ctx, ann, notify.Position{}, 1)
	_, errs["tops"] = b.Tops(ctx, []notify.Stream{ann})
	for what, err := range errs {
		if err == nil || strings.Contains(err.Error(), "ann") {
			t.Errorf("%s: %v", what, err)
		}
	}
}
