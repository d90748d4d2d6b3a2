// Package pods runs Allim as it is run in production: gateways and publishers as processes of their own in front of a real
// Redis, seen from outside only. A Pod is one process, a Client one WebSocket that speaks frames, a Page a client that keeps the
// contract's rules of positions, a Backend what calls the publisher.
package pods

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"allim/internal/testkit"
	"allim/pkg/auth"
)

// Tenants are those that the keys of every stage may speak for.
var Tenants = []string{"default", "acme", "globex", "umbrella"}

// What every stage knows besides loopback.
const (
	Host   = "push.example.test"
	Origin = "https://app.example.test"
)

// secret signs the tokens of every stage's users and services.
const secret = "a secret of the pods, of more than 32 bytes"

// APIKey is the credential of a tenant's backend.
func APIKey(tenant string) string { return "the-api-key-of-the-backend-of-" + tenant }

// Options say what runs.
type Options struct {
	Gateways   int                  // 0: one; negative: none
	Publishers int                  // 0: one; negative: none
	Strict     bool                 // no `anonymous` setting: everybody needs a token
	Redis      *testkit.RedisServer // nil: one of its own
	Settings   string               // more of the settings file, in YAML
	Env        []string             // of the programs, besides the test's own
}

// A Stage is what runs. Its processes are stopped when the test ends, which fails if one of them does not end well.
type Stage struct {
	Gateways   []*Pod
	Publishers []*Pod
	Redis      *testkit.RedisServer

	tb       testing.TB
	settings string // path
	env      []string
}

// Start starts processes and returns when all of them are ready.
func Start(t testing.TB, o Options) *Stage {
	t.Helper()
	s := &Stage{tb: t, Redis: o.Redis, settings: filepath.Join(t.TempDir(), "allim.yaml"), env: o.Env}
	if s.Redis == nil {
		s.Redis = testkit.Redis(t)
	}
	if err := os.WriteFile(s.settings, []byte(Settings(o.Strict)+o.Settings), 0o600); err != nil {
		t.Fatal(err)
	}
	for range count(o.Publishers) {
		s.launch("publisher")
	}
	for range count(o.Gateways) {
		s.launch("gateway")
	}
	for _, p := range append(s.Publishers[:len(s.Publishers):len(s.Publishers)], s.Gateways...) {
		p.WaitReady()
	}
	return s
}

func count(n int) int {
	if n == 0 {
		return 1
	}
	return max(n, 0)
}

// AddGateway starts one more gateway, with flags of its own, and returns when it is ready.
func (s *Stage) AddGateway(flags ...string) *Pod {
	s.tb.Helper()
	p := s.launch("gateway", flags...)
	p.WaitReady()
	return p
}

// AddPublisher starts one more publisher, with flags of its own, and returns when it is ready.
func (s *Stage) AddPublisher(flags ...string) *Pod {
	s.tb.Helper()
	p := s.launch("publisher", flags...)
	p.WaitReady()
	return p
}

func (s *Stage) launch(name string, flags ...string) *Pod {
	s.tb.Helper()
	args := []string{"--redis-url=" + s.Redis.As(name), "--config=" + s.settings, "--listen-ops=127.0.0.1:0"}
	all := &s.Gateways
	if name == "publisher" {
		all = &s.Publishers
		args = append(args, "--listen-grpc=127.0.0.1:0", "--listen-http=127.0.0.1:0")
	} else {
		args = append(args, "--listen-public=127.0.0.1:0", "--drain-pause=0s", "--drain-window=0s")
	}
	p := launch(s.tb, fmt.Sprintf("%s-%d", name, len(*all)+1), Program(s.tb, name), append(args, flags...), s.env...)
	*all = append(*all, p)
	return p
}

// The topic classes of every stage, besides the default one of 100 messages.
const (
	ShortHistory = 8    // messages of topics short/…
	LongHistory  = 2000 // messages of topics long/…
)

// Settings is the settings file of a stage, for who launches programs in another way and adds to it.
func Settings(strict bool) string {
	var b strings.Builder
	fmt.Fprintf(&b, "public_url: https://%s\norigins: [%q]\n", Host, Origin)
	fmt.Fprintf(&b, "keys:\n  - {algorithm: HS256, secret: %q, tenants: [%s]}\n", secret, strings.Join(Tenants, ", "))
	b.WriteString("api_keys:\n")
	for _, tenant := range Tenants {
		fmt.Fprintf(&b, "  - {id: %s, key: %q, tenant: %s, allow: ['publish:*', 'notify:*', inbox, events]}\n", tenant, APIKey(tenant), tenant)
	}
	fmt.Fprintf(&b, "topics:\n  - {prefix: short/, history: %d, ttl: 5m}\n  - {prefix: long/, history: %d, ttl: 5m}\n", ShortHistory, LongHistory)
	if !strict {
		b.WriteString("anonymous: {subscribe: ['public/*'], hear: [public/chat], send: ['chat message']}\n")
	}
	return b.String()
}

// A Grant is what a user's token allows, as in the claim `allim`.
type Grant struct {
	Subscribe, Hear, Send []string
	Segments              []string      // that the user is a member of
	Tenant                string        // "": default
	Life                  time.Duration // 0: an hour
}

// Token is a token of a user.
func Token(t testing.TB, user string, g Grant) string {
	t.Helper()
	allim := map[string]any{}
	for name, list := range map[string][]string{"subscribe": g.Subscribe, "hear": g.Hear, "send": g.Send, "segments": g.Segments} {
		if list != nil {
			allim[name] = list
		}
	}
	if g.Tenant != "" {
		allim["tenant"] = g.Tenant
	}
	if g.Life == 0 {
		g.Life = time.Hour
	}
	return Sign(t, map[string]any{"sub": user, "exp": time.Now().Add(g.Life).Unix(), "allim": allim})
}

// Sign signs claims with the stage's key. It can make bad tokens.
func Sign(t testing.TB, claims map[string]any) string {
	t.Helper()
	token, err := auth.Sign(auth.SigningKey{Algorithm: "HS256", Secret: []byte(secret)}, claims)
	if err != nil {
		t.Fatal(err)
	}
	return token
}
