package audience

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"allim/pkg/notify"
)

func anything(State) bool { return true }

func TestAListIsWhatAMemberHas(t *testing.T) {
	b := &Board{Epoch: "k3abcd", Top: 9}
	for o := uint64(1); o <= 9; o++ {
		b.Items = append(b.Items, Head{Offset: o, ID: fmt.Sprint("n", o), Category: []string{"", "mention"}[o%2], Time: int64(100 * o)})
	}
	b.Items[6].Until = 5000
	b.Items[2].Mandatory = true
	m := &Member{Segment: "org-7", Joined: at("k3abcd", 1), Read: at("k3abcd", 4), Seen: at("k3abcd", 5), Epoch: "k3abcd",
		Marks: []Mark{{1, ReadDiffers}, {2, ReadDiffers}, {4, Archived}, {6, Deleted}, {8, ReadDiffers | SeenDiffers}}}
	for _, c := range []struct {
		name     string
		below    uint64
		category string
		want     func(State) bool
		muted    []string
		limit    int
		list     string
		rest     uint64
	}{
		{"all", End, "", anything, nil, 10, "9 8sr 5s 4sra 3sr 2s", 0},
		{"a page", End, "", anything, nil, 2, "9 8sr", 8},
		{"the next one", 8, "", anything, nil, 10, "5s 4sra 3sr 2s", 0},
		{"just all", 8, "", anything, nil, 4, "5s 4sra 3sr 2s", 0},
		{"unread", End, "", func(s State) bool { return !s.Read && !s.Archived }, nil, 10, "9 5s 2s", 0},
		{"unread, a page", End, "", func(s State) bool { return !s.Read && !s.Archived }, nil, 2, "9 5s", 5},
		{"of a category", End, "mention", anything, nil, 10, "9 5s 3sr", 0},
		{"without what is muted", End, "", anything, []string{"a", "mention", "z"}, 10, "8sr 4sra 3sr 2s", 0},
		{"nothing below", 0, "", anything, nil, 10, "", 0},
	} {
		l := b.List(m, Reader{Muted: c.muted, Now: time.UnixMilli(5000)}, c.below, c.category, c.want, c.limit)
		got := ""
		for _, e := range l.Entries {
			got += fmt.Sprint(" ", e.Offset, map[bool]string{true: "s"}[e.State.Seen], map[bool]string{true: "r"}[e.State.Read], map[bool]string{true: "a"}[e.State.Archived])
			if e.ID != fmt.Sprint("n", e.Offset) || e.Time != int64(100*e.Offset) {
				t.Errorf("%s: entry %+v", c.name, e)
			}
		}
		if got = got[min(1, len(got)):]; got != c.list || l.Below != c.rest || l.Topic != "segment:org-7" {
			t.Errorf("%s: got %q of %s, then below %d; want %q, %d", c.name, got, l.Topic, l.Below, c.list, c.rest)
		}
	}
}

func TestAPageEndsWhereNobodyKnowsWhatFollows(t *testing.T) {
	own := List{Topic: "user:42", Entries: []Entry{{Offset: 9, Time: 50}, {Offset: 8, Time: 70}}, Below: 3} // the clocks went back
	org := List{Topic: "segment:org", Entries: []Entry{{Offset: 3, Time: 60}, {Offset: 2, Time: 50}, {Offset: 1, Time: 40}}}
	page := Merge([]List{own, org}, 10)
	if want := []Pick{{1, 0}, {1, 1}, {0, 0}, {0, 1}}; !slices.Equal(page, want) {
		t.Errorf("got %v, want %v", page, want)
	}
	token, ok := ParseToken("0/", After("0/", []List{own, org}, page))
	if !ok || token.Below("user:42") != 3 || token.Below("segment:org") != 2 || token.Below("segment:new") != End {
		t.Errorf("token %+v, %v", token, ok)
	}
	token, ok = ParseToken("0/", After("0/", []List{own, org}, page[:1])) // cut short
	if !ok || token.Below("user:42") != 10 || token.Below("segment:org") != 3 {
		t.Errorf("token %+v, %v", token, ok)
	}
	own.Below = 0
	page = Merge([]List{own, org}, 10)
	if after := After("0/", []List{own, org}, page); len(page) != 5 || after != "" {
		t.Errorf("after the last page: %q", after)
	}
}

func TestATokenIsGoodForItsFilterAlone(t *testing.T) {
	l := []List{{Topic: "user:42", Entries: []Entry{{Offset: 9}}, Below: 9}}
	good := After("0/mention", l, nil)
	if _, ok := ParseToken("0/mention", good); !ok {
		t.Error("not read back")
	}
	for _, c := range [][2]string{{"0/", good}, {"1/mention", good}, {"0/mention/", good}, {"0/mention", good + "A"}, {"0/mention", good[:len(good)-2]}, {"0/mention", "!"}, {"0/mention", "AA"}} {
		if token, ok := ParseToken(c[0], c[1]); ok {
			t.Errorf("%q was read with %q: %+v", c[1], c[0], token)
		}
	}
	if token, ok := ParseToken("0/", ""); !ok || token.Below("user:42") != End {
		t.Error("without a token a list begins at the top")
	}
}

// Pages of whatever size, while new items come, are the list as it was at the first of them, each item once.
func TestPagesAreStable(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		streams := make([][]Entry, 1+r.IntN(4)) // the oldest first
		grow := func(i int) {
			streams[i] = append(streams[i], Entry{Offset: uint64(len(streams[i]) + 1), Time: int64(r.IntN(50))})
		}
		for i := range streams {
			for range r.IntN(12) {
				grow(i)
			}
		}
		lists := func(token Token, limit int) (all []List) {
			for i, s := range streams {
				l := List{Topic: notify.Topic(fmt.Sprint("segment:", i))}
				for j := len(s) - 1; j >= 0; j-- {
					if s[j].Offset >= token.Below(l.Topic) {
						continue
					}
					if len(l.Entries) == limit {
						l.Below = l.Entries[limit-1].Offset
						break
					}
					l.Entries = append(l.Entries, s[j])
				}
				all = append(all, l)
			}
			return all
		}
		name := func(all []List, page []Pick) (names []string) {
			for _, p := range page {
				names = append(names, fmt.Sprint(p.List, ".", all[p.List].Entries[p.Entry].Offset))
			}
			return names
		}
		whole := lists(Token{}, 1000)
		want := name(whole, Merge(whole, 1000))
		var got []string
		for token, pages := "", 0; pages == 0 || token != ""; pages++ {
			from, ok := ParseToken("f", token)
			if !ok || pages > 100 {
				t.Fatalf("seed %d: page %d from %q: %v", seed, pages, token, ok)
			}
			limit := 1 + r.IntN(5)
			some := lists(from, limit)
			page := Merge(some, limit)
			page = page[:len(page)-r.IntN(1+len(page)/2)] // some are too big for a page
			got = append(got, name(some, page)...)
			token = After("f", some, page)
			grow(r.IntN(len(streams)))
		}
		if !slices.Equal(got, want) {
			t.Fatalf("seed %d: pages have\n%v, not\n%v", seed, got, want)
		}
	}
}

func FuzzParseToken(f *testing.F) {
	f.Add("0/", After("0/", []List{{Topic: "user:42", Below: 9}}, nil))
	f.Fuzz(func(t *testing.T, filter, text string) {
		if token, ok := ParseToken(filter, text); ok && token.Below("user:42") > End {
			t.Fatal("above everything")
		}
	})
}
