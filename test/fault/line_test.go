//go:build fault

package fault

import (
	"context"
	"errors"
	"math/rand/v2"
	"strconv"
	"time"

	"allim/test/pods"
)

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
	if r.lists && !r.list.whole {
		h.Inbox = 20
	}
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
		if r.mu.Lock(); (code == 4429 || code == 1013) && time.Until(r.pauseTo) <= 0 {
			r.pauseTo = time.Now().Add(pauseAfter)
		}
		r.mu.Unlock()
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

// let goes of a connection that another has taken over from; whether it was still there says whether the two overlapped.
func (l *line) let(r *reader) {
	if l.client != nil && l.client.Open() {
		r.w.log.add(Event{What: told, Kind: "overlap", Reader: r.name, Conn: l.n})
		r.w.hearing.Go(l.client.Drop) // it waits for the handler, which may wait for the reader's lock
	}
}
