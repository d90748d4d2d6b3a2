package fanout

import (
	"testing"
	"time"

	"allim/pkg/notify"
)

// A keptEnv keeps questions to history instead of asking them, but for those that only renew.
type keptEnv struct {
	*world
	asked []query
}

func (e *keptEnv) ask(q query) {
	if q.why != renewing {
		e.asked = append(e.asked, q)
	}
}

// take is the only question that was asked since the last take; it must be for that purpose.
func (e *keptEnv) take(t *testing.T, why purpose) query {
	t.Helper()
	if len(e.asked) != 1 || e.asked[0].why != why {
		t.Fatalf("asked %+v, want one question for purpose %d", e.asked, why)
	}
	q := e.asked[0]
	e.asked = nil
	return q
}

// aVerified is a live topic at offset 2 that the change index has just named, and the question that follows.
func aVerified(t *testing.T) (*keptEnv, *topic, query) {
	t.Helper()
	w, top, _ := oneTopic(t, func(*Options) {})
	e := &keptEnv{world: w}
	w.shard.env = e
	hear(w, 1, 2, 0)
	w.shard.verify([]string{w.channel}, nil)
	return e, top, e.take(t, verifying)
}

func (e *keptEnv) answer(q query, top uint64) {
	e.shard.answered(answer{query: q, tops: []notify.Position{{Epoch: "abcdef", Offset: top}}})
}

func wantResync(t *testing.T, e *keptEnv, from uint64) {
	t.Helper()
	for range 2 {
		e.tick()
	}
	if q := e.take(t, resyncing); q.from.Offset != from || e.shard.count.resyncs[byCheck].Load() != 1 {
		t.Fatalf("asked from %d, %d resyncs by the check; want from %d, 1", q.from.Offset, e.shard.count.resyncs[byCheck].Load(), from)
	}
}

func wantNothing(t *testing.T, e *keptEnv) {
	t.Helper()
	for range 3 {
		e.tick()
	}
	if len(e.asked) != 0 {
		t.Fatalf("asked %+v", e.asked)
	}
}

func TestATopicThatIsBehindIsReadAnew(t *testing.T) {
	e, _, q := aVerified(t)
	e.answer(q, 3)
	wantResync(t, e, 2)
}

func TestATopicThatIsWhereRedisIsIsLeftAlone(t *testing.T) {
	e, _, q := aVerified(t)
	e.answer(q, 2)
	wantNothing(t, e)
}

func TestAQuestionThatFailedIsAskedAgain(t *testing.T) {
	e, _, q := aVerified(t)
	for range 3 {
		e.shard.answered(answer{query: q, err: notify.ErrUnavailable})
		e.tick()
		q = e.take(t, verifying)
	}
	e.answer(q, 3)
	wantResync(t, e, 2)
}

// Message 3 was in the mailbox, 4 is lost: that the topic moved proves nothing.
func TestATopicThatMovedMeanwhileAndIsStillBehindIsReadAnew(t *testing.T) {
	e, _, q := aVerified(t)
	hear(e.world, 3, 3, 0)
	e.answer(q, 4)
	wantResync(t, e, 3)
}

func TestATopicWhoseMessagesWereStillInTheMailboxIsLeftAlone(t *testing.T) {
	e, _, q := aVerified(t)
	hear(e.world, 3, 3, 0)
	e.answer(q, 5)
	hear(e.world, 4, 6, 0)
	wantNothing(t, e)
}

// What history said may be from before the message that the index names.
func TestATopicThatIsNamedWhileItSyncsIsComparedAfterwards(t *testing.T) {
	w, top, _ := oneTopic(t, func(*Options) {})
	e := &keptEnv{world: w}
	w.shard.env = e
	hear(w, 1, 2, 0)
	w.shard.startSync(top, byGap)
	q, at := e.take(t, resyncing), notify.Position{Epoch: "abcdef", Offset: 2}
	w.shard.verify([]string{w.channel}, nil)
	e.tick()
	w.shard.answered(answer{query: q, recovery: notify.Recovery{Outcome: notify.Delta, Position: at, Top: at}})
	e.tick()
	e.answer(e.take(t, verifying), 3)
	wantResync(t, e, 2)
}

// A failover that the link did not notice: what was heard is no longer there.
func TestATopicThatRedisIsBehindOfIsReadAnew(t *testing.T) {
	e, _, q := aVerified(t)
	e.answer(q, 1)
	wantResync(t, e, 2)
}

func TestAfterALinkNothingIsInQuestionAnyMore(t *testing.T) {
	e, _, q := aVerified(t)
	e.shard.answered(answer{query: q, err: notify.ErrUnavailable})
	e.shard.link(0, e.gen+1, false)
	e.answer(q, 9)
	wantNothing(t, e)
	if e.shard.doubts.len() != 0 || e.shard.unsure != nil {
		t.Fatalf("%d doubts and %d unsure are left", e.shard.doubts.len(), len(e.shard.unsure))
	}
}

// A link ended between two pages of a sync, and what was to follow is lost: the place is right, but the counts are those from before the pages.
func TestATopicAtItsTopWithoutItsCountsAsksForThem(t *testing.T) {
	w, top, _ := oneTopic(t, func(*Options) {})
	e := &keptEnv{world: w}
	w.shard.env = e
	hear(w, 1, 2, 0)
	top.kind = notify.KindUser
	at := func(o uint64) notify.Position { return notify.Position{Epoch: "abcdef", Offset: o} }
	w.shard.startSync(top, byGap)
	w.shard.answered(answer{query: e.take(t, resyncing), recovery: notify.Recovery{Outcome: notify.Delta, Position: at(3), Top: at(4),
		Messages: []notify.Message{{Change: notify.ChangeMessage, Position: at(3)}}, Badge: &notify.Badge{Unread: 4, Revision: at(4)}}})
	e.take(t, resyncing)
	w.shard.link(0, w.gen+1, true)
	w.shard.acked(top)
	w.shard.flush()
	e.answer(e.take(t, comparing), 3)
	q := e.take(t, resyncing)
	counts := &notify.Badge{Unread: 3, Revision: at(3)}
	w.shard.answered(answer{query: q, recovery: notify.Recovery{Outcome: notify.Delta, Position: at(3), Top: at(3), Badge: counts}})
	if top.mode != live || top.badge != counts {
		t.Fatalf("mode %d with the counts %v, want live with %v", top.mode, top.badge, counts)
	}
}

func TestWhenTheIndexDoesNotNameEverything(t *testing.T) {
	const tick = 1_800_000_000_000
	at := func(id string, tick int64, sec time.Duration) glance { return glance{id, tick, sec * time.Second} }
	for _, c := range []struct {
		name      string
		last, now glance
		want      bool
	}{
		{"the first look", glance{}, at("a", tick, 10), false},
		{"the first look comes late", glance{}, at("a", tick, 56), true},
		{"the first look comes late, and nothing was ever written", glance{}, at("a", 0, 56), false},
		{"the same", at("a", tick, 10), at("a", tick, 20), false},
		{"a write", at("a", tick, 10), at("a", tick+9000, 20), false},
		{"another history", at("a", tick, 10), at("b", tick, 20), true},
		{"another history, and no tick", at("a", tick, 10), at("b", 0, 20), true},
		{"a history that is hidden", at("", tick, 10), at("", tick+1, 20), false},
		{"a history that is hidden now", at("a", tick, 10), at("", tick, 20), true},
		{"a tick that went back", at("a", tick, 10), at("a", tick-1, 20), true},
		{"a tick that was forgotten", at("a", tick, 10), at("a", 0, 20), true},
		{"just within the index's memory", at("a", tick, 10), at("a", tick+55_000, 20), false},
		{"beyond it, however little time passed here", at("a", tick, 10), at("a", tick+55_001, 11), true},
		{"long ago here, but not for Redis", at("a", tick, 10), at("a", tick+1, 600), false},
		{"after a quiet time, soon", at("a", 0, 10), at("a", tick, 20), false},
		{"after a quiet time, late", at("a", 0, 10), at("a", tick, 66), true},
	} {
		if got := c.last.misses(c.now); got != c.want {
			t.Errorf("%s: got %v, want %v", c.name, got, c.want)
		}
	}
}

// Another history may be shorter: what comes from it is never known by its offset alone.
func TestAMessageOfAnotherEpochMakesTheTopicAsk(t *testing.T) {
	for _, offset := range []uint64{1, 2, 3, 9} {
		w, _, s := oneTopic(t, func(*Options) {})
		e := &keptEnv{world: w}
		w.shard.env = e
		hear(w, 1, 2, 0)
		w.shard.heard(w.shard.topics[w.channel], &notify.Message{Change: notify.ChangeMessage, Position: notify.Position{Epoch: "zzzzzz", Offset: offset}})
		if q := e.take(t, resyncing); q.from.Offset != 2 || s.got != 2 {
			t.Errorf("offset %d: asked from %v with %d messages handed on, want from 2 with 2", offset, q.from, s.got)
		}
	}
}
