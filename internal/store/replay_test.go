package store_test

// What Redis loses is made again by who holds it, and nothing else is. On the real Redis only, as the epochs.

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"allim/internal/store"
	"allim/internal/testkit"
	"allim/pkg/notify"
)

const soon = 10 * time.Second

// run runs the Store until the test ends, or the function that it returns is called.
func run(b *bench, s *store.Store) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	var once bool
	stop = func() {
		if cancel(); !once {
			once = true
			if err := testkit.Receive(b.T, store.StopBudget+5*time.Second, ended, "Run ends"); err != nil {
				b.Error(err)
			}
		}
	}
	b.Cleanup(stop)
	return stop
}

// countedBench is an epochBench whose publisher is counted apart.
func countedBench(t *testing.T, o store.Options, args ...string) (*bench, *prometheus.Registry) {
	b := newBench(t, testkit.Redis(t, append(args, "--enable-debug-command", "yes")...).As, o)
	o, r := counted()
	o.Keys, o.Classes = b.keys, b.opt.Classes
	b.publisher = open(b, connect(t, b.as("publisher")), o)
	return b, r
}

func replayed(t *testing.T, r *prometheus.Registry) map[string]float64 {
	got := map[string]float64{"held": value(t, r, "allim_redis_replay_held_total", "")}
	for _, kind := range []string{"publish", "notify", "mark"} {
		got[kind] = value(t, r, "allim_redis_replayed_total", "kind="+kind)
	}
	return got
}

func wantReplayed(t *testing.T, r *prometheus.Registry, held, publish, notify, mark float64) {
	t.Helper()
	want := map[string]float64{"held": held, "publish": publish, "notify": notify, "mark": mark}
	if diff := cmp.Diff(want, replayed(t, r)); diff != "" {
		t.Fatalf("written again (-want +got):\n%s", diff)
	}
}

// The test of delivery.md, "The publisher pod", 4.
func TestOfFiveThousandExactlyTheThreeThatWereLostComeAgain(t *testing.T) {
	t.Parallel()
	b, r := countedBench(t, store.Options{Classes: []store.Class{{Prefix: "orders", History: store.History{Size: 6000}}}})
	s := stream("orders/7")
	for i := range 4997 {
		b.publish(s, fmt.Sprint("m", i))
	}
	behind := b.snapshot(b.keys.Event(s).All()...)
	kept := b.recover(s, notify.Position{}, 0).Top
	seen := b.publish(s, "lost1", "lost2", "lost3").Position
	behind()
	b.newHistory()
	b.publish(s, "next")
	page := b.recover(s, kept, 100)
	if diff := cmp.Diff([]string{"next", "lost1", "lost2", "lost3"}, ids(page.Messages)); page.Outcome != notify.Delta || diff != "" {
		t.Fatalf("after what was kept: %v (-want +got):\n%s", page.Outcome, diff)
	}
	for _, m := range page.Messages {
		if m.Replayed != (m.ID != "next") {
			t.Errorf("%s: replayed %t", m.ID, m.Replayed)
		}
	}
	if got := b.recover(s, seen, 10); got.Outcome != notify.Reset || got.Why != notify.WhyLost {
		t.Errorf("who saw what was lost: %+v", got)
	}
	wantReplayed(t, r, 4997, 3, 0, 0)
	if n := value(t, r, "allim_redis_operations_total", "operation=replay result=ok"); n != 4 { // one look for all, then each of the three
		t.Errorf("%v calls", n)
	}
	b.newHistory()
	top := b.publish(s, "again").Position
	if top.Offset != 5002 {
		t.Errorf("after a second change, of which nothing was lost: %s", top)
	}
	wantReplayed(t, r, 4997+5001, 3, 0, 0)
}

func TestWhatIsLostOfAQuietStreamComesAgainByItself(t *testing.T) {
	t.Parallel()
	b, r := countedBench(t, store.Options{})
	run(b, b.publisher)
	var to []notify.Stream
	var keys []string
	for i := range 30 {
		to = append(to, stream(fmt.Sprint("t/", i)), stream(fmt.Sprint("user:u", i)))
		keys = append(keys, b.keys.Event(to[2*i]).All()...)
		keys = append(keys, b.keys.Inbox(to[2*i+1]).All()...)
	}
	for _, got := range b.Publish(b.ctx, to, message("kept")) {
		if got.Err != nil {
			t.Fatal(got.Err)
		}
	}
	behind := b.snapshot(keys...)
	for _, got := range b.Publish(b.ctx, to, message("lost")) {
		if got.Err != nil {
			t.Fatal(got.Err)
		}
	}
	behind()
	b.newHistory()
	testkit.Eventually(t, soon, func() bool { return replayed(t, r)["publish"] == 60 }, "write again what was lost")
	for _, s := range to {
		if got := ids(b.recover(s, notify.Position{}, 10).Messages); cmp.Diff([]string{"kept", "lost"}, got) != "" {
			t.Errorf("%s has %v", s.Topic, got)
		}
	}
	wantReplayed(t, r, 60, 60, 0, 0)
}

func TestTheEndLooksForWhatWasLost(t *testing.T) {
	t.Parallel()
	b, r := countedBench(t, store.Options{})
	s := stream("a")
	b.publish(s, "kept")
	behind := b.snapshot(b.keys.Event(s).All()...)
	b.publish(s, "lost")
	stop := run(b, b.publisher)
	testkit.Eventually(t, soon, func() bool { return polls(t, r) > 0 }, "be as it was")
	behind()
	b.newHistory()
	stop()
	wantReplayed(t, r, 1, 1, 0, 0)
	if got := ids(b.recover(s, notify.Position{}, 10).Messages); cmp.Diff([]string{"kept", "lost"}, got) != "" {
		t.Errorf("the topic has %v", got)
	}
}

func TestAWipedRedisGetsBackWhatIsStillHeld(t *testing.T) {
	t.Parallel()
	srv := testkit.Redis(t)
	o, r := counted()
	b := newBench(t, srv.As, o)
	b.publish(stream("a"), "m1", "m2")
	b.notify(ann, "c", "n1", "n2")
	b.mark(ann, "read", store.Mark{IDs: []string{"n1"}})
	run(b, b.publisher)
	run(b, b.Store)
	srv.Restart()
	testkit.Eventually(t, soon, func() bool { return replayed(t, r)["publish"] == 2 && replayed(t, r)["notify"] == 2 }, "write all again")
	testkit.Eventually(t, soon, func() bool { return replayed(t, r)["mark"] == 1 }, "mark again what came back")
	if got := ids(b.recover(stream("a"), notify.Position{}, 10).Messages); cmp.Diff([]string{"m1", "m2"}, got) != "" {
		t.Errorf("the topic has %v", got)
	}
	b.wantList(ann, store.Query{}, "n2 n1/sr")
	b.wantBadge(ann, "1/1 c=1")
}

// lose has the user's stream lose what write does, under a new history.
func (b *bench) lose(write func()) {
	b.Helper()
	behind := b.snapshot(b.keys.Inbox(ann).WithTerms()...)
	write()
	behind()
	b.newHistory()
}

// touch is a write of the gateway's or another's own, so that it looks at its ring.
func (b *bench) touch(s *store.Store) {
	b.Helper()
	if _, err := s.Mark(b.ctx, ann, store.Mark{Change: notify.ChangeSeen, IDs: []string{"none"}}); err != nil {
		b.Fatal(err)
	}
}

func TestLostMarksComeAgain(t *testing.T) {
	t.Parallel()
	b := epochBench(t)
	b.notify(ann, "c", "n1", "n2", "n3", "n4", "n5")
	b.lose(func() {
		b.mark(ann, "read", store.Mark{IDs: []string{"n1"}})
		b.mark(ann, "archive", store.Mark{IDs: []string{"n1", "n2"}})
		b.mark(ann, "delete", store.Mark{IDs: []string{"n3"}})
		b.mark(ann, "seen", store.Mark{All: true})
		b.mark(ann, "unarchive", store.Mark{IDs: []string{"n2"}})
	})
	b.wantList(ann, store.Query{Status: store.All}, "n5 n4 n3 n2 n1")
	b.touch(b.Store)
	b.wantList(ann, store.Query{Status: store.All}, "n5/s n4/s n2/s n1/sra")
	b.wantBadge(ann, "3/0 c=3")
	if r := b.recover(ann, notify.Position{}, 100); !r.Messages[len(r.Messages)-1].Replayed {
		t.Errorf("the last change is not flagged: %+v", r.Messages)
	}
}

func TestOfLostMarksOfTwoHoldersTheLaterOneWinsInAnyOrder(t *testing.T) {
	t.Parallel()
	for _, order := range []string{"first, second", "second, first"} {
		t.Run(order, func(t *testing.T) {
			b := epochBench(t)
			first, second := b.Store, b.another("gateway")
			b.notify(ann, "", "n1", "n2", "n3")
			mark := func(s *store.Store, c notify.Change, id string) {
				if got, err := s.Mark(b.ctx, ann, store.Mark{Change: c, IDs: []string{id}}); err != nil || len(got.Unknown) > 0 {
					t.Fatalf("%+v, %v", got, err)
				}
			}
			b.lose(func() {
				mark(first, notify.ChangeRead, "n1")
				mark(second, notify.ChangeUnread, "n1")
				mark(second, notify.ChangeRead, "n2")
				mark(first, notify.ChangeUnread, "n2")
				mark(first, notify.ChangeArchive, "n2")
				mark(first, notify.ChangeRead, "n3") // two kinds of change: both stand
				mark(second, notify.ChangeArchive, "n3")
			})
			if order == "second, first" {
				first, second = second, first
			}
			b.touch(first)
			b.touch(second)
			b.wantList(ann, store.Query{Status: store.All}, "n3/sra n2/sa n1/s")
		})
	}
}

func TestALostMarkThatChangedNothingHoldsBackTheOneBeforeIt(t *testing.T) {
	t.Parallel()
	b := epochBench(t)
	other := b.another("gateway")
	b.notify(ann, "", "n1")
	b.lose(func() {
		b.mark(ann, "read", store.Mark{IDs: []string{"n1"}})
		if _, err := other.Mark(b.ctx, ann, store.Mark{Change: notify.ChangeUnread, IDs: []string{"n1"}}); err != nil {
			t.Fatal(err)
		}
	})
	b.touch(other) // it is unread here: nothing to change
	b.touch(b.Store)
	b.wantBadge(ann, "1/0")
}

func TestAMarkOfTheNewHistoryWinsOverALostOne(t *testing.T) {
	t.Parallel()
	b := epochBench(t)
	other := b.another("gateway")
	b.notify(ann, "", "n1", "n2")
	b.lose(func() {
		b.mark(ann, "read", store.Mark{IDs: []string{"n1", "n2"}})
	})
	for _, id := range []string{"n1", "n2"} { // it is unread here: the user says so all the same
		if _, err := other.Mark(b.ctx, ann, store.Mark{Change: notify.ChangeUnread, IDs: []string{id}}); err != nil {
			t.Fatal(err)
		}
	}
	b.touch(b.Store)
	b.wantBadge(ann, "2/0")
	old := notify.Position{Epoch: "zzzzzz", Offset: 100}
	if code, _ := b.Store.Again(b.ctx, ann, &notify.Message{Change: notify.ChangeRead, IDs: []string{"n1"}}, old); code != 0 {
		t.Errorf("a mark of an older history that looks younger by its server's clock: code %d", code)
	}
	b.wantBadge(ann, "2/0")
	b.newHistory()
	b.touch(b.Store) // what did not win is not tried again
	b.wantBadge(ann, "2/0")
}

func TestALostMarkWaitsForTheItemThatAnotherOneHolds(t *testing.T) {
	t.Parallel()
	b := epochBench(t)
	b.notify(ann, "", "n1")
	run(b, b.Store)
	b.lose(func() {
		b.notify(ann, "", "n2")
		b.mark(ann, "read", store.Mark{IDs: []string{"n1", "n2"}})
	})
	b.touch(b.Store)
	b.wantList(ann, store.Query{}, "n1/sr")
	b.notify(ann, "", "n3") // the publisher brings n2 back
	testkit.Eventually(t, soon, func() bool { badge, err := b.Counts(b.ctx, ann); return err == nil && badge.Unread == 1 }, "mark it")
	b.wantList(ann, store.Query{}, "n2/sr n3 n1/sr")
}

// The look finds it before; the scripts see it, too, for what changes between the two.
func TestScriptsDoNothingForWhatIsHeld(t *testing.T) {
	t.Parallel()
	b := epochBench(t)
	s := stream("orders/7")
	was := map[string]notify.Position{"event": b.publish(s, "m").Position, "message": b.publish(ann, "m").Position, "item": b.notify(ann, "", "n").Position,
		"mark": b.mark(ann, "read", store.Mark{IDs: []string{"n"}}).Position}
	calls := map[string]func(notify.Position) (int, notify.Position){
		"event": func(p notify.Position) (int, notify.Position) {
			return b.publisher.Again(b.ctx, s, message("another"), p)
		},
		"message": func(p notify.Position) (int, notify.Position) {
			return b.publisher.Again(b.ctx, ann, message("another"), p)
		},
		"item": func(p notify.Position) (int, notify.Position) {
			return b.publisher.Again(b.ctx, ann, notification("another", ""), p)
		},
		"mark": func(p notify.Position) (int, notify.Position) {
			return b.Store.Again(b.ctx, ann, &notify.Message{Change: notify.ChangeUnread, IDs: []string{"n"}}, p)
		},
	}
	for _, when := range []string{"in the same history", "in the next", "in the one after it"} {
		for name, again := range calls {
			code, at := again(was[name])
			if want := map[bool]int{true: -2, false: 2}[name == "mark"]; code != want || at != was[name] {
				t.Errorf("%s %s: code %d at %s, want %d at %s", name, when, code, at, want, was[name])
			}
		}
		b.newHistory()
	}
	b.wantList(ann, store.Query{}, "n/sr")
	for name, again := range calls {
		lost := was[name]
		lost.Offset += 10
		if code, _ := again(lost); name == "mark" && code != 1 || name == "event" && code != 0 {
			t.Errorf("%s that was lost: code %d", name, code)
		}
	}
}

func TestADuplicateIsHeldByWhoAcknowledgedIt(t *testing.T) {
	t.Parallel()
	b := epochBench(t)
	s := stream("a")
	behind := b.snapshot(b.keys.Event(s).All()...)
	b.publish(s, "m")
	b.forget() // the publisher dies before its answer arrives; the caller goes to another
	if !b.publish(s, "m").Duplicate {
		t.Fatal("no duplicate")
	}
	behind()
	b.newHistory()
	b.publish(s, "next")
	if got := ids(b.recover(s, notify.Position{}, 10).Messages); cmp.Diff([]string{"next", "m"}, got) != "" {
		t.Fatalf("got %v", got)
	}
}

func TestAMarkThatChangedNothingIsHeldByWhoAcknowledgedIt(t *testing.T) {
	t.Parallel()
	b := epochBench(t)
	other := b.another("gateway")
	b.notify(ann, "", "n1")
	b.lose(func() {
		b.mark(ann, "read", store.Mark{IDs: []string{"n1"}}) // this gateway dies, and its user clicks again
		if got, err := other.Mark(b.ctx, ann, store.Mark{Change: notify.ChangeRead, IDs: []string{"n1"}}); err != nil || got.Changed != 0 {
			t.Fatalf("%+v, %v", got, err)
		}
	})
	b.touch(other)
	b.wantBadge(ann, "0/0")
}

func TestANewWriteIsAcknowledgedAfterWhatWasLostOnly(t *testing.T) {
	t.Parallel()
	srv := testkit.Redis(t, "--enable-debug-command", "yes")
	b := newBench(t, srv.As, store.Options{})
	s := stream("a")
	b.publish(s, "kept")
	behind := b.snapshot(b.keys.Event(s).All()...)
	for i := range 300 { // several pipelines
		b.publish(s, fmt.Sprint("m", i))
	}
	behind()
	b.newHistory()
	if got := b.publish(s, "next").Position; got.Offset != 2 {
		t.Fatalf("the new one is at %s", got)
	}
	top, err := b.Tops(b.ctx, []notify.Stream{s})
	if err != nil || top[0].Offset != 302 {
		t.Fatalf("when it was acknowledged the stream was at %v, %v", top, err)
	}
}
