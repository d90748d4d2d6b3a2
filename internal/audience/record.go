package audience

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"allim/pkg/notify"
)

// A Stamp says when in the life of a user's own stream something was marked: where the mark's event stands, or stood, and Redis' clock then. The zero value says
// nothing.
type Stamp struct {
	At notify.Position
	US int64 // Unix microseconds
}

// Now is the stamp of what is marked now: whoever writes it to Redis learns then what it is. lua/segmark.lua puts that in its place.
var Now = Stamp{US: -1}

// stampLife is how long is remembered when an item was marked. What a failover loses is made again within minutes, or never.
const stampLife = 20 * time.Minute

func (t Stamp) String() string {
	switch {
	case t == Now:
		return "?"
	case t == Stamp{}:
		return "-"
	}
	return t.At.String() + "." + strconv.FormatInt(t.US, 10)
}

// parseStamp reads what String wrote; of a later build it is none.
func parseStamp(text string) (t Stamp) {
	pos, us, _ := cutLast(text, ".")
	at, err1 := notify.ParsePosition(pos)
	n, err2 := strconv.ParseInt(us, 10, 64)
	if err1 != nil || err2 != nil || n <= 0 {
		return t
	}
	return Stamp{At: at, US: n}
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// after tells whether something was marked after what is made again was acknowledged first: as lua/items.lua has it. current is the epoch of the user's stream.
func (t Stamp) after(first Stamp, current string) bool {
	switch {
	case t == Stamp{}:
		return false
	case t == Now:
		return true
	case t.At.Epoch == first.At.Epoch:
		return t.At.Offset > first.At.Offset
	}
	return t.At.Epoch == current || t.US > first.US
}

// What of an item a stamp is of: read or unread, archived or not. Seen and deleted are for good, and need none.
const (
	slotRead = iota
	slotArchive
	slots
)

// A Record is a Member with when things were marked: all that Redis holds of it. It is one goroutine's.
type Record struct {
	Member
	read   Stamp                   // of what made Read what it is: of everything up to there
	stamps map[uint64][slots]Stamp // of single items, by offset
}

// ParseRecord reads a Member with its stamps. The error is ErrCorrupt.
func ParseRecord(segment, g, q string) (*Record, error) {
	m, err := ParseMember(segment, g, q)
	if err != nil {
		return nil, err
	}
	r := &Record{Member: m, stamps: map[uint64][slots]Stamp{}}
	if f := strings.Fields(g); len(f) > memberFields {
		r.read = parseStamp(f[memberFields])
	}
	epoch, rest, _ := strings.Cut(q, " ")
	for one := range strings.FieldsSeq(rest) {
		what, when, stamped := strings.Cut(one, "@")
		offset, _, _ := strings.Cut(what, "=")
		if o, err := strconv.ParseUint(offset, 10, 53); err == nil && stamped {
			read, archive, _ := strings.Cut(when, ",")
			r.stamps[o] = [slots]Stamp{parseStamp(read), parseStamp(archive)}
			r.Epoch = strings.Clone(epoch) // also of stamps alone
		}
	}
	return r, nil
}

// NewRecord is that of who is a member and of whom Redis knows nothing.
func NewRecord(m Member) *Record { return &Record{Member: m, stamps: map[uint64][slots]Stamp{}} }

// Lines are what Redis holds of the record; what of it is Now stands there as '?'.
func (r *Record) Lines() (g, q string) {
	g = fmt.Sprintf("%s %d %d %s %s %s", r.Joined, r.Left, r.IssuedAt, r.Read, r.Seen, r.read)
	bits := map[uint64]Bits{}
	offsets := make([]uint64, 0, len(r.Marks)+len(r.stamps))
	for _, k := range r.Marks {
		bits[k.Offset] = k.Bits
		offsets = append(offsets, k.Offset)
	}
	for o := range r.stamps {
		offsets = append(offsets, o)
	}
	if len(offsets) == 0 {
		return g, ""
	}
	slices.Sort(offsets)
	b := []byte(r.Epoch)
	for _, o := range slices.Compact(offsets) {
		b = append(strconv.AppendUint(append(b, ' '), o, 10), '=')
		b = strconv.AppendUint(b, uint64(bits[o]), 16)
		if t, ok := r.stamps[o]; ok {
			b = append(append(append(append(b, '@'), t[slotRead].String()...), ','), t[slotArchive].String()...)
		}
	}
	return g, string(b)
}

// A Marking is what a mark does to the items of one segment: those that IDs names, or all up to an offset.
type Marking struct {
	Change notify.Change
	IDs    map[string]bool // items' own ids; nil: all up to Upto
	Upto   uint64
	First  Stamp  // of one that is made again, when it was acknowledged first; zero: it is new
	Epoch  string // of the user's own stream now
}

// An Effect is what a mark did. Meant are the items that it hit, changed or not; Seen those that it was too late for but for that they were seen; New those that nobody
// had seen before.
type Effect struct{ Meant, Changed, Seen, New []string }

// Mark does a mark. What it means that is not there for the member is passed over. The record is then of the board's epoch.
func (r *Record) Mark(b *Board, m Marking, now time.Time) (e Effect) {
	if b.Epoch == "" {
		return e
	}
	items := r.unfold(b)
	again := m.First != Stamp{}
	below := m.IDs == nil && m.Upto >= r.Read.Offset && m.Change == notify.ChangeRead // one watermark says it of all
	for i := range items {
		it := &items[i]
		if it.gone(now.UnixMilli()) || it.state.deleted || m.IDs == nil && it.Offset > m.Upto || m.IDs != nil && !m.IDs[it.ID] {
			continue
		}
		slot, stamped := slotOf(m.Change)
		if again && stamped && r.when(it.Offset, slot).after(m.First, m.Epoch) {
			if (m.Change == notify.ChangeRead || m.Change == notify.ChangeArchive) && !it.state.Seen {
				it.state.Seen = true
				e.Seen, e.New = append(e.Seen, it.ID), append(e.New, it.ID)
			}
			continue
		}
		e.Meant = append(e.Meant, it.ID)
		unseen := !it.state.Seen
		changed := it.state.mark(m.Change)
		if unseen && it.state.Seen {
			e.New = append(e.New, it.ID)
		}
		if changed {
			e.Changed = append(e.Changed, it.ID)
		}
		if stamped && !below && (again || changed || r.when(it.Offset, slot).At.Epoch != m.Epoch) {
			r.stamp(it.Offset, slot, m.First)
		}
	}
	if m.IDs == nil {
		r.raise(m, below, len(e.Changed) > 0)
	}
	r.fold(b, items, now)
	return e
}

// raise moves watermarks up where a mark is of everything up to an offset.
func (r *Record) raise(m Marking, read, changed bool) {
	switch m.Change {
	case notify.ChangeSeen, notify.ChangeRead, notify.ChangeArchive:
		r.Seen.Offset = max(r.Seen.Offset, m.Upto)
	case notify.ChangeDelete:
		r.Joined.Offset = max(r.Joined.Offset, m.Upto)
	}
	if read && (changed || m.Upto > r.Read.Offset || r.read.At.Epoch != m.Epoch) {
		r.Read.Offset, r.read = m.Upto, Now
		for o, t := range r.stamps {
			if t[slotRead] = (Stamp{}); o <= m.Upto {
				r.stamps[o] = t
			}
		}
	}
}

func slotOf(c notify.Change) (slot int, stamped bool) {
	switch c {
	case notify.ChangeRead, notify.ChangeUnread:
		return slotRead, true
	case notify.ChangeArchive, notify.ChangeUnarchive:
		return slotArchive, true
	}
	return 0, false
}

// when an item was marked last.
func (r *Record) when(offset uint64, slot int) Stamp {
	if t := r.stamps[offset][slot]; t != (Stamp{}) {
		return t
	}
	if slot == slotRead && offset <= r.Read.Offset {
		return r.read
	}
	return Stamp{}
}

func (r *Record) stamp(offset uint64, slot int, first Stamp) {
	t := r.stamps[offset]
	if t[slot] = Now; first != (Stamp{}) {
		t[slot] = first
	}
	r.stamps[offset] = t
}

// An unfolded is an item with what its member did to it.
type unfolded struct {
	*Head
	state whole
}

type whole struct {
	State
	deleted bool
}

// mark does a mark to one item, and tells whether that changed anything.
func (s *whole) mark(c notify.Change) bool {
	was := *s
	switch c {
	case notify.ChangeSeen:
		s.Seen = true
	case notify.ChangeRead:
		s.Read, s.Seen = true, true
	case notify.ChangeUnread:
		s.Read = false
	case notify.ChangeArchive:
		s.Archived, s.Seen = true, true
	case notify.ChangeUnarchive:
		s.Archived = false
	case notify.ChangeDelete:
		s.deleted = true
	}
	switch c { // what a mark is about, as lua/mark.lua counts it: who is read already is not changed by being seen
	case notify.ChangeRead, notify.ChangeUnread:
		return s.Read != was.Read
	case notify.ChangeArchive, notify.ChangeUnarchive:
		return s.Archived != was.Archived
	}
	return *s != was
}

// unfold makes the record one of the board's epoch, and says what was done to each of its items.
func (r *Record) unfold(b *Board) []unfolded {
	lost := r.Epoch != b.Epoch
	if lost && r.Epoch != "" {
		kept := b.Upto(notify.Position{Epoch: r.Epoch, Offset: 1<<53 - 1})
		r.Marks = slices.DeleteFunc(r.Marks, func(k Mark) bool { return k.Offset > kept })
		for o := range r.stamps {
			if o > kept {
				delete(r.stamps, o)
			}
		}
	}
	r.Epoch = b.Epoch
	for _, p := range []*notify.Position{&r.Joined, &r.Read, &r.Seen} {
		*p = notify.Position{Epoch: b.Epoch, Offset: b.Upto(*p)}
	}
	w := b.walk(&r.Member, Reader{})
	items := make([]unfolded, 0, len(b.Items))
	for i := len(b.Items) - 1; i >= 0 && b.Items[i].Offset > r.Joined.Offset; i-- {
		h := &b.Items[i]
		bits := w.bits(h.Offset)
		items = append(items, unfolded{h, whole{w.state(h.Offset, bits), bits&Deleted != 0}})
	}
	slices.Reverse(items)
	return items
}

// fold writes the exceptions anew: of what is still there, and stamps while they matter.
func (r *Record) fold(b *Board, items []unfolded, now time.Time) {
	r.Marks = nil
	stamps := map[uint64][slots]Stamp{}
	old := now.Add(-stampLife).UnixMicro()
	for _, it := range items {
		if it.Offset <= r.Joined.Offset {
			continue
		}
		var bits Bits
		set := func(bit Bits, on bool) {
			if on {
				bits |= bit
			}
		}
		set(ReadDiffers, it.state.Read != (it.Offset <= r.Read.Offset))
		set(SeenDiffers, it.state.Seen != (it.Offset <= r.Seen.Offset))
		set(Archived, it.state.Archived)
		set(Deleted, it.state.deleted)
		if bits != 0 {
			r.Marks = append(r.Marks, Mark{it.Offset, bits})
		}
		t := r.stamps[it.Offset]
		for i := range t {
			if t[i] != Now && t[i].US < old {
				t[i] = Stamp{}
			}
		}
		if t != ([slots]Stamp{}) {
			stamps[it.Offset] = t
		}
	}
	r.stamps = stamps
	if r.read != Now && r.read.US < old {
		r.read = Stamp{}
	}
	if r.Epoch = b.Epoch; len(r.Marks)+len(stamps) == 0 {
		r.Epoch = ""
	}
}
