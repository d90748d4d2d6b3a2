package session_test

import (
	"bufio"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"allim/internal/session"
	"allim/internal/store"
	"allim/internal/testkit"
	"allim/pkg/notify"
)

var rewrite = flag.Bool("rewrite", false, "write what the stories in testdata do now as what they should do")

func TestMain(m *testing.M) { testkit.Main(m) }

// A story is a text of steps and, behind "----", the frames that every client got after each step. Epochs, sessions, times and cursors
// stand as E1, SESSION, TIME and CURSOR. Each runs on the real Redis and on the embedded one, so that they cannot drift.
//
//	connect NAME [user=U] [topic=T]… [inbox=N] [cursor=|cursor=NAME] [origin=O] [subscribe=P,…] [hear=T,…] [segments=…] [exp=SECONDS] [iat=SECONDS] [anonymous] [silent] [gateway=2]
//	send NAME FRAME        NAME's page sends a frame; $NAME.TOPIC in it is the position after the last frame that NAME got of TOPIC
//	publish TOPIC ID DATA [origin=O]     the backend publishes an event
//	ephemeral TOPIC ID DATA
//	notify USER ID CATEGORY DATA [origin=O] [collapse=K] [mandatory]
//	update USER ID DATA [origin=O] / retract USER ID
//	tell SEGMENT ID CATEGORY DATA [collapse=K] [mandatory] / retell SEGMENT ID DATA / untell SEGMENT ID   as notify, update and retract
//	drop NAME              the connection is gone
//	stall NAME / drain NAME   NAME stops pulling frames, and begins again
//	late NAME [SECONDS]    the hub says that NAME reads too slowly, and should stay away so long
//	wipe                   Redis loses everything
//	lose                   what is written from here on is lost when Redis fails over
//	failover               it does: another server, another history, and the gateway's link begins anew
//	degrade / restore      messages may come late, and no longer
//	shutdown [2]           the gateway is asked to end. The second one (connect … gateway=2) asks nobody to move
//	~STEP                  the next step does not wait until every session has what Redis has
//	auth NAME …            NAME's page shows a token with those claims
//	many USER N, flood TOPIC N   N notifications, N messages
//	wait NAME N            until NAME got N frames by itself
func TestStories(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no stories: %v", err)
	}
	for _, file := range files {
		for i, story := range stories(t, file) {
			t.Run(fmt.Sprintf("%s/%s", strings.TrimSuffix(filepath.Base(file), ".txt"), story.name), func(t *testing.T) {
				if !*rewrite {
					t.Parallel()
				}
				var got []string
				backends := []string{"redis-server", "embedded"}
				if strings.HasSuffix(story.name, realOnly) {
					backends = backends[:1]
				}
				for _, backend := range backends {
					t.Run(backend, func(t *testing.T) {
						st := newStage(t, backend)
						got = append(got, st.run(story.steps))
						if len(backends) > 1 && backend == "redis-server" { // what a failover needs is no command of ours
							wantKnownCommands(t, st.ctx, st.admin)
						}
					})
				}
				if t.Failed() || len(got) != len(backends) {
					return
				}
				if last := got[len(got)-1]; got[0] != last {
					t.Fatalf("redis-server and the embedded one differ (-redis-server +embedded):\n%s", diff(got[0], last))
				}
				if *rewrite {
					rewriteStory(t, file, i, got[0])
				} else if got[0] != story.want {
					t.Errorf("story differs (-want +got):\n%s", diff(story.want, got[0]))
				}
			})
		}
	}
}

// realOnly ends the names of stories that the embedded Redis can not play: it tells no history.
const realOnly = "[redis-server only]"

type story struct{ name, steps, want string }

var storyHead = regexp.MustCompile(`(?m)^# (.*)\n`)

// stories splits a file: each begins with "# name".
func stories(t *testing.T, file string) (out []story) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	heads := storyHead.FindAllSubmatchIndex(text, -1)
	for i, h := range heads {
		end := len(text)
		if i+1 < len(heads) {
			end = heads[i+1][0]
		}
		steps, want, _ := strings.Cut(string(text[h[1]:end]), "----\n")
		out = append(out, story{string(text[h[2]:h[3]]), strings.TrimSpace(steps), strings.TrimSpace(want)})
	}
	return out
}

func rewriteStory(t *testing.T, file string, n int, got string) {
	t.Helper()
	all := stories(t, file)
	all[n].want = got
	var b strings.Builder
	for _, s := range all {
		fmt.Fprintf(&b, "# %s\n%s\n----\n%s\n\n", s.name, s.steps, s.want)
	}
	if err := os.WriteFile(file, []byte(strings.TrimSpace(b.String())+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
}

func (st *stage) run(steps string) string {
	in := bufio.NewScanner(strings.NewReader(steps))
	for in.Scan() {
		line := strings.TrimSpace(in.Text())
		if line == "" || strings.HasPrefix(line, "//") {
			continue
		}
		fmt.Fprintf(&st.out, "%s\n", line)
		step, unsettled := strings.CutPrefix(line, "~")
		st.step(strings.Fields(step), step)
		if unsettled { // its frames stand with those of the next step
			continue
		}
		st.settle()
		for _, name := range st.order {
			frames := st.clients[name].take()
			// topics are in order each by itself, and the answer to a mark comes before or after its event
			slices.SortStableFunc(frames, func(a, b string) int { return strings.Compare(rank(a), rank(b)) })
			for i, f := range frames {
				f = st.plain(name, f)
				switch left := len(frames) - i; {
				case len(frames) <= 12 || i < 2 || left <= 3:
					fmt.Fprintf(&st.out, "  %s < %s\n", name, f)
				case !follows(st.plain(name, frames[i-1]), f):
					fmt.Fprintf(&st.out, "  %s < NOT IN ORDER: %s\n", name, f)
				case i == 2:
					fmt.Fprintf(&st.out, "  %s < … %d more, in order\n", name, len(frames)-5)
				}
			}
		}
	}
	return strings.TrimSpace(st.out.String())
}

func (st *stage) step(f []string, line string) {
	st.t.Helper()
	args := map[string]string{}
	for _, a := range f {
		if k, v, ok := strings.Cut(a, "="); ok {
			args[k] = v
		}
	}
	switch f[0] {
	case "connect":
		st.connect(f[1], f[2:])
	case "send":
		p := st.clients[f[1]]
		frame := strings.TrimSpace(strings.TrimPrefix(strings.TrimPrefix(line, "send "), f[1]))
		for key, pos := range st.lastPos {
			frame = strings.ReplaceAll(frame, "$"+key, pos)
		}
		for name, cursor := range st.cursors {
			frame = strings.ReplaceAll(frame, "$"+name+"!", cursor)
		}
		p.s.Handle([]byte(frame))
	case "publish", "ephemeral":
		m := &notify.Message{Change: notify.ChangeMessage, ID: f[2], Event: "e", Time: time.Now(), Data: []byte(f[3]), Origin: args["origin"]}
		if f[0] == "ephemeral" {
			m.Change = notify.ChangeEphemeral
		}
		before := st.hub.Stats().Messages
		st.ok(st.writer.Write(st.ctx, []notify.Stream{{Tenant: "default", Topic: notify.Topic(f[1])}}, m, store.Committed))
		if f[0] == "ephemeral" {
			testkit.Eventually(st.t, 5*time.Second, func() bool { return st.hub.Stats().Messages > before }, "the gateway hears it")
		}
	case "notify":
		topic, err := notify.UserTopic(f[1])
		if err != nil {
			st.t.Fatal(err)
		}
		m := &notify.Message{Change: notify.ChangeNotification, ID: f[2], Category: strings.Trim(f[3], "-"), Time: time.Now(), Data: []byte(f[4]), Origin: args["origin"]}
		if terms := (notify.Terms{Collapse: args["collapse"], Mandatory: slices.Contains(f, "mandatory")}); terms != (notify.Terms{}) {
			m.Terms = &terms
		}
		st.ok(st.writer.Write(st.ctx, []notify.Stream{{Tenant: "default", Topic: topic}}, m, store.Committed))
	case "many": // notifications
		for i := range atoi(f[2]) {
			st.step([]string{"notify", f[1], fmt.Sprint("x", i), "c", fmt.Sprint(i)}, "")
		}
	case "flood": // messages
		for i := range atoi(f[2]) {
			st.step([]string{"publish", f[1], fmt.Sprint("f", i), fmt.Sprint(i)}, "")
		}
	case "auth":
		token, _ := st.token(f[2:])
		st.clients[f[1]].s.Handle(fmt.Appendf(nil, `{"type":"auth","token":%q,"ref":%s}`, token, args["ref"]))
	case "drop":
		st.clients[f[1]].s.Gone()
	case "stall":
		st.clients[f[1]].stall(true)
	case "drain":
		st.clients[f[1]].stall(false)
	case "wipe":
		st.wipe()
	case "wait": // for frames that come by themselves, as many as named
		n := atoi(f[2])
		testkit.Eventually(st.t, 10*time.Second, func() bool { return st.clients[f[1]].waiting() >= n }, line)
	default:
		if !st.change(f, args) && !st.seam(f) {
			st.t.Fatalf("no such step: %s", line)
		}
	}
}

func (st *stage) ok(rs []store.Result) {
	st.t.Helper()
	for _, r := range rs {
		if r.Err != nil {
			st.t.Fatal(r.Err)
		}
	}
}

// settle waits until every session has what Redis has.
func (st *stage) settle() {
	st.t.Helper()
	testkit.Eventually(st.t, 10*time.Second, func() bool {
		for _, p := range st.clients {
			if !p.stalled() && !session.Settled(st.ctx, p.s, st.store) || p.busy() {
				return false
			}
		}
		return true
	}, "the frames that must come")
}
