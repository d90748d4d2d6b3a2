package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"

	"allim/test/pods"
)

const (
	messagesPerSeed = 1000 // written to topics and users by a seed's script
	atOnce          = 4    // seeds that run at once: as many tenants, with the same users and topics
	writers         = 3    // calls of a seed's backend at once
)

// seeds is how many scripts run: 100, or ALLIM_SEEDS.
func seeds(t *testing.T) int {
	text := os.Getenv("ALLIM_SEEDS")
	if text == "" {
		return 100
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("ALLIM_SEEDS: got %q, want a number", text)
	}
	return n
}

// TestEveryClientHearsTheSame lets random scripts of publications, notifications and marks run against two gateways and one publisher, with clients on both
// that drop and come back on the other one. At the end of each every client has heard the same, in the same order, which is what
// the publisher acknowledged, and its list and counts are those of the publisher. ALLIM_SEED runs one script alone.
func TestEveryClientHearsTheSame(t *testing.T) {
	t.Parallel() // beside the tests that wait for time to pass
	stage := pods.Start(t, pods.Options{Gateways: 2})
	if text := os.Getenv("ALLIM_SEED"); text != "" {
		seed, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		newPlay(t, stage, seed).run()
		return
	}
	queue := make(chan int) // closed when every seed was taken
	var wg sync.WaitGroup
	for range atOnce {
		wg.Go(func() {
			for seed := range queue {
				t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) { newPlay(t, stage, seed).run() })
			}
		})
	}
	for seed := range seeds(t) {
		queue <- seed
	}
	close(queue)
	wg.Wait()
	for _, g := range stage.Gateways {
		if n := g.Metric("allim_feed_link_generations_total"); n != 1 {
			t.Errorf("%s began %v links to Redis, want 1: the seeds show less than they should", g.Name, n)
		}
	}
}

// A play is one seed: its script and who takes part.
type play struct {
	t       *testing.T
	stage   *pods.Stage
	rng     *rand.Rand
	name    string // stands in every id, topic and user
	tenant  string
	backend *pods.Backend
	topics  []string
	short   string // a topic whose history is shorter than what a dropped page misses
	users   []string
	pages   []*page
	truth   truth
}

// A page is a client of the play, and on which gateway it is.
type page struct {
	*pods.Page
	user    string
	gateway int
	away    int // steps until it comes back; 0: it is connected
}

// A step is one thing that a script does. It is a method of play or of one of its pages with its arguments bound.
type step struct {
	weight int // messages that it writes
	do     func()
	inline bool // not beside the next steps
}

func newPlay(t *testing.T, stage *pods.Stage, seed int) *play {
	t.Helper()
	// The seeds that run beside each other differ in nothing but the tenant: what crosses over would be seen.
	name := fmt.Sprint(seed / len(pods.Tenants))
	p := &play{t: t, stage: stage, rng: rand.New(rand.NewPCG(uint64(seed), 1)), name: name, tenant: pods.Tenants[seed%len(pods.Tenants)]}
	p.backend = pods.NewBackend(t, stage.Publishers[0], p.tenant)
	for i := range 3 {
		p.topics = append(p.topics, fmt.Sprintf("feed/%s/%d", name, i))
	}
	p.short = "short/" + name
	p.users = []string{"ann-" + name, "ben-" + name}
	p.truth.init()
	// Two devices of ann and one of ben, on both gateways; the last of ann's comes back by positions.
	for i, user := range []string{p.users[0], p.users[1], p.users[0], p.users[1]} {
		g := pods.Grant{Hear: p.topics[:1], Subscribe: []string{"feed/*", "short/*"}, Tenant: p.tenant}
		v := pods.Visit{Token: pods.Token(t, user, g), Own: "user:" + user, Topics: append([]string{p.short}, p.topics[1:]...), ByPositions: i == 2}
		p.pages = append(p.pages, &page{Page: pods.Open(t, stage.Gateways[i%2], v), user: user, gateway: i % 2})
	}
	return p
}

func (p *play) run() {
	p.t.Helper()
	work := make(chan func()) // closed after the last step
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for do := range work {
				do()
			}
		})
	}
	for left := messagesPerSeed; left > 0 && !p.t.Failed(); {
		s := p.next(left)
		left -= s.weight
		if s.inline {
			s.do()
		} else {
			work <- s.do
		}
		p.comeBack(s.weight)
	}
	close(work)
	wg.Wait()
	p.comeBack(messagesPerSeed)
	p.check()
}

// comeBack lets dropped pages resume, on the other gateway, once they missed enough.
func (p *play) comeBack(written int) {
	p.t.Helper()
	for _, x := range p.pages {
		if x.away == 0 {
			continue
		}
		if x.away -= written; x.away <= 0 {
			x.away, x.gateway = 0, 1-x.gateway
			x.Resume(p.stage.Gateways[x.gateway])
		}
	}
}
