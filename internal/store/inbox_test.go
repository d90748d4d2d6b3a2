package store_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"allim/internal/keyspace"
	"allim/internal/store"
	"allim/pkg/notify"
)

func TestNotificationIsListedCountedAndPublishedWithItsBadge(t *testing.T) {
	onEach(t, store.Options{}, func(b *bench) {
		sub := b.listen(ann)
		b.notify(ann, "mention", "n1")
		ack := b.notify(ann, "order", "n2")
		if ack.Unread != 2 || ack.Position.Offset != 2 || ack.Receivers != 1 {
			b.Fatalf("ack %+v", ack)
		}
		b.publish(ann, "m1") // an event in the user's stream is no item
		b.wantBadge(ann, "2/2 mention=1 order=1")
		p := b.wantList(ann, store.Query{}, "n2 n1")
		if p.At.Offset != 3 || p.Badge.Revision != p.At || p.Items[0].Position != ack.Position || p.Items[0].Category != "order" ||
			string(p.Items[0].Data) != `{"id":"n2"}` || !p.Items[0].Time.Equal(message("x").Time) {
			b.Fatalf("page %+v", p)
		}
		for i, want := range []string{"1/1 mention=1", "2/2 mention=1 order=1", "2/2 mention=1 order=1"} {
			got, err := sub.ReceiveMessage(b.ctx)
			if err != nil {
				b.Fatal(err)
			}
			m, err := keyspace.DecodePayload(ann, got.Payload)
			if err != nil {
				b.Fatal(err)
			}
			if badgeText(m.Badge) != want || m.Badge.Revision != m.Position || m.Position.Offset != uint64(i+1) {
				b.Fatalf("payload %d: %+v with %+v", i, m, m.Badge)
			}
		}
	})
}

func TestMarks(t *testing.T) {
	type step struct {
		mark    string
		ids     []string
		changed int
		badge   string
		list    string // of status all
	}
	for name, steps := range map[string][]step{
		"seen keeps unread":                       {{"seen", []string{"n1"}, 1, "3/2 c=2 d=1", "n3 n2 n1/s"}, {"seen", []string{"n1"}, 0, "3/2 c=2 d=1", "n3 n2 n1/s"}},
		"read implies seen":                       {{"read", []string{"n2", "n3"}, 2, "1/1 c=1", "n3/sr n2/sr n1"}},
		"unread keeps seen":                       {{"read", []string{"n1"}, 1, "2/2 c=1 d=1", "n3 n2 n1/sr"}, {"unread", []string{"n1"}, 1, "3/2 c=2 d=1", "n3 n2 n1/s"}},
		"archive leaves both counts":              {{"archive", []string{"n1"}, 1, "2/2 c=1 d=1", "n3 n2 n1/sa"}, {"archive", []string{"n1"}, 0, "2/2 c=1 d=1", "n3 n2 n1/sa"}},
		"unarchive restores unread":               {{"archive", []string{"n1"}, 1, "2/2 c=1 d=1", "n3 n2 n1/sa"}, {"unarchive", []string{"n1"}, 1, "3/2 c=2 d=1", "n3 n2 n1/s"}},
		"unarchive restores read":                 {{"read", []string{"n1"}, 1, "2/2 c=1 d=1", "n3 n2 n1/sr"}, {"archive", []string{"n1"}, 1, "2/2 c=1 d=1", "n3 n2 n1/sra"}, {"unarchive", []string{"n1"}, 1, "2/2 c=1 d=1", "n3 n2 n1/sr"}},
		"an archived item can be read and unread": {{"archive", []string{"n1"}, 1, "2/2 c=1 d=1", "n3 n2 n1/sa"}, {"read", []string{"n1"}, 1, "2/2 c=1 d=1", "n3 n2 n1/sra"}, {"unread", []string{"n1"}, 1, "2/2 c=1 d=1", "n3 n2 n1/sa"}},
		"delete removes":                          {{"delete", []string{"n2"}, 1, "2/2 c=1 d=1", "n3 n1"}, {"delete", []string{"n2"}, 0, "2/2 c=1 d=1", "n3 n1"}},
		"delete of an archived one":               {{"archive", []string{"n3"}, 1, "2/2 c=2", "n3/sa n2 n1"}, {"delete", []string{"n3"}, 1, "2/2 c=2", "n2 n1"}},
		"all":                                     {{"read", nil, 3, "0/0", "n3/sr n2/sr n1/sr"}, {"unread", nil, 3, "3/0 c=2 d=1", "n3/s n2/s n1/s"}, {"archive", nil, 3, "0/0", "n3/sa n2/sa n1/sa"}, {"unarchive", nil, 3, "3/0 c=2 d=1", "n3/s n2/s n1/s"}, {"delete", nil, 3, "0/0", ""}},
		"seen all, then a repeat changes nothing": {{"seen", nil, 3, "3/0 c=2 d=1", "n3/s n2/s n1/s"}, {"seen", nil, 0, "3/0 c=2 d=1", "n3/s n2/s n1/s"}},
		"an id named twice changes once":          {{"read", []string{"n1", "n1"}, 1, "2/2 c=1 d=1", "n3 n2 n1/sr"}, {"delete", []string{"n1", "n1"}, 1, "2/2 c=1 d=1", "n3 n2"}},
		"deleting everything leaves no ghost":     {{"archive", []string{"n1"}, 1, "2/2 c=1 d=1", "n3 n2 n1/sa"}, {"delete", nil, 3, "0/0", ""}},
	} {
		t.Run(name, func(t *testing.T) {
			onEach(t, store.Options{}, func(b *bench) {
				b.notify(ann, "c", "n1", "n2")
				b.notify(ann, "d", "n3")
				at := uint64(3)
				for i, s := range steps {
					got := b.mark(ann, s.mark, store.Mark{IDs: s.ids, All: s.ids == nil})
					if got.Changed != s.changed || len(got.Unknown) != 0 && s.changed > 0 {
						b.Fatalf("step %d %s: %+v, want %d changed", i, s.mark, got, s.changed)
					}
					if s.changed > 0 {
						at++
					}
					if s.changed > 0 && got.Position.Offset != at || s.changed == 0 && got.Position.Offset != 0 {
						b.Fatalf("step %d %s: at %s, want offset %d", i, s.mark, got.Position, at)
					}
					b.wantBadge(ann, s.badge)
					b.wantList(ann, store.Query{Status: store.All}, s.list)
				}
				if b.real {
					b.wantLifetimes(ann)
				}
			})
		})
	}
}

// wantLifetimes checks that no key of an inbox outlives another.
func (b *bench) wantLifetimes(s notify.Stream) {
	b.Helper()
	var first, last time.Duration // Unix times
	for _, key := range b.keys.Inbox(s).WithTerms() {
		at := b.rdb.PExpireTime(b.ctx, key).Val()
		if at == -2 {
			continue
		}
		if at < 0 {
			b.Fatalf("%s has no lifetime", key)
		}
		if first == 0 || at < first {
			first = at
		}
		last = max(last, at)
	}
	if last-first > 20*time.Millisecond { // a script takes its time, and PTTL rounds
		b.Fatalf("keys of one inbox end %s apart", last-first)
	}
}

func TestMarksUpToAPosition(t *testing.T) {
	onEach(t, store.Options{}, func(b *bench) {
		b.notify(ann, "", "n1")
		upto := b.notify(ann, "", "n2").Position
		b.notify(ann, "", "n3")
		if got := b.mark(ann, "read", store.Mark{Upto: &upto}); got.Changed != 2 {
			b.Fatalf("read up to n2: %+v", got)
		}
		b.wantList(ann, store.Query{}, "n3 n2/sr n1/sr")
		stale := notify.Position{Epoch: "zzzzzz", Offset: 3}
		if _, err := b.Mark(b.ctx, ann, store.Mark{Change: notify.ChangeRead, Upto: &stale}); !errors.Is(err, notify.ErrStalePosition) {
			b.Fatalf("up to a foreign epoch: %v", err)
		}
		b.wantList(ann, store.Query{}, "n3 n2/sr n1/sr")
		nothing := notify.EmptyAt(time.Now().UnixMilli())
		if got := b.mark(ann, "read", store.Mark{Upto: &nothing}); got.Changed != 0 {
			b.Fatalf("up to nothing: %+v", got)
		}
	})
}

func TestUnknownIDsAreNamedAndTheOthersMarked(t *testing.T) {
	onEach(t, store.Options{}, func(b *bench) {
		if got := b.mark(ann, "read", store.Mark{IDs: []string{"x"}}); got.Changed != 0 || len(got.Unknown) != 1 {
			b.Fatalf("in no inbox: %+v", got)
		}
		b.notify(ann, "", "n1")
		got := b.mark(ann, "read", store.Mark{IDs: []string{"x", "n1", "y"}})
		if diff := cmp.Diff([]string{"x", "y"}, got.Unknown); diff != "" || got.Changed != 1 {
			b.Fatalf("%+v (-want +got):\n%s", got, diff)
		}
		tooMany := make([]string, 501)
		if _, err := b.Mark(b.ctx, ann, store.Mark{Change: notify.ChangeRead, IDs: tooMany}); !errors.Is(err, notify.ErrInvalid) {
			b.Fatalf("501 ids: %v", err)
		}
	})
}

func TestMarkOfMoreThan500IsSeveralEvents(t *testing.T) {
	onEach(t, store.Options{Inbox: store.Inbox{Size: 700}}, func(b *bench) {
		for i := range 620 {
			b.notify(ann, "c", fmt.Sprint("n", i))
		}
		from := notify.Position{Epoch: b.notify(ann, "c", "last").Position.Epoch, Offset: 621}
		if got := b.mark(ann, "read", store.Mark{All: true}); got.Changed != 621 || got.Position.Offset != 623 {
			b.Fatalf("read all: %+v", got)
		}
		r := b.recover(ann, from, 10)
		if len(r.Messages) != 2 || len(r.Messages[0].IDs) != 500 || len(r.Messages[1].IDs) != 121 || r.Messages[0].Change != notify.ChangeRead {
			b.Fatalf("events %+v", r)
		}
		b.wantBadge(ann, "0/0")
	})
}

func TestRepeatedNotificationIsOneItemEvenWhenRead(t *testing.T) {
	onEach(t, store.Options{}, func(b *bench) {
		first := b.notify(ann, "", "n1")
		b.mark(ann, "read", store.Mark{All: true})
		again := b.notify(ann, "", "n1")
		if !again.Duplicate || again.Position != first.Position || again.Unread != 0 {
			b.Fatalf("duplicate %+v, first %+v", again, first)
		}
		if dup := b.publish(ann, "n1"); !dup.Duplicate {
			b.Fatalf("publish to the stream shares its ids: %+v", dup)
		}
		b.wantList(ann, store.Query{}, "n1/sr")
	})
}

func TestInboxKeepsTheNewestAndCountsOnlyThose(t *testing.T) {
	onEach(t, store.Options{Inbox: store.Inbox{Size: 5}}, func(b *bench) {
		for i := range 4 {
			b.notify(ann, "old", fmt.Sprint("o", i))
		}
		b.mark(ann, "archive", store.Mark{IDs: []string{"o0"}})
		for i := range 4 {
			b.notify(ann, "new", fmt.Sprint("n", i))
		}
		b.wantBadge(ann, "5/5 new=4 old=1")
		b.wantList(ann, store.Query{Status: store.All}, "n3 n2 n1 n0 o3")
		if n := b.rdb.HLen(b.ctx, b.keys.Inbox(ann).Items).Val(); n != 2*5 { // head and body
			b.Fatalf("%d fields of items are stored", n)
		}
	})
}

func TestListFiltersAndPagesStablyUnderNewArrivals(t *testing.T) {
	onEach(t, store.Options{}, func(b *bench) {
		for i := range 90 {
			b.notify(ann, []string{"a", "b"}[i%2], fmt.Sprintf("n%02d", i))
		}
		b.mark(ann, "archive", store.Mark{IDs: []string{"n88", "n89"}})
		b.mark(ann, "read", store.Mark{IDs: []string{"n87"}})
		b.wantList(ann, store.Query{Status: store.Archived}, "n89/sa n88/sa")
		b.wantList(ann, store.Query{Status: store.Unread, Category: "b", Limit: 2}, "n85 n83")
		first := b.wantList(ann, store.Query{Limit: 3, Category: "b"}, "n87/sr n85 n83")
		b.notify(ann, "b", "newer")
		second := b.wantList(ann, store.Query{Limit: 3, Category: "b", Before: first.Before}, "n81 n79 n77")
		if second.Before == "" {
			b.Fatal("there is more")
		}
		if _, err := b.List(b.ctx, ann, store.Query{Limit: 3, Before: first.Before}); !errors.Is(err, notify.ErrInvalid) {
			b.Fatalf("before of other filters: %v", err)
		}
		var all []string
		for q := (store.Query{Limit: 50}); ; {
			p, err := b.List(b.ctx, ann, q)
			if err != nil {
				b.Fatal(err)
			}
			for _, i := range p.Items {
				all = append(all, i.ID)
			}
			if q.Before = p.Before; q.Before == "" {
				break
			}
		}
		if len(all) != 89 || all[0] != "newer" || all[88] != "n00" {
			b.Fatalf("all pages: %d items, %v", len(all), all)
		}
		for _, q := range []store.Query{{Limit: 101}, {Limit: -1}, {Status: 9}, {Category: "No"}, {Before: "x"}} {
			if _, err := b.List(b.ctx, ann, q); !errors.Is(err, notify.ErrInvalid) {
				b.Fatalf("%+v: %v", q, err)
			}
		}
	})
}

func TestListLooksAtAThousandItemsAndGoesOn(t *testing.T) {
	onEach(t, store.Options{Inbox: store.Inbox{Size: 1500}}, func(b *bench) {
		b.notify(ann, "rare", "first")
		for i := range 1100 {
			b.notify(ann, "often", fmt.Sprint("n", i))
		}
		q, pages := store.Query{Category: "rare"}, 0
		for {
			p, err := b.List(b.ctx, ann, q)
			if err != nil {
				b.Fatal(err)
			}
			pages++
			if q.Before = p.Before; q.Before == "" {
				if len(p.Items) != 1 || p.Items[0].ID != "first" || pages != 2 {
					b.Fatalf("page %d: %+v", pages, p.Items)
				}
				return
			}
			if len(p.Items) != 0 {
				b.Fatalf("page %d: %+v", pages, p.Items)
			}
		}
	})
}

func TestInboxRecoversFromItsStreamAndIsListedAnewBeyondIt(t *testing.T) {
	onEach(t, store.Options{}, func(b *bench) {
		from := b.notify(ann, "c", "n0").Position
		b.notify(ann, "c", "n1")
		b.mark(ann, "read", store.Mark{IDs: []string{"n1"}})
		b.publish(ann, "m1")
		r := b.recover(ann, from, 10)
		if r.Outcome != notify.Delta || len(r.Messages) != 3 || badgeText(r.Badge) != "1/1 c=1" || r.Badge.Revision != r.Top {
			b.Fatalf("recovery %+v, badge %+v", r, r.Badge)
		}
		kinds := ""
		for _, m := range r.Messages {
			kinds += string(rune(m.Change))
		}
		if kinds != "nrm" || cmp.Diff([]string{"n1"}, r.Messages[1].IDs) != "" {
			b.Fatalf("changes %s: %+v", kinds, r.Messages)
		}
		for i := range 140 {
			b.notify(ann, "c", fmt.Sprint("x", i))
		}
		if r := b.recover(ann, from, 10); r.Outcome != notify.Reset || r.Position != r.Top || r.Top.Offset != 144 {
			b.Fatalf("beyond the window: %+v", r)
		}
		if r := b.recover(ann, notify.Position{}, 10); r.Outcome != notify.Reset || r.Position.Offset != 16 {
			b.Fatalf("everything still in history: %+v", r)
		}
	})
}

func TestTenantsDoNotSeeEachOther(t *testing.T) {
	onEach(t, store.Options{}, func(b *bench) {
		other := notify.Stream{Tenant: "acme", Topic: ann.Topic}
		b.notify(ann, "", "n1")
		b.wantBadge(other, "0/0")
		b.notify(other, "", "n1", "n2")
		b.wantBadge(ann, "1/1")
		b.wantBadge(other, "2/2")
	})
}
