package session_test

import (
	"cmp"
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"allim/internal/session"
	"allim/internal/store"
	"allim/internal/testkit"
	"allim/pkg/fanout"
	"allim/pkg/notify"
)

const (
	playSize  = 10 // items of an inbox: newer ones push older ones out
	playSteps = 60 // operations of a run, on average
	playWait  = 10 * time.Second
)

// Several devices of two users and the backends that write to them do anything in any order. After each operation list, counts and answers, and what every
// connected device shows, are those of a model that knows only the order of things. Rapid shrinks what fails to few operations, and names its seed.
// ALLIM_OPS is how many operations there are at least.
func TestWhateverDevicesAndBackendsDoAllSeeWhatTheModelSays(t *testing.T) {
	for _, backend := range []string{"redis-server", "embedded"} {
		t.Run(backend, func(t *testing.T) {
			b := newBed(t, newStage(t, backend, store.Inbox{Size: playSize}))
			most := playOps
			if text := os.Getenv("ALLIM_OPS"); text != "" {
				most = atoi(text)
			}
			for b.ops < most {
				rapid.Check(t, b.play)
			}
			for what, n := range b.wantEach() {
				if n < leastEach && most >= 10_000 {
					t.Errorf("%s changed something %d times only", what, n)
				}
			}
			t.Logf("%d operations; what changed something: %v", b.ops, b.did)
		})
	}
}

// setRapid changes a flag of rapid for this test, unless the command line has set it.
func setRapid(t *testing.T, name, value string) {
	t.Helper()
	set := flag.Lookup("rapid." + name)
	if was := set.Value.String(); was == set.DefValue {
		t.Cleanup(func() { _ = set.Value.Set(was) })
		if err := set.Value.Set(value); err != nil {
			t.Fatal(err)
		}
	}
}

// A bed is what runs share: two gateways and a publisher on one Redis. Each run has users of its own.
type bed struct {
	t        *testing.T
	st       *stage
	gateways []*session.Sessions // each with a hub of its own
	runs     int
	ops      int
	did      map[string]int // what changed something, how often
	failed   string         // the shortest run that failed; also one that time has a part in, so that rapid cannot repeat it
	shortest int            // of how many lines
	first    int            // operations before the first run that failed ended
}

func newBed(t *testing.T, st *stage) *bed {
	setRapid(t, "steps", fmt.Sprint(playSteps))
	setRapid(t, "checks", "10")
	setRapid(t, "nofailfile", "true")
	b := &bed{t: t, st: st, did: map[string]int{}}
	t.Cleanup(func() {
		if b.failed != "" {
			t.Logf("the first difference was after %d operations; the shortest run that failed:\n%s", b.first, b.failed)
		}
	})
	st.ctx = testkit.Context(t, 20*time.Minute)
	hub := fanout.New(fanout.Options{Redis: st.rdb, Keys: st.keys, History: st.store, Gateway: "g2", Sweep: 20 * time.Millisecond, CheckEvery: -1})
	run(t, hub.Run)
	other := session.New(session.Options{Hub: hub, Store: st.store, Verify: verifier(t), Tick: 20 * time.Millisecond})
	run(t, other.Run)
	b.gateways = []*session.Sessions{st.sessions, other}
	return b
}

// A play is one run. Its methods that are named like operations draw one, do it, and compare.
type play struct {
	*rapid.T
	*bed
	people    []*person
	story     []string         // what was done
	made      int              // notifications
	updated   string           // id that an update named last
	waits     string           // id that was scheduled last
	deadlines []time.Time      // of anything
	spans     map[int64]string // how they were drawn: what is printed is the same in each run
}

func (b *bed) play(t *rapid.T) {
	b.runs++
	p := &play{T: t, bed: b, spans: map[int64]string{}}
	defer p.end()
	for name, devices := range map[string]int{"ann": 2, "ben": 1} {
		p.people = append(p.people, p.meet(name, devices))
	}
	slices.SortFunc(p.people, func(a, b *person) int { return cmp.Compare(a.name, b.name) })
	actions := map[string]func(*rapid.T){}
	for n, a := range []struct {
		weight int
		do     func()
	}{{4, p.notify}, {5, p.mark}, {3, p.update}, {2, p.retract}, {1, p.prefer}, {1, p.event}, {2, p.wait}, {2, p.due}, {1, p.page}, {3, p.connect}, {1, p.drop}, {1, p.race}} {
		for i := range a.weight {
			actions[fmt.Sprintf("%c%d", 'a'+n, i)] = func(*rapid.T) { b.ops++; a.do() }
		}
	}
	t.Repeat(actions)
	p.lookAtAll("the end")
}

func (p *play) end() {
	for _, who := range p.people {
		for _, d := range who.devices {
			d.close()
		}
	}
}

// count notes that something changed something.
func (b *bed) count(what string) { b.did[what]++ }

// leastEach is how often each kind must have changed something in 10,000 operations.
const leastEach = 10

// wantEach says how often each of what is to happen did.
func (b *bed) wantEach() map[string]int {
	each := map[string]int{}
	for _, kind := range []string{"written", "duplicate", "scheduled", "muted", "past", "collapse", "pushed out", "came at its time", "hidden", "expired by a write", "expired by the runner",
		"update", "update by key", "update by alias", "older update", "retract", "retract by key", "cancelled", "mute", "mark by alias", "mark of unknown", "mark upto", "mark of all", "stale upto",
		"frame", "http", "backend", "fresh", "by cursor", "by positions", "reset", "missed", "race"} {
		each[kind] = b.did[kind]
	}
	for name := range notify.Marks {
		each[name] = b.did[name]
	}
	return each
}

// say notes what is done, for who looks for a fault.
func (p *play) say(format string, args ...any) {
	p.story = append(p.story, fmt.Sprintf(format, args...))
}

// fail ends a run. why is the same in each run that fails so; what else there is to say of it is detail.
func (p *play) fail(why, detail string) {
	if p.failed == "" || len(p.story) < p.shortest {
		p.shortest, p.failed = len(p.story), fmt.Sprintf("%s\n%s:\n%s", strings.Join(p.story, "\n"), why, detail)
		p.first = cmp.Or(p.first, p.ops)
	}
	p.Fatalf("%s", why)
}

func (p *play) lookAtAll(why string) {
	p.say("%s", why)
	for _, who := range p.people {
		p.lookAt(who)
	}
}

func (p *play) same(what, want, got string) {
	if want != got {
		p.fail(what+" (-model +Allim)", diff(want, got))
	}
}

func (p *play) listText(items []wantItem) (s string) {
	for _, i := range items {
		s += p.itemText(i.id, i.category, i.data, i.expires, i.seen, i.read, i.archived)
	}
	return s
}

func (p *play) itemText(id, category, data string, expires time.Time, seen, read, archived bool) string {
	s := fmt.Sprintf("%s %s %s", id, category, data)
	if !expires.IsZero() {
		s += " expires " + cmp.Or(p.spans[expires.UnixMilli()], "at another time")
	}
	for _, f := range []struct {
		on   bool
		name string
	}{{seen, " seen"}, {read, " read"}, {archived, " archived"}} {
		if f.on {
			s += f.name
		}
	}
	return s + "\n"
}

var markNames = slices.Sorted(maps.Keys(notify.Marks))
