package audience

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"allim/pkg/notify"
)

func TestABadgeIsTheOwnCountsAndTheSegments(t *testing.T) {
	own := &notify.Badge{Unread: 3, Unseen: 1, By: []notify.CategoryCount{{Category: "a", Unread: 1}, {Category: "c", Unread: 2}}, Revision: at("k3abcd", 7)}
	var sum Tally
	if got := sum.Badge(own); got != own {
		t.Error("nothing was added, and the badge is another")
	}
	m := &Member{Seen: at("x1qrst", 9)}
	for _, category := range []string{"a", "b", "", "b"} {
		sum.Add(&Board{Epoch: "x1qrst", Top: 1, Items: []Head{{Offset: 1, ID: "n", Category: category}}}, m, Reader{})
	}
	want := &notify.Badge{Unread: 7, Unseen: 1, By: []notify.CategoryCount{{Category: "a", Unread: 2}, {Category: "b", Unread: 2}, {Category: "c", Unread: 2}}, Revision: at("k3abcd", 7)}
	if diff := cmp.Diff(want, sum.Badge(own)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if !slices.Equal(own.By, []notify.CategoryCount{{Category: "a", Unread: 1}, {Category: "c", Unread: 2}}) {
		t.Errorf("the own badge, which others see, is now %+v", own)
	}
	sum.Reset()
	if got := sum.Badge(own); got != own {
		t.Error("something is left")
	}
}

// full is a board with as many items as there can be, and a member who has done something to each third.
func full() (*Board, *Member) {
	b, m := &Board{Epoch: "k3abcd", Top: 1000}, &Member{Joined: at("k3abcd", 1), Read: at("k3abcd", 900), Seen: at("k3abcd", 950), Epoch: "k3abcd"}
	for i := range uint64(MaxItems) {
		b.Items = append(b.Items, Head{Offset: 801 + i, ID: fmt.Sprint("n", i), Category: []string{"", "mention", "order", "system"}[i%4], Until: 1 << 50})
		if i%3 == 0 {
			m.Marks = append(m.Marks, Mark{801 + i, Bits(1 + i%7)})
		}
	}
	return b, m
}

func TestACountCostsNoMemory(t *testing.T) {
	b, m := full()
	var sum Tally
	r := Reader{Muted: []string{"order", "other"}, Now: time.UnixMilli(5000)}
	sum.Add(b, m, r) // makes room for the categories
	first := sum.Unread
	if allocs := testing.AllocsPerRun(100, func() {
		sum.Reset()
		sum.Add(b, m, r)
	}); allocs != 0 || sum.Unread != first || first == 0 {
		t.Errorf("%v allocations, %d unread, at first %d", allocs, sum.Unread, first)
	}
}

func BenchmarkCount(b *testing.B) {
	board, m := full()
	var sum Tally
	r := Reader{Now: time.UnixMilli(5000)}
	b.ReportAllocs()
	for b.Loop() {
		sum.Reset()
		sum.Add(board, m, r)
	}
	if sum.Unread == 0 {
		b.Fatal("nothing was counted")
	}
}

func BenchmarkApply(b *testing.B) {
	board, _ := full()
	m := &notify.Message{Change: notify.ChangeNotification, Position: at("k3abcd", 1001), ID: "new", Category: "mention"}
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := board.Apply(m); !ok {
			b.Fatal("not applied")
		}
	}
}
