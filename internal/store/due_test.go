package store_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"allim/internal/keyspace"
	"allim/internal/store"
	"allim/pkg/notify"
)

// free is as many claims as anybody wants; what was taken and not given back is what was claimed.
type free struct{ most, taken int }

func (f *free) Take(_ string, most int) int {
	n := min(most, f.most-f.taken)
	f.taken += n
	return n
}

func (f *free) Free(_ string, n int) { f.taken -= n }

// scheduled is a notification that comes so much later.
func scheduled(id, category string, in time.Duration) *notify.Message {
	m := notification(id, category)
	m.Terms = &notify.Terms{NotBefore: time.Now().Add(in).Truncate(time.Millisecond)}
	return m
}

func escalating(id string, unless notify.Change, after time.Duration) *notify.Message {
	m := notification(id, "c")
	m.Terms = &notify.Terms{Escalate: &notify.Escalate{Unless: unless, After: after, Via: notify.ViaWebhook}, Collapse: "key-" + id}
	return m
}

func (b *bench) due() store.Due {
	b.Helper()
	d, err := b.publisher.Due(b.ctx, &free{most: 100})
	if err != nil {
		b.Fatal(err)
	}
	return d
}

func TestWhatExpiresIsRetractedByWhoLooksAtTheDeadlines(t *testing.T) {
	onEach(t, store.Options{}, func(b *bench) {
		b.put(expiring("n1", "c", time.Hour))
		b.notify(ann, "d", "n2")
		if d := b.due(); d.Expired != 0 || d.Lag != 0 {
			b.Errorf("before its time: %+v", d)
		}
		hears := b.hears()
		b.hurry("x", "n1")
		if d := b.due(); d.Expired != 1 || d.Lag <= 0 || d.More {
			b.Errorf("at its time: %+v", d)
		}
		if got := b.heard(hears); got != "x:n1 1/1 d=1 @3/3" {
			b.Errorf("heard %s", got)
		}
		if d := b.due(); d.Expired != 0 || d.Lag != 0 {
			b.Errorf("once more: %+v", d)
		}
		if n := b.rdb.Exists(b.ctx, b.keys.Due(b.keys.Partition(ann))).Val(); n != 0 {
			b.Error("it is still in the deadlines of its partition")
		}
	})
}

// Many at once: all of them go in one look, fifty at a time.
func TestAllThatIsDueIsDoneInOneLook(t *testing.T) {
	onEach(t, store.Options{}, func(b *bench) {
		var all []string
		for i := range 64 {
			all = append(all, fmt.Sprint("n", i))
			b.put(expiring(all[i], "c", time.Hour))
		}
		b.hurry("x", all...)
		if d := b.due(); d.Expired != 64 || d.More {
			b.Errorf("got %+v", d)
		}
	})
}

// Nor do many streams of one partition wait for another look.
func TestAllStreamsOfAPartitionAreDoneInOneLook(t *testing.T) {
	onEach(t, store.Options{}, func(b *bench) {
		var all []notify.Stream
		for i := 0; len(all) < 150; i++ {
			if st := stream(fmt.Sprint("user:u", i)); b.keys.Partition(st) == b.keys.Partition(ann) {
				all = append(all, st)
			}
		}
		for _, r := range b.Publish(b.ctx, all, expiring("n1", "c", time.Hour)) {
			if r.Err != nil {
				b.Fatal(r.Err)
			}
		}
		for _, st := range all {
			b.rdb.ZAdd(b.ctx, b.keys.Inbox(st).Deadlines, zOf(1, "x\x00n1"))
			b.rdb.ZAdd(b.ctx, b.keys.Due(b.keys.Partition(st)), zOf(1, keyspace.Member(st)))
		}
		b.publisher.DueMost(0) // what one look has no time for is not forgotten
		first := b.due()
		if first.Expired == 0 || first.Expired >= len(all) || !first.More {
			b.Errorf("without time: %+v", first)
		}
		b.publisher.DueMost(time.Minute)
		if d := b.due(); first.Expired+d.Expired != len(all) || d.More {
			b.Errorf("got %+v", d)
		}
	})
}

func TestAScheduledNotificationComesAtItsTime(t *testing.T) {
	onEach(t, store.Options{}, func(b *bench) {
		m := scheduled("n1", "c", time.Hour)
		m.Terms.Collapse = "k"
		if r := b.put(m); !r.Scheduled || r.Position.Offset != 0 || r.Duplicate {
			b.Errorf("it is %+v", r)
		}
		sooner := *m
		sooner.Terms = nil
		for _, again := range []*notify.Message{m, &sooner} { // it says that it changes nothing
			if r := b.put(again); !r.Scheduled || !r.Duplicate || r.Position != (notify.Position{}) {
				b.Errorf("again: %+v", r)
			}
		}
		b.wantList(ann, store.Query{}, "")
		b.notify(ann, "c", "n2")
		if b.real {
			b.wantKeysLive(time.Minute)
		}
		hears := b.hears()
		b.hurry("s", "n1")
		if d := b.due(); d.Scheduled != 1 {
			b.Errorf("at its time: %+v", d)
		}
		if got := b.heard(hears); got != "n:n1 2/2 c=2 @2/2" {
			b.Errorf("heard %s", got)
		}
		p := b.wantList(ann, store.Query{}, "n1 n2")
		if string(p.Items[0].Data) != `{"id":"n1"}` || p.Items[0].Position.Offset != 2 {
			b.Errorf("it is %+v", p.Items[0])
		}
		if r := b.put(m); !r.Duplicate || r.Position.Offset != 2 {
			b.Errorf("again: %+v", r)
		}
		b.put(collapsing("n3", "c", "k"))
		b.wantList(ann, store.Query{}, "n3 n2")
		if d := b.due(); d.Scheduled != 0 {
			b.Errorf("once more: %+v", d)
		}
		if b.real {
			b.wantLifetimes(ann)
		}
	})
}

// wantKeysLive checks that each key of ann's has a lifetime.
func (b *bench) wantKeysLive(least time.Duration) {
	b.Helper()
	for _, key := range append(b.keys.Inbox(ann).WithTerms(), b.keys.Due(b.keys.Partition(ann))) {
		if left := b.rdb.PTTL(b.ctx, key).Val(); left != -2 && left < least {
			b.Errorf("%s lives for %s", key, left)
		}
	}
}

// Publishers may be away for longer than it is to a deadline: what is due then is due all the same.
func TestDeadlinesOutliveAnOutageOfPublishers(t *testing.T) {
	b := realBench(t, store.Options{})
	b.put(scheduled("n1", "c", time.Minute))
	due := b.keys.Due(b.keys.Partition(ann))
	if left := b.rdb.PTTL(b.ctx, due).Val(); left < 30*24*time.Hour {
		t.Errorf("nobody knows of it any more in %v", left)
	}
	b.put(scheduled("n2", "c", 48*time.Hour))
	if left := b.rdb.PTTL(b.ctx, due).Val(); left < 32*24*time.Hour {
		t.Errorf("nobody knows of the second any more in %v", left)
	}
}

func TestAScheduledNotificationCanBeTakenBack(t *testing.T) {
	onEach(t, store.Options{}, func(b *bench) {
		m := scheduled("n1", "c", time.Hour)
		b.put(m)
		if got := b.retract(store.RetractOf{ID: "n1"}); !got.Changed || got.Position.Offset != 0 {
			b.Errorf("taken back: %+v", got)
		}
		if got := b.retract(store.RetractOf{ID: "n1"}); got.Changed {
			b.Errorf("once more: %+v", got)
		}
		b.notify(ann, "c", "other")
		if r := b.put(m); !r.Duplicate || r.Position != (notify.Position{}) { // it never had one
			b.Errorf("it is scheduled again: %+v", r)
		}
		b.retract(store.RetractOf{ID: "other"})
		if n := b.rdb.ZCard(b.ctx, b.keys.Inbox(ann).Deadlines).Val(); n != 0 {
			b.Errorf("%d deadlines are left", n)
		}
		b.notify(ann, "c", "n2")
		b.wantList(ann, store.Query{}, "n2")
		if b.real {
			b.wantKeysLive(time.Minute)
		}
	})
}

func TestAScheduledNotificationOfACategoryThatIsMutedByThenDoesNotCome(t *testing.T) {
	onEach(t, store.Options{}, func(b *bench) {
		b.put(scheduled("n1", "c", time.Hour))
		b.mute("c")
		b.hurry("s", "n1")
		if d := b.due(); d.Scheduled != 0 {
			b.Errorf("got %+v", d)
		}
		b.wantList(ann, store.Query{}, "")
	})
}

func TestLostSchedulesComeAgain(t *testing.T) {
	t.Parallel()
	b := epochBench(t)
	b.notify(ann, "c", "n0")
	m, gone := scheduled("n1", "c", time.Hour), scheduled("n2", "c", time.Hour)
	b.put(gone)
	b.lose(func() {
		b.put(m)
		b.retract(store.RetractOf{ID: "n2"})
	})
	b.touch(b.publisher)
	if n := b.rdb.ZCard(b.ctx, b.keys.Inbox(ann).Deadlines).Val(); n != 1 {
		t.Errorf("%d deadlines are there", n)
	}
	b.hurry("s", "n1")
	if d := b.due(); d.Scheduled != 1 {
		t.Errorf("got %+v", d)
	}
	b.wantList(ann, store.Query{}, "n1 n0")
}

func TestWhatNobodyLookedAtIsClaimedByOne(t *testing.T) {
	onEach(t, store.Options{}, func(b *bench) {
		m := escalating("n1", notify.ChangeSeen, time.Hour)
		at := b.put(m).Position
		b.put(escalating("n2", notify.ChangeSeen, time.Hour))
		b.update(store.UpdateOf{ID: "n1", Data: []byte(`"now"`)})
		b.hurry("w", "n1")
		other := open(b, b.rdb, b.opt)
		d := b.due()
		if again, err := other.Due(b.ctx, &free{most: 100}); err != nil || len(again.Claims) != 0 {
			b.Errorf("another claims it, too: %+v, %v", again, err)
		}
		if len(d.Claims) != 1 {
			b.Fatalf("got %+v", d)
		}
		c := d.Claims[0]
		if c.Stream != ann || c.Item.ID != "n1" || c.Item.Position != at || string(c.Item.Data) != `"now"` || c.Item.Category != "c" || c.Item.Seen || c.Via != notify.ViaWebhook ||
			c.Unless != notify.ChangeSeen || c.Attempt != 1 || c.Collapse != "key-n1" || len(c.Done) != 0 || time.Since(c.Since) > time.Minute {
			b.Errorf("the claim is %+v", c)
		}
		if err := b.publisher.Escalated(b.ctx, c, store.Outcome{Again: true, After: time.Hour, Done: []string{"a", "b"}}); err != nil {
			b.Fatal(err)
		}
		b.hurry("w", "n1")
		second, err := other.Due(b.ctx, &free{most: 100})
		if err != nil || len(second.Claims) != 1 || second.Claims[0].Attempt != 2 || !slices.Equal(second.Claims[0].Done, []string{"a", "b"}) || !second.Claims[0].Since.Equal(c.Since) {
			b.Fatalf("the second attempt: %+v, %v", second, err)
		}
		if err := b.publisher.Escalated(b.ctx, c, store.Outcome{}); err != nil { // whose lease has ended
			b.Fatal(err)
		}
		if err := other.Escalated(b.ctx, second.Claims[0], store.Outcome{Again: true, After: time.Hour, Same: true}); err != nil {
			b.Fatal(err)
		}
		b.hurry("w", "n1")
		third := b.due()
		if len(third.Claims) != 1 || third.Claims[0].Attempt != 2 {
			b.Fatalf("the same attempt: %+v", third)
		}
		if err := b.publisher.Escalated(b.ctx, third.Claims[0], store.Outcome{}); err != nil {
			b.Fatal(err)
		}
		if n := b.rdb.HExists(b.ctx, b.keys.Inbox(ann).Items, "n1\x00w").Val(); n {
			b.Error("it is over, and still kept")
		}
	})
}
