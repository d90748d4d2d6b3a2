package audience

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"allim/pkg/notify"
)

// A diary is a member of one segment whose marks are also kept item by item.
type diary struct {
	t    *testing.T
	r    *rand.Rand
	now  time.Time
	b    *Board
	g, q string // as Redis has them
	own  notify.Position
	want map[string]mark
}

var allMarks = []notify.Change{notify.ChangeSeen, notify.ChangeRead, notify.ChangeUnread, notify.ChangeArchive, notify.ChangeUnarchive, notify.ChangeDelete}

func newDiary(t *testing.T, r *rand.Rand) *diary {
	d := &diary{t: t, r: r, now: time.UnixMilli(1_800_000_000_000), b: &Board{Epoch: "k3abcd", keep: Keep{Items: 12}}, own: at("xaqrst", 7), want: map[string]mark{}}
	d.g, d.q = NewRecord(Member{Segment: "org-7"}).Lines()
	return d
}

// comes adds an item.
func (d *diary) comes() {
	id := fmt.Sprint("n", d.b.Top+1, d.b.Epoch[:1])
	next, ok := d.b.Apply(&notify.Message{Change: notify.ChangeNotification, ID: id, Position: at(d.b.Epoch, d.b.Top+1), Time: d.now})
	if !ok {
		d.t.Fatal("not applied")
	}
	d.b = next
	d.want[id] = mark{}
}

// fails has the segment lose its newest items, under another epoch.
func (d *diary) fails(epoch string, lost uint64) {
	next := *d.b
	next.Bases = append([]notify.Position{at(d.b.Epoch, d.b.Top-lost)}, d.b.Bases...)
	next.Epoch, next.Top = epoch, d.b.Top-lost
	next.Items = nil
	for _, h := range d.b.Items {
		if h.Offset <= next.Top {
			next.Items = append(next.Items, h)
		} else {
			delete(d.want, h.ID)
		}
	}
	d.b = &next
}

// some is a mark of some items, or of all up to one.
func (d *diary) some() Marking {
	m := Marking{Change: allMarks[d.r.IntN(len(allMarks))], Epoch: d.own.Epoch}
	if d.r.IntN(3) == 0 {
		m.Upto = d.b.Top - d.r.Uint64N(min(d.b.Top, 3)+1)
		return m
	}
	m.IDs = map[string]bool{"none": true}
	for _, h := range d.b.Items {
		if d.r.IntN(3) == 0 {
			m.IDs[h.ID] = true
		}
	}
	return m
}

// marks does a mark, as the script takes it.
func (d *diary) marks(m Marking) (Effect, Stamp) {
	rec, err := ParseRecord("org-7", d.g, d.q)
	if err != nil {
		d.t.Fatal(err)
	}
	e := rec.Mark(d.b, m, d.now)
	g, q := rec.Lines()
	if len(e.Changed)+len(e.Seen) > 0 {
		d.own.Offset++
	}
	d.now = d.now.Add(time.Millisecond)
	s := Stamp{d.own, d.now.UnixMicro()}
	d.g, d.q = strings.ReplaceAll(g, "?", s.String()), strings.ReplaceAll(q, "?", s.String())
	return e, s
}

// notes does to the truth what a mark does.
func (d *diary) notes(m Marking) {
	for _, h := range d.b.Items {
		of := d.want[h.ID]
		if of.deleted || m.IDs != nil && !m.IDs[h.ID] || m.IDs == nil && h.Offset > m.Upto {
			continue
		}
		switch m.Change {
		case notify.ChangeSeen:
			of.seen = true
		case notify.ChangeRead:
			of.seen, of.read = true, true
		case notify.ChangeUnread:
			of.read = false
		case notify.ChangeArchive:
			of.seen, of.archived = true, true
		case notify.ChangeUnarchive:
			of.archived = false
		case notify.ChangeDelete:
			of.deleted = true
		}
		d.want[h.ID] = of
	}
}

// has is what the member shows, by id; of what is deleted nothing.
func (d *diary) has() map[string]mark {
	m, err := ParseMember("org-7", d.g, d.q)
	if err != nil {
		d.t.Fatal(err)
	}
	out := map[string]mark{}
	for _, e := range d.b.List(&m, Reader{Now: d.now}, End, "", func(State) bool { return true }, 1000).Entries {
		out[e.ID] = mark{seen: e.State.Seen, read: e.State.Read, archived: e.State.Archived}
	}
	return out
}

func (d *diary) wants(what string, want map[string]mark) {
	d.t.Helper()
	shown := map[string]mark{}
	for _, h := range d.b.Items {
		if of := want[h.ID]; !of.deleted {
			shown[h.ID] = of
		}
	}
	if diff := cmp.Diff(shown, d.has(), cmp.AllowUnexported(mark{})); diff != "" {
		d.t.Fatalf("%s: %q %q (-want +got)\n%s", what, d.g, d.q, diff)
	}
}

func TestMarksDoToEachItemWhatTheySay(t *testing.T) {
	for seed := range uint64(300) {
		d := newDiary(t, rand.New(rand.NewPCG(seed, 1)))
		for i := range 60 {
			switch d.r.IntN(5) {
			case 0, 1:
				d.comes()
			case 2, 3:
				m := d.some()
				before := maps.Clone(d.want)
				e, _ := d.marks(m)
				d.notes(m)
				changed := 0
				for id, was := range before {
					is := d.want[id]
					if map[notify.Change]bool{notify.ChangeSeen: is.seen != was.seen, notify.ChangeRead: is.read != was.read, notify.ChangeUnread: is.read != was.read,
						notify.ChangeArchive: is.archived != was.archived, notify.ChangeUnarchive: is.archived != was.archived, notify.ChangeDelete: is.deleted != was.deleted}[m.Change] {
						changed++
					}
				}
				if len(e.Changed) != changed || len(e.Seen) > 0 {
					t.Fatalf("seed %d: %c changed %v, want %d", seed, m.Change, e.Changed, changed)
				}
			case 4:
				if written := d.b.Top; d.r.IntN(4) == 0 { // what came before the epoch began was there when it did: it is not lost
					if len(d.b.Bases) > 0 {
						written -= d.b.Bases[0].Offset
					}
					d.fails("kkkk"+string("abcdefg234567"[i/13])+string("abcdefg234567"[i%13]), d.r.Uint64N(min(written, 3)+1))
				}
			}
			d.wants(fmt.Sprint("seed ", seed, " step ", i), d.want)
			d.now = d.now.Add(time.Duration(d.r.IntN(20)) * time.Minute)
		}
	}
}

// What two programs hold of marks that Redis lost comes to the same in whatever order they bring it back, also behind what was marked since.
func TestLostMarksComeToTheSameInAnyOrder(t *testing.T) {
	bit := 0
	for seed := range uint64(600) {
		d := newDiary(t, rand.New(rand.NewPCG(seed, 2)))
		for range 6 {
			d.comes()
		}
		for range 2 {
			m := d.some()
			d.marks(m)
			d.notes(m)
		}
		g, q, own := d.g, d.q, d.own // this is what is not lost
		var lost []Marking
		for range 2 {
			m := d.some()
			e, s := d.marks(m)
			d.notes(m)
			again := Marking{Change: m.Change, IDs: map[string]bool{}, First: s}
			for _, id := range e.Meant { // marks are made again by ids
				again.IDs[id] = true
			}
			lost = append(lost, again)
		}
		d.g, d.q, d.own = g, q, at("y2rstu", own.Offset)
		if seed%2 == 0 {
			m := d.some()
			d.marks(m) // before what it follows is back
			d.notes(m)
		}
		swap := d.r.IntN(2) == 0
		if swap {
			lost[0], lost[1] = lost[1], lost[0]
		}
		for _, m := range lost {
			m.Epoch = d.own.Epoch
			d.marks(m)
		}
		d.wants(fmt.Sprintf("seed %d, swapped %v", seed, swap), d.want)
		if d.g != g || d.q != q {
			bit++
		}
	}
	if bit < 300 {
		t.Errorf("only %d of them lost anything", bit)
	}
}

func TestStampsGoWhenNothingCanComeAgain(t *testing.T) {
	d := newDiary(t, rand.New(rand.NewPCG(1, 1)))
	d.comes()
	d.comes()
	d.marks(Marking{Change: notify.ChangeRead, IDs: map[string]bool{"n1k": true}})
	d.marks(Marking{Change: notify.ChangeUnread, IDs: map[string]bool{"n1k": true}})
	if !strings.Contains(d.q, "@xaqrst.9.") || !strings.Contains(d.q, "1=2@") {
		t.Errorf("exceptions are %q", d.q)
	}
	d.now = d.now.Add(stampLife + time.Minute)
	d.marks(Marking{Change: notify.ChangeArchive, IDs: map[string]bool{"n2k": true}})
	if strings.Contains(d.q, "xaqrst.9.") || !strings.Contains(d.q, "1=2 2=6@-,xaqrst.10.") {
		t.Errorf("later they are %q", d.q)
	}
}
