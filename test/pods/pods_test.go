package pods

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"allim/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

func TestAStageOfProcessesCarriesAMessageFromABackendToEveryPage(t *testing.T) {
	s := Start(t, Options{Gateways: 2})
	b := NewBackend(t, s.Publishers[0], "default")
	var pages []*Page
	for _, g := range s.Gateways {
		pages = append(pages, Open(t, g, Visit{Token: Token(t, "ann", Grant{Hear: []string{"feed"}}), Own: "user:ann"}))
	}
	at := b.Publish("feed", "m1", `{"hello":"world"}`)
	note := b.Notify("ann", "n1", "mention", `{"title":"hi"}`)
	for i, p := range pages {
		p.UntilAt("feed", at)
		p.UntilAt("user:ann", note)
		if got := p.Log("feed"); len(got) != 1 || got[0] != (Entry{at, "message m1"}) {
			t.Errorf("page %d: got %v", i, got)
		}
		if b := p.Badge(); b.Unread != 1 || b.By["mention"] != 1 {
			t.Errorf("page %d: got badge %+v", i, b)
		}
	}
	pages[0].Mark("read", "ids", []string{"n1"})
	pages[0].Answered()
	pages[1].UntilAt("user:ann", pages[0].MarkPositions()[0])
	if items := pages[1].Items(); len(items) != 1 || !items[0].Read {
		t.Errorf("the other page holds %+v", items)
	}
	if n := s.Gateways[0].Metric("allim_frames_received_total", "type", "read"); n != 1 {
		t.Errorf("the gateway counted %v marks, want 1", n)
	}
}

func TestAPageComesBackWithoutAHole(t *testing.T) {
	s := Start(t, Options{Gateways: 2})
	b := NewBackend(t, s.Publishers[0], "acme")
	for _, byPositions := range []bool{false, true} {
		user := fmt.Sprint("user", byPositions)
		p := Open(t, s.Gateways[0], Visit{Token: Token(t, user, Grant{Hear: []string{user}, Tenant: "acme"}), Own: "user:" + user, ByPositions: byPositions})
		p.UntilAt(user, b.Publish(user, "m1", "1"))
		s.Gateways[0].Metric("allim_sessions")
		p.Drop()
		b.Publish(user, "m2", "2")
		b.Notify(user, "n1", "", "1")
		p.Resume(s.Gateways[1])
		p.UntilAt(user, b.Publish(user, "m3", "3"))
		p.UntilAt("user:"+user, b.Notify(user, "n2", "", "2"))
		if got := p.Log(user); len(got) != 3 || len(p.Items()) != 2 || len(p.Faults()) != 0 {
			t.Errorf("by positions %v: got %v, faults %v", byPositions, got, p.Faults())
		}
	}
}

// recorder stands in for a test, to see it fail.
type recorder struct {
	testing.TB
	failures []string
	cleanups []func()
}

func (r *recorder) Helper()          {}
func (r *recorder) Cleanup(f func()) { r.cleanups = append(r.cleanups, f) }
func (r *recorder) Failed() bool     { return len(r.failures) > 0 }
func (r *recorder) Logf(format string, args ...any) {
	r.failures = append(r.failures, "log: "+fmt.Sprintf(format, args...))
}
func (r *recorder) Errorf(format string, args ...any) {
	r.failures = append(r.failures, fmt.Sprintf(format, args...))
}
func (r *recorder) Fatalf(format string, args ...any) { r.Errorf(format, args...); runtime.Goexit() }

// end runs what a test's end runs.
func (r *recorder) end() string {
	for i := len(r.cleanups) - 1; i >= 0; i-- {
		r.cleanups[i]()
	}
	return strings.Join(r.failures, "\n")
}

func TestAProcessThatEndsBadlyFailsTheTestAndShowsItsLog(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, script string
		says         []string // none: the test passes
	}{
		{"well", `trap 'exit 0' TERM; echo '{"level":"INFO"}'; while :; do sleep 0.01; done`, nil},
		{"with another exit code", `trap 'exit 3' TERM; echo up; while :; do sleep 0.01; done`, []string{"exit status 3", "log of", "up"}},
		{"of itself", `exit 1`, []string{"exit status 1"}},
		{"with an error in its log", `trap 'exit 0' TERM; echo '{"level":"ERROR","msg":"broken"}' >&2; while :; do sleep 0.01; done`, []string{"logged a fault", "broken"}},
		{"with a race", `trap 'exit 0' TERM; echo 'WARNING: DATA RACE'; while :; do sleep 0.01; done`, []string{"DATA RACE"}},
		{"by a panic", `echo 'panic: oh'; exit 0`, []string{"panic: oh"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := &recorder{TB: t}
			p := launch(r, "pod", "/bin/sh", []string{"-c", c.script})
			testkit.Eventually(t, Within, func() bool { return p.log.text() != "" || p.ended() }, "the process is up")
			got := r.end()
			if (got == "") != (c.says == nil) {
				t.Fatalf("got %q", got)
			}
			for _, want := range c.says {
				if !strings.Contains(got, want) {
					t.Errorf("got %q, want it to say %q", got, want)
				}
			}
		})
	}
}

func TestAKilledGatewayIsNoFault(t *testing.T) {
	s := Start(t, Options{Publishers: -1, Gateways: 2})
	c := Connect(t, s.Gateways[0], Hello{})
	c.Next("welcome")
	s.Gateways[0].Kill()
	if code, _ := c.Closed(Within); code != -1 {
		t.Errorf("closed with %d, want a cut", code)
	}
	Connect(t, s.Gateways[1], Hello{}).Next("welcome")
	Connect(t, s.AddGateway(), Hello{}).Next("welcome")
}
