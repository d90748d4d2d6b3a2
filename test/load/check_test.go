//go:build linux

package main

import (
	"slices"
	"strings"
	"testing"
)

// Two readers of one line, and what is found of what they get.
func TestWhatIsLostOrTwiceOrOutOfOrderIsFound(t *testing.T) {
	for _, c := range []struct {
		name       string
		one, other []uint32
		atOnce     bool   // published without waiting
		kinds      string // found, in order
	}{
		{name: "all in order", one: []uint32{0, 1, 2}, other: []uint32{0, 1, 2}},
		{name: "the last is lost", one: []uint32{0, 1, 2}, other: []uint32{0, 1}, kinds: "lost"},
		{name: "one in the middle is lost", one: []uint32{0, 1, 2}, other: []uint32{0, 2}, kinds: "order lost"},
		{name: "lost for everybody", one: []uint32{0, 2}, other: []uint32{0, 2}, kinds: "order lost"},
		{name: "twice", one: []uint32{0, 1, 1, 2}, other: []uint32{0, 1, 2}, kinds: "order duplicate"},
		{name: "the last twice", one: []uint32{0, 1, 2}, other: []uint32{0, 1, 2, 2}, kinds: "order duplicate"},
		{name: "two exchanged", one: []uint32{0, 2, 1}, other: []uint32{0, 2, 1}, kinds: "order"},
		{name: "never published", one: []uint32{0, 1, 2, 3}, other: []uint32{0, 1, 2}, kinds: "stray duplicate"},
		{name: "at once, any order that is everybody's", one: []uint32{2, 0, 1}, other: []uint32{2, 0, 1}, atOnce: true},
		{name: "at once, two orders", one: []uint32{2, 0, 1}, other: []uint32{2, 1, 0}, atOnce: true, kinds: "order"},
		{name: "at once, twice for everybody", one: []uint32{2, 2, 1}, other: []uint32{2, 2, 1}, atOnce: true, kinds: "duplicate order"},
		{name: "at once, lost", one: []uint32{2, 0}, other: []uint32{2, 0}, atOnce: true, kinds: "lost"},
	} {
		t.Run(c.name, func(t *testing.T) {
			j := newJudge(1, [][]int{{0}, {0}})
			for range 3 {
				j.publish(0, !c.atOnce)
			}
			if j.due != 6 {
				t.Errorf("got %d deliveries due, want 6", j.due)
			}
			for i, list := range [][]uint32{c.one, c.other} {
				for _, n := range list {
					j.receive(i, mark{0, n, 0})
				}
			}
			j.lost()
			if got := strings.Join(j.faults.kinds, " "); got != c.kinds {
				t.Errorf("found %q, want %q: %v", got, c.kinds, j.faults.take())
			}
		})
	}
}

func TestAMessageForOthersIsFound(t *testing.T) {
	j := newJudge(3, [][]int{{0, 1}, {0, 2}})
	j.publish(1, true)
	j.receive(0, mark{1, 0, 0})
	j.receive(1, mark{1, 0, 0})
	if j.got != 1 || len(j.faults.kinds) != 1 || j.faults.kinds[0] != "stray" {
		t.Errorf("got %d, found %v", j.got, j.faults.take())
	}
}

// After messages at once, numbers and places agree again.
func TestStrictOrderHoldsAfterABurst(t *testing.T) {
	j := newJudge(1, [][]int{{0}})
	for range 3 {
		j.publish(0, false)
	}
	for _, n := range []uint32{1, 2, 0} {
		j.receive(0, mark{0, n, 0})
	}
	j.publish(0, true)
	j.receive(0, mark{0, 3, 0})
	if j.lost(); len(j.faults.kinds) != 0 {
		t.Errorf("found %v", j.faults.take())
	}
}

func TestFaultsAreCountedAndTheFirstOfEachKindIsTold(t *testing.T) {
	var f faults
	f.add("lost", "first %d", 1)
	f.add("order", "other")
	f.add("lost", "second")
	if got, want := f.take(), []string{"lost ×2: first 1", "order ×1: other"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := f.take(); got != nil {
		t.Errorf("once more: %q", got)
	}
}
