package pods

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"allim/internal/testkit"
)

// A Visit is who a Page is and what it asks for.
type Visit struct {
	Token  string
	Own    string // its own stream: user:<sub>
	Topics []string
	// ByPositions: it comes back with one subscribe frame that names its positions, as the browser client does; else with the cursor.
	ByPositions bool
	// Elsewhere is the gateway to go to when its own asks it to move: it opens that connection first and then lets go of the old one. Nil: it
	// stays until it is closed, as a page must that comes back with the cursor. It is called from any goroutine.
	Elsewhere func() *Pod
}

// A Page keeps the contract's rules of positions: it handles each message of a topic once and in order, across connections, keeps an inbox by what frames
// say alone, sends a mark again that was not answered, and takes down every frame that breaks a promise.
type Page struct {
	tb      testing.TB
	visit   Visit
	opening sync.Mutex     // held while a connection is opened
	moves   sync.WaitGroup // under way
	ending  chan struct{}  // closed when the test ends

	mu       sync.Mutex // guards the fields below
	client   *Client
	live     int  // number of the connection whose frames count; 0: none yet
	next     int  // of the one that was opened last
	left     bool // by Drop: that the connection ends is no loss
	ways     Ways
	at       map[string]string
	log      map[string][]Entry
	known    map[string]bool // topic and id
	begins   map[string]bool // topics that a reset must follow for
	again    map[string]bool // topics that were reset: what is known may come again
	items    []Item          // newest first, the archived too
	listed   string          // up to where the list is complete already
	badge    Badge
	cursor   string
	welcomes int            // how many came
	syncing  bool           // a subscribe with positions is under way: what comes before its answer comes again
	marks    map[int]any    // without an answer, by ref
	changed  map[int]string // the last event of each mark that was answered
	ref      int
	tail     []string // the newest frames, for who looks for a fault
	faults   []string
}

const tailFrames = 40

// An Entry is what a page handled: a message, a notification, a mark, or a reset.
type Entry struct{ Pos, What string }

// Open connects a page and returns when it was welcomed.
func Open(t testing.TB, pod *Pod, v Visit) *Page {
	t.Helper()
	p := &Page{tb: t, visit: v, at: map[string]string{}, log: map[string][]Entry{}, known: map[string]bool{}, begins: map[string]bool{},
		again: map[string]bool{}, marks: map[int]any{}, changed: map[int]string{}, ending: make(chan struct{})}
	t.Cleanup(func() {
		close(p.ending)
		p.moves.Wait()
	})
	p.Resume(pod)
	return p
}

// Mark sends a mark by "ids", "upto" or "all".
func (p *Page) Mark(mark, by string, what any) {
	p.mu.Lock()
	p.ref++
	m := map[string]any{"type": mark, "ref": p.ref, by: what}
	p.marks[p.ref] = m
	client := p.client
	p.mu.Unlock()
	client.Send(m)
}

// UntilAt waits until the page is at a position of a topic.
func (p *Page) UntilAt(topic, pos string) {
	p.tb.Helper()
	p.until("position "+pos+" of "+topic, func() bool { return p.at[topic] == pos })
}

// Answered waits until every mark was answered.
func (p *Page) Answered() {
	p.tb.Helper()
	p.until("the answers to all marks", func() bool { return len(p.marks) == 0 })
}

// until waits until cond, which is asked with the page's lock held.
func (p *Page) until(what string, cond func() bool) {
	p.tb.Helper()
	testkit.EventuallyNil(p.tb, 2*Within, func() error {
		p.mu.Lock()
		defer p.mu.Unlock()
		if cond() {
			return nil
		}
		return fmt.Errorf("the page is at %v, open: %v, marks without an answer: %d, faults: %v", p.at, p.client.Open(), len(p.marks), p.faults)
	}, what)
}

// Position is the place of the page in a topic.
func (p *Page) Position(topic string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.at[topic]
}

// Log is what the page handled of a topic, in order.
func (p *Page) Log(topic string) []Entry {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.log[topic])
}

// Items is a copy of the page's inbox, newest first, the archived too.
func (p *Page) Items() []Item {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.items)
}

// Badge is the newest counts.
func (p *Page) Badge() Badge {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.badge
}

// MarkPositions are the positions of the last events of the marks that changed something.
func (p *Page) MarkPositions() (all []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, pos := range p.changed {
		if pos != "" {
			all = append(all, pos)
		}
	}
	return all
}

// Tail is the newest frames, a line each.
func (p *Page) Tail() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.tail, "\n")
}

// Faults are the promises that were broken.
func (p *Page) Faults() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	faults := slices.Clone(p.faults)
	for topic := range p.begins {
		faults = append(faults, topic+" was neither recovered nor reset")
	}
	return faults
}

func (p *Page) faultLocked(f Frame, why string, args ...any) {
	if len(p.faults) < 20 {
		p.faults = append(p.faults, fmt.Sprintf(why, args...)+fmt.Sprintf(": %.300s", f.Raw))
	}
}

// handle takes one frame of the n-th connection; it runs in its reader.
func (p *Page) handle(n int, f Frame) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n != p.live && !p.adoptLocked(n, f) {
		return
	}
	if len(p.tail) == tailFrames {
		p.tail = p.tail[1:]
	}
	p.tail = append(p.tail, fmt.Sprintf("%.500s", f.Raw))
	switch f.Type {
	case "welcome":
		p.welcomes++
		p.badge = *f.Badge
		if p.syncing = p.visit.ByPositions && p.welcomes > 1; !p.syncing {
			p.beginLocked(f)
		}
	case "subscribed":
		p.syncing = false
		p.beginLocked(f)
	case "message", "notification", "badge":
		if f.Badge != nil { // always: on one connection they come in order, also on a frame that comes again
			p.badge = *f.Badge
		}
		if f.Pos != "" && !p.syncing {
			p.takeLocked(f)
		}
	case "reset":
		p.at[f.Topic] = f.Pos
		p.log[f.Topic] = append(p.log[f.Topic], Entry{f.Pos, "reset"})
		p.again[f.Topic] = true
		delete(p.begins, f.Topic)
	case "inbox":
		p.items, p.listed, p.badge = f.Items, f.At[p.visit.Own], *f.Badge
	case "ok":
		ref, err := strconv.Atoi(string(f.Ref))
		if p.marks[ref] == nil || err != nil {
			p.faultLocked(f, "an answer to nothing")
		}
		p.changed[ref] = f.Pos
		delete(p.marks, ref)
	case "move":
		p.askedLocked(f)
	case "degraded", "restored":
		if p.ways.Degraded == (f.Type == "degraded") {
			p.faultLocked(f, "said twice")
		}
		if p.ways.Degraded = f.Type == "degraded"; p.ways.Degraded {
			p.ways.Degradations++
		}
	default:
		p.faultLocked(f, "not expected")
	}
	if f.Cursor != "" {
		p.cursor = f.Cursor
	}
}

// beginLocked takes up the topics of a welcome or subscribed where they begin: a place that the page has is continued, or a reset must follow.
func (p *Page) beginLocked(f Frame) {
	for topic, pos := range f.Topics {
		was, had := p.at[topic]
		switch recovered := slices.Contains(f.Recovered, topic); {
		case had && recovered && offset(pos) != offset(was):
			p.faultLocked(f, "%s was at %s and goes on at %s", topic, was, pos)
		case had && !recovered:
			p.begins[topic] = true
		}
		p.at[topic] = pos
	}
	for topic := range p.at {
		if _, heard := f.Topics[topic]; !heard {
			p.faultLocked(f, "%s is no longer heard", topic)
		}
	}
}

// takeLocked takes a frame that moves a position.
func (p *Page) takeLocked(f Frame) {
	was, known := p.at[f.Topic]
	if !known || !follows(was, f.Pos) {
		p.faultLocked(f, "does not follow %q", was)
	}
	p.at[f.Topic] = f.Pos
	e := Entry{f.Pos, f.Type + " " + f.ID}
	if f.ID != "" {
		key := f.Topic + " " + f.ID
		if p.known[key] && !p.again[f.Topic] {
			p.faultLocked(f, "a repeat")
		}
		if p.known[key] {
			return
		}
		p.known[key] = true
	}
	switch f.Type {
	case "notification":
		if p.listed != "" && offset(f.Pos) <= offset(p.listed) {
			break // the list had it
		}
		p.items = slices.Insert(p.items, 0, Item{ID: f.ID, Pos: f.Pos, Category: f.Category, Data: f.Data})
	case "badge":
		for mark, ids := range f.Change {
			e.What = mark + " " + strings.Join(ids, " ")
			p.markLocked(mark, ids)
		}
	}
	p.log[f.Topic] = append(p.log[f.Topic], e)
}

// markLocked does to the list what a mark says.
func (p *Page) markLocked(mark string, ids []string) {
	p.items = slices.DeleteFunc(p.items, func(i Item) bool { return mark == "delete" && slices.Contains(ids, i.ID) })
	for n := range p.items {
		i := &p.items[n]
		if !slices.Contains(ids, i.ID) {
			continue
		}
		switch mark {
		case "seen":
			i.Seen = true
		case "read":
			i.Read, i.Seen = true, true
		case "unread":
			i.Read = false
		case "archive":
			i.Archived, i.Seen = true, true // who puts it away has seen it
		case "unarchive":
			i.Archived = false
		}
	}
}

// follows tells whether pos is the next place after was: the next offset, or the first one of a topic that was empty.
func follows(was, pos string) bool {
	if strings.HasPrefix(was, "-") {
		return offset(pos) == 1
	}
	e1, _, _ := strings.Cut(was, ".")
	e2, _, _ := strings.Cut(pos, ".")
	return e1 == e2 && offset(pos) == offset(was)+1
}

// offset is the number of a position.
func offset(pos string) int {
	_, n, _ := strings.Cut(pos, ".")
	v, _ := strconv.Atoi(n)
	return v
}
