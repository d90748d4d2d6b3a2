package programs

import (
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"allim/internal/testkit"
	"allim/test/pods"
)

const rotating = `public_url: https://127.0.0.1
keys_file: now/keys.yaml
api_keys_file: now/api.yaml
tls:
  public: {cert_file: now/tls.crt, key_file: now/tls.key}
  publisher: {cert_file: now/tls.crt, key_file: now/tls.key}
`

// A rotation is both programs with TLS under load, while their files change.
type rotation struct {
	*site
	authority          *testkit.Authority
	client             *tls.Config
	gateway, publisher *pods.Pod
	caller             *caller
	credential         atomic.Value // string: the load's
	listeners          []*listener

	stop  chan struct{}
	ahead chan struct{} // one for each message that the first listener has not heard
	load  sync.WaitGroup
	sent  int   // by the load; read when it has ended
	err   error // of the load
}

// A listener is one wss connection, which must hear every message of the load in order.
type listener struct {
	*pods.Client
	ahead chan struct{} // nil: it does not set the pace
	heard atomic.Int64  // number of the newest message
	holes atomic.Int64
}

func clientKeys(names ...string) (yaml string) {
	for _, n := range names {
		yaml += fmt.Sprintf("- {id: %s, algorithm: HS256, secret_file: %s.secret}\n", n, n)
	}
	return yaml
}

func apiKeys(names ...string) (yaml string) {
	for _, n := range names {
		yaml += fmt.Sprintf("- {id: %s, key: %s, allow: ['publish:*']}\n", n, apiKeyOf(n))
	}
	return yaml
}

// pair is a certificate in that name as files of a site.
func (r *rotation) pair(name string) map[string]string {
	r.t.Helper()
	files := map[string]string{}
	cert, key := r.authority.Pair(name)
	for file, path := range map[string]string{"tls.crt": cert, "tls.key": key} {
		text, err := os.ReadFile(path)
		if err != nil {
			r.t.Fatal(err)
		}
		files[file] = string(text)
	}
	return files
}

func startRotation(t *testing.T, interval string) *rotation {
	t.Helper()
	r := &rotation{site: newSite(t, rotating), authority: testkit.NewAuthority(t), stop: make(chan struct{}), ahead: make(chan struct{}, 50)}
	r.client = r.authority.Config("a client")
	r.swap(r.pair("first"))
	r.swap(map[string]string{"keys.yaml": clientKeys("old"), "old.secret": secretOf("old") + "\n", "new.secret": secretOf("new") + "\n", "api.yaml": apiKeys("old")})
	r.gateway = r.start("gateway", "gateway", "--reload-interval="+interval)
	r.publisher = r.start("publisher", "publisher", "--reload-interval="+interval)
	r.caller = newCaller(t, r.publisher.Addr("grpc"), r.client)
	r.credential.Store(apiKeyOf("old"))
	for i := range 4 {
		l := &listener{}
		if i == 0 {
			l.ahead = r.ahead
		}
		l.Client = pods.Connect(t, r.gateway, pods.Hello{Token: token(t, fmt.Sprint("user", i), secretOf("old")), Topics: []string{"load"}, TLS: r.client, OnFrame: l.hear})
		r.listeners = append(r.listeners, l)
	}
	r.load.Go(r.publish)
	t.Cleanup(func() { r.end() })
	return r
}

func (l *listener) hear(f pods.Frame) {
	if f.Type != "message" {
		return
	}
	if want := fmt.Sprintf("m%d", l.heard.Load()+1); f.ID != want {
		l.holes.Add(1)
	}
	l.heard.Add(1)
	select {
	case <-l.ahead:
	default:
	}
}

// publish publishes one message after the other until the test stops it. The first listener sets the pace, so that none
// lags behind what is kept for it.
func (r *rotation) publish() {
	for r.err == nil {
		select {
		case <-r.stop:
			return
		case r.ahead <- struct{}{}:
		}
		if r.err = r.caller.publish(r.credential.Load().(string), "load", fmt.Sprintf("m%d", r.sent+1)); r.err == nil {
			r.sent++
		}
	}
}

// end stops the load; a second time it does nothing.
func (r *rotation) end() {
	select {
	case <-r.stop:
	default:
		close(r.stop)
	}
	r.load.Wait()
}

// change swaps files. With a hangup nothing has changed before the programs are told.
func (r *rotation) change(hangup bool, files map[string]string, before func() error) {
	r.t.Helper()
	r.swap(files)
	if !hangup {
		return
	}
	if err := before(); err != nil {
		r.t.Errorf("before SIGHUP: %v", err)
	}
	r.gateway.Signal(syscall.SIGHUP)
	r.publisher.Signal(syscall.SIGHUP)
}

// shows tells whether every port shows that certificate to new connections.
func (r *rotation) shows(name string) error {
	for _, addr := range []string{r.gateway.Addr("public"), r.publisher.Addr("grpc"), r.publisher.Addr("http")} {
		if got, err := certificate(addr, r.client); err != nil || got != name {
			return fmt.Errorf("%s shows %q (%v), want %q", addr, got, err, name)
		}
	}
	return nil
}

// takes tells whether the gateway takes a token of the secret, or refuses it.
func (r *rotation) takes(secret string, want bool) error {
	c, err := pods.Dial(r.t, r.gateway.Addr("public"), pods.Hello{Token: token(r.t, "visitor", secret), TLS: r.client})
	if err == nil {
		c.Drop()
	}
	var refusal *pods.Refusal
	if refused := errors.As(err, &refusal) && refusal.Status == 401; (err == nil) != want || refused == want {
		return fmt.Errorf("a token of %q: %v, want it taken: %v", secret, err, want)
	}
	return nil
}

// serves tells whether the publisher takes a credential on the connection that is open, or refuses it.
func (r *rotation) serves(credential string, want bool) error {
	err := r.caller.publish(credential, "other", "")
	if code := status.Code(err); want && code != codes.OK || !want && code != codes.Unauthenticated {
		return fmt.Errorf("credential %s: %v, want it taken: %v", credential, err, want)
	}
	return nil
}

func TestCertificatesAndKeysChangeWithoutADroppedConnectionOrAHole(t *testing.T) {
	for _, c := range []struct {
		name, interval string
		hangup         bool
	}{{"every second", "1s", false}, {"when told by SIGHUP", "24h", true}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			rotate(t, startRotation(t, c.interval), c.hangup)
		})
	}
}

func rotate(t *testing.T, r *rotation, hangup bool) {
	eventually := func(what string, tries ...func() error) {
		t.Helper()
		for _, try := range tries {
			testkit.EventuallyNil(t, 2*pods.Within, try, what)
		}
	}
	shows := func(name string) func() error { return func() error { return r.shows(name) } }
	takes := func(secret string, want bool) func() error { return func() error { return r.takes(secret, want) } }
	serves := func(name string, want bool) func() error {
		return func() error { return r.serves(apiKeyOf(name), want) }
	}
	eventually("it begins", shows("first"), takes(secretOf("old"), true), takes(secretOf("new"), false), serves("old", true), serves("new", false))

	r.change(hangup, r.pair("second"), shows("first"))
	eventually("the second certificate", shows("second"))

	r.change(hangup, map[string]string{"keys.yaml": clientKeys("old", "new"), "api.yaml": apiKeys("old", "new")}, takes(secretOf("new"), false))
	eventually("both keys", takes(secretOf("new"), true), takes(secretOf("old"), true), serves("new", true), serves("old", true))
	r.credential.Store(apiKeyOf("new"))

	r.change(hangup, map[string]string{"keys.yaml": clientKeys("new"), "api.yaml": apiKeys("new")}, takes(secretOf("old"), true))
	eventually("only the new keys", takes(secretOf("old"), false), takes(secretOf("new"), true), serves("old", false), serves("new", true))

	r.change(hangup, map[string]string{"new.secret": secretOf("newest")}, takes(secretOf("new"), true))
	eventually("the secret's file", takes(secretOf("newest"), true), takes(secretOf("new"), false))

	// What is broken changes nothing, and is told.
	for _, p := range []*pods.Pod{r.gateway, r.publisher} {
		p.Expect("reload_failed")
	}
	broken := map[string]string{"tls.crt": "no certificate\n", "keys.yaml": "- {id: new, algorithm: HS256, secret: short}\n", "api.yaml": "- {id: new\n"}
	r.change(hangup, broken, shows("second"))
	for _, p := range []*pods.Pod{r.gateway, r.publisher} {
		for _, what := range []string{"certificate", "keys"} {
			eventually(p.Name+" tells of broken "+what, func() error {
				if n := p.Metric("allim_reloads_total", "what", what, "result", "failed"); n < 1 || p.Said("reload_failed", "what", what) == nil {
					return fmt.Errorf("%v failures counted, said %v", n, p.Said("reload_failed", "what", what))
				}
				return nil
			})
		}
	}
	eventually("what there was stays", shows("second"), takes(secretOf("newest"), true), takes(secretOf("new"), false), serves("new", true))

	r.change(hangup, r.pair("third"), shows("second"))
	r.change(hangup, map[string]string{"keys.yaml": clientKeys("new"), "api.yaml": apiKeys("new")}, func() error { return nil })
	eventually("the third certificate", shows("third"), takes(secretOf("newest"), true), serves("new", true))
	r.judge()
}

// judge ends the load and wants every connection open and nothing lost.
func (r *rotation) judge() {
	r.end()
	if r.err != nil || r.sent < 10 {
		r.t.Fatalf("%d messages were published, then %v", r.sent, r.err)
	}
	for i, l := range r.listeners {
		testkit.Eventually(r.t, pods.Within, func() bool { return l.heard.Load() >= int64(r.sent) || !l.Open() }, "every message is heard")
		if l.holes.Load() != 0 || l.heard.Load() != int64(r.sent) || !l.Open() {
			r.t.Errorf("listener %d: open %v, heard %d of %d messages, %d out of order", i, l.Open(), l.heard.Load(), r.sent, l.holes.Load())
		}
	}
	if n := r.caller.dials.Load(); n != 1 {
		r.t.Errorf("the backend connected %d times, want once", n)
	}
	r.t.Logf("%d messages", r.sent)
}
