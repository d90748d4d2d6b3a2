//go:build fault

package fault

import (
	"context"
	"slices"
	"time"

	"allim/test/pods"
)

// A list is an inbox as a page holds it that shows all of it: newest first, the archived too. What a frame says is done to it in the order of the frames,
// so that frames which a page of it contained already change nothing in the end.
type list struct {
	items []Item
	round int         // goes up where it is replaced, and begins anew
	pages map[int]int // the round for which a page was asked, by ref
	begun bool        // the first of the round's pages is there
	whole bool        // and the last
}

// replace begins the list anew: with what came, and then with all that there is.
func (x *list) replace(items []pods.Item) {
	x.items, x.begun, x.whole = x.items[:0], false, false
	x.append(items)
	x.round++
}

// page takes an answer; false where it is of no use, since the list was begun anew.
func (x *list) page(ref int, f pods.Frame) bool {
	round, asked := x.pages[ref]
	delete(x.pages, ref)
	if !asked || round != x.round || f.Type != "inbox" {
		return false
	}
	if !x.begun {
		x.items, x.begun = x.items[:0], true
	}
	x.append(f.Items)
	x.whole = f.Before == ""
	return true
}

func (x *list) append(items []pods.Item) {
	for _, it := range items {
		if x.at(it.ID) < 0 {
			x.items = append(x.items, Item{ID: it.ID, Seen: it.Seen, Read: it.Read, Archived: it.Archived})
		}
	}
}

func (x *list) at(id string) int {
	return slices.IndexFunc(x.items, func(it Item) bool { return it.ID == id })
}

// take does what a frame of the stream says.
func (x *list) take(f pods.Frame) {
	if f.Type == "notification" && x.at(f.ID) < 0 {
		x.items = slices.Insert(x.items, 0, Item{ID: f.ID})
	}
	for kind, ids := range f.Change {
		for _, id := range ids {
			if i := x.at(id); i >= 0 {
				x.items[i] = marked(x.items[i], kind)
			}
		}
	}
}

// inboxLocked takes an inbox frame. Without ref it replaces the list, of which a page that shows everything then loads the rest.
func (r *reader) inboxLocked(l *line, f pods.Frame, counts bool) {
	ref, asked := refOf(f)
	if asked {
		if !r.list.page(ref, f) {
			return
		}
		counts = true
	} else if r.lists && r.live == l {
		r.list.replace(f.Items)
		round := r.list.round
		r.w.hearing.Go(func() { r.loadAll(r.w.reading, round) })
	}
	r.listLocked(l, f, counts)
}

// loadAll asks for one page after the other until the round has all, is over, or the connection ends.
func (r *reader) loadAll(ctx context.Context, round int) {
	for before := ""; ; {
		frame := map[string]any{"type": "inbox", "limit": 100, "status": "all"}
		if before != "" {
			frame["before"] = before
		}
		f, _ := r.ask(frame, func(ref int) { r.list.pages[ref] = round })
		r.mu.Lock()
		over := f.Type == "" || r.list.round != round || r.list.whole
		r.mu.Unlock()
		switch {
		case over:
			return
		case f.Type == "inbox":
			before = f.Before
		case !pause(ctx, 200*time.Millisecond): // it was refused, or there is no answer
			return
		}
	}
}
