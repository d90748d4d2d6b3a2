//go:build fault

package fault

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
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

	mu      sync.Mutex // guards the fields below
	live    *line      // its frames count
	at      map[string]string
	recent  map[string]*ids            // what it would know
	shown   map[string]map[string]bool // all of it, to know when it has everything
	cursor  string
	badge   pods.Badge
	pauseTo time.Time
	answers map[int]chan pods.Frame
	refs    int           // made for them
	only    *node         // the gateway to come to; nil: any that a balancer would choose
	absent  chan struct{} // nil: it comes back at once; else when this is closed
	socket  *net.TCPConn  // of the newest connection, where the client is its own
	stalled chan struct{} // nil: it reads; else it stops at the next frame until this is closed
	dials   int
}

// A line is one connection of a reader.
type line struct {
	n        int
	to       *node
	welcomed chan struct{} // closed with the first welcome
	synced   chan struct{} // closed when what it shows counts
	move     chan time.Duration

	// Guarded by the reader's lock:
	client        *pods.Client // nil until the upgrade was answered
	syncing, open bool         // open: it was welcomed
	moving        bool         // it was told to
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

// run reads until ctx ends.
func (r *reader) run(ctx context.Context) {
	live := r.comeBack(ctx)
	for live != nil {
		select {
		case <-ctx.Done():
			live.client.Drop()
			return
		case <-live.client.Done():
			live = r.comeBack(ctx)
		case after := <-live.move:
			select {
			case <-ctx.Done():
			case <-live.client.Done():
			case <-time.After(after):
				if next := r.dial(ctx); next != nil { // that has let go of the old one
					live = next
				} else {
					live.move <- rand.N(firstWait) // buffered, and nobody else puts more in
				}
			}
		}
	}
}

// comeBack dials until it is in; nil where ctx ended.
func (r *reader) comeBack(ctx context.Context) *line {
	for most := firstWait; ctx.Err() == nil; most = min(2*most, longestWait) {
		r.mu.Lock()
		absent := r.absent
		r.mu.Unlock()
		if absent != nil {
			select {
			case <-absent:
			case <-ctx.Done():
				return nil
			}
		}
		r.mu.Lock()
		first, paused := r.dials == 0, time.Until(r.pauseTo)
		r.mu.Unlock()
		if !first {
			wait := rand.N(most)
			if paused > 0 {
				wait += paused
			}
			if !pause(ctx, wait) {
				return nil
			}
		}
		if l := r.dial(ctx); l != nil {
			return l
		}
	}
	return nil
}

// dial opens a connection and makes it the live one, which lets go of the one before; nil where it did not come so far.
func (r *reader) dial(ctx context.Context) *line {
	r.mu.Lock()
	r.dials++
	l := &line{n: r.w.connections(), welcomed: make(chan struct{}), synced: make(chan struct{}), move: make(chan time.Duration, 1)}
	h := pods.Hello{Token: r.token, Topics: r.topics, Client: r.client, OnFrame: func(f pods.Frame) { r.handle(l, f) }}
	if !r.byPositions {
		cursor := r.cursor
		h.Cursor = &cursor
	}
	if l.to = r.only; l.to == nil {
		l.to = r.w.balanced()
	}
	r.mu.Unlock()
	client, err := pods.Dial(r.w.tb, l.to.public(), h)
	if err != nil {
		r.turnedAway(l, err)
		return nil
	}
	r.mu.Lock()
	l.client = client
	r.mu.Unlock()
	r.w.hearing.Go(func() { // ends with the connection
		<-client.Done()
		code, _ := client.Closed(time.Second)
		r.w.log.add(Event{What: closed, Reader: r.name, Conn: l.n, Pod: l.to.name, Code: code})
	})
	if !r.reach(ctx, l, l.welcomed) {
		return nil
	}
	if r.mustSync(l) {
		r.mu.Lock()
		places := map[string]string{}
		for topic, pos := range r.at {
			places[topic] = pos
		}
		r.mu.Unlock()
		l.client.Send(map[string]any{"type": "subscribe", "topics": places})
		if !r.reach(ctx, l, l.synced) {
			return nil
		}
	}
	return l
}

func (r *reader) mustSync(l *line) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return l.syncing
}

// reach waits for a step of a connection's beginning, and drops one that does not take it.
func (r *reader) reach(ctx context.Context, l *line, step chan struct{}) bool {
	select {
	case <-step:
		return true
	case <-l.client.Done():
	case <-time.After(welcomeWithin):
	case <-ctx.Done():
	}
	l.client.Drop()
	return false
}

func (r *reader) turnedAway(l *line, err error) {
	e := Event{What: turned, Reader: r.name, Conn: l.n, Pod: l.to.name, Text: err.Error()}
	var refusal *pods.Refusal
	if errors.As(err, &refusal) {
		e.Code = refusal.Status
		if s, err := strconv.Atoi(refusal.Header.Get("Retry-After")); err == nil {
			e.Kind = "retry-after"
			r.mu.Lock()
			r.pauseTo = time.Now().Add(time.Duration(s) * time.Second)
			r.mu.Unlock()
		}
	}
	r.w.log.add(e)
}

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
		if r.socket != nil {
			_ = r.socket.SetReadBuffer(1 << 20) // less than a packet of loopback would make it slow for good
		}
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
		r.listLocked(l, f, live && !l.syncing)
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

// let goes of a connection that another has taken over from; whether it was still there says whether the two overlapped.
func (l *line) let(r *reader) {
	if l.client != nil && l.client.Open() {
		r.w.log.add(Event{What: told, Kind: "overlap", Reader: r.name, Conn: l.n})
		r.w.hearing.Go(l.client.Drop) // it waits for the handler, which may wait for the reader's lock
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
	if f.Pos == "" {
		return
	}
	e := Event{What: got, Reader: r.name, Conn: l.n, Stream: r.stream(f.Topic), ID: f.ID, Pos: f.Pos, Replayed: f.Replayed}
	if f.ID != "" {
		var payload struct{ Owner string }
		_ = json.Unmarshal(f.Data, &payload) // what is none has no owner, which a rule tells
		e.Owner = payload.Owner
	}
	if counts {
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

// listLocked takes an inbox frame: without ref it replaces the list.
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
	ref, err := strconv.Atoi(string(f.Ref))
	if wait := r.answers[ref]; err == nil && wait != nil {
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
