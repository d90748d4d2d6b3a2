package fault

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"allim/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

const (
	feed = "acme feed"
	ann  = "acme user:ann"
)

// goodLog is one in which every promise was kept: two readers of a topic, one of an inbox, a fault in between, a message that Redis lost and that was
// written again. Made-up logs that differ from it in one thing must fail.
func goodLog() (log []Event) {
	at := time.Duration(0)
	add := func(e Event) {
		at += 100 * time.Millisecond
		e.At = at
		log = append(log, e)
	}
	write := func(n int, kind, stream, id, pos string) {
		add(Event{What: invoked, Op: n, Kind: kind, Stream: stream, ID: id})
		add(Event{What: acked, Op: n, Pod: "publisher-1", Pos: pos})
	}
	get := func(reader string, conn int, stream, id, pos string, more ...func(*Event)) {
		e := Event{What: got, Reader: reader, Conn: conn, Stream: stream, ID: id, Pos: pos, Owner: stream, Shown: id != ""}
		for _, f := range more {
			f(&e)
		}
		add(e)
	}
	hidden := func(e *Event) { e.Shown = false }
	replayed := func(e *Event) { e.Replayed = true }

	add(Event{What: measured, Kind: "before", Pod: "gateway-1", Goroutines: 40, Descriptors: 20, Bytes: 30 << 20})
	add(Event{What: begins, Reader: "one", Conn: 1, Stream: feed, Pos: "-7.0"})
	add(Event{What: begins, Reader: "two", Conn: 2, Stream: feed, Pos: "-7.0"})
	add(Event{What: begins, Reader: "ann", Conn: 3, Stream: ann, Pos: "-7.0"})
	write(1, "publish", feed, "m1", "e.1")
	get("one", 1, feed, "m1", "e.1")
	get("two", 2, feed, "m1", "e.1")
	write(2, "notify", ann, "n1", "e.1")
	get("ann", 3, ann, "n1", "e.1")
	write(3, "read", ann, "n1", "e.2")
	get("ann", 3, ann, "", "e.2")
	for _, id := range []string{"e1", "e2"} {
		add(Event{What: sent, Stream: feed, ID: id})
		add(Event{What: passed, Reader: "one", Conn: 1, Stream: feed, ID: id, Owner: feed})
	}
	add(Event{What: faultOn, Text: "lossy failover"})
	write(4, "publish", feed, "m2", "e.2")
	get("one", 1, feed, "m2", "e.2") // two has not had it yet
	add(Event{What: kept, Stream: feed, Pos: "e.1"})
	add(Event{What: kept, Stream: ann, Pos: "e.2"})
	add(Event{What: faultOff})
	write(5, "publish", feed, "m3", "f.2")
	add(Event{What: reset, Reader: "one", Conn: 1, Stream: feed, Pos: "f.0"})
	get("one", 1, feed, "m1", "f.1", hidden)
	get("one", 1, feed, "m3", "f.2")
	get("one", 1, feed, "m2", "f.3", hidden, replayed)
	get("two", 2, feed, "m3", "f.2")
	get("two", 2, feed, "m2", "f.3", replayed)
	add(Event{What: slack, Bytes: int64(time.Millisecond)})
	add(Event{What: history, Stream: feed, Items: []Item{{ID: "m1"}, {ID: "m3"}, {ID: "m2", Replayed: true}}})
	add(Event{What: inbox, Stream: ann, Items: []Item{{ID: "n1", Seen: true, Read: true}}})
	add(Event{What: holds, Reader: "ann", Stream: ann})
	add(Event{What: measured, Kind: "after", Pod: "gateway-1", Goroutines: 44, Descriptors: 21, Bytes: 38 << 20})
	return log
}

// find is the nth event of the log that is good, counted from 0.
func find(log []Event, n int, good func(Event) bool) int {
	for i, e := range log {
		if good(e) {
			if n == 0 {
				return i
			}
			n--
		}
	}
	panic("the made-up log has no such event")
}

func is(what, reader, id string) func(Event) bool {
	return func(e Event) bool { return e.What == what && e.Reader == reader && e.ID == id }
}

func without(n int, good func(Event) bool) func([]Event) []Event {
	return func(log []Event) []Event { i := find(log, n, good); return slices.Delete(log, i, i+1) }
}

func with(n int, good func(Event) bool, change func(*Event)) func([]Event) []Event {
	return func(log []Event) []Event { change(&log[find(log, n, good)]); return log }
}

// again puts a copy of an event behind all others, changed.
func again(n int, good func(Event) bool, change func(*Event)) func([]Event) []Event {
	return func(log []Event) []Event {
		e := log[find(log, n, good)]
		e.At = log[len(log)-1].At + time.Millisecond
		change(&e)
		return append(log, e)
	}
}

func truthOf(stream string) func(Event) bool {
	return func(e Event) bool { return (e.What == history || e.What == inbox) && e.Stream == stream }
}

func TestAGoodLogBreaksNoRule(t *testing.T) {
	lists := with(0, is(holds, "ann", ""), func(e *Event) { e.Kind, e.Items = "list", []Item{{ID: "n1", Seen: true, Read: true}} })
	for _, log := range [][]Event{goodLog(), lists(goodLog())} {
		if got := judge(log, allowed{resets: lossResets, late: 400 * time.Millisecond}); len(got) > 0 {
			t.Errorf("got %v", got)
		}
	}
}

func TestEveryRuleSeesWhatItIsFor(t *testing.T) {
	ackOf := func(n int) func(Event) bool { return func(e Event) bool { return e.What == acked && e.Op == n } }
	for _, c := range []struct {
		name string
		do   func([]Event) []Event
		rule int // the only one that is broken
	}{
		{"an acknowledged message is not in the history", with(0, truthOf(feed), func(e *Event) { e.Items = e.Items[:2] }), 1},
		{"it is there twice", with(0, truthOf(feed), func(e *Event) { e.Items = append(e.Items, Item{ID: "m1"}) }), 1},
		{"something nobody wrote is there", with(0, truthOf(feed), func(e *Event) { e.Items = append(e.Items, Item{ID: "x"}) }), 1},
		{"an acknowledged notification is not in the inbox", with(0, truthOf(ann), func(e *Event) { e.Items = nil }), 1},
		{"nobody looked", without(0, truthOf(feed)), 1},
		{"a reader missed the last message", without(0, is(got, "two", "m2")), 2},
		{"a reader was shown a message twice", with(0, func(e Event) bool { return e.What == got && e.Reader == "one" && e.ID == "m1" && !e.Shown }, func(e *Event) { e.Shown = true }), 2},
		{"a reader was shown what nobody wrote", again(0, is(got, "two", "m2"), func(e *Event) { e.ID, e.Pos = "x", "f.4" }), 2},
		{"a reader was shown messages in another order", func(log []Event) []Event {
			i, j := find(log, 0, is(got, "two", "m1")), find(log, 0, is(got, "two", "m3"))
			log[i].ID, log[j].ID = "m3", "m1"
			return log
		}, 2},
		{"a reader was shown in another order what one process wrote again", with(0, is(got, "two", "m3"), func(e *Event) { e.Replayed = true }), 2},
		{"a position is left out", with(0, is(got, "two", "m2"), func(e *Event) { e.Pos = "f.4" }), 3},
		{"a position comes twice", again(0, is(got, "two", "m2"), func(e *Event) { e.ID, e.Shown = "", false }), 3},
		{"an id comes twice on a connection", again(0, is(got, "two", "m1"), func(e *Event) { e.Pos, e.Shown = "f.4", false }), 3},
		{"a stream has no beginning", without(0, is(begins, "two", "")), 3},
		{"a mark is not on the server", with(0, truthOf(ann), func(e *Event) { e.Items[0].Read, e.Unread = false, 1 }), 4},
		{"the server counts what is not there", with(0, truthOf(ann), func(e *Event) { e.Unread = 1 }), 4},
		{"a reader shows other counts", with(0, is(holds, "ann", ""), func(e *Event) { e.Unseen = 1 }), 4},
		{"a reader lists an item as it is not", with(0, is(holds, "ann", ""), func(e *Event) { e.Kind, e.Items = "list", []Item{{ID: "n1", Seen: true}} }), 4},
		{"a reader's list lacks an item", with(0, is(holds, "ann", ""), func(e *Event) { e.Kind = "list" }), 4},
		{"a message of another tenant", with(0, is(got, "two", "m1"), func(e *Event) { e.Owner = "default feed" }), 5},
		{"a reset of who saw nothing that was lost", again(0, is(reset, "one", ""), func(e *Event) { e.Reader, e.Conn = "two", 2 }), 6},
		{"no reset of who did", with(0, is(reset, "one", ""), func(e *Event) { e.What = begins }), 6},
		{"an operation was refused", again(0, ackOf(5), func(e *Event) { e.What = refused }), 7},
		{"a message was shown 20 s after the fault", with(0, is(got, "two", "m2"), func(e *Event) { e.At += 21 * time.Second }), 8},
		{"messages take long without a fault", with(0, is(got, "one", "m1"), func(e *Event) { e.At += 400 * time.Millisecond }), 8},
		{"goroutines stay", with(1, func(e Event) bool { return e.What == measured }, func(e *Event) { e.Goroutines = 46 }), 9},
		{"descriptors stay", with(1, func(e Event) bool { return e.What == measured }, func(e *Event) { e.Descriptors = 26 }), 9},
		{"memory stays", with(1, func(e Event) bool { return e.What == measured }, func(e *Event) { e.Bytes = 79 << 20 }), 9},
		{"an ephemeral message comes twice", again(0, is(passed, "one", "e2"), func(*Event) {}), 10},
		{"ephemeral messages change places", func(log []Event) []Event {
			i, j := find(log, 0, is(passed, "one", "e1")), find(log, 0, is(passed, "one", "e2"))
			log[i].ID, log[j].ID = "e2", "e1"
			return log
		}, 10},
		{"an ephemeral message that nobody sent", with(0, is(passed, "one", "e2"), func(e *Event) { e.ID = "x" }), 10},
		{"an ephemeral message of another tenant", with(0, is(passed, "one", "e2"), func(e *Event) { e.Owner = "default feed" }), 10},
		{"a key stays", again(0, truthOf(feed), func(e *Event) { *e = Event{What: endless, Text: "al:x"} }), 9},
	} {
		t.Run(c.name, func(t *testing.T) {
			broken := map[int]bool{}
			breaches := judge(c.do(goodLog()), allowed{resets: lossResets, late: 400 * time.Millisecond})
			for _, b := range breaches {
				broken[b.rule] = true
			}
			if c.rule == 3 && c.name == "a stream has no beginning" {
				delete(broken, 2) // who never began is owed nothing less
			}
			if len(broken) != 1 || !broken[c.rule] {
				t.Errorf("got %v, want a breach of rule %d alone", breaches, c.rule)
			}
		})
	}
}

func TestWhatTwoProcessesMayHaveWrittenAgainHasNoOrder(t *testing.T) {
	for name, more := range map[string]Event{
		"another process": {What: acked, Op: 5, Pod: "publisher-2", Pos: "f.2"},
		"a second try":    {What: tried, Op: 5},
	} {
		log := with(0, is(got, "two", "m3"), func(e *Event) { e.Replayed = true })(goodLog())
		i := find(log, 0, func(e Event) bool { return e.What == acked && e.Op == 5 })
		more.At = log[i].At
		log = slices.Insert(log, i, more)
		if got := judge(log, allowed{resets: lossResets}); len(got) > 0 {
			t.Errorf("%s: got %v", name, got)
		}
	}
}

func TestAnEphemeralMessageWithoutAnAnswerMayComeLate(t *testing.T) {
	log := goodLog()
	i, j := find(log, 0, is(passed, "one", "e1")), find(log, 0, is(passed, "one", "e2"))
	log[i].ID, log[j].ID = "e2", "e1"
	log = again(0, is(sent, "", "e1"), func(e *Event) { e.Text = "deadline" })(log)
	if got := judge(log, allowed{resets: lossResets}); len(got) > 0 {
		t.Errorf("got %v", got)
	}
}

func TestAScenarioMayWantMoreSpeedAfterAFault(t *testing.T) {
	log := with(0, is(got, "two", "m2"), func(e *Event) { e.At += 3 * time.Second })(goodLog())
	for healed, want := range map[time.Duration]int{0: 0, 5 * time.Second: 0, 2 * time.Second: 1} {
		if got := judge(log, allowed{resets: lossResets, healed: healed}); len(got) != want {
			t.Errorf("within %v: got %v", healed, got)
		}
	}
}

func TestWhereNothingIsLostNobodyIsReset(t *testing.T) {
	log := slices.DeleteFunc(goodLog(), func(e Event) bool { return e.What == kept })
	if got := judge(log, allowed{resets: noResets}); len(got) != 1 || got[0].rule != 6 {
		t.Errorf("got %v, want one breach of rule 6", got)
	}
	if got := judge(log, allowed{resets: someResets}); len(got) > 0 {
		t.Errorf("got %v where resets are only counted", got)
	}
}

func TestWhoWasAwayForLongIsReset(t *testing.T) {
	away := func(from, to, topic, reason string) []Event {
		return []Event{
			{What: begins, Reader: "ann", Conn: 1, Stream: topic, Pos: "e.0"},
			{What: got, Reader: "ann", Conn: 1, Stream: topic, Pos: from},
			{What: begins, Reader: "ann", Conn: 2, Stream: topic, Pos: to},
			{What: reset, Reader: "ann", Conn: 2, Stream: topic, Pos: to, Text: reason},
		}
	}
	e := func(offset uint64) string { return fmt.Sprint("e.", offset) }
	for _, c := range []struct {
		name string
		log  []Event
		good bool
	}{
		{"one event more than is kept", away("e.1", e(inboxWindow+2), ann, "history_gone"), true},
		{"all of them are kept", away("e.1", e(inboxWindow+1), ann, "history_gone"), false},
		{"it is said that they were lost", away("e.1", e(inboxWindow+2), ann, "history_lost"), false},
		{"of a topic whose history reaches", away("e.1", e(inboxWindow+2), feed, "history_gone"), false},
	} {
		if got := judge(c.log, allowed{resets: awayResets}); (len(got) == 0) != c.good || !c.good && got[0].rule != 6 {
			t.Errorf("%s: got %v", c.name, got)
		}
	}
}

func TestAnOperationWithoutAnAnswerMayHaveBeenCarriedOutOrNot(t *testing.T) {
	pending := func(log []Event) []Event {
		return without(0, func(e Event) bool { return e.What == acked && e.Op == 3 })(log)
	}
	read := pending(goodLog())
	unread := with(0, truthOf(ann), func(e *Event) { e.Items[0] = Item{ID: "n1"}; e.Unread, e.Unseen = 1, 1 })(pending(goodLog()))
	unread = with(0, is(holds, "ann", ""), func(e *Event) { e.Unread, e.Unseen = 1, 1 })(unread)
	for i, log := range [][]Event{read, unread} {
		if got := judge(log, allowed{resets: lossResets}); len(got) != 1 || got[0].rule != 7 { // that it had none is told
			t.Errorf("%d: got %v", i, got)
		}
	}
}

// killedAt is the good log with a message that Redis lost and nobody wrote again, and its holder, or another process, killed at a time.
func killedAt(pod string, at func(ack, loss time.Duration) time.Duration) []Event {
	log := with(0, truthOf(feed), func(e *Event) { e.Items = e.Items[:2] })(goodLog())
	log = slices.DeleteFunc(log, func(e Event) bool { return e.ID == "m2" && e.Replayed })
	acked := find(log, 0, func(e Event) bool { return e.What == acked && e.Op == 4 })
	kill := Event{What: killed, Pod: pod, At: at(log[acked].At, log[find(log, 0, func(e Event) bool { return e.What == kept })].At)}
	i := slices.IndexFunc(log, func(e Event) bool { return e.At > kill.At })
	return slices.Insert(log, i, kill)
}

func TestWhatOnlyAKilledProcessHeldMayBeLostWithTheDataAndIsCounted(t *testing.T) {
	between := func(ack, loss time.Duration) time.Duration { return (ack + loss) / 2 }
	if got := judge(killedAt("publisher-1", between), allowed{resets: lossResets}); len(got) > 0 {
		t.Errorf("got %v", got)
	}
	if n := summarize(killedAt("publisher-1", between)).unknown; n != 1 {
		t.Errorf("%d operations are unknown, want 1", n)
	}
	for name, log := range map[string][]Event{
		"before it acknowledged":  killedAt("publisher-1", func(ack, _ time.Duration) time.Duration { return ack - time.Millisecond }),
		"after the loss":          killedAt("publisher-1", func(_, loss time.Duration) time.Duration { return loss + time.Millisecond }),
		"another process":         killedAt("publisher-2", between),
		"what Redis had not lost": with(0, func(e Event) bool { return e.What == kept }, func(e *Event) { e.Pos = "e.2" })(killedAt("publisher-1", between)),
		"longer than it remembers": func() []Event {
			log := killedAt("publisher-1", between)
			for i := find(log, 0, func(e Event) bool { return e.What == killed }); i < len(log); i++ {
				log[i].At += ringLife
			}
			return log
		}(),
	} {
		if got := judge(log, allowed{resets: lossResets}); len(got) == 0 || got[0].rule != 1 {
			t.Errorf("%s: got %v, want a breach of rule 1", name, got)
		}
	}
}

func TestAMarkOfAnItemThatIsGoneIsGivenUpOnlyWhereNobodyHoldsTheItem(t *testing.T) {
	for _, held := range []bool{false, true} {
		log := goodLog()
		begun := log[len(log)-1].At
		log = append(log, Event{At: begun, What: invoked, Op: 6, Kind: "read", Stream: feed, ID: "m2"}, Event{At: begun, What: missing, Op: 6})
		if !held {
			log = slices.Insert(log, find(log, 0, func(e Event) bool { return e.What == kept }), Event{What: killed, Pod: "publisher-1", At: begun})
			log[find(log, 0, func(e Event) bool { return e.What == kept })].At = begun
		}
		if got := judge(log, allowed{resets: someResets}); (len(got) > 0) != held || held && got[0].rule != 7 {
			t.Errorf("held %t: got %v", held, got)
		}
	}
}

func TestWhatAnUnknownMarkDidToAnItemNobodyKnows(t *testing.T) {
	v := newView([]Event{
		{What: invoked, Op: 1, Kind: "read", Stream: ann, ID: "n1"}, {What: acked, Op: 1, Pod: "publisher-1", Pos: "e.2"},
		{What: invoked, Op: 2, Kind: "archive", Stream: ann, ID: "n1"}, {What: acked, Op: 2, Pod: "publisher-2", Pos: "e.3"},
		{What: killed, Pod: "publisher-1"}, {What: kept, Stream: ann, Pos: "e.1"},
	}, allowed{})
	want := map[Item]bool{{Seen: true, Archived: true}: true, {Seen: true, Archived: true, Read: true}: true}
	if got := v.fold(v.marks[key(ann, "n1")]); !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestABreachThatRepeatsIsToldAFewTimes(t *testing.T) {
	var log []Event
	for n := range 100 {
		log = append(log, Event{What: invoked, Op: n + 1, Kind: "publish", Stream: fmt.Sprint("acme t", n), ID: "m"})
	}
	if got := judge(log, allowed{}); len(got) != 2*(mostBreaches+1) { // of rules 1 and 7
		t.Errorf("%d breaches are told", len(got))
	}
}

// A list after a reset is of what is active: who gets one is not shown what another device had archived before, and must be shown all else.
func TestAListShowsNothingThatWasArchivedBefore(t *testing.T) {
	for _, c := range []struct {
		name, mark string
		before     bool // the list
		wrong      int
	}{{"archived before", "archive", true, 0}, {"archived after", "archive", false, 1}, {"read before", "read", true, 1}} {
		at := time.Duration(0)
		var log []Event
		add := func(e Event) {
			at += time.Millisecond
			e.At = at
			log = append(log, e)
		}
		mark := func() {
			add(Event{What: invoked, Op: 2, Kind: c.mark, Stream: ann, ID: "n1"})
			add(Event{What: acked, Op: 2, Pod: "gateway-1", Pos: "f.2"})
		}
		add(Event{What: begins, Reader: "ann", Conn: 1, Stream: ann, Pos: "e.0"})
		add(Event{What: invoked, Op: 1, Kind: "notify", Stream: ann, ID: "n1"})
		add(Event{What: acked, Op: 1, Pod: "publisher-1", Pos: "f.1"})
		if c.before {
			mark()
		}
		add(Event{What: reset, Reader: "ann", Conn: 1, Stream: ann, Pos: "f.2"})
		add(Event{What: listed, Reader: "ann", Conn: 1, Stream: ann, Pos: "f.2"})
		if !c.before {
			mark()
		}
		if got := shownOnceAndInOrder(newView(log, allowed{})); len(got) != c.wrong {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}
