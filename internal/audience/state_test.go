package audience

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"allim/pkg/notify"
)

func at(epoch string, offset uint64) notify.Position {
	return notify.Position{Epoch: epoch, Offset: offset}
}

func TestAMemberIsReadAsRedisHoldsIt(t *testing.T) {
	for _, c := range []struct {
		name, g, q string
		want       Member
	}{
		{"one who has just come", "k3abcd.40 0 1767225600 k3abcd.40 k3abcd.40 -", "",
			Member{Joined: at("k3abcd", 40), IssuedAt: 1767225600, Read: at("k3abcd", 40), Seen: at("k3abcd", 40)}},
		{"one who came before the segment was", "0 0 1 0 -28339200.0 -", "", Member{IssuedAt: 1, Seen: at("-28339200", 0)}},
		{"one who left", "k3abcd.40 1767225600123 2 0 0", "", Member{Joined: at("k3abcd", 40), Left: 1767225600123, IssuedAt: 2}},
		{"exceptions, with when they were made and without", "0 0 1 k3abcd.9 k3abcd.9 x1qrst.8.1767225600000000 later", "k3abcd 3=1 5=6@x1qrst.8.1767225600000000,- 12=f",
			Member{IssuedAt: 1, Read: at("k3abcd", 9), Seen: at("k3abcd", 9), Epoch: "k3abcd", Marks: []Mark{{3, ReadDiffers}, {5, SeenDiffers | Archived}, {12, allBits}}}},
		{"one that says only when", "0 0 1 0 0 -", "k3abcd 3=0@x1qrst.8.1", Member{IssuedAt: 1}},
	} {
		got, err := ParseMember("org-7", c.g, c.q)
		if c.want.Segment = "org-7"; err != nil {
			t.Errorf("%s: %v", c.name, err)
		} else if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", c.name, diff)
		}
	}
}

const allBits = ReadDiffers | SeenDiffers | Archived | Deleted

func TestAMemberThatNobodyWroteIsRefused(t *testing.T) {
	const good = "k3abcd.40 0 1 k3abcd.40 k3abcd.40 -"
	for _, c := range [][2]string{
		{"", ""}, {"k3abcd.40 0 1 k3abcd.40", ""}, {"40 0 1 0 0 -", ""}, {"0 x 1 0 0 -", ""}, {"0 0 y 0 0 -", ""}, {"0 0 1 1 0 -", ""}, {"0 0 1 0 K3ABCD.1 -", ""},
		{good, "k3abcd"[:5] + " 1=1"}, {good, " 1=1"}, {good, "k3abcd 1"}, {good, "k3abcd 1=g"}, {good, "k3abcd 1=10"}, {good, "k3abcd x=1"}, {good, "k3abcd 0=1"},
		{good, "k3abcd 2=1 1=1"}, {good, "k3abcd 2=1 2=1"}, {good, "k3abcd 1=1  2=1"}, {good, "k3abcd 9007199254740992=1"},
	} {
		if m, err := ParseMember("org-7", c[0], c[1]); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%q, %q: got %+v, %v", c[0], c[1], m, err)
		}
	}
}

func TestMembersAreFoundBySegment(t *testing.T) {
	const g = "k3abcd.40 0 1 0 0 -"
	all, err := ParseMembers([]string{"b", g, "a", "0 0 2 0 0 -", "c", g}, []string{"c", "k3abcd 41=8", "gone", "k3abcd 1=1"})
	if err != nil {
		t.Fatal(err)
	}
	if a, c := Of(all, "a"), Of(all, "c"); a == nil || a.IssuedAt != 2 || a.Marks != nil || c == nil || len(c.Marks) != 1 || c.Marks[0] != (Mark{41, Deleted}) {
		t.Errorf("got %+v", all)
	}
	for _, other := range []string{"", "aa", "d", "gone"} {
		if m := Of(all, other); m != nil {
			t.Errorf("%q is %+v", other, m)
		}
	}
	for _, bad := range [][2][]string{{{"a"}, nil}, {{"a", g}, {"a"}}, {{"a", ""}, nil}, {{"a", g}, {"a", "k3abcd"[:4]}}} {
		if got, err := ParseMembers(bad[0], bad[1]); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%q: got %+v, %v", bad, got, err)
		}
	}
}

func FuzzParseMember(f *testing.F) {
	f.Add("k3abcd.40 0 1767225600 k3abcd.40 k3abcd.40 -", "k3abcd 3=1 5=6@x1qrst.8.1767225600000000,-")
	f.Add("0 5 1 -7.0 0", "")
	f.Fuzz(func(t *testing.T, g, q string) {
		m, err := ParseMember("s", g, q)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatal(err)
			}
			return
		}
		g, q = m.Lines()
		again, err := ParseMember("s", g, q)
		if diff := cmp.Diff(m, again); err != nil || diff != "" {
			t.Fatalf("%q, %q: %v\n%s", g, q, err, diff)
		}
		b := &Board{Epoch: "k3abcd", Top: 50, Items: []Head{{Offset: 3, ID: "a"}, {Offset: 41, ID: "b", Category: "c"}}}
		var sum Tally
		sum.Add(b, &m, Reader{})
		if sum.Unread > 2 || sum.Unseen > 2 || strings.Contains(q, "@") {
			t.Fatalf("%+v of two items", sum)
		}
	})
}
