package fanout

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"allim/internal/testkit"
	"allim/pkg/notify"
)

// A halfHistory answers at once, but for the topics that are not thawed yet.
type halfHistory struct {
	quietHistory
	thawed    map[notify.Topic]chan struct{}
	now, most atomic.Int64 // calls that wait, and most of them at once
}

func (h *halfHistory) Recover(ctx context.Context, s notify.Stream, from notify.Position, limit int) (notify.Recovery, error) {
	if thawed := h.thawed[s.Topic]; thawed != nil {
		n := h.now.Add(1)
		defer h.now.Add(-1)
		for most := h.most.Load(); n > most && !h.most.CompareAndSwap(most, n); most = h.most.Load() {
		}
		select {
		case <-thawed:
		case <-ctx.Done():
			return notify.Recovery{}, ctx.Err()
		}
	}
	return h.quietHistory.Recover(ctx, s, from, limit)
}

// On a cluster one node of several may stand still. Each of its questions takes a worker for as long as a call may last.
func TestANodeThatStandsStillLeavesWorkersToTheOthers(t *testing.T) {
	t.Parallel()
	h := &halfHistory{thawed: map[notify.Topic]chan struct{}{"frozen/1": make(chan struct{}), "frozen/2": make(chan struct{})}}
	r, l := runRecoverer(t, Options{History: h, Workers: 8, CallTimeout: 50 * time.Millisecond, Sharded: true})
	ask := func(topic notify.Topic, lane uint16, attempt int) {
		r.ask(query{why: pulling, shard: l, lane: lane, attempt: attempt, ticket: &ticket{}, sub: &Subscription{stream: notify.Stream{Tenant: "default", Topic: topic}}})
	}
	const frozen = 400
	for i := range frozen { // in two partitions of that node
		ask(notify.Topic(fmt.Sprint("frozen/", 1+i%2)), uint16(1+i%2), 0)
	}
	testkit.Eventually(t, 5*time.Second, func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.lanes[1].trust == tried && r.lanes[2].trust == tried && r.doubts == 2
	}, "both in doubt")
	testkit.Eventually(t, 5*time.Second, func() bool { return h.now.Load() <= 2 }, "the calls before that have ended")
	h.most.Store(0)
	for i := range 50 {
		before := answersFor(l, "healthy")
		ask("healthy", 3, 0)
		testkit.Eventually(t, 5*time.Second, func() bool { return answersFor(l, "healthy") > before }, fmt.Sprint("answer ", i, " of a node that is well"))
	}
	if left := r.waiting(); left < frozen/2 {
		t.Fatalf("only %d questions to the node that stands still are left: those to the other one waited for them", left)
	}
	if most := h.most.Load(); most > 2 {
		t.Errorf("%d of 8 workers asked the node that stands still, want at most 2", most)
	}
	r.trust(2, 0) // a link of it came up
	testkit.Eventually(t, 5*time.Second, func() bool { return h.most.Load() > 2 }, "a lane that is trusted has all places")
	testkit.Eventually(t, 5*time.Second, func() bool { r.mu.Lock(); defer r.mu.Unlock(); return r.lanes[2].trust != trusted }, "until it does not answer again")
	close(h.thawed["frozen/1"])
	doubts := func() (one, two bool) {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.lanes[1].trust != trusted, r.lanes[2].trust != trusted
	}
	testkit.Eventually(t, 5*time.Second, func() bool { one, _ := doubts(); return !one }, "one of the partitions answers again")
	testkit.Eventually(t, 5*time.Second, func() bool { return answersFor(l, "frozen/1") >= frozen/2 }, "all of its questions are answered")
	if _, two := doubts(); !two || r.waiting() < frozen/4 {
		t.Errorf("%d questions to the other one are left: those of the first waited for them", r.waiting())
	}
	close(h.thawed["frozen/2"])
	testkit.Eventually(t, 5*time.Second, func() bool { return r.waiting() == 0 }, "all questions end when the node goes on")
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.lanes[1].trust != trusted || r.lanes[2].trust != trusted || r.doubts != 0 || r.slow != 0 {
		t.Errorf("doubts are left: %+v, %d, %d", r.lanes[1:3], r.doubts, r.slow)
	}
}

func answersFor(l *loop, topic notify.Topic) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, a := range l.answers {
		if a.sub.stream.Topic == topic {
			n++
		}
	}
	return n
}

func TestNobodyAsksForASubscriptionThatIsGone(t *testing.T) {
	t.Parallel()
	h := &gateHistory{gate: make(chan struct{})}
	r, l := runRecoverer(t, Options{History: h, Workers: 1, CallTimeout: time.Minute})
	subs := []*Subscription{{}, {}, {}}
	for i, c := range subs {
		r.ask(query{why: pulling, shard: l, sub: c, ticket: &ticket{}, from: notify.Position{Offset: uint64(i)}})
		testkit.Eventually(t, 5*time.Second, func() bool { return len(h.offsets()) == 1 }, "the first runs")
	}
	subs[1].gone.Store(true)
	close(h.gate)
	testkit.Eventually(t, 5*time.Second, func() bool { return r.waiting() == 0 }, "all are done")
	if got := h.offsets(); len(got) != 2 || got[1] != 2 {
		t.Fatalf("asked for %v, want 0 and 2", got)
	}
}

// Links that come and go have the same topics ask again and again: if each time took a new turn, everybody's would come minutes later.
func TestAPacedQuestionThatIsAskedAnewKeepsItsTurn(t *testing.T) {
	h, _, _ := stillHub(t, Options{})
	r, tickets := h.recover, make([]ticket, 200)
	r.gap = time.Second
	last := func() (due time.Time) {
		for _, k := range r.later {
			if k.due.After(due) {
				due = k.due
			}
		}
		return due
	}
	var want time.Time
	for flap := range 10 {
		for i := range tickets {
			r.ask(query{why: resyncing, paced: true, ticket: &tickets[i], token: uint32(flap)})
		}
		if flap == 0 {
			want = last()
		}
	}
	if got := last(); !got.Equal(want) || r.waiting() != len(tickets) {
		t.Errorf("after ten links the last turn is %v later, and %d wait", got.Sub(want), r.waiting())
	}
	for i := range tickets {
		if tickets[i].query.token != 9 {
			t.Fatalf("question %d is the %d-th, want the newest", i, tickets[i].query.token)
		}
	}
}

// What could not be answered before a link ended is not asked again and again before there is another one.
func TestWhileATopicIsNotHeardItsSubscribersDoNotAsk(t *testing.T) {
	for _, c := range []struct {
		why purpose
		at  stage
	}{{pulling, pending}, {beginning, starting}} {
		e, sub, _ := aLaggard(t)
		e.shard.free(sub.topic) // of its ring
		if c.why == pulling {
			e.called(sub, opResume, From{})
		} else {
			e.called(sub, opMove, From{Position: notify.Position{Epoch: "abcdef", Offset: 1}})
		}
		q := e.take(t, c.why)
		e.shard.link(0, e.gen+1, true)
		e.shard.answered(answer{query: q, err: notify.ErrUnavailable})
		if len(e.asked) != 0 || sub.at != c.at {
			t.Fatalf("asked %+v, at stage %d; want nothing at %d", e.asked, sub.at, c.at)
		}
		e.shard.acked(sub.topic)
		e.shard.flush()
		e.answer(e.take(t, comparing), 2)
		e.take(t, c.why)
	}
}

// A stream that cannot be read, or is at a node that does not answer, must not keep those from going on that were asked for with it.
func TestOneTopThatCannotBeReadHoldsNobodyElse(t *testing.T) {
	h, f, l := stillHub(t, Options{})
	s := &countSink{}
	var subs []*Subscription
	for i := range 3 {
		subs = append(subs, h.Attach(notify.Stream{Tenant: "default", Topic: notify.Topic(fmt.Sprint("t/", i))}, From{Live: true}, s))
	}
	l.step()
	x, e := &l.shard, &keptEnv{world: &world{}}
	x.env = e
	gen := f.down()
	f.raise(gen)
	for _, sub := range subs {
		sub.topic.known, sub.topic.pos = true, notify.Position{Epoch: "abcdef", Offset: 7}
		l.put(frame{gen: gen, ack: true, channel: sub.channel})
	}
	l.step()
	q, top := e.take(t, comparing), subs[0].topic.pos
	tops := []notify.Position{top, top, top}
	x.answered(answer{query: q, tops: tops, err: notify.ErrUnavailable})
	q = e.take(t, comparing)
	bad := q.batch[1].topic
	x.answered(answer{query: q, tops: tops, failed: notify.EachError{nil, notify.ErrInvalid, nil}})
	for _, sub := range subs {
		want := live
		if sub.topic == bad {
			want = syncs
		}
		if sub.topic.mode != want {
			t.Errorf("%s: mode %d, want %d", sub.channel, sub.topic.mode, want)
		}
	}
	if r := e.take(t, resyncing); r.topic != bad {
		t.Errorf("asked for %s, want %s", r.topic.channel, bad.channel)
	}
	// The change check alike.
	bad = subs[0].topic
	for range 2 { // the second time by the sweep
		if len(e.asked) == 0 {
			x.verify([]string{subs[0].channel, subs[2].channel}, nil)
		}
		q = e.take(t, verifying)
		failed := make(notify.EachError, len(q.batch))
		for i, m := range q.batch {
			if m.topic == bad {
				failed[i] = notify.ErrInvalid
			}
		}
		x.answered(answer{query: q, tops: tops[:len(q.batch)], failed: failed})
		x.reconsider()
	}
	if q = e.take(t, verifying); len(q.batch) != 1 || q.batch[0].topic != bad {
		t.Errorf("%d topics are in question again, want the one that could not be read", len(q.batch))
	}
}

// What is asked again is asked lane by lane, and so in doubt with its lane; the first time everything is asked at once.
func TestABatchThatWentWrongIsAskedLaneByLane(t *testing.T) {
	h, _, l := stillHub(t, Options{Sharded: true})
	x, e := &l.shard, &keptEnv{world: &world{}}
	x.env = e
	var batch []mark
	for i := range 3 * batchSize {
		batch = append(batch, mark{topic: &topic{lane: uint16(i % 2)}})
	}
	x.askBatch(renewing, batch, 0)
	x.askBatch(verifying, batch, 0)
	if len(e.asked) != 3 {
		t.Fatalf("%d questions for three full batches", len(e.asked))
	}
	for _, q := range e.asked {
		if q.oneLane() {
			t.Error("a first question is taken for one of a single lane")
		}
	}
	e.asked = nil
	x.askBatch(verifying, batch, 1)
	asked := [2]int{}
	for _, q := range e.asked {
		for _, m := range q.batch {
			if m.topic.lane != q.lane || !q.oneLane() {
				t.Fatalf("a topic of lane %d is asked for with lane %d", m.topic.lane, q.lane)
			}
			asked[q.lane]++
		}
	}
	if want := 3 * batchSize / 2; asked != [2]int{want, want} || len(e.asked) != 4 {
		t.Errorf("asked for %v topics in %d questions, want %d of each in 4", asked, len(e.asked), want)
	}
	// In doubt they have no more places than others of their lane.
	h.recover.lanes[1].trust, h.recover.doubts = doubted, h.recover.doubtful
	for _, q := range e.asked {
		q.attempt = 1
		h.recover.ready.push(&ticket{query: q, state: isReady})
	}
	for range 2 {
		if k := h.recover.pickLocked(); k == nil || k.query.lane != 0 {
			t.Fatalf("picked %+v, want one of lane 0", k)
		}
	}
	if k := h.recover.pickLocked(); k != nil || h.recover.slow != 2 {
		t.Errorf("picked %+v, and %d have no place; want nothing, and 2", k, h.recover.slow)
	}
}
