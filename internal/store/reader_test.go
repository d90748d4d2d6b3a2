package store_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"allim/internal/audience"
	"allim/internal/keyspace"
	"allim/internal/store"
	"allim/pkg/notify"
)

func issued(n int64) time.Time { return time.Unix(1_800_000_000+n, 0) }

// come says to a user's memory what a token names, issued so long after others.
func (b *bench) come(after int64, joined []store.Joined, names ...string) store.Members {
	b.Helper()
	m, err := b.Touch(b.ctx, store.Reader{Stream: ann, Segments: names, IssuedAt: issued(after)}, joined)
	if err != nil {
		b.Fatal(err)
	}
	return m
}

func (b *bench) members() store.Members {
	b.Helper()
	m, err := b.publisher.Members(b.ctx, ann)
	if err != nil {
		b.Fatal(err)
	}
	return m
}

// wantMembers compares who is a member: "a" is one, "-a" was one.
func wantMembers(t *testing.T, what string, m store.Members, want ...string) {
	t.Helper()
	got := []string{}
	for _, of := range m.Of {
		got = append(got, map[bool]string{true: "-"}[of.Left > 0]+of.Segment)
	}
	if !slices.Equal(got, append([]string{}, want...)) {
		t.Fatalf("%s: got %q, want %q", what, got, want)
	}
}

func at(epoch string, offset uint64) notify.Position {
	return notify.Position{Epoch: epoch, Offset: offset}
}

func TestWhoIsSeenFirstJoinsWhereItsConnectionBegins(t *testing.T) {
	onEach(t, store.Options{}, func(b *bench) {
		size := b.dbsize()
		wantMembers(b.T, "before", b.members())
		if m := b.come(1, nil, "a", "b"); len(m.Of) > 0 || m.At != (notify.Position{}) || b.dbsize() != size {
			b.Errorf("before its segments began: %+v, %d keys more", m, b.dbsize()-size)
		}
		got := b.come(1, []store.Joined{{Segment: "b", At: at("k3abcd", 7)}, {Segment: "other", At: at("k3abcd", 7)}}, "a", "b")
		want := []audience.Member{{Segment: "b", Joined: at("k3abcd", 7), IssuedAt: issued(1).Unix()}}
		if diff := cmp.Diff(want, got.Of); diff != "" {
			b.Errorf("(-want +got)\n%s", diff)
		}
		b.come(1, []store.Joined{{Segment: "a", At: at("zzzzzz", 2)}, {Segment: "b", At: at("k3abcd", 9)}}, "a", "b")
		got = b.members()
		want = []audience.Member{{Segment: "a", Joined: at("zzzzzz", 2), IssuedAt: issued(1).Unix()}, want[0]}
		if diff := cmp.Diff(want, got.Of); diff != "" {
			b.Errorf("who was first counts (-want +got)\n%s", diff)
		}
	})
}

func TestTheNewestTokenSaysWhoIsAMember(t *testing.T) {
	onEach(t, store.Options{}, func(b *bench) {
		begin := []store.Joined{{Segment: "a", At: at("k3abcd", 1)}, {Segment: "b", At: at("k3abcd", 1)}}
		wantMembers(b.T, "both", b.come(5, begin, "a", "b"), "a", "b")
		wantMembers(b.T, "an older one lacks a", b.come(4, begin, "b"), "a", "b")
		wantMembers(b.T, "another one of that second does", b.come(5, begin, "b"), "a", "b")
		wantMembers(b.T, "a newer one does", b.come(6, begin, "b"), "-a", "b")
		left := b.members().Of[0].Left
		if now := time.Now().UnixMilli(); left < now-60_000 || left > now+60_000 {
			b.Errorf("left at %d, now is %d", left, now)
		}
		wantMembers(b.T, "the one before has it", b.come(5, begin, "a", "b"), "-a", "b")
		b.come(9, begin, "b")
		if again := b.members().Of[0]; again.Left != left {
			b.Errorf("left again, at %d after %d", again.Left, left)
		}
		back := b.come(10, []store.Joined{{Segment: "a", At: at("k3abcd", 50)}}, "a")
		wantMembers(b.T, "it comes back, and b goes", back, "a", "-b")
		if back.Of[0].Joined != at("k3abcd", 1) {
			b.Errorf("who comes back joined at %s", back.Of[0].Joined)
		}
		wantMembers(b.T, "what is said to nobody", b.members(), "a", "-b")
	})
}

func TestOfTheSegmentAllIsRememberedOnlyWhatIsThere(t *testing.T) {
	b := realBench(t, store.Options{})
	for _, nowhere := range []notify.Position{{}, notify.EmptyAt(time.Now().UnixMilli())} {
		wantMembers(t, "there is none", b.come(1, []store.Joined{{Segment: "all", At: nowhere}, {Segment: "all", At: nowhere}}, "all"))
	}
	if n := b.dbsize(); n != 1 {
		t.Errorf("%d keys", n)
	}
	wantMembers(t, "a named one that is not there yet", b.come(1, []store.Joined{{Segment: "a"}}, "all", "a"), "a")
	wantMembers(t, "there is one", b.come(1, []store.Joined{{Segment: "all", At: at("k3abcd", 3)}}, "all", "a"), "a", "all")
}

func TestSegmentsThatWereLeftAreForgotten(t *testing.T) {
	b := realBench(t, store.Options{Segments: store.Segments{Retention: time.Hour}})
	k := b.keys.Audience(ann)
	left := func(ago time.Duration) string {
		g, _ := (&audience.Member{Left: time.Now().Add(-ago).UnixMilli()}).Lines()
		return g
	}
	b.rdb.HSet(b.ctx, k.Members, "long", left(time.Hour+time.Second), "lately", left(time.Hour-time.Minute))
	b.rdb.HSet(b.ctx, k.Exceptions, "long", "k3abcd 3=1", "lately", "k3abcd 4=1")
	wantMembers(t, "an hour later", b.come(1, nil), "-lately")
	if got := b.rdb.HGetAll(b.ctx, k.Exceptions).Val(); len(got) != 1 || got["lately"] == "" {
		t.Errorf("exceptions are %v", got)
	}
	again := b.come(1, []store.Joined{{Segment: "long", At: at("k3abcd", 8)}}, "long")
	if m := audience.Of(again.Of, "long"); m == nil || m.Joined != at("k3abcd", 8) || m.Left != 0 || m.Marks != nil {
		t.Errorf("who comes back after that is %+v", m)
	}
	var all []string
	for i := range 100 {
		all = append(all, fmt.Sprint("s", i), left(time.Duration(i+2)*time.Second))
	}
	b.rdb.HSet(b.ctx, k.Members, all)
	got := b.come(1, nil)
	if n := len(got.Of); n != 64 || audience.Of(got.Of, "lately") != nil || audience.Of(got.Of, "s0") == nil || audience.Of(got.Of, "s62") == nil || audience.Of(got.Of, "s63") != nil {
		t.Errorf("%d are remembered", n)
	}
}

// Tokens without iat end nothing, and could name another segment each.
func TestTokensThatEndNothingAreRememberedInABoundedWay(t *testing.T) {
	onEach(t, store.Options{}, func(b *bench) {
		var got store.Members
		for i := range 100 {
			name := fmt.Sprintf("s%03d", i)
			var err error
			got, err = b.Touch(b.ctx, store.Reader{Stream: ann, Segments: []string{name, "same"}}, []store.Joined{{Segment: name, At: at("k3abcd", 1)}, {Segment: "same", At: at("k3abcd", 1)}})
			if err != nil {
				b.Fatal(err)
			}
		}
		if n := len(got.Of); n != 66 || audience.Of(got.Of, "same") == nil || audience.Of(got.Of, "s099") == nil || len(b.members().Of) != n {
			b.Errorf("%d are remembered, %d in Redis", n, len(b.members().Of))
		}
	})
}

func TestWhatAUserIsAMemberOfLivesAsLongAsAnInbox(t *testing.T) {
	const day = 24 * time.Hour
	b := realBench(t, store.Options{Inbox: store.Inbox{Retention: 2 * day}, Segments: store.Segments{Retention: day}})
	k := b.keys.Audience(ann)
	begin := []store.Joined{{Segment: "a", At: at("k3abcd", 1)}}
	life := func(key string) time.Duration { return b.rdb.PTTL(b.ctx, key).Val() }
	b.come(1, begin, "a")
	if got := life(k.Members); got <= 2*day || got > 3*day {
		t.Errorf("it lives for %s", got)
	}
	b.rdb.HSet(b.ctx, k.Exceptions, "a", "k3abcd 3=1")
	b.rdb.PExpire(b.ctx, k.Members, day)
	b.members()
	if got := life(k.Members); got > day {
		t.Errorf("who only reads made it live for %s", got)
	}
	b.come(1, begin, "a")
	if got, too := life(k.Members), life(k.Exceptions); got <= 2*day || too <= 2*day {
		t.Errorf("touched, they live for %s and %s", got, too)
	}
}

func TestMembersComeWithThePlaceOfTheirStream(t *testing.T) {
	onEach(t, store.Options{}, func(b *bench) {
		at := b.notify(ann, "", "n1", "n2").Position
		b.rdb.HSet(b.ctx, b.keys.Inbox(ann).Meta, "f", ",a,b-c,")
		b.rdb.HSet(b.ctx, b.keys.Audience(ann).Members, "a", "not a member")
		if m, err := b.Members(b.ctx, ann); err == nil {
			b.Errorf("what nobody wrote was read as %+v", m)
		}
		b.rdb.Del(b.ctx, b.keys.Audience(ann).Members)
		if m := b.members(); m.At != at || !slices.Equal(m.Muted, []string{"a", "b-c"}) || len(m.Of) > 0 {
			b.Errorf("got %+v, the stream is at %s", m, at)
		}
	})
}

func TestFullMemoryRefusesNobodyWhoComes(t *testing.T) {
	b := realBench(t, store.Options{})
	b.members() // its script is known
	b.rdb.ConfigSet(b.ctx, "maxmemory", "1")
	wantMembers(t, "with full memory", b.come(1, []store.Joined{{Segment: "a", At: at("k3abcd", 1)}}, "a"), "a")
	wantMembers(t, "it was not kept", b.members())
	b.rdb.ConfigSet(b.ctx, "maxmemory", "0")
	wantMembers(t, "with room again", b.come(1, []store.Joined{{Segment: "a", At: at("k3abcd", 1)}}, "a"), "a")
	wantMembers(t, "it is kept", b.members(), "a")
}

func TestABackendSeesTheBadgeThatItsUserSees(t *testing.T) {
	onEach(t, store.Options{}, func(b *bench) {
		all := stream("segment:all")
		wantBadge := func(what, want string) {
			b.Helper()
			got, err := b.publisher.CountsFor(b.ctx, store.Reader{Stream: ann})
			if err != nil || badgeText(&got) != want {
				b.Errorf("%s: got %q, %v, want %q", what, badgeText(&got), err, want)
			}
		}
		wantBadge("nothing is there", "0/0")
		last := b.notify(ann, "order", "n1", "n2").Position
		heads := map[uint64]keyspace.Head{}
		for offset := uint64(1); offset <= 30; offset++ {
			heads[offset] = keyspace.Head{Category: []string{"news", "order"}[offset%2]}
		}
		b.plant(all, "k3abcd", 30, heads)
		wantBadge("who was never seen has the newest 20 of all", "22/22 news=10 order=12")
		b.come(1, []store.Joined{{Segment: "all", At: at("k3abcd", 28)}, {Segment: "org-7", At: at("k3abcd", 1)}, {Segment: "old", At: at("k3abcd", 1)}}, "all", "org-7", "old")
		b.come(2, nil, "all", "org-7")
		b.plant(org, "k3abcd", 3, map[uint64]keyspace.Head{1: {}, 2: {Category: "news"}, 3: {Category: "mention", Mandatory: true}})
		b.plant(stream("segment:old"), "k3abcd", 2, map[uint64]keyspace.Head{2: {}})
		wantBadge("who is a member of two", "6/6 mention=1 news=2 order=3")
		b.rdb.HSet(b.ctx, b.keys.Audience(ann).Exceptions, "org-7", "k3abcd 2=3 3=2")
		wantBadge("who has read one and seen another", "5/4 mention=1 news=1 order=3")
		b.rdb.HSet(b.ctx, b.keys.Inbox(ann).Meta, "f", ",mention,news,")
		wantBadge("who has muted some", "4/3 mention=1 order=3")
		if got, err := b.publisher.CountsFor(b.ctx, store.Reader{Stream: ann}); err != nil || got.Revision != last {
			b.Errorf("it counts up to %s, not %s", got.Revision, last)
		}
	})
}

func TestOfTheSegmentAllAreOnlyThoseWhoWereSeenWhereTheSettingSaysSo(t *testing.T) {
	b := realBench(t, store.Options{Segments: store.Segments{OnlyMine: true}})
	b.plant(stream("segment:all"), "k3abcd", 1, map[uint64]keyspace.Head{1: {}})
	if got, err := b.publisher.CountsFor(b.ctx, store.Reader{Stream: ann}); err != nil || badgeText(&got) != "0/0" {
		t.Errorf("got %q, %v", badgeText(&got), err)
	}
	b.come(1, []store.Joined{{Segment: "all", At: at("k3abcd", 0)}}, "all")
	if got, err := b.publisher.CountsFor(b.ctx, store.Reader{Stream: ann}); err != nil || badgeText(&got) != "1/1" {
		t.Errorf("who was seen: got %q, %v", badgeText(&got), err)
	}
}
