package fanout

import (
	"fmt"
	"testing"
	"time"

	"allim/internal/testkit"
	"allim/pkg/notify"
)

// A calm is a hub of which the test makes every step itself, with one topic that is live and hears messages.
type calm struct {
	h    *Hub
	l    *loop // of the live topic
	gen  uint32
	sub  *Subscription
	sink *countSink // of sub
	sent int

	others []*Subscription
	crowd  *countSink // of the others
	was    int        // what progress was when the storm began
}

func newCalm(t testing.TB, o Options) *calm {
	t.Helper()
	h, f, _ := stillHub(t, o)
	live := notify.Stream{Tenant: "default", Topic: "live"}
	if h.opt.Sharded {
		f = h.feeds[h.opt.Keys.Partition(live)]
	}
	c := &calm{h: h, sink: &countSink{}, crowd: &countSink{}}
	c.gen = f.down()
	f.raise(c.gen)
	c.sub = h.Attach(live, From{Live: true}, c.sink)
	c.l = c.sub.loop
	c.finish()
	c.answerAll(c.sub)
	return c
}

// finish makes turns until nothing is left.
func (c *calm) finish() {
	for c.l.step() {
	}
}

// attach has so many others wait for their acknowledgement.
func (c *calm) attach(n int) {
	for i := range n {
		c.others = append(c.others, c.h.Attach(notify.Stream{Tenant: "default", Topic: notify.Topic(fmt.Sprint("other/", i))}, From{Live: true}, c.crowd))
	}
}

// acknowledge has subscribed topics sync.
func (c *calm) acknowledge(subs ...*Subscription) {
	c.finish()
	for _, s := range subs {
		c.l.put(frame{gen: c.gen, ack: true, channel: s.channel})
	}
	c.finish()
}

// answer has history say that a topic which syncs begins at 0.
func (c *calm) answer(s *Subscription) {
	top := notify.Position{Epoch: "abcdef"}
	c.l.answer(answer{query: query{why: resyncing, topic: s.topic, token: s.topic.seq}, recovery: notify.Recovery{Outcome: notify.Delta, Top: top, Position: top}})
}

func (c *calm) answerAll(subs ...*Subscription) {
	c.acknowledge(subs...)
	for _, s := range subs {
		c.answer(s)
	}
	c.finish()
}

// later is as if an hour had passed.
func (c *calm) later() { c.h.begun = c.h.begun.Add(-time.Hour) }

func (c *calm) message() frame {
	c.sent++
	return frame{gen: c.gen, channel: c.sub.channel, payload: fmt.Sprintf("2\nabcdef\n%d\n%d\n0\n0\n\nm\nid-%d\n", c.sent, c.sent, c.sent)}
}

func (c *calm) allLive(n int) {
	c.attach(n)
	c.finish()
	c.answerAll(c.others...)
}

// asked is how many questions for this purpose wait for a worker.
func (c *calm) asked(why purpose) (n int) {
	for _, k := range c.h.recover.ready.items[c.h.recover.ready.head:] {
		if k.query.why == why {
			n++
		}
	}
	return n
}

// compared is how many topics history was asked to compare.
func (c *calm) compared() (n int) {
	for _, k := range c.h.recover.ready.items[c.h.recover.ready.head:] {
		if k.query.why == verifying {
			n += len(k.query.batch)
		}
	}
	return n
}

// Whatever happens to thousands of other topics of its loop, a message that came after it is handed on in the next turn, and that turn does no more than
// it may; the turns after it do the rest.
func TestAMessageWaitsForOneTurnOfWhateverHappensToOtherTopics(t *testing.T) {
	const n = 20 * chore
	for _, s := range []struct {
		name            string
		prepare, happen func(*calm)
		progress        func(*calm) int // of n
		most            int             // of it before the message
	}{
		{"they begin", func(c *calm) {}, func(c *calm) { c.attach(n) },
			func(c *calm) int { return int(c.l.count.subs.Load()) }, burst},
		{"history answers each", func(c *calm) { c.attach(n); c.finish(); c.acknowledge(c.others...) }, func(c *calm) {
			for _, s := range c.others {
				c.answer(s)
			}
		}, func(c *calm) int { return c.crowd.begun() }, chore},
		{"history compared all after a new link", func(c *calm) {
			c.allLive(n)
			for _, s := range c.others {
				c.l.startSync(s.topic, byAck)
			}
			c.l.comparing = nil
		}, func(c *calm) {
			for i := 0; i < n; i += batchSize {
				a := answer{query: query{why: comparing}, tops: make([]notify.Position, batchSize)}
				for k, s := range c.others[i : i+batchSize] {
					a.batch, a.tops[k] = append(a.batch, mark{topic: s.topic, seq: s.topic.seq}), s.topic.pos
				}
				c.l.answer(a)
			}
		}, func(c *calm) (n int) {
			for _, s := range c.others {
				if s.topic.mode == live {
					n++
				}
			}
			return n
		}, batchSize},
		{"they are left", func(c *calm) { c.allLive(n) }, func(c *calm) {
			for _, s := range c.others {
				s.Detach()
			}
		}, func(c *calm) int { return n - int(c.l.count.subs.Load()) }, burst},
		{"nobody heard them for long", func(c *calm) {
			c.allLive(n)
			for _, s := range c.others {
				s.Detach()
			}
			c.finish()
		}, func(c *calm) { c.later(); c.l.sweep() },
			func(c *calm) int { return n - len(c.l.topics) }, 2 * chore},
		{"none of them is answered in time", func(c *calm) { c.attach(n); c.finish() }, func(c *calm) { c.later(); c.l.sweep() },
			func(c *calm) int { return c.crowd.begun() }, 2 * chore},
		{"all are compared with Redis", func(c *calm) { c.allLive(n) }, func(c *calm) {
			all := map[int]bool{}
			for p := range c.l.parts {
				all[p] = true
			}
			c.l.do(func(x *shard) { x.verify(nil, all) })
		}, (*calm).compared, 2 * chore},
		{"all are behind Redis", func(c *calm) { c.allLive(n) }, func(c *calm) {
			for _, s := range c.others {
				c.l.doubts.push(doubt{topic: s.topic, seq: s.topic.seq, top: notify.Position{Epoch: "abcdef", Offset: 5}})
			}
			c.l.sweep()
		}, func(c *calm) int { return int(c.l.count.resyncs[byCheck].Load()) }, 2 * chore},
		{"frames of all of them did not fit", func(c *calm) { c.allLive(n) }, func(c *calm) {
			c.l.dropped = map[string]uint32{}
			for _, s := range c.others {
				c.l.dropped[s.channel] = c.gen
			}
		}, func(c *calm) int { return int(c.l.count.resyncs[byQueue].Load()) }, chore},
	} {
		t.Run(s.name, func(t *testing.T) {
			c := newCalm(t, Options{})
			s.prepare(c)
			c.was = s.progress(c)
			s.happen(c)
			c.l.put(c.message())
			c.l.step()
			if got := s.progress(c) - c.was; c.sink.got != 1 || got < 1 || got > s.most {
				t.Errorf("after one turn %d messages came and %d others had their turn, want 1 and at most %d", c.sink.got, got, s.most)
			}
			c.finish()
			if got := s.progress(c) - c.was; got < n {
				t.Errorf("%d had their turn in the end, want %d", got, n)
			}
		})
	}
}

// While one waits in vain for its Begin, another that moves and so puts off its own does not put off anybody else's.
func TestATopicThatBeginsAsksHistoryBeforeAllCallsOfOthersAreMade(t *testing.T) {
	c := newCalm(t, Options{})
	c.attach(100 * burst)
	c.l.put(frame{gen: c.gen, ack: true, channel: c.sub.channel})
	for range 2 {
		if !c.l.step() {
			t.Fatal("nothing of others is left to do")
		}
	}
	if n := c.asked(comparing); n != 1 {
		t.Errorf("after two turns history was asked %d times where the topic stands, want once", n)
	}
}

// Topics that leave while their partition is compared leave none out.
func TestAComparisonOfAllOutlivesTopicsThatLeave(t *testing.T) {
	c := newCalm(t, Options{})
	c.allLive(3 * chore)
	all := map[int]bool{}
	for part := range c.l.parts {
		all[part] = true
	}
	count := func() (unscanned, left int) {
		for part, topics := range c.l.parts {
			unscanned, left = unscanned+c.l.unscanned[part], left+len(topics)
		}
		return unscanned, left
	}
	c.l.verify(nil, all)
	for _, s := range c.others[:2*chore] {
		s.Detach()
	}
	for c.l.serve() {
	}
	for i := range c.l.lingering {
		for c.l.forget(&c.l.lingering[i], c.l.now()+time.Hour) {
		}
	}
	if unscanned, left := count(); unscanned <= left || left != chore+1 {
		t.Fatalf("%d are still to be compared, %d are left: want more than are left, %d", unscanned, left, chore+1)
	}
	c.finish()
	if unscanned, left := count(); unscanned != 0 || c.compared() < left {
		t.Errorf("%d were compared and %d are to be, want at least %d and none", c.compared(), unscanned, left)
	}
}

func TestAMovePutsOffItsOwnAnswerAlone(t *testing.T) {
	c := newCalm(t, Options{AttachTimeout: time.Minute})
	c.attach(2)
	c.finish()
	c.h.begun = c.h.begun.Add(-50 * time.Second)
	c.others[0].Move(From{Live: true})
	c.finish()
	c.h.begun = c.h.begun.Add(-20 * time.Second)
	c.l.sweep()
	if got := c.crowd.begun(); got != 1 {
		t.Fatalf("%d were told that nothing can be said, want the one that did not move", got)
	}
	c.h.begun = c.h.begun.Add(-50 * time.Second)
	c.l.sweep()
	if got := c.crowd.begun(); got != 2 {
		t.Fatalf("%d were told, want the one that moved, too", got)
	}
}

// On its way from the link to its sinks a message takes the lock of its own loop and no other: held are those of every other loop, of all links and of history.
func TestAMessageNeedsNoLockButThatOfItsLoop(t *testing.T) {
	c := newCalm(t, Options{Sharded: true})
	other := newLoop(c.h)
	c.h.loops = append(c.h.loops, other)
	other.mu.Lock()
	c.h.recover.mu.Lock()
	for _, f := range c.h.feeds {
		f.mu.Lock()
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 3 * burst {
			c.l.put(c.message())
			c.finish()
		}
	}()
	testkit.Closed(t, 10*time.Second, done, "all messages")
	for _, f := range c.h.feeds {
		f.mu.Unlock()
	}
	c.h.recover.mu.Unlock()
	other.mu.Unlock()
	if c.sink.got != 3*burst {
		t.Errorf("got %d messages, want %d", c.sink.got, 3*burst)
	}
}
