package audience

import (
	"slices"
	"strings"
	"time"

	"allim/pkg/notify"
)

// A State is what a member has done to an item.
type State struct{ Seen, Read, Archived bool }

// A Reader is who looks, and when.
type Reader struct {
	Muted []string  // categories that are not shown, sorted; what is mandatory is
	Now   time.Time // of a clock like Redis'
}

// A walk goes over what a member has of a board, the newest first.
type walk struct {
	items              []Head // from the last one on
	marks              []Mark
	joined, read, seen uint64
	muted              []string
	now                int64
}

func (b *Board) walk(m *Member, r Reader) walk {
	w := walk{items: b.Items, marks: m.Marks, joined: b.Upto(m.Joined), read: b.Upto(m.Read), seen: b.Upto(m.Seen), muted: r.Muted, now: r.Now.UnixMilli()}
	if len(m.Marks) > 0 && m.Epoch != b.Epoch { // what stood behind the base is another item now
		kept := b.Upto(notify.Position{Epoch: m.Epoch, Offset: m.Marks[len(m.Marks)-1].Offset})
		for len(w.marks) > 0 && w.marks[len(w.marks)-1].Offset > kept {
			w.marks = w.marks[:len(w.marks)-1]
		}
	}
	return w
}

// next is the next item; nil at the end. What is gone, deleted or muted is none.
func (w *walk) next() (h *Head, s State) {
	for n := len(w.items) - 1; n >= 0 && w.items[n].Offset > w.joined; n-- {
		h, w.items = &w.items[n], w.items[:n]
		bits := w.bits(h.Offset)
		if bits&Deleted != 0 || h.gone(w.now) || len(w.muted) > 0 && !h.Mandatory && w.mutes(h.Category) {
			continue
		}
		return h, w.state(h.Offset, bits)
	}
	return nil, s
}

// state is what a member did to the item at an offset, of which these are the bits.
func (w *walk) state(offset uint64, bits Bits) State {
	return State{
		Seen:     (offset <= w.seen) != (bits&SeenDiffers != 0),
		Read:     (offset <= w.read) != (bits&ReadDiffers != 0),
		Archived: bits&Archived != 0,
	}
}

// bits are those of the exception at an offset, which is lower with each call.
func (w *walk) bits(offset uint64) Bits {
	n := len(w.marks)
	for n > 0 && w.marks[n-1].Offset > offset { // of items that are no more
		n--
	}
	w.marks = w.marks[:n]
	if n == 0 || w.marks[n-1].Offset != offset {
		return 0
	}
	return w.marks[n-1].Bits
}

func (w *walk) mutes(category string) bool {
	_, found := slices.BinarySearch(w.muted, category)
	return found
}

// A Tally adds the counts of segments up. The zero value is none; Reset makes it so again and keeps its memory. It is one goroutine's.
type Tally struct {
	Unread, Unseen int
	by             []notify.CategoryCount // sorted by name
}

// Reset forgets what was added.
func (t *Tally) Reset() {
	t.Unread, t.Unseen, t.by = 0, 0, t.by[:0]
}

// Add adds what a member has in a segment: a walk over its items, never a difference of sizes.
func (t *Tally) Add(b *Board, m *Member, r Reader) {
	w := b.walk(m, r)
	for h, s := w.next(); h != nil; h, s = w.next() {
		if s.Archived {
			continue
		}
		if !s.Seen {
			t.Unseen++
		}
		if !s.Read {
			t.Unread++
			t.count(h.Category, 1)
		}
	}
}

// count counts unread ones of a category; those without one are in no part of a badge.
func (t *Tally) count(category string, n int) {
	if category == "" {
		return
	}
	i, found := slices.BinarySearchFunc(t.by, category, func(c notify.CategoryCount, name string) int { return strings.Compare(c.Category, name) })
	if !found {
		t.by = slices.Insert(t.by, i, notify.CategoryCount{Category: category})
	}
	t.by[i].Unread += n
}

// Badge is what a bell shows: the counts of the own stream and the segments'. Its revision is the own one's. own is shared by many and stays as it is; it is returned
// itself where there is nothing to add.
func (t *Tally) Badge(own *notify.Badge) *notify.Badge {
	if t.Unread == 0 && t.Unseen == 0 {
		return own
	}
	sum := Tally{by: slices.Clone(own.By)}
	for _, c := range t.by {
		sum.count(c.Category, c.Unread)
	}
	return &notify.Badge{Unread: own.Unread + t.Unread, Unseen: own.Unseen + t.Unseen, By: sum.by, Revision: own.Revision}
}
