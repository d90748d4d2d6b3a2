//go:build fault

package fault

import (
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"allim/test/pods"
)

const answerWithin = 10 * time.Second // then a client sends a mark again

// mark has the reader mark items of its inbox that it was shown, the odd ones, one after the other, each until it is answered; every is the mean pause.
func (r *reader) mark(every time.Duration) {
	own := r.stream("user:" + r.user)
	for {
		select {
		case <-r.w.stop:
			return
		case <-r.w.ctx.Done():
			return
		case <-time.After(every/2 + rand.N(every)):
		}
		if id := r.someItem(own); id != "" && !r.markItem(own, id) {
			return
		}
	}
}

// someItem is an item that is the reader's to mark; "" where it has none yet.
func (r *reader) someItem(own string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id := range r.shown[own] { // in any order
		if n, err := strconv.Atoi(id[strings.LastIndex(id, "-")+1:]); err == nil && n%2 == 1 {
			return id
		}
	}
	return ""
}

// markItem sends one mark until it is answered; false where that took too long after the end of the load, or the test ended.
func (r *reader) markItem(own, id string) bool {
	kind := drawMark()
	r.w.writing.RLock()
	defer r.w.writing.RUnlock()
	n := r.w.log.begin(kind, own, id)
	var late <-chan time.Time
	stop := r.w.stop
	for {
		f, to := r.ask(map[string]any{"type": kind, "ids": []string{id}}, nil)
		switch {
		case f.Type == "ok" && len(f.Unknown) == 0:
			r.w.log.add(Event{What: acked, Op: n, Pos: f.Pos, Pod: to})
			return true
		case f.Type == "ok" && r.w.unknown(own, id):
			r.w.log.add(Event{What: missing, Op: n, Pod: to, Text: f.Raw})
			return true
		case f.Type == "error" && f.Code != "unavailable" && f.Code != "busy" && f.Code != "limit":
			r.w.log.add(Event{What: refused, Op: n, Kind: kind, Stream: own, ID: id, Pod: to, Text: f.Raw})
			return false
		case f.Type != "": // or there is no connection
			r.w.log.add(Event{What: tried, Op: n, Pod: to, Text: f.Raw})
		}
		select {
		case <-stop:
			stop, late = nil, time.After(r.w.patience.answers)
		default:
		}
		select {
		case <-r.w.ctx.Done():
			return false
		case <-late:
			return false
		case <-time.After(100*time.Millisecond + rand.N(400*time.Millisecond)):
		}
	}
}

// ask sends a frame on the live connection and waits for its answer, or for the end of the connection or of patience: then the answer is empty. note,
// which may be nil, is told its ref, with the reader's lock held.
func (r *reader) ask(frame map[string]any, note func(ref int)) (pods.Frame, string) {
	r.mu.Lock()
	l := r.live
	if l == nil || l.client == nil || !l.client.Open() {
		r.mu.Unlock()
		return pods.Frame{}, ""
	}
	client := l.client
	r.refs++
	ref, answer := r.refs, make(chan pods.Frame, 1)
	r.answers[ref] = answer
	if note != nil {
		note(ref)
	}
	r.mu.Unlock()
	frame["ref"] = ref
	client.Send(frame)
	select {
	case f := <-answer:
		return f, l.to.name
	case <-client.Done():
	case <-time.After(answerWithin):
	case <-r.w.ctx.Done():
	}
	r.mu.Lock()
	delete(r.answers, ref)
	r.mu.Unlock()
	select {
	case f := <-answer: // it came at the last moment
		return f, l.to.name
	default:
	}
	return pods.Frame{Type: "none", Raw: "no answer"}, l.to.name
}
