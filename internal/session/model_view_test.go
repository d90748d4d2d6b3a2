package session_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"allim/internal/wire"
	"allim/pkg/notify"
)

// A view is what a page shows of its user's inbox, folded from its frames as proto/client/README.md says, and what no gateway may send it.
type view struct {
	own       string // topic
	items     []wire.Item
	badge     *wire.Badge
	mute      string
	muteKnown bool
	head      notify.Position // received up to here
	at        notify.Position // of the last list: contained up to here
	counted   notify.Position // up to here badge counts
	live      bool            // what comes follows head; else it runs from "now", and a subscribe is under way
	replacing bool            // a reset came, and not the list that replaces what is shown
	listing   bool            // a list was asked for with the URL
	known     map[string]bool // ids of notifications
	lists     int             // that replaced what was shown
	welcomes  int
	resets    int
	events    int
	cursor    string
	answers   map[string]*pageFrame // by ref
	wrong     string                // the first thing that must not be
}

// A pageFrame is any frame, as far as a page with an inbox reads it.
type pageFrame struct {
	Type, Topic, Pos, ID, Category, Replaces, Code, Before, Cursor string
	Expires                                                        string `json:"expires_at"`
	Ref                                                            json.RawMessage
	Data                                                           json.RawMessage
	Badge                                                          *wire.Badge
	Change                                                         map[string][]string
	Items                                                          []wire.Item
	At, Topics                                                     map[string]string
	Recovered, Mute, Unknown                                       []string
	Changed                                                        *int
}

// newView is a page without a past. It begins live where the URL says from where on.
func newView(own string) *view {
	return &view{own: own, live: true, known: map[string]bool{}, answers: map[string]*pageFrame{}}
}

func (v *view) must(ok bool, format string, args ...any) {
	if !ok && v.wrong == "" {
		v.wrong = fmt.Sprintf(format, args...)
	}
}

// take folds one frame.
func (v *view) take(text string) {
	f := &pageFrame{}
	if err := json.Unmarshal([]byte(text), f); err != nil {
		v.must(false, "a frame is no JSON: %s", text)
		return
	}
	if f.Cursor != "" {
		v.cursor = f.Cursor
	}
	if f.Ref != nil {
		v.answers[string(f.Ref)] = f
	}
	switch f.Type {
	case "welcome":
		v.welcomes++
		v.begin(f)
		v.count(f.Badge)
	case "subscribed":
		v.begin(f)
		v.live = true
	case "reset":
		if f.Topic == v.own {
			v.head, v.muteKnown = position(f.Pos), false
		}
		v.replacing = true // also of a segment: one list for all
		v.resets++
	case "inbox":
		v.list(f)
	case "ok", "error", "pong":
	default:
		v.apply(f)
	}
}

// begin is where the own stream goes on.
func (v *view) begin(f *pageFrame) {
	at, named := f.Topics[v.own]
	if slices.Contains(f.Recovered, v.own) {
		came := v.head.Offset == 0 && position(at).Offset == 0 // into being since: its beginning has another name now
		v.must(at == v.head.String() || came, "the stream goes on behind another place than it was left at")
	}
	if named && v.live || f.Type == "subscribed" {
		v.head = position(at)
	}
}

// list takes a page that replaces what is shown, which is one that is not asked for, or the first.
func (v *view) list(f *pageFrame) {
	at := position(f.At[v.own])
	v.must(at == v.head || covers(at, v.head) || v.head.Offset == 0, "a list is older than what was sent before it")
	v.count(f.Badge)
	if f.Ref != nil && !strings.HasPrefix(string(f.Ref), `"first`) {
		return
	}
	v.items, v.at, v.replacing, v.listing = f.Items, at, false, false
	v.lists++
}

// apply takes a frame of the own stream, or counts alone.
func (v *view) apply(f *pageFrame) {
	pos := position(f.Pos)
	v.must(f.Topic == v.own, "a frame of %q", f.Topic)
	contained := f.Pos != "" && covers(v.at, pos)
	if f.Badge != nil && !contained {
		v.count(f.Badge)
	}
	if f.Pos == "" || covers(v.head, pos) { // counts alone, or what was received before
		return
	}
	follows := pos.Offset == v.head.Offset+1 && (pos.Epoch == v.head.Epoch || v.head.Offset == 0)
	if !v.live && !follows {
		return // it comes again behind the place that is being asked for
	}
	v.must(follows, "a hole")
	v.must(!v.replacing, "a %s between a reset and its list", f.Type)
	if (f.Type == "message" || f.Type == "update" || f.Type == "preferences") && (v.counted == v.head || v.counted.Offset+v.head.Offset == 0) {
		v.counted = pos // they change no counts, and carry none
	}
	v.head = pos
	v.events++
	unknown := f.Type == "notification" && !v.known[f.ID]
	if f.Type == "notification" {
		v.known[f.ID] = true
	}
	if f.Type == "preferences" {
		v.mute, v.muteKnown = strings.Join(f.Mute, ","), true
	}
	if !contained {
		v.alter(f, unknown)
	}
}

func (v *view) count(b *wire.Badge) {
	v.badge, v.counted = b, notify.Position{}
	if b != nil {
		v.counted = position(b.Rev)
	}
}

func (v *view) alter(f *pageFrame, unknown bool) {
	switch f.Type {
	case "notification":
		if unknown && !slices.ContainsFunc(v.items, func(i wire.Item) bool { return i.ID == f.ID }) {
			v.remove(f.Replaces)
			v.items = slices.Insert(v.items, 0, wire.Item{ID: f.ID, Category: f.Category, ExpiresAt: f.Expires, Data: f.Data})
		}
	case "update":
		v.each([]string{f.ID}, func(i *wire.Item) { i.Data = f.Data })
	case "retract":
		v.remove(f.ID)
	}
	for name, ids := range f.Change {
		switch name {
		case "seen":
			v.each(ids, func(i *wire.Item) { i.Seen = true })
		case "read":
			v.each(ids, func(i *wire.Item) { i.Seen, i.Read = true, true })
		case "unread":
			v.each(ids, func(i *wire.Item) { i.Read = false })
		case "archive":
			v.each(ids, func(i *wire.Item) { i.Seen, i.Archived = true, true })
		case "unarchive":
			v.each(ids, func(i *wire.Item) { i.Archived = false })
		case "delete":
			v.remove(ids...)
		default:
			v.must(false, "a change %q", name)
		}
	}
}

func (v *view) remove(ids ...string) {
	v.items = slices.DeleteFunc(slices.Clone(v.items), func(i wire.Item) bool { return slices.Contains(ids, i.ID) })
}

func (v *view) each(ids []string, do func(*wire.Item)) {
	for n := range v.items {
		if slices.Contains(ids, v.items[n].ID) {
			do(&v.items[n])
		}
	}
}

// counts are the badge's, as countsText writes them.
func (v *view) counts() string {
	if v.badge == nil {
		return countsText(0, 0, nil)
	}
	return countsText(v.badge.Unread, v.badge.Unseen, v.badge.By)
}

// stands tells whether everything has come up to a place of the own stream: frames, list and counts. Those of a stream that is not there are at any.
func (v *view) stands(top notify.Position) bool {
	return v.live && !v.replacing && !v.listing && (top.Offset == 0 || v.head == top && v.counted == top)
}

// covers tells whether b is at or before a.
func covers(a, b notify.Position) bool { return a.Epoch == b.Epoch && b.Offset <= a.Offset }

// position is the one that text says; none where it says none.
func position(text string) notify.Position {
	p, err := notify.ParsePosition(text)
	if err != nil {
		return notify.Position{}
	}
	return p
}
