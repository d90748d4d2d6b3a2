package programs

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/metadata"

	"allim/internal/testkit"
	pb "allim/proto/allim/v1"
	"allim/test/pods"
)

const ending = `public_url: https://push.example.com
keys: [{algorithm: HS256, secret: "the secret of the clients' key called ending"}]
api_keys: [{id: a, key: the-credential-of-the-backend-ending, allow: ["publish:*", "notify:*"]}]
topics: [{prefix: load/, history: 10000, ttl: 10m}]
`

const (
	workers    = 8    // calls at once
	mostOfEach = 1000 // messages of a worker, so that the history of a topic holds them all
)

// A load is workers that publish and notify through one publisher until it takes no more, and what was acknowledged.
type load struct {
	work sync.WaitGroup

	mu    sync.Mutex
	acked map[string][]string // topic → ids
}

// startLoad has each worker publish on a topic of its own, load/<n>, and notify user<n> of the same.
func startLoad(t *testing.T, c *caller) *load {
	t.Helper()
	l := &load{acked: map[string][]string{}}
	for w := range workers {
		l.work.Go(func() {
			for i := range mostOfEach {
				id := fmt.Sprintf("w%d-%d", w, i)
				if c.publish(apiKeyOf("ending"), topicOf(w), id) != nil {
					return
				}
				l.ack(topicOf(w), id)
				if i%20 == 0 && c.notify(w, id) != nil {
					return
				}
			}
		})
	}
	t.Cleanup(l.work.Wait) // before the publisher is stopped, it ends by itself
	return l
}

func topicOf(worker int) string { return fmt.Sprint("load/", worker) }

// notify notifies the worker's user.
func (c *caller) notify(worker int, id string) error {
	ctx, cancel := context.WithTimeout(context.Background(), pods.Within)
	defer cancel()
	ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+apiKeyOf("ending"))
	_, err := c.Notify(ctx, &pb.NotifyRequest{Id: id, To: &pb.Audience{Users: []string{fmt.Sprint("user", worker)}}, Data: []byte(`{}`)})
	return err
}

func (l *load) ack(topic, id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.acked[topic] = append(l.acked[topic], id)
}

// under waits until the load is at work everywhere.
func (l *load) under(t *testing.T) {
	t.Helper()
	testkit.Eventually(t, 2*pods.Within, func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		for w := range workers {
			if len(l.acked[topicOf(w)]) < 50 {
				return false
			}
		}
		return true
	}, "every worker has published")
}

// wantAll wants a page to have handled every acknowledged message of the topics that it hears once, without a reset. last is where each topic ends.
func (l *load) wantAll(t *testing.T, p *pods.Page, last map[string]string) {
	t.Helper()
	for topic, pos := range last {
		p.UntilAt(topic, pos)
		times := map[string]int{}
		for _, e := range p.Log(topic) {
			times[e.What]++
		}
		for _, id := range l.acked[topic] {
			if n := times["message "+id]; n != 1 {
				t.Errorf("message %s of %s was acknowledged and came %d times", id, topic, n)
			}
		}
		if times["reset"] != 0 {
			t.Errorf("%s was reset", topic)
		}
	}
	if f := p.Faults(); len(f) > 0 {
		t.Errorf("faults: %v", f)
	}
}

// budget is the time that a program said it needs at most to stop.
func budget(t *testing.T, p *pods.Pod) time.Duration {
	t.Helper()
	for _, event := range []string{"listening", "starting"} {
		if said := p.Said(event, "stop_budget", ""); said != nil && said["stop_budget"] != nil {
			d, err := time.ParseDuration(said["stop_budget"].(string))
			if err != nil || d <= 0 || d > time.Minute {
				t.Fatalf("%s says that it stops within %v (%v)", p.Name, d, err)
			}
			return d
		}
	}
	t.Fatalf("%s does not say how long it takes to stop", p.Name)
	return 0
}

func TestSIGTERMUnderLoadEndsInTimeWithCloseFramesAndNothingAcknowledgedIsLost(t *testing.T) {
	t.Parallel()
	s := newSite(t, ending)
	gateway, publisher := s.start("gateway", "gateway"), s.start("publisher", "publisher")
	secret := secretOf("ending")
	sockets := make([]*pods.Client, 200)
	var dialing sync.WaitGroup
	for part := range 10 {
		dialing.Go(func() {
			for i := part; i < len(sockets); i += 10 {
				var err error
				if sockets[i], err = pods.Dial(t, gateway.Addr("public"), pods.Hello{Token: token(t, fmt.Sprint("user", i), secret), Topics: []string{topicOf(i % workers)}}); err != nil {
					t.Errorf("socket %d: %v", i, err)
				}
			}
		})
	}
	if dialing.Wait(); t.Failed() {
		return
	}
	l := startLoad(t, newCaller(t, publisher.Addr("grpc"), nil))
	l.under(t)
	for _, c := range sockets {
		c.Next("message")
	}

	var stopping sync.WaitGroup
	for _, p := range []*pods.Pod{gateway, publisher} {
		most := budget(t, p)
		began := time.Now()
		stopping.Go(func() {
			p.Stop() // wants exit code 0
			if took := time.Since(began); took > most {
				t.Errorf("%s took %v to stop, and said %v at most", p.Name, took, most)
			}
		})
	}
	stopping.Wait()
	closed := map[int]int{}
	for _, c := range sockets {
		code, _ := c.Closed(pods.Within)
		closed[code]++
	}
	if closed[1012]+closed[1001] != len(sockets) {
		t.Errorf("close codes and how often: %v, want 1012 of %d", closed, len(sockets))
	}
	l.work.Wait()

	// Who comes later finds everything that was acknowledged.
	c := pods.Connect(t, s.start("gateway", "later"), pods.Hello{Token: token(t, "later", secret)})
	places := map[string]string{}
	missing := map[string]bool{}
	for topic, ids := range l.acked {
		places[topic] = "0"
		for _, id := range ids {
			missing[topic+" "+id] = true
		}
	}
	c.Send(map[string]any{"type": "subscribe", "topics": places, "ref": 1})
	t.Logf("%d messages were acknowledged", len(missing))
	c.Await("every acknowledged message", func(f pods.Frame) bool {
		delete(missing, f.Topic+" "+f.ID)
		return len(missing) == 0
	})
}

func TestASecondSignalEndsAtOnce(t *testing.T) {
	for _, program := range []string{"gateway", "publisher"} {
		t.Run(program, func(t *testing.T) {
			t.Parallel()
			var args []string
			if program == "gateway" {
				args = []string{"--drain-pause=1m"} // the first signal alone takes long
			}
			p := newSite(t, ending).start(program, program, args...)
			ops := "http://" + p.Addr("ops")
			testkit.Eventually(t, pods.Within, func() bool {
				code, _, err := get(ops + "/healthz/ready")
				return err == nil && code == http.StatusOK
			}, "it is ready: below, that it is not tells of the first signal")
			profile := make(chan struct{})
			go func() { // what is under way delays the end for seconds; it ends with the process
				defer close(profile)
				_, _, _ = get(ops + "/debug/pprof/profile?seconds=60")
			}()
			testkit.Eventually(t, pods.Within, func() bool {
				_, stacks, err := get(ops + "/debug/pprof/goroutine?debug=1")
				return err == nil && strings.Contains(stacks, "net/http/pprof.Profile+")
			}, "the profile is under way")
			p.Signal(syscall.SIGTERM)
			testkit.Eventually(t, pods.Within, func() bool {
				// a connection made as the port closes is answered never, and ends with the process
				code, _, err := doWithin(200*time.Millisecond, http.MethodGet, ops+"/healthz/ready", "")
				return err != nil || code == http.StatusServiceUnavailable
			}, "it stops")
			p.Signal(syscall.SIGTERM)
			how := p.Died(pods.Within).Sys().(syscall.WaitStatus)
			if !how.Signaled() || how.Signal() != syscall.SIGTERM {
				t.Errorf("it ended with exit code %d, want the signal", how.ExitStatus())
			}
			testkit.Closed(t, pods.Within, profile, "the profile")
		})
	}
}

// get fetches without a pool of connections.
func get(url string) (code int, body string, err error) {
	return do(http.MethodGet, url, "")
}

func TestSIGKILLLeavesNothingThatHindersTheNextStart(t *testing.T) {
	t.Parallel()
	s := newSite(t, ending)
	gateway, other, publisher := s.start("gateway", "gateway"), s.start("gateway", "other"), s.start("publisher", "publisher")
	var pages []*pods.Page
	topics := make([]string, workers)
	for w := range workers {
		topics[w] = topicOf(w)
	}
	for i := range 10 {
		user := fmt.Sprint("user", i)
		pages = append(pages, pods.Open(t, gateway, pods.Visit{Token: token(t, user, secretOf("ending")), Own: "user:" + user, Topics: topics, ByPositions: i%3 == 2}))
	}
	l := startLoad(t, newCaller(t, publisher.Addr("grpc"), nil))
	l.under(t)
	gateway.Kill()
	publisher.Kill()
	l.work.Wait()
	for _, p := range pages {
		p.Drop()
	}

	// The same ports, the same Redis.
	gateway = s.start("gateway", "gateway again", "--listen-public="+gateway.Addr("public"), "--listen-ops="+gateway.Addr("ops"))
	publisher = s.start("publisher", "publisher again", "--listen-grpc="+publisher.Addr("grpc"), "--listen-http="+publisher.Addr("http"), "--listen-ops="+publisher.Addr("ops"))
	s.wantTTLs()
	for i, p := range pages {
		p.Resume([]*pods.Pod{other, gateway}[i%2])
	}
	b := pods.BackendWith(t, publisher, apiKeyOf("ending"))
	last := map[string]string{}
	for _, topic := range topics {
		last[topic] = b.Publish(topic, "the-last", "1")
		l.ack(topic, "the-last")
	}
	for _, p := range pages {
		l.wantAll(t, p, last)
	}
	s.wantTTLs()
}

// wantTTLs wants every key of Redis to end by itself, besides the one that says what lives in it.
func (s *site) wantTTLs() {
	s.t.Helper()
	rdb, ctx := s.redis.Client(), testkit.Context(s.t, pods.Within)
	keys, err := rdb.Keys(ctx, "*").Result()
	if err != nil {
		s.t.Fatal(err)
	}
	slices.Sort(keys)
	for _, key := range keys {
		left, err := rdb.PTTL(ctx, key).Result()
		if err != nil {
			s.t.Fatal(err)
		}
		if left == -1 && key != "al:schema" {
			s.t.Errorf("%s has no end", key)
		}
	}
	if len(keys) < workers || !strings.Contains(strings.Join(keys, " "), "al:schema") {
		s.t.Errorf("Redis has only %v", keys)
	}
}
