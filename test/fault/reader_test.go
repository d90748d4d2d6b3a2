//go:build fault

package fault

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"allim/test/pods"
)

const (
	known         = 512 // ids that a client remembers of a stream
	firstWait     = 500 * time.Millisecond
	longestWait   = 5 * time.Second  // of a reader's backoff; browsers go to 30 s, which the bounds of the rules have no room for
	welcomeWithin = 10 * time.Second // of a connection that was let in
	pauseAfter    = 2 * time.Second  // 4429 and 1013 without retry_after
)

// A reader is a client that keeps the rules of the contract and of our own: it drops ids that it knows on every frame, keeps a place once it has handled a
// frame, comes back with it, by cursor or by positions, waits with full jitter, and opens the next connection before it lets go of the old one when it is told to move.
type reader struct {
	w           *world
	name        string
	tenant      string
	user        string
	token       string
	topics      []string
	byPositions bool
	marks       bool         // items of its inbox
	client      *http.Client // of its own; nil: the usual one
	stays       bool         // it knows no move, and is closed in the end
	lists       bool         // it holds all of its inbox

	mu      sync.Mutex // guards the fields below
	live    *line      // its frames count
	at      map[string]string
	recent  map[string]*ids            // what it would know
	shown   map[string]map[string]bool // all of it, to know when it has everything
	cursor  string
	badge   pods.Badge
	list    list
	pauseTo time.Time
	answers map[int]chan pods.Frame
	refs    int           // made for them
	only    *node         // the gateway to come to; nil: any that a balancer would choose
	absent  chan struct{} // nil: it comes back at once; else when this is closed
	stalled chan struct{} // nil: it reads; else it stops at the next frame until this is closed
	dials   int
}

// ids are the newest of a stream.
type ids struct {
	order []string
	set   map[string]bool
}

// add tells whether the id is new.
func (x *ids) add(id string) bool {
	if x.set[id] {
		return false
	}
	x.set[id] = true
	if x.order = append(x.order, id); len(x.order) > known {
		delete(x.set, x.order[0])
		x.order = x.order[1:]
	}
	return true
}

func (r *reader) stream(topic string) string { return key(r.tenant, topic) }

// comeTo has the reader come to one gateway from now on.
func (r *reader) comeTo(n *node) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.only = n
}

// goAway drops the reader's connection; it comes back when the channel is closed.
func (r *reader) goAway(until chan struct{}) {
	r.mu.Lock()
	r.absent = until
	client := r.live.client
	r.mu.Unlock()
	client.Drop()
}

// stop has the reader read nothing from the next frame on, until resume.
func (r *reader) stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stalled = make(chan struct{})
}

func (r *reader) resume() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stalled != nil {
		close(r.stalled)
		r.stalled = nil
	}
}

// handle takes one frame. It runs in the reader of the connection.
func (r *reader) handle(l *line, f pods.Frame) {
	r.mu.Lock()
	stalled := r.stalled
	r.mu.Unlock()
	if stalled != nil {
		<-stalled
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if f.Type == "welcome" && !l.open {
		l.open = true
		r.w.log.add(Event{What: connected, Reader: r.name, Conn: l.n, Pod: l.to.name})
		before := r.live
		if r.live = l; before != nil {
			before.let(r)
		}
		l.syncing = r.byPositions && len(r.at) > 0
		defer close(l.welcomed)
	}
	live := r.live == l
	switch f.Type {
	case "welcome", "subscribed":
		r.beginLocked(l, f)
		if f.Badge != nil && live {
			r.badge = *f.Badge
		}
	case "message", "notification", "badge":
		r.takeLocked(l, f, live && !l.syncing)
	case "reset":
		r.w.log.add(Event{What: reset, Reader: r.name, Conn: l.n, Stream: r.stream(f.Topic), Pos: f.Pos, Text: f.Reason})
		if live && !l.syncing {
			r.at[f.Topic] = f.Pos
		}
	case "inbox":
		r.inboxLocked(l, f, live && !l.syncing)
		r.answerLocked(l, f)
	case "ok", "error":
		r.answerLocked(l, f)
	case "move":
		r.w.log.add(Event{What: told, Kind: f.Type, Reader: r.name, Conn: l.n, Pod: l.to.name})
		if !l.moving && !r.stays {
			l.moving = true
			l.move <- time.Duration(f.AfterMS) * time.Millisecond // buffered
		}
	default:
		r.w.log.add(Event{What: told, Kind: f.Type, Reader: r.name, Conn: l.n, Pod: l.to.name})
	}
	if f.Cursor != "" && r.live == l {
		r.cursor = f.Cursor
	}
}

// beginLocked takes up the streams of a welcome or subscribed.
func (r *reader) beginLocked(l *line, f pods.Frame) {
	recovered := map[string]bool{}
	for _, topic := range f.Recovered {
		recovered[topic] = true
	}
	done := f.Type == "subscribed" || !l.syncing
	for topic, pos := range f.Topics {
		r.w.log.add(Event{What: begins, Reader: r.name, Conn: l.n, Stream: r.stream(topic), Pos: pos, Recovered: recovered[topic]})
		if done && r.live == l {
			r.at[topic] = pos
		}
	}
	if f.Type == "subscribed" && l.syncing {
		l.syncing = false
		close(l.synced)
	}
}

// takeLocked takes a frame that may move a position. counts: it is of the connection that the reader goes by.
func (r *reader) takeLocked(l *line, f pods.Frame, counts bool) {
	if f.Badge != nil && r.live == l {
		r.badge = *f.Badge
	}
	if r.lists && r.live == l {
		r.list.take(f)
	}
	e := Event{What: got, Reader: r.name, Conn: l.n, Stream: r.stream(f.Topic), ID: f.ID, Pos: f.Pos, Replayed: f.Replayed}
	if f.ID != "" {
		var payload struct{ Owner string }
		_ = json.Unmarshal(f.Data, &payload) // what is none has no owner, which a rule tells
		e.Owner = payload.Owner
	}
	switch {
	case f.Pos == "" && f.Type == "badge": // counts alone
		return
	case f.Pos == "":
		e.What = passed
		if r.live != l {
			return // of a connection that another has taken over from
		}
	case counts:
		r.at[f.Topic] = f.Pos
		if f.ID != "" {
			e.Shown = r.showLocked(f.Topic, f.ID)
		}
	}
	r.w.log.add(e)
}

// showLocked tells whether the reader would show an id of a topic, and does.
func (r *reader) showLocked(topic, id string) bool {
	stream := r.stream(topic)
	if r.recent[stream] == nil {
		r.recent[stream], r.shown[stream] = &ids{set: map[string]bool{}}, map[string]bool{}
	}
	r.shown[stream][id] = true
	return r.recent[stream].add(id) || r.w.forgets
}

// listLocked writes down what an inbox frame lists.
func (r *reader) listLocked(l *line, f pods.Frame, counts bool) {
	for topic, pos := range f.At {
		e := Event{What: listed, Reader: r.name, Conn: l.n, Stream: r.stream(topic), Pos: pos}
		for _, it := range f.Items {
			e.Items = append(e.Items, Item{ID: it.ID, Seen: it.Seen, Read: it.Read, Archived: it.Archived})
			if counts {
				r.showLocked(topic, it.ID)
			}
		}
		r.w.log.add(e)
	}
	if f.Badge != nil && r.live == l {
		r.badge = *f.Badge
	}
}

// answerLocked hands the answer of a mark to who waits for it; an error about nothing may ask for a pause.
func (r *reader) answerLocked(l *line, f pods.Frame) {
	ref, asked := refOf(f)
	if wait := r.answers[ref]; asked && wait != nil {
		delete(r.answers, ref)
		wait <- f // buffered
		return
	}
	if f.RetryAfter > 0 {
		r.pauseTo = time.Now().Add(time.Duration(f.RetryAfter * float64(time.Second)))
	}
	if f.Type == "error" {
		r.w.log.add(Event{What: told, Kind: "error " + f.Code, Reader: r.name, Conn: l.n, Text: fmt.Sprintf("%.200s", f.Raw)})
	}
}

// refOf is what a frame answers.
func refOf(f pods.Frame) (ref int, asked bool) {
	ref, err := strconv.Atoi(string(f.Ref))
	return ref, err == nil
}

// hasAll tells whether the reader was shown all of these, or had them in a list.
func (r *reader) hasAll(owed []*op) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, o := range slices.Backward(owed) { // the newest come last
		if !r.shown[o.stream][o.id] {
			return false
		}
	}
	return true
}
