package store_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"allim/internal/audience"
	"allim/internal/keyspace"
	"allim/internal/store"
	"allim/pkg/notify"
)

var ben = stream("user:ben")

// wantSum, wantAll and markAll are wantBadge, wantList and mark of all that a backend sees.
func (b *bench) wantSum(user notify.Stream, want string) {
	b.Helper()
	got, err := b.publisher.CountsFor(b.ctx, store.Reader{Stream: user})
	if err != nil || badgeText(&got) != want {
		b.Fatalf("badge of %s: got %q, %v, want %q", user.Topic, badgeText(&got), err, want)
	}
}

func (b *bench) wantAll(user notify.Stream, q store.Query, want string) store.Page {
	b.Helper()
	p, err := b.ListFor(b.ctx, store.Reader{Stream: user}, q)
	if err != nil {
		b.Fatal(err)
	}
	b.wantItemsOf(q, p, want)
	return p
}

func (b *bench) markAll(user notify.Stream, name string, m store.Mark) store.Marked {
	b.Helper()
	m.Change = notify.Marks[name]
	got, err := b.MarkFor(b.ctx, store.Reader{Stream: user}, m)
	if err != nil {
		b.Fatalf("%s %+v: %v", name, m, err)
	}
	return got
}

// member makes a user a member of segments from their beginning.
func (b *bench) member(user notify.Stream, names ...string) {
	b.Helper()
	var joined []store.Joined
	for _, name := range names {
		joined = append(joined, store.Joined{Segment: name, At: at("k3abcd", 0)})
	}
	if _, err := b.Touch(b.ctx, store.Reader{Stream: user, Segments: names, IssuedAt: issued(1)}, joined); err != nil {
		b.Fatal(err)
	}
}

func TestEachMemberMarksItemsOfASegmentForItself(t *testing.T) {
	onEach(t, store.Options{}, func(b *bench) {
		b.member(ann, "org-7")
		b.member(ben, "org-7")
		b.notify(ann, "order", "o1")
		for i := range 4 {
			b.tell(notification(fmt.Sprint("n", i+1), "news"))
		}
		b.wantSum(ann, "5/5 news=4 order=1")
		hears := b.listen(ann)
		got := b.markAll(ann, "read", store.Mark{IDs: []string{"n1", "n9", "n1"}, Origin: "p9Xk3vQ0aLr7Tz1e"})
		if got.Changed != 1 || !slices.Equal(got.Unknown, []string{"n9"}) || got.Position.Offset != 2 {
			b.Errorf("read n1: %+v", got)
		}
		heard, err := hears.ReceiveMessage(b.ctx)
		if err != nil {
			b.Fatal(err)
		}
		m, err := keyspace.DecodePayload(ann, heard.Payload)
		if err != nil || m.Change != notify.ChangeRead || !slices.Equal(m.IDs, []string{"n1"}) || !m.Segments || m.Origin != "p9Xk3vQ0aLr7Tz1e" || badgeText(m.Badge) != "1/1 order=1" {
			b.Errorf("devices hear %+v, %v", m, err)
		}
		if again := b.markAll(ann, "read", store.Mark{IDs: []string{"n1"}}); again.Changed != 0 || len(again.Unknown) != 0 || again.Position != (notify.Position{}) {
			b.Errorf("the same again: %+v", again)
		}
		b.wantSum(ann, "4/4 news=3 order=1")
		b.markAll(ann, "archive", store.Mark{IDs: []string{"n2"}})
		b.markAll(ann, "delete", store.Mark{IDs: []string{"n3"}})
		b.markAll(ann, "seen", store.Mark{All: true})
		b.markAll(ann, "unread", store.Mark{IDs: []string{"n1"}})
		b.wantAll(ann, store.Query{Status: store.All}, "n4/s n2/sa n1/s o1/s")
		b.wantAll(ann, store.Query{Status: store.Unread}, "n4/s n1/s o1/s")
		b.wantAll(ann, store.Query{Status: store.Archived}, "n2/sa")
		b.wantAll(ann, store.Query{Status: store.Unseen}, "")
		b.wantAll(ann, store.Query{Category: "order"}, "o1/s")
		b.wantSum(ann, "3/0 news=2 order=1")
		if got := b.markAll(ann, "seen", store.Mark{IDs: []string{"n3"}}); !slices.Equal(got.Unknown, []string{"n3"}) {
			b.Errorf("what is deleted: %+v", got)
		}
		b.markAll(ann, "unarchive", store.Mark{IDs: []string{"n2"}})
		if got := b.markAll(ann, "read", store.Mark{All: true}); got.Changed != 4 {
			b.Errorf("all read: %+v", got)
		}
		b.tell(notification("n5", "news"))
		b.wantSum(ann, "1/1 news=1")
		b.wantAll(ann, store.Query{}, "n5 n4/sr n2/sr n1/sr o1/sr")
		b.wantSum(ben, "5/5 news=5")
		b.wantAll(ben, store.Query{}, "n5 n4 n3 n2 n1")
		b.markAll(ann, "delete", store.Mark{All: true})
		b.wantAll(ann, store.Query{Status: store.All}, "")
		if q := b.rdb.HGet(b.ctx, b.keys.Audience(ann).Exceptions, "org-7").Val(); q != "" {
			b.Errorf("of nothing is left %q", q)
		}
		b.wantAll(ben, store.Query{}, "n5 n4 n3 n2 n1")
		k := b.keys.Audience(ann)
		for _, key := range []string{k.Meta, k.Members, b.keys.Inbox(ann).Events} {
			if life := b.rdb.PTTL(b.ctx, key).Val(); life < 89*24*time.Hour {
				b.Errorf("%s lives for %s", key, life)
			}
		}
	})
}

func TestAMarkUpToAPlaceIsOfTheStreamsThatItNames(t *testing.T) {
	onEach(t, store.Options{}, func(b *bench) {
		b.member(ann, "org-7")
		own := b.notify(ann, "", "o1").Position
		b.notify(ann, "", "o2")
		b.tell(notification("n1", ""))
		to := b.tell(notification("n2", "")).Position
		b.tell(notification("n3", ""))
		if got := b.markAll(ann, "read", store.Mark{Within: []store.Joined{{Segment: "org-7", At: to}}}); got.Changed != 2 {
			b.Errorf("of the segment alone: %+v", got)
		}
		b.wantAll(ann, store.Query{}, "n3 n2/sr n1/sr o2 o1")
		if got := b.markAll(ann, "archive", store.Mark{Upto: &own, Within: []store.Joined{{Segment: "org-7", At: at("", 0)}, {Segment: "other", At: to}}}); got.Changed != 1 {
			b.Errorf("of the own stream: %+v", got)
		}
		b.wantAll(ann, store.Query{}, "n3 n2/sr n1/sr o2")
		stale := store.Mark{Change: notify.ChangeRead, Upto: &own, Within: []store.Joined{{Segment: "org-7", At: at("aaaaaa", 3)}}}
		if got, err := b.MarkFor(b.ctx, store.Reader{Stream: ann}, stale); !errors.Is(err, notify.ErrStalePosition) {
			b.Errorf("of an epoch that nobody knows: %+v, %v", got, err)
		}
		b.wantAll(ann, store.Query{Status: store.All}, "n3 n2/sr n1/sr o2 o1/sa")
	})
}

func TestAMarkMeansWhatTookTheItemsPlaceAndWhatIsNamedTwice(t *testing.T) {
	onEach(t, store.Options{}, func(b *bench) {
		b.member(ann, "org-7")
		b.tell(collapsing("n1", "news", "key"))
		b.tell(collapsing("n2", "news", "key"))
		b.tell(notification("both", "news"))
		b.notify(ann, "order", "both")
		if got := b.markAll(ann, "read", store.Mark{IDs: []string{"n1", "n2", "both"}}); got.Changed != 3 || len(got.Unknown) > 0 {
			b.Errorf("got %+v", got)
		}
		b.wantAll(ann, store.Query{}, "both/sr both/sr n2/sr")
	})
}

func TestAListIsOneInTheOrderOfTimeAndItsPagesAreStable(t *testing.T) {
	onEach(t, store.Options{}, func(b *bench) {
		b.member(ann, "org-7", "all")
		all := stream("segment:all")
		write := func(to notify.Stream, id string) {
			b.Helper()
			b.nextMilli()
			if r := b.Publish(b.ctx, []notify.Stream{to}, notification(id, ""))[0]; r.Err != nil {
				b.Fatal(r.Err)
			}
		}
		want := ""
		for i := range 9 {
			id := fmt.Sprint("i", i)
			write([]notify.Stream{ann, org, all}[i%3], id)
			want = id + " " + want
		}
		p := b.wantAll(ann, store.Query{}, want[:len(want)-1])
		if len(p.Within) != 2 || p.At.Offset != 3 || p.Within[0].At.Offset != 3 || p.Before != "" || string(p.Items[1].Data) != `{"id":"i7"}` || p.Items[1].Topic != org.Topic || p.Items[1].Position.Offset != 3 {
			b.Errorf("the page is %+v", p)
		}
		q := store.Query{Limit: 2}
		q.Before = b.wantAll(ann, q, "i8 i7").Before
		for i, to := range []notify.Stream{ann, org, all} {
			write(to, fmt.Sprint("later", i))
		}
		q.Before = b.wantAll(ann, q, "i6 i5").Before
		b.markAll(ann, "delete", store.Mark{IDs: []string{"i3"}})
		q.Before = b.wantAll(ann, q, "i4 i2").Before
		if p := b.wantAll(ann, q, "i1 i0"); p.Before != "" {
			b.Errorf("behind the end: %q", p.Before)
		}
		for _, q := range []store.Query{{Before: "x"}, {Before: q.Before, Status: store.Unread}, {Limit: 101}} {
			if p, err := b.ListFor(b.ctx, store.Reader{Stream: ann}, q); !errors.Is(err, notify.ErrInvalid) {
				b.Errorf("%+v: %+v, %v", q, p, err)
			}
		}
	})
}

func TestAPageOfSegmentsHasABoundInBytes(t *testing.T) {
	b := realBench(t, store.Options{})
	b.member(ann, "org-7")
	for i := range 5 {
		m := notification(fmt.Sprint("n", i), "")
		m.Data = fmt.Appendf(nil, `"%s"`, strings.Repeat("x", 50_000))
		b.tell(m)
	}
	p := b.wantAll(ann, store.Query{}, "n4 n3")
	p = b.wantAll(ann, store.Query{Before: p.Before}, "n2 n1")
	if p = b.wantAll(ann, store.Query{Before: p.Before}, "n0"); p.Before != "" {
		t.Errorf("behind the last: %q", p.Before)
	}
}

// nextMilli waits until Redis' clock shows another millisecond.
func (b *bench) nextMilli() {
	b.Helper()
	for at := b.now(); b.now() == at; {
	}
}

func TestWhoComesLaterHasWhatCameSinceAndTheNewestWhereTheSettingSaysSo(t *testing.T) {
	for start, want := range []string{"n3", "n3 n2"} {
		t.Run(fmt.Sprint("start ", start), func(t *testing.T) {
			onEach(t, store.Options{Segments: store.Segments{Start: start}}, func(b *bench) {
				r := store.Reader{Stream: ann, Segments: []string{"org-7"}, IssuedAt: issued(1)}
				b.tell(notification("n1", ""))
				b.tell(notification("n2", ""))
				if _, err := b.CountsFor(b.ctx, r); err != nil {
					b.Fatal(err)
				}
				b.tell(notification("n3", ""))
				b.wantAll(ann, store.Query{}, want)
				b.wantAll(ben, store.Query{}, "")
			})
		})
	}
}

func TestATokenThatLacksASegmentShowsNothingOfIt(t *testing.T) {
	onEach(t, store.Options{}, func(b *bench) {
		b.member(ann, "org-7")
		b.tell(notification("n1", "news"))
		without := store.Reader{Stream: ann, Segments: []string{"all"}, IssuedAt: issued(0)} // an older one: it ends nothing
		got, err := b.CountsFor(b.ctx, without)
		if err != nil || badgeText(&got) != "0/0" {
			b.Errorf("counts are %s, %v", badgeText(&got), err)
		}
		if got, err := b.MarkFor(b.ctx, without, store.Mark{Change: notify.ChangeRead, IDs: []string{"n1"}}); err != nil || !slices.Equal(got.Unknown, []string{"n1"}) {
			b.Errorf("marked: %+v, %v", got, err)
		}
		b.wantSum(ann, "1/1 news=1")
		without.IssuedAt = issued(2)
		if _, err := b.CountsFor(b.ctx, without); err != nil {
			b.Fatal(err)
		}
		b.wantSum(ann, "0/0")
		b.tell(notification("n2", "news"))
		b.member(ann, "org-7") // of the older token
		b.wantSum(ann, "0/0")
		if _, err := b.Touch(b.ctx, store.Reader{Stream: ann, Segments: []string{"org-7"}, IssuedAt: issued(3)}, nil); err != nil {
			b.Fatal(err)
		}
		b.wantSum(ann, "2/2 news=2")
	})
}

func TestMarksOfManyDevicesAtOnceAllComeAbout(t *testing.T) {
	b := realBench(t, store.Options{})
	b.member(ann, "org-7")
	stores := []*store.Store{b.Store, b.another("gateway"), b.another("publisher")}
	for i := range 60 {
		b.tell(notification(fmt.Sprint("n", i), ""))
	}
	var wg sync.WaitGroup
	for i := range 60 {
		wg.Go(func() {
			change := []notify.Change{notify.ChangeRead, notify.ChangeArchive, notify.ChangeDelete}[i%3]
			if _, err := stores[i%len(stores)].MarkFor(b.ctx, store.Reader{Stream: ann}, store.Mark{Change: change, IDs: []string{fmt.Sprint("n", i)}}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	p, err := b.ListFor(b.ctx, store.Reader{Stream: ann}, store.Query{Status: store.All, Limit: 100})
	if err != nil || len(p.Items) != 40 {
		t.Fatalf("%d are left, %v", len(p.Items), err)
	}
	for _, i := range p.Items {
		if i.Read == i.Archived || !i.Seen {
			t.Errorf("%s is %+v", i.ID, i)
		}
	}
}

// What one write to a segment costs Redis, and what it writes, is the same whatever the number of members.
func TestAWriteToASegmentCostsTheSameForOneAndForThousands(t *testing.T) {
	b := realBench(t, store.Options{})
	costs := func(id string) (commands, keys int64) { // at least: some writes move the tick of the change index, too
		b.Helper()
		b.tell(notification("warm-"+id, ""))
		for i := range 10 {
			before, size := b.commands(), b.dbsize()
			b.tell(notification(fmt.Sprint(id, i), ""))
			if n := b.commands() - before; i == 0 || n < commands {
				commands = n
			}
			keys += b.dbsize() - size
		}
		return commands, keys
	}
	b.member(ann, "org-7")
	one, keys := costs("a")
	pipe := b.rdb.Pipeline()
	line, _ := (&audience.Member{Joined: at("k3abcd", 0)}).Lines()
	for i := range 5000 {
		pipe.HSet(b.ctx, b.keys.Audience(stream(fmt.Sprint("user:u", i))).Members, "org-7", line)
	}
	if _, err := pipe.Exec(b.ctx); err != nil {
		t.Fatal(err)
	}
	many, more := costs("b")
	if one != many || one == 0 || keys != 0 || more != 0 {
		t.Errorf("one member costs %d commands and %d keys, 5,000 cost %d and %d", one, keys, many, more)
	}
	b.wantSum(stream("user:u4711"), "22/22")
}

// commands is how many commands Redis has run, those of scripts included, but for its own statistics.
func (b *bench) commands() (n int64) {
	b.Helper()
	for _, line := range strings.Split(b.rdb.Info(b.ctx, "commandstats").Val(), "\r\n") {
		var calls int64
		if name, rest, ok := strings.Cut(line, ":calls="); ok && name != "cmdstat_info" && name != "cmdstat_dbsize" {
			if _, err := fmt.Sscan(strings.Split(rest, ",")[0], &calls); err != nil {
				b.Fatal(err)
			}
			n += calls
		}
	}
	return n
}
