package programs

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"allim/test/pods"
)

// A fleet is the gateways that take connections now.
type fleet struct {
	mu  sync.Mutex
	all []*pods.Pod
}

func (f *fleet) any() *pods.Pod {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.all[rand.IntN(len(f.all))]
}

// put makes a gateway the n-th, and returns the one before it.
func (f *fleet) put(n int, p *pods.Pod) (before *pods.Pod) {
	f.mu.Lock()
	defer f.mu.Unlock()
	before, f.all[n] = f.all[n], p
	return before
}

// trickle publishes on each topic and notifies each user without a pause for breath, but slowly, until stop is called, which returns where each stream ends.
func trickle(t *testing.T, b *pods.Backend, topics, users []string) (l *load, stop func() map[string]string) {
	l = &load{acked: map[string][]string{}}
	quit := make(chan struct{})
	last := map[string]string{}
	l.work.Go(func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for i := 0; ; i++ {
			for _, topic := range topics {
				id := fmt.Sprintf("m%d", i)
				last[topic] = b.Publish(topic, id, "1")
				l.ack(topic, id)
			}
			if i%10 == 0 {
				for _, user := range users {
					last["user:"+user] = b.Notify(user, fmt.Sprintf("n%d", i), "", "1")
				}
			}
			select {
			case <-quit:
				return
			case <-tick.C:
			}
		}
	})
	stop = sync.OnceValue(func() map[string]string {
		close(quit)
		l.work.Wait()
		return last
	})
	t.Cleanup(func() { stop() })
	return l, stop
}

// Every gateway is replaced under load. Who moves when it is asked to is never without a connection and misses nothing; who does not is closed with 1012.
func TestARollingUpdateIsNoticedByNobodyWhoMoves(t *testing.T) {
	t.Parallel()
	s := newSite(t, ending)
	drain := []string{"--drain-pause=300ms", "--drain-window=2s"}
	f := &fleet{all: make([]*pods.Pod, 3)}
	for i := range f.all {
		f.put(i, s.start("gateway", fmt.Sprint("gateway ", i), drain...))
	}
	first := f.all[0]
	topics := []string{topicOf(0), topicOf(1)}
	users := []string{"user0", "user1", "user2"}
	var pages []*pods.Page
	for i := range 30 {
		user := users[i%len(users)]
		pages = append(pages, pods.Open(t, f.all[i/2%len(f.all)], pods.Visit{Token: token(t, user, secretOf("ending")), Own: "user:" + user, Topics: topics, ByPositions: true, Elsewhere: f.any}))
	}
	plain := make([]*pods.Client, 5)
	for i := range plain {
		plain[i] = pods.Connect(t, first, pods.Hello{Token: token(t, "plain", secretOf("ending")), Topics: topics})
	}
	l, stop := trickle(t, pods.BackendWith(t, s.start("publisher", "publisher"), apiKeyOf("ending")), topics, users)

	for i := range f.all {
		before := f.put(i, s.start("gateway", fmt.Sprint("next gateway ", i), drain...))
		began := time.Now()
		before.Stop() // wants exit code 0
		if took, most := time.Since(began), budget(t, before); took > most {
			t.Errorf("%s took %v, and said %v at most", before.Name, took, most)
		}
	}
	last := stop()
	asked, moved := 0, 0
	for i, p := range pages {
		own := "user:" + users[i%len(users)]
		l.wantAll(t, p, map[string]string{topics[0]: last[topics[0]], topics[1]: last[topics[1]], own: last[own]})
		w := p.Ways()
		if w.Lost > 0 || w.Moved == 0 || w.Moved != w.Asked {
			t.Errorf("page %d was asked to move %d times, did so %d times, and was without a connection %d times (code %d)", i, w.Asked, w.Moved, w.Lost, w.Code)
		}
		asked, moved = asked+w.Asked, moved+w.Moved
	}
	t.Logf("%d moves were asked for and %d made, while %d messages were published", asked, moved, len(l.acked[topics[0]])*2)
	for i, c := range plain {
		if code, reason := c.Closed(pods.Within); code != 1012 {
			t.Errorf("plain client %d was closed with %d %s, want 1012", i, code, reason)
		}
		moves := 0
		for _, f := range c.Frames() {
			if f.Type == "move" {
				moves++
			}
		}
		if moves != 1 {
			t.Errorf("plain client %d was asked to move %d times", i, moves)
		}
	}
}
