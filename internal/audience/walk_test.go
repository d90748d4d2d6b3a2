package audience

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"allim/pkg/notify"
)

// A truth is a segment and one member, kept item by item and without any idea of watermarks or boards.
type truth struct {
	t *testing.T
	r *rand.Rand

	now    int64
	keep   Keep
	named  int // ids given
	epochs int
	seg    segment
	was    []segment // by offset: what Redis held with that top

	joined uint64
	marks  map[uint64]mark // by offset
	m      *Member         // what was written of them last, and
	wrote  map[uint64]mark // what they were then
	board  *Board

	did map[string]int // how often each step changed something
}

type segment struct {
	epoch    string
	top      uint64
	bases    []notify.Position
	items    []Head
	replaced []alias
}

type mark struct{ seen, read, archived, deleted bool }

// write makes the next state of the segment, and gives the board the message that says so.
func (w *truth) write(m *notify.Message, change func(*segment)) {
	s := w.seg
	s.items, s.replaced = slices.Clone(s.items), slices.Clone(s.replaced)
	s.top++
	m.Position, m.Time = at(s.epoch, s.top), time.UnixMilli(w.now)
	change(&s)
	s.items = s.items[max(0, len(s.items)-w.keep.Items):]
	w.seg = s
	w.was = append(w.was[:s.top], s)
	next, ok := w.board.Apply(m)
	if again, same := w.board.Apply(m); ok != same || ok && again.Position() != next.Position() {
		w.t.Fatalf("%s: applied another way the second time", m.Position)
	}
	if !ok {
		w.t.Fatalf("%s at %s: not applied", m.Position, w.board.Position())
	}
	w.board = next
	if w.r.IntN(4) == 0 {
		wantBoard(w.t, "applied, and read", w.board, w.read())
	}
}

// read is the board as it is read.
func (w *truth) read() *Board {
	t := Text{Epoch: w.seg.epoch, Top: fmt.Sprint(w.seg.top)}
	for _, b := range w.seg.bases {
		t.Bases += fmt.Sprintf("%s:%d ", b.Epoch, b.Offset)
	}
	for _, h := range w.seg.items {
		t.Items += fmt.Sprintf("%d %s %d %d %s %s\n", h.Offset, h.ID, h.Until, h.Time, map[bool]string{true: "!", false: "-"}[h.Mandatory], h.Category)
	}
	for _, a := range w.seg.replaced {
		t.Replaced += a.old + " " + a.id + "\n"
	}
	return mustParse(w.t, t, w.keep)
}

func (w *truth) notify() {
	h := Head{ID: fmt.Sprint("n", w.named), Category: []string{"", "a", "b", "c"}[w.r.IntN(4)], Time: w.now, Mandatory: w.r.IntN(8) == 0}
	m := &notify.Message{Change: notify.ChangeNotification, ID: h.ID, Category: h.Category}
	w.named++
	if h.Mandatory {
		m.Terms = &notify.Terms{Mandatory: true}
	}
	if w.r.IntN(4) == 0 {
		h.Until = w.now + 1 + w.r.Int64N(20)
		m.ExpiresAt = time.UnixMilli(h.Until)
	}
	if n := len(w.seg.items); n > 0 && w.r.IntN(4) == 0 {
		m.Replaces = w.seg.items[w.r.IntN(n)].ID
		w.did["replace"]++
	}
	w.write(m, func(s *segment) {
		h.Offset = s.top
		s.items = append(slices.DeleteFunc(s.items, func(o Head) bool { return o.ID == m.Replaces }), h)
		if m.Replaces != "" {
			for i := range s.replaced {
				if s.replaced[i].id == m.Replaces {
					s.replaced[i].id = h.ID
				}
			}
			s.replaced = append(s.replaced, alias{m.Replaces, h.ID})
		}
	})
	w.did["notify"]++
}

func (w *truth) take() {
	m := &notify.Message{Change: []notify.Change{notify.ChangeRetract, notify.ChangeExpire, notify.ChangeUpdate, notify.ChangeMessage}[w.r.IntN(4)], ID: "n0"}
	if n := len(w.seg.items); n > 0 {
		m.ID = w.seg.items[w.r.IntN(n)].ID
	}
	w.write(m, func(s *segment) {
		if m.Change == notify.ChangeRetract || m.Change == notify.ChangeExpire {
			n := len(s.items)
			s.items = slices.DeleteFunc(s.items, func(o Head) bool { return o.ID == m.ID })
			w.did["take"] += n - len(s.items)
		}
	})
}

// fail is a failover to a Redis that holds a prefix; seldom to one that remembers no epoch.
func (w *truth) fail() {
	s := w.was[w.seg.top-w.r.Uint64N(min(w.seg.top, 6)+1)]
	if s.epoch == "" {
		return // there was no segment
	}
	w.did["lost"] += int(w.seg.top - s.top)
	s.bases = append([]notify.Position{at(s.epoch, s.top)}, s.bases...)
	s.bases = s.bases[:min(4, len(s.bases))]
	if w.r.IntN(10) == 0 {
		s.bases = nil
	}
	s.epoch = w.epoch()
	w.seg, w.was = s, append(w.was[:s.top], s)
	w.rebase()
	w.board = w.read()
}

func (w *truth) epoch() string {
	w.epochs++
	return "aaaa" + string([]byte{'a' + byte(w.epochs/26%26), 'a' + byte(w.epochs%26)})
}

// rebase lets the member's marks be what the segment's epoch still has of those that were written.
func (w *truth) rebase() {
	kept := uint64(0)
	for _, b := range w.seg.bases {
		if b.Epoch == w.m.Joined.Epoch {
			kept = b.Offset
			break
		}
	}
	w.joined, w.marks = min(w.m.Joined.Offset, kept), map[uint64]mark{}
	for o, k := range w.wrote {
		if o <= kept {
			w.marks[o] = k
		}
	}
	w.did["rebase"] += len(w.wrote) - len(w.marks)
}

// mark marks some items, or all up to one, and writes the member with watermarks wherever.
func (w *truth) mark() {
	if w.seg.top == 0 {
		return
	}
	how, upto := w.r.IntN(6), 1+w.r.Uint64N(w.seg.top)
	for o := uint64(1); o <= w.seg.top; o++ {
		k := w.marks[o]
		if o > upto || upto%2 == 0 && w.r.IntN(3) > 0 {
			continue
		}
		was := k
		switch how {
		case 0:
			k.seen = true
		case 1:
			k.seen, k.read = true, true
		case 2:
			k.read = false
		case 3:
			k.seen, k.archived = true, true
		case 4:
			k.archived = false
		case 5:
			k.deleted = w.r.IntN(5) == 0
		}
		if w.marks[o] = k; was != k {
			w.did[fmt.Sprint("mark ", how)]++
		}
	}
	w.remember()
}

// remember writes the member: any watermarks with the exceptions that belong to them.
func (w *truth) remember() {
	e := w.seg.epoch
	m := Member{Segment: "s", Joined: at(e, w.joined), Read: at(e, w.r.Uint64N(w.seg.top+1)), Seen: at(e, w.r.Uint64N(w.seg.top+1)), Epoch: e}
	for o := uint64(1); o <= w.seg.top; o++ {
		k := w.marks[o]
		var bits Bits
		for _, one := range []struct {
			bit Bits
			is  bool
		}{{ReadDiffers, k.read != (o <= m.Read.Offset)}, {SeenDiffers, k.seen != (o <= m.Seen.Offset)}, {Archived, k.archived}, {Deleted, k.deleted}} {
			if one.is {
				bits |= one.bit
			}
		}
		if bits != 0 {
			m.Marks = append(m.Marks, Mark{o, bits})
		}
	}
	if m.Marks == nil {
		m.Epoch = ""
	}
	g, q := m.Lines()
	got, err := ParseMember("s", g, strings.ReplaceAll(q, "=1", "=1@x1qrst.8.1,-"))
	if diff := cmp.Diff(m, got); err != nil || diff != "" {
		w.t.Fatalf("%q, %q: %v\n%s", g, q, err, diff)
	}
	w.m, w.wrote = &got, maps.Clone(w.marks)
}

// check compares counts and list.
func (w *truth) check(sum *Tally) {
	muted := [][]string{nil, nil, {"b"}, {"a", "b"}}[w.r.IntN(4)]
	want, by, list := notify.Badge{}, map[string]int{}, []Entry{}
	for i := len(w.seg.items) - 1; i >= 0; i-- {
		h := w.seg.items[i]
		k := w.marks[h.Offset]
		old := w.keep.Age > 0 && h.Time+w.keep.Age.Milliseconds() <= w.now
		if h.Offset <= w.joined || k.deleted || h.Until != 0 && h.Until <= w.now || old || !h.Mandatory && slices.Contains(muted, h.Category) {
			continue
		}
		list = append(list, Entry{h.Offset, h.Time, h.ID, State{k.seen, k.read, k.archived}})
		if !k.archived && !k.read {
			want.Unread++
			by[h.Category]++
		}
		if !k.archived && !k.seen {
			want.Unseen++
		}
	}
	delete(by, "")
	for c, n := range by {
		want.By = append(want.By, notify.CategoryCount{Category: c, Unread: n})
	}
	sort.Slice(want.By, func(i, j int) bool { return want.By[i].Category < want.By[j].Category })
	r := Reader{Muted: muted, Now: time.UnixMilli(w.now)}
	sum.Reset()
	sum.Add(w.board, w.m, r)
	if diff := cmp.Diff(&want, sum.Badge(&notify.Badge{})); diff != "" {
		w.t.Fatalf("counts (-want +got)\n%s\nof %+v\nwith %+v", diff, w.board, w.m)
	}
	if diff := cmp.Diff(list, append([]Entry{}, w.board.List(w.m, r, End, "", anything, 1000).Entries...)); diff != "" {
		w.t.Fatalf("list (-want +got)\n%s\nof %+v\nwith %+v", diff, w.board, w.m)
	}
	w.did["counted"] += want.Unread
}

func walkOnce(t *testing.T, seed uint64, steps int, did map[string]int) {
	r := rand.New(rand.NewPCG(seed, 3))
	w := &truth{t: t, r: r, now: 1000, keep: Keep{Items: 5 + r.IntN(20)}, was: []segment{{}}, marks: map[uint64]mark{}, m: &Member{Segment: "s"}, did: did}
	if r.IntN(2) == 0 {
		w.keep.Age = time.Duration(20+r.IntN(60)) * time.Millisecond
	}
	w.board = w.read()
	var sum Tally
	for range steps {
		if w.seg.epoch == "" {
			w.seg.epoch = w.epoch()
		}
		switch r.IntN(10) {
		case 0, 1, 2, 3:
			w.notify()
		case 4:
			w.take()
		case 5, 6, 7:
			w.mark()
		case 8:
			w.now += r.Int64N(8)
		case 9:
			switch r.IntN(4) {
			case 0:
				w.fail()
			case 1: // the member comes anew, now
				if w.seg.top > 0 {
					w.joined, w.marks = w.seg.top, map[uint64]mark{}
					w.remember()
					did["join"]++
				}
			}
		}
		w.check(&sum)
	}
}

// What watermarks and exceptions say of a board is what was done to each item, whatever Redis loses and whenever a member comes.
func TestCountsAndListsAreTheTruth(t *testing.T) {
	did := map[string]int{}
	for seed := range uint64(300) {
		if !t.Run(fmt.Sprint(seed), func(t *testing.T) { walkOnce(t, seed, 60, did) }) {
			return
		}
	}
	for _, step := range []string{"notify", "replace", "take", "lost", "rebase", "join", "counted", "mark 0", "mark 1", "mark 2", "mark 3", "mark 4", "mark 5"} {
		if did[step] < 100 {
			t.Errorf("%s changed something %d times: the walk does not go there", step, did[step])
		}
	}
}

func FuzzWalk(f *testing.F) {
	f.Add(uint64(1))
	f.Fuzz(func(t *testing.T, seed uint64) { walkOnce(t, seed, 40, map[string]int{}) })
}
