package fanout

import (
	"container/heap"
	"fmt"
	"testing"
	"time"

	"allim/internal/testkit"
	"allim/pkg/notify"
)

// A gateway that stood still finds every answer late, those of nodes that are well too. Each of them clears itself at once, however much waits for a
// node that is frozen, and in however many lanes.
func TestALaneThatWasLateOnceDoesNotWaitBehindAFrozenNode(t *testing.T) {
	t.Parallel()
	const lanes, each = 40, 50
	h := &halfHistory{thawed: map[notify.Topic]chan struct{}{"frozen": make(chan struct{}), "hiccup": make(chan struct{})}}
	defer close(h.thawed["frozen"])
	r, l := runRecoverer(t, Options{History: h, Workers: 8, CallTimeout: 50 * time.Millisecond, Sharded: true})
	ask := func(topic notify.Topic, lane int) {
		r.ask(query{why: pulling, shard: l, lane: uint16(lane), ticket: &ticket{}, sub: &Subscription{stream: notify.Stream{Tenant: "default", Topic: topic}}})
	}
	for i := range lanes * each {
		ask("frozen", 1+i%lanes)
	}
	trustIn := func(lane int) trust { r.mu.Lock(); defer r.mu.Unlock(); return r.lanes[lane].trust }
	for lane := range lanes {
		testkit.Eventually(t, 10*time.Second, func() bool { return trustIn(1+lane) == tried }, fmt.Sprint("lane ", 1+lane, " is in doubt"))
	}
	for i := range 3 {
		ask("hiccup", 60) // one call of a node that is well
		testkit.Eventually(t, 10*time.Second, func() bool { return trustIn(60) == doubted }, "it was late")
		before, late := r.waiting(), answersFor(l, "frozen")
		ask("healthy", 60)
		testkit.Eventually(t, 20*time.Second, func() bool { return answersFor(l, "healthy") > i }, "the next")
		if n := answersFor(l, "frozen") - late; n > 8 { // the places in doubt are 2
			t.Errorf("it had its answer after %d late ones of a node that is frozen; %d waited", n, before)
		}
		testkit.Eventually(t, 10*time.Second, func() bool { return trustIn(60) == trusted }, "and no doubt is left")
	}
}

// pickAll takes every ticket that has a place, and says how many of them are to be asked.
func pickAll(r *recoverer) (asked, void int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for k := r.pickLocked(); k != nil; k = r.pickLocked() {
		if k.void {
			void++
		} else {
			asked++
		}
	}
	return asked, void
}

// Those in doubt have their turns one lane after the other.
func TestLanesInDoubtTakeTurns(t *testing.T) {
	h, _, _ := stillHub(t, Options{Sharded: true})
	r := h.recover
	for i := range 30 { // 28 of lane 1, then one of 2 and 3 each
		lane := max(1, i-26)
		r.lanes[lane].trust = tried
		r.ask(query{why: pulling, lane: uint16(lane), sub: &Subscription{}})
	}
	r.doubts = r.doubtful
	if asked, void := pickAll(r); asked+void != 0 || r.slow != 30 {
		t.Fatalf("%d were picked, %d wait", asked+void, r.slow)
	}
	got := map[uint16]int{}
	for range 4 {
		r.doubts = r.doubtful - 1
		got[r.pickLocked().query.lane]++
	}
	if got[1] != 2 || got[2] != 1 || got[3] != 1 {
		t.Errorf("of four turns lanes had %v", got)
	}
}

// While a lane has no link nothing of it is live, and once it has another its topics are compared anew: who asked before is answered at once, and
// history is not asked. What is not outdated is asked within the rate.
func TestWhatALinkThatEndedOutdatesIsNotAsked(t *testing.T) {
	h, f, l := stillHub(t, Options{Sharded: true})
	r, gen := h.recover, f.down()
	f.raise(gen)
	ask := func(why purpose, gen uint32, paced bool) {
		q := query{why: why, shard: l, lane: f.lane, gen: gen, paced: paced}
		switch why {
		case renewing:
			q.batch, q.attempt = []mark{{}}, 1
		case pulling:
			q.sub = &Subscription{}
		}
		r.ask(q)
	}
	doubt := func() { r.lanes[f.lane].trust, r.doubts = tried, r.doubtful }
	doubt()
	for range 10 {
		ask(resyncing, gen, false)
		ask(pulling, 0, false)
	}
	if pickAll(r); r.slow != 20 {
		t.Fatalf("%d wait, want 20", r.slow)
	}
	r.doubts = 0
	next := f.down()
	ask(renewing, 0, false)
	for len(r.later) > 0 { // it is asked again, so not at once
		r.ready.push(heap.Pop(&r.later).(*ticket))
	}
	if asked, void := pickAll(r); asked != 1 || void != 20 {
		t.Errorf("without a link %d are asked and %d answered, want 1, which renews, and 20", asked, void)
	}
	r.doubts = 0
	f.raise(next)
	doubt()
	for i := range 10 {
		ask(resyncing, gen, i%2 == 0) // outdated
		ask(pulling, 0, false)
		ask(resyncing, next, true)
	}
	for len(r.later) > 0 { // their turn came
		r.ready.push(heap.Pop(&r.later).(*ticket))
	}
	if asked, void := pickAll(r); asked != 0 || void != 10 || r.slow != 20 {
		t.Errorf("%d are asked, %d answered, %d wait; want 0, 10, 20", asked, void, r.slow)
	}
	r.trust(f.lane, next)
	if asked, void := pickAll(r); asked != 10 || void != 0 || len(r.later) != 10 {
		t.Errorf("%d are asked, %d answered, %d have a new turn; want 10, 0, 10", asked, void, len(r.later))
	}
}

// Links that come and go have a topic ask anew each time, in the turn that it had.
func TestATopicKeepsItsTicketWhenItsLinkEnds(t *testing.T) {
	w, top, _ := oneTopic(t, func(*Options) {})
	e := &keptEnv{world: w}
	w.shard.env = e
	hear(w, 1, 2, 0)
	var k *ticket
	for i := range uint32(3) {
		gen := w.gen + 1 + i
		w.shard.link(0, gen, true)
		w.shard.acked(top)
		w.shard.flush()
		e.answer(e.take(t, comparing), 9)
		q := e.take(t, resyncing)
		if k != nil && q.ticket != k || !q.paced || q.gen != gen {
			t.Fatalf("link %d: asked %+v, want it paced, of this link, with the ticket of before", i, q)
		}
		k = q.ticket
	}
}

// Who asked gets an answer all the same, and goes on when its topic does; that history failed is not said.
func TestWhatIsNotAskedIsAnswered(t *testing.T) {
	h, f, l := stillHub(t, Options{})
	s := &countSink{}
	sub := h.Attach(notify.Stream{Tenant: "default", Topic: "t"}, From{Position: notify.Position{Epoch: "abcdef", Offset: 1}}, s)
	l.step()
	gen := f.down()
	f.raise(gen)
	l.step()
	l.enter(sub.topic, live)
	sub.topic.known, sub.topic.pos = true, notify.Position{Epoch: "abcdef", Offset: 7}
	l.begin(sub.topic, sub)
	if sub.at != checking {
		t.Fatalf("at stage %d, want that it asks", sub.at)
	}
	f.down()
	h.recover.mu.Lock()
	k := h.recover.pickLocked()
	h.recover.mu.Unlock()
	h.recover.work(t.Context(), k)
	l.step()
	if sub.at != starting || l.count.historyErrors.Load() != 0 || h.recover.waiting() != 0 {
		t.Errorf("at stage %d with %d errors, %d wait; want %d, none, none", sub.at, l.count.historyErrors.Load(), h.recover.waiting(), starting)
	}
}

// However many left before they were asked about, who stands behind them has its turn at once, and loops have the lock in between.
func TestAQuestionBehindVeryManyThatWereLeftHasItsTurn(t *testing.T) {
	for _, doubtful := range []bool{false, true} {
		t.Run(map[bool]string{false: "of a lane that is well", true: "of one in doubt"}[doubtful], func(t *testing.T) {
			h, _, _ := stillHub(t, Options{})
			r := h.recover
			var left []*Subscription
			for i := range 3*chore + 1 {
				sub := &Subscription{}
				if i < 3*chore {
					left = append(left, sub)
				}
				r.ask(query{why: pulling, sub: sub})
			}
			if doubtful {
				r.lanes[0].trust, r.doubts = tried, r.doubtful // there is no place: all wait in their lane's queue
				for r.ready.len() > 0 {
					r.take()
				}
				r.doubts = 0
			}
			for _, sub := range left {
				sub.gone.Store(true)
			}
			for takes := 1; ; takes++ {
				k, wait := r.take()
				switch {
				case k != nil && takes == 4 && r.waiting() == 1:
					return
				case k != nil || wait > 0 || takes > 4:
					t.Fatalf("after %d looks of at most %d: ticket %v, to wait %v, %d wait", takes, chore, k, wait, r.waiting())
				}
			}
		})
	}
}
