package audience

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"allim/pkg/notify"
)

// A Head is one item of a segment, without what a reader sees of it.
type Head struct {
	Offset    uint64
	ID        string
	Category  string
	Time      int64 // of its first acknowledgement, in ms of Unix time
	Until     int64 // it is gone then, in ms of Unix time: expired, or too old; 0: never
	Mandatory bool  // for those, too, who muted its category
}

func (h *Head) gone(now int64) bool { return h.Until != 0 && h.Until <= now }

// A Board is what a segment holds, at one position. It is never changed: Apply makes the next one. The zero value is a segment without items that does not exist.
type Board struct {
	Epoch string
	Top   uint64
	Bases []notify.Position // up to where it has what earlier epochs had, newest first
	Items []Head            // by offset, ascending; at most Keep.Items

	replaced []alias // the newest last; at most maxAliases
	keep     Keep
}

// Keep bounds what a segment holds.
type Keep struct {
	Items int           // the newest; 0: MaxItems
	Age   time.Duration // 0: any
}

// MaxItems is how many items a segment holds at most. Whoever counts walks over them.
const MaxItems = 200

// maxAliases is how many ids a Redis remembers of a stream, about: those of items that were replaced are among them.
const maxAliases = 1000

// An alias is the id of an item whose place another one has taken.
type alias struct{ old, id string }

// A Text is a board as lua/heads.lua answers it.
type Text struct {
	Epoch, Top string // "" and "0" where there is no segment
	Bases      string // <epoch>:<offset> …
	Items      string // a line for each, the oldest first: <offset> <id> <expires ms, 0 never> <time ms> <! or -> <category>
	Replaced   string // a line for each: <old id> <id>
}

// ParseBoard reads a board. The error is ErrCorrupt.
func ParseBoard(t Text, keep Keep) (*Board, error) {
	b := &Board{Epoch: strings.Clone(t.Epoch), keep: keep}
	var err error
	if b.Top, err = strconv.ParseUint(t.Top, 10, 53); err != nil {
		return nil, fmt.Errorf("board: top: %w", ErrCorrupt)
	}
	for base := range strings.FieldsSeq(t.Bases) {
		epoch, offset, _ := strings.Cut(base, ":")
		o, err := strconv.ParseUint(offset, 10, 53)
		if err != nil || epoch == "" {
			return nil, fmt.Errorf("board: bases: %w", ErrCorrupt)
		}
		b.Bases = append(b.Bases, notify.Position{Epoch: strings.Clone(epoch), Offset: o})
	}
	items := strings.Clone(t.Items) // the board keeps parts of it, and must not keep the whole reply
	b.Items = make([]Head, 0, strings.Count(items, "\n"))
	for line := range strings.Lines(items) {
		h, ok := b.parseHead(strings.TrimSuffix(line, "\n"))
		if !ok {
			return nil, fmt.Errorf("board: item %.80q: %w", line, ErrCorrupt)
		}
		b.Items = append(b.Items, h)
	}
	for line := range strings.Lines(strings.Clone(t.Replaced)) {
		old, id, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		if !ok || notify.CheckID(old) != nil || notify.CheckID(id) != nil {
			return nil, fmt.Errorf("board: replaced %.140q: %w", line, ErrCorrupt)
		}
		b.replaced = append(b.replaced, alias{old, id})
	}
	b.trim()
	return b, nil
}

// parseHead reads one line. Offsets rise, and end at the top.
func (b *Board) parseHead(line string) (h Head, ok bool) {
	f := strings.SplitN(line, " ", 6)
	if len(f) != 6 || f[4] != "!" && f[4] != "-" || notify.CheckID(f[1]) != nil || notify.CheckCategory(f[5]) != nil {
		return h, false
	}
	offset, err1 := strconv.ParseUint(f[0], 10, 53)
	expires, err2 := strconv.ParseInt(f[2], 10, 64)
	at, err3 := strconv.ParseInt(f[3], 10, 64)
	if err1 != nil || err2 != nil || err3 != nil || expires < 0 || at < 0 || offset > b.Top || offset <= b.last() {
		return h, false
	}
	return Head{Offset: offset, ID: f[1], Category: f[5], Time: at, Until: b.keep.until(at, expires), Mandatory: f[4] == "!"}, true
}

func (b *Board) last() uint64 {
	if len(b.Items) == 0 {
		return 0
	}
	return b.Items[len(b.Items)-1].Offset
}

// until is when an item is gone: at its end, or when it is too old.
func (k Keep) until(at, expires int64) int64 {
	if k.Age == 0 || at == 0 {
		return expires
	}
	if old := at + k.Age.Milliseconds(); expires == 0 || old < expires {
		return old
	}
	return expires
}

// Position is up to where the board has what the segment had.
func (b *Board) Position() notify.Position { return notify.Position{Epoch: b.Epoch, Offset: b.Top} }

// Apply is the board after a message of the segment; b itself where it has it already. ok is false where only Redis knows how it goes on: messages lie between, the
// epoch is another, or a later build changed something.
func (b *Board) Apply(m *notify.Message) (next *Board, ok bool) {
	switch first := b.Epoch == "" && m.Position.Offset == 1; {
	case m.Change == notify.ChangeEphemeral:
		return b, true
	case m.Position.Epoch != b.Epoch && !first:
		return b, false
	case m.Position.Offset <= b.Top:
		return b, true
	case m.Position.Offset != b.Top+1:
		return b, false
	}
	next = &Board{Epoch: strings.Clone(m.Position.Epoch), Top: m.Position.Offset, Bases: b.Bases, Items: b.Items, replaced: b.replaced, keep: b.keep}
	switch m.Change {
	case notify.ChangeMessage, notify.ChangeUpdate: // an update is of what readers see
	case notify.ChangeRetract, notify.ChangeExpire:
		next.Items = slices.DeleteFunc(slices.Clone(b.Items), func(h Head) bool { return h.ID == m.ID })
	case notify.ChangeNotification:
		next.put(m)
	default:
		return b, false
	}
	return next, true
}

// put appends the item of a notification. What it keeps of the message is copied: the rest must not stay for it.
func (b *Board) put(m *notify.Message) {
	h := Head{Offset: b.Top, ID: strings.Clone(m.ID), Category: strings.Clone(m.Category), Time: millis(m.Time), Mandatory: m.Terms != nil && m.Terms.Mandatory}
	h.Until = b.keep.until(h.Time, millis(m.ExpiresAt))
	items := make([]Head, 0, len(b.Items)+1)
	for i := range b.Items {
		if m.Replaces == "" || b.Items[i].ID != m.Replaces {
			items = append(items, b.Items[i])
		}
	}
	b.Items = append(items, h)
	if m.Replaces != "" {
		replaced := make([]alias, 0, len(b.replaced)+1)
		for _, a := range b.replaced {
			if a.id == m.Replaces { // no chains: an old id is one step away however often its item was replaced
				a.id = h.ID
			}
			replaced = append(replaced, a)
		}
		b.replaced = append(replaced, alias{strings.Clone(m.Replaces), h.ID})
	}
	b.trim()
}

// millis is a time in ms of Unix time; 0: none.
func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

// trim lets the oldest go.
func (b *Board) trim() {
	most := b.keep.Items
	if most == 0 {
		most = MaxItems
	}
	b.Items = b.Items[max(0, len(b.Items)-most):]
	b.replaced = b.replaced[max(0, len(b.replaced)-maxAliases):]
}

// Upto is the offset up to which a position of a Member reaches. Of an earlier epoch it is what this one still has of it: what a failover lost stands there no more, and
// what came in its place is new to everybody. Of an epoch that nobody remembers nothing is left.
func (b *Board) Upto(p notify.Position) uint64 {
	if p.Epoch == b.Epoch {
		return p.Offset
	}
	for _, base := range b.Bases {
		if base.Epoch == p.Epoch {
			return min(p.Offset, base.Offset)
		}
	}
	return 0
}

// Start is the position at which a member joins who shall have the newest n of the items that are there.
func (b *Board) Start(n int, now time.Time) notify.Position {
	at := b.Position()
	for i := len(b.Items) - 1; i >= 0 && n > 0; i-- {
		if h := &b.Items[i]; !h.gone(now.UnixMilli()) {
			at.Offset = h.Offset - 1
			n--
		}
	}
	return at
}

// Ends is when the next item is gone: counts fall then though nothing is written. Zero: none ends.
func (b *Board) Ends(now time.Time) (at time.Time) {
	next := int64(0)
	for i := range b.Items {
		if h := &b.Items[i]; h.Until != 0 && !h.gone(now.UnixMilli()) && (next == 0 || h.Until < next) {
			next = h.Until
		}
	}
	if next == 0 {
		return at
	}
	return time.UnixMilli(next)
}

// A Ref is an item that a mark means.
type Ref struct {
	Offset uint64
	ID     string
	Named  string // as the mark named it: the id, or that of an item it took the place of
}

// Named are the items that ids name, the oldest first. An item that is named twice comes twice.
func (b *Board) Named(ids map[string]bool, now time.Time) (refs []Ref) {
	as := map[string][]string{} // by id, the old ones that name it
	for _, a := range b.replaced {
		if ids[a.old] {
			as[a.id] = append(as[a.id], a.old)
		}
	}
	for i := range b.Items {
		h := &b.Items[i]
		if h.gone(now.UnixMilli()) {
			continue
		}
		if ids[h.ID] {
			refs = append(refs, Ref{h.Offset, h.ID, h.ID})
		}
		for _, old := range as[h.ID] {
			refs = append(refs, Ref{h.Offset, h.ID, old})
		}
	}
	return refs
}

// Within are all items up to an offset, the oldest first.
func (b *Board) Within(upto uint64, now time.Time) (refs []Ref) {
	for i := range b.Items {
		if h := &b.Items[i]; h.Offset <= upto && !h.gone(now.UnixMilli()) {
			refs = append(refs, Ref{h.Offset, h.ID, h.ID})
		}
	}
	return refs
}

// Reach is Upto of a position that must be known; false where nobody remembers its epoch.
func (b *Board) Reach(p notify.Position) (offset uint64, known bool) {
	known = p.Epoch == b.Epoch
	for _, base := range b.Bases {
		known = known || base.Epoch == p.Epoch
	}
	return min(b.Upto(p), b.Top), known
}
