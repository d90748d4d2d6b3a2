package fault

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// An op is one operation, put together from its events.
type op struct {
	n                int
	kind, stream, id string
	invoked          time.Duration
	acked            bool
	at               time.Duration // when
	by               string        // the process that acknowledged
	pos              string        // "": a mark that changed nothing
	duplicate        bool
	tries            int // attempts without an answer
	missing          bool
}

func (o *op) isMark() bool { return o.kind != "publish" && o.kind != "notify" }

// A place is what one reader hears of one stream.
type place struct {
	reader, stream string
	since          time.Duration // when it began
	frames         []*Event      // got, reset, listed and begins, of all connections, in their order
}

// A view is a log by what the rules ask for.
type view struct {
	events  []Event
	allowed allowed
	ops     []*op            // in the order in which they were invoked
	written map[string]*op   // publications and notifications by stream and id
	marks   map[string][]*op // by stream and id
	places  []*place         // in the order in which they began
	truth   map[string]*Event
	windows []window            // faults
	perils  []*Event            // processes killed, and what Redis lost
	on      map[string][]*op    // of a stream, without marks
	shown   map[string][]*Event // counts that readers show, by stream
}

// A window is the time of a fault; to is the end of the log where it never ended.
type window struct{ from, to time.Duration }

func newView(events []Event, a allowed) *view {
	v := &view{events: events, allowed: a, written: map[string]*op{}, marks: map[string][]*op{}, truth: map[string]*Event{},
		on: map[string][]*op{}, shown: map[string][]*Event{}}
	byNumber, byPlace := map[int]*op{}, map[string]*place{}
	open := -1
	for i := range events {
		e := &events[i]
		switch e.What {
		case invoked:
			o := &op{n: e.Op, kind: e.Kind, stream: e.Stream, id: e.ID, invoked: e.At}
			byNumber[e.Op] = o
			v.ops = append(v.ops, o)
			if o.isMark() {
				v.marks[key(o.stream, o.id)] = append(v.marks[key(o.stream, o.id)], o)
			} else {
				v.written[key(o.stream, o.id)] = o
				v.on[o.stream] = append(v.on[o.stream], o)
			}
		case tried:
			if o := byNumber[e.Op]; o != nil {
				o.tries++
			}
		case acked:
			if o := byNumber[e.Op]; o != nil && !o.acked {
				o.acked, o.at, o.by, o.pos, o.duplicate = true, e.At, e.Pod, e.Pos, e.Duplicate
			}
		case missing:
			if o := byNumber[e.Op]; o != nil {
				o.missing = true
			}
		case begins, got, reset, listed:
			p := byPlace[key(e.Reader, e.Stream)]
			if p == nil {
				p = &place{reader: e.Reader, stream: e.Stream, since: e.At}
				byPlace[key(e.Reader, e.Stream)] = p
				v.places = append(v.places, p)
			}
			p.frames = append(p.frames, e)
		case killed, kept:
			v.perils = append(v.perils, e)
		case holds:
			v.shown[e.Stream] = append(v.shown[e.Stream], e)
		case history, inbox:
			v.truth[e.Stream] = e
		case faultOn:
			if open < 0 {
				open = len(v.windows)
				v.windows = append(v.windows, window{e.At, 1 << 62})
			}
		case faultOff:
			if open >= 0 {
				v.windows[open].to = e.At
				open = -1
			}
		}
	}
	return v
}

// streams are all that were written to.
func (v *view) streams() []string { return slices.Sorted(maps.Keys(v.on)) }

// ringLife is how long whoever acknowledged an operation remembers it where no replica has it (internal/store).
const ringLife = 120 * time.Second

// excused tells whether nobody can say what became of an acknowledged operation: the one who held it was killed while it had to remember it, and then
// it was among what Redis lost.
func (v *view) excused(o *op) bool {
	if o == nil || !o.acked {
		return false
	}
	gone := false
	for _, e := range v.perils {
		switch {
		case e.What == killed:
			gone = gone || e.Pod == o.by && e.At >= o.at && e.At < o.at+ringLife
		case gone && e.Stream == o.stream && offset(o.pos) > offset(e.Pos):
			return true
		}
	}
	return false
}

// owes tells whether the reader of a place must have been shown what an operation wrote. Who was reset and fetched a list is not shown what another
// device archived before: the list is of what is active.
func (v *view) owes(p *place, o *op) bool {
	if !o.acked || o.invoked <= p.since || v.excused(o) {
		return false
	}
	for _, m := range v.marks[key(o.stream, o.id)] {
		if m.kind == "archive" && slices.ContainsFunc(p.frames, func(f *Event) bool { return f.What == listed && f.At > m.invoked }) {
			return false
		}
	}
	return true
}

// stands tells whether an operation's message is where it belongs.
func (v *view) stands(o *op) bool {
	truth := v.truth[o.stream]
	return truth != nil && slices.ContainsFunc(truth.Items, func(it Item) bool { return it.ID == o.id })
}

func key(a, b string) string { return a + " " + b }

// epoch is the other half of a position.
func epoch(pos string) string {
	e, _, _ := strings.Cut(pos, ".")
	return e
}

// offset is the number of a position, -1 where it has none.
func offset(pos string) int {
	_, n, _ := strings.Cut(pos, ".")
	v, err := strconv.Atoi(n)
	if err != nil {
		return -1
	}
	return v
}
