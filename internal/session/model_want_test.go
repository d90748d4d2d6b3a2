package session_test

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"allim/pkg/notify"
)

// A want is what an inbox should be: items in the order in which they came, what was done with each, and nothing of how Redis keeps them. It has no offsets, no
// counters and no clock: who calls says what time it is. What has expired stays until a call that writes finds it, as devices go on showing it until then.
type want struct {
	size   int               // items kept
	came   int               // items that there have been
	items  []wantItem        // oldest first
	ids    map[string]bool   // taken for good: of items, and of what was taken back before it came
	former map[string]string // items that left, to their chains
	last   map[string]string // collapse key to the last item that came with it
	waits  []wantNote        // for their time
	mute   map[string]bool
	out    map[string]bool // items that newer ones pushed out: devices are not told
	badges []string        // the counts since the last write, of which a device may show any
}

// A wantNote is a notification as a publisher asks for it.
type wantNote struct {
	id, category, key, data string
	expires, notBefore      time.Time // whole milliseconds; zero: never, at once
	mandatory               bool
}

// A wantItem is one that came.
type wantItem struct {
	wantNote
	order                int    // of coming
	chain                string // the first of the items that took each other's place, to this one
	seen, read, archived bool
	updated              bool
	version              *int32 // of the last update that had one
}

func newWant(size int) *want {
	return &want{size: size, ids: map[string]bool{}, former: map[string]string{}, last: map[string]string{}, mute: map[string]bool{}, out: map[string]bool{}}
}

// clone is another one for the other way in which something may have gone.
func (w *want) clone() *want {
	c := *w
	c.items, c.waits, c.badges = slices.Clone(w.items), slices.Clone(w.waits), slices.Clone(w.badges)
	c.ids, c.mute, c.out = maps.Clone(w.ids), maps.Clone(w.mute), maps.Clone(w.out)
	c.former, c.last = maps.Clone(w.former), maps.Clone(w.last)
	return &c
}

func (n *wantNote) over(now time.Time) bool { return !n.expires.IsZero() && !n.expires.After(now) }

// writes is what each call that writes does first: what has expired leaves. Devices have the counts behind it, and no others, then.
func (w *want) writes(now time.Time) {
	for _, i := range slices.Clone(w.items) {
		if i.over(now) {
			w.drop(i.id)
		}
	}
	w.badges = nil
}

func (w *want) drop(id string) {
	n := w.at(id)
	w.former[id] = w.items[n].chain
	w.items = slices.Delete(w.items, n, n+1)
}

// at is where an item stands; -1: it is not there.
func (w *want) at(id string) int {
	return slices.IndexFunc(w.items, func(i wantItem) bool { return i.id == id })
}

// current is the item that an id means: its own, or what took its place. -1: there is none.
func (w *want) current(id string) int {
	chain := w.former[id]
	return slices.IndexFunc(w.items, func(i wantItem) bool { return i.id == id || chain != "" && i.chain == chain })
}

// notify answers "written", "duplicate", "scheduled", "muted" or "past".
func (w *want) notify(n wantNote, now time.Time) string {
	w.writes(now)
	switch {
	case w.ids[n.id], slices.ContainsFunc(w.waits, func(o wantNote) bool { return o.id == n.id }):
		return "duplicate"
	case n.over(now):
		return "past"
	case w.mute[n.category] && !n.mandatory:
		return "muted"
	case n.notBefore.After(now):
		w.waits = append(w.waits, n)
		return "scheduled"
	}
	w.put(n)
	w.trim()
	return "written"
}

// put has an item come: on top, unseen and unread, in the place of the one with its key.
func (w *want) put(n wantNote) {
	chain := n.id
	if n.key != "" {
		if at := w.at(w.last[n.key]); at >= 0 {
			chain = w.items[at].chain
			w.drop(w.items[at].id)
		}
		w.last[n.key] = n.id
	}
	w.came++
	w.ids[n.id] = true
	w.items = append(w.items, wantItem{wantNote: n, order: w.came, chain: chain})
}

func (w *want) trim() {
	for len(w.items) > w.size {
		w.out[w.items[0].id] = true
		w.drop(w.items[0].id)
	}
}

// due has what waited come, in the order of its times.
func (w *want) due(now time.Time) {
	w.writes(now)
	slices.SortFunc(w.waits, func(a, b wantNote) int { return cmp.Or(a.notBefore.Compare(b.notBefore), cmp.Compare(a.id, b.id)) })
	for len(w.waits) > 0 && !w.waits[0].notBefore.After(now) {
		n := w.waits[0]
		w.unschedule(n.id)
		if !w.ids[n.id] && !n.over(now) && (!w.mute[n.category] || n.mandatory) {
			w.put(n)
		}
	}
	w.trim()
}

func (w *want) unschedule(id string) (was bool) {
	n := slices.IndexFunc(w.waits, func(o wantNote) bool { return o.id == id })
	if n < 0 {
		return false
	}
	w.waits = slices.Delete(w.waits, n, n+1)
	return true
}

// update answers "changed", "unchanged", "not found" or "older". One of id and key is "".
func (w *want) update(id, key, data string, version *int32, now time.Time) string {
	w.writes(now)
	n := w.current(id)
	if key != "" {
		n = w.at(w.last[key])
	}
	if n < 0 {
		return "not found"
	}
	i := &w.items[n]
	switch {
	case i.version != nil && version != nil && *i.version > *version:
		return "older"
	case i.version != nil && version != nil && *i.version == *version, version == nil && i.updated && i.data == data:
		return "unchanged"
	}
	if version != nil {
		i.version = version
	}
	i.data, i.updated = data, true
	return "changed"
}

// retract answers "changed" or "unchanged". One of id and key is "". An id that is not there is taken for good.
func (w *want) retract(id, key string, now time.Time) string {
	w.writes(now)
	if key != "" {
		return w.retractAll(key)
	}
	if n := w.current(id); n >= 0 {
		w.drop(w.items[n].id)
		return "changed"
	}
	w.ids[id] = true
	if w.unschedule(id) {
		return "changed"
	}
	return "unchanged"
}

// retractAll takes back the item of a collapse key and all that wait with it.
func (w *want) retractAll(key string) string {
	answer := "unchanged"
	if n := w.at(w.last[key]); n >= 0 {
		w.drop(w.items[n].id)
		answer = "changed"
	}
	for _, n := range slices.Clone(w.waits) {
		if n.key == key {
			w.ids[n.id] = true
			w.unschedule(n.id)
			answer = "changed"
		}
	}
	return answer
}

// A wantMark names the items of a mark.
type wantMark struct {
	ids  []string
	upto int // order of the last item meant; with ids: -1
}

// mark answers how many changed, and which ids mean nothing.
func (w *want) mark(change notify.Change, m wantMark, now time.Time) (changed int, unknown []string) {
	w.writes(now)
	var meant []string
	if m.upto >= 0 {
		for _, i := range w.items {
			if i.order <= m.upto {
				meant = append(meant, i.id)
			}
		}
	}
	for _, id := range m.ids {
		if n := w.current(id); n < 0 {
			unknown = append(unknown, id)
		} else {
			meant = append(meant, w.items[n].id)
		}
	}
	for _, id := range meant {
		n := w.at(id)
		if n >= 0 && change == notify.ChangeDelete {
			w.drop(id)
			changed++
		} else if n >= 0 && w.items[n].become(change) {
			changed++
		}
	}
	return changed, unknown
}

// become says whether that is a change.
func (i *wantItem) become(change notify.Change) bool {
	was := *i
	switch change {
	case notify.ChangeSeen:
		i.seen = true
		return !was.seen
	case notify.ChangeRead:
		i.read, i.seen = true, true
		return !was.read
	case notify.ChangeUnread:
		i.read = false
		return was.read
	case notify.ChangeArchive:
		i.archived, i.seen = true, true
		return !was.archived
	default:
		i.archived = false
		return was.archived
	}
}

// prefer mutes these categories and no others.
func (w *want) prefer(mute []string, now time.Time) string {
	w.writes(now)
	old := w.mute
	w.mute = map[string]bool{}
	for _, c := range mute {
		w.mute[c] = true
	}
	if maps.Equal(old, w.mute) {
		return "unchanged"
	}
	return "changed"
}

// visible are the items of a list, newest first.
func (w *want) visible(now time.Time) (out []wantItem) {
	for _, i := range slices.Backward(w.items) {
		if !i.over(now) {
			out = append(out, i)
		}
	}
	return out
}

// counts are those of a badge, as countsText writes them.
func (w *want) counts(now time.Time) string {
	unread, unseen, by := 0, 0, map[string]int{}
	for _, i := range w.visible(now) {
		if !i.archived && !i.read {
			unread++
			by[i.category]++
		}
		if !i.archived && !i.seen {
			unseen++
		}
	}
	return countsText(unread, unseen, by)
}

// countsText writes counts as "2 unread, 1 unseen a=2".
func countsText(unread, unseen int, by map[string]int) string {
	s := fmt.Sprintf("%d unread, %d unseen", unread, unseen)
	for _, c := range slices.Sorted(maps.Keys(by)) {
		if c != "" {
			s += fmt.Sprintf(" %s=%d", c, by[c])
		}
	}
	return s
}

// looks notes the counts of now as such that a device may show.
func (w *want) looks(now time.Time) {
	if c := w.counts(now); !slices.Contains(w.badges, c) {
		w.badges = append(w.badges, c)
	}
}

// muted are the muted categories.
func (w *want) muted() string { return strings.Join(slices.Sorted(maps.Keys(w.mute)), ",") }

// state is all that can be seen of it some day: where it differs, something changed.
func (w *want) state() string {
	s := fmt.Sprintln(w.muted(), len(w.waits), len(w.ids))
	for _, i := range w.items {
		s += fmt.Sprintln(i.id, i.data, i.seen, i.read, i.archived)
	}
	return s
}
