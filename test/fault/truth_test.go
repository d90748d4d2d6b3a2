//go:build fault

package fault

import (
	"fmt"
	"runtime/debug"
	"slices"
	"time"

	"allim/test/pods"
)

// read fills in the whole history of a topic, as somebody new is given it.
func (w *world) read(c *caller, e *Event) error {
	e.Items = nil
	token := pods.Token(w.tb, "auditor", pods.Grant{Subscribe: []string{"*"}, Tenant: c.tenant})
	frames, err := make(chan pods.Frame, 4096), error(nil)
	client, err := pods.Dial(w.tb, w.gateways[0].public(), pods.Hello{Token: token, Topics: []string{c.topic}, OnFrame: func(f pods.Frame) {
		select {
		case frames <- f:
		default: // more than a history holds; the end will be missing
		}
	}})
	if err != nil {
		return err
	}
	defer client.Drop()
	late, top, begun := time.After(healedAfter/2), "", false
	for {
		select {
		case <-late:
			return fmt.Errorf("got %d entries, not yet the one at %s", len(e.Items), top)
		case <-client.Done():
			return fmt.Errorf("the connection ended after %d entries", len(e.Items))
		case f := <-frames:
			switch {
			case f.Type == "welcome":
				top = f.Topics[c.topic]
				client.Send(map[string]any{"type": "subscribe", "topics": map[string]any{c.topic: "0"}, "ref": 1})
			case f.Type == "subscribed":
				begun = true
				if offset(f.Topics[c.topic]) == offset(top) {
					return nil
				}
			case begun && f.Type == "message" && f.Topic == c.topic:
				e.Items = append(e.Items, Item{ID: f.ID, Replayed: f.Replayed})
				if offset(f.Pos) == offset(top) {
					return nil
				}
			}
		}
	}
}

// warm lets every process do a little of everything, so that what it keeps from then on is there when it is measured.
func (w *world) warm() {
	w.tb.Helper()
	for _, p := range w.publishers {
		b := pods.NewBackend(w.tb, p.now(), "default")
		for i := range 20 {
			b.Publish("warm", fmt.Sprint(p.name, i), "1")
			b.Notify("warm", fmt.Sprint(p.name, i), "", "1")
		}
	}
	for _, g := range w.gateways {
		for range 4 {
			c, err := pods.Dial(w.tb, g.public(), pods.Hello{Token: pods.Token(w.tb, "warm", pods.Grant{Subscribe: []string{"*"}}), Topics: []string{"warm"}, Inbox: 20})
			if err != nil {
				w.tb.Fatal(err)
			}
			c.Next("inbox")
			c.Drop()
		}
	}
	w.eventually(time.Minute, "the warm readers are gone", func() bool { return w.metric(w.gateways, "allim_sessions") == 0 })
}

// measure writes down what each process takes. After the faults it waits until that is what it was.
func (w *world) measure(when string) {
	w.tb.Helper()
	if when == "before" {
		for _, n := range w.nodes() {
			w.log.add(w.sample(n, when))
		}
		return
	}
	var last []Event
	good := func() bool {
		last = nil
		for _, n := range w.nodes() {
			if n.starts == 1 { // another process says nothing
				last = append(last, w.sample(n, when))
			}
		}
		return len(backToBaseline(newView(append(w.log.all(), last...), allowed{}))) == 0
	}
	for deadline := time.Now().Add(w.patience.baseline); !good() && time.Now().Before(deadline); {
		w.pause(500 * time.Millisecond)
	}
	for _, e := range last {
		w.log.add(e)
	}
}

// sample is what a process takes now. Descriptors are without those of pools, which keep as many as they are set to.
func (w *world) sample(n *node, when string) Event {
	p := n.now()
	pooled := int(p.Metric("allim_redis_pool_connections"))
	e := Event{What: measured, Kind: when, Pod: n.name, Goroutines: int(p.Metric("go_goroutines")),
		Descriptors: int(p.Metric("process_open_fds")) - pooled, Bytes: int64(p.Metric("process_resident_memory_bytes"))}
	if raced {
		e.Bytes = 0 // most of it is what the detector remembers, and keeps
	}
	return e
}

// raced: the programs look for data races.
var raced = func() bool {
	info, ok := debug.ReadBuildInfo()
	return ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}()

// slack is what the machine was late by so far.
func (w *world) slack() time.Duration { return newView(w.log.all(), allowed{}).slack() }
