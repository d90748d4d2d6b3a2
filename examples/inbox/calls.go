package inbox

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	allimv1 "allim/proto/allim/v1"
)

// CallsTopic is the event topic on which the pages hear of questions and of the phones that ring for them.
const CallsTopic = "orders/calls"

const (
	defaultAfter = 10 * time.Second       // how long somebody has for a look at the bell
	lookEvery    = 500 * time.Millisecond // at the inboxes of those who are asked
	ringFor      = 2 * time.Minute        // then nobody answers any more
	mostNews     = 64                     // states of questions that wait to be published
	question     = "question"             // category
)

// A call goes through these states; which is the last one is what became of it.
const (
	callAsking   = "asking" // the publisher has not said yet that it has it; nobody is told of this one
	callWaiting  = "waiting"
	callLooked   = "looked"   // in time: nobody calls
	callRings    = "rings"    // the webhook came
	callAnswered = "answered" // a look after that
	callMissed   = "missed"
)

// A call is one question to a colleague, as a message on CallsTopic carries it: each state is told whole.
type call struct {
	ID      string    `json:"id"`
	State   string    `json:"state"`
	From    colleague `json:"from"`
	To      colleague `json:"to"`
	At      time.Time `json:"at"`
	AfterMS int64     `json:"after_ms"`          // from At: then the phone rings
	TookMS  int64     `json:"took_ms,omitempty"` // from At to this state
}

// calls are questions whose phones ring unless somebody looks. Who decides that is Allim: it holds the deadline, cancels it when any device shows
// the notification, and else calls the webhook, though this backend were gone by then. What is here is for show.
type calls struct {
	tell   teller
	inbox  allimv1.InboxClient
	after  time.Duration // 0: there is no phone
	secret []byte        // of the webhook
	log    *slog.Logger

	mu   sync.Mutex       // guards open; nothing is called while it is held
	open map[string]*call // by the user who is asked: one question at a time
	news chan call        // what became of them, in order; run publishes it
}

func newCalls(opts Options, tell teller, log *slog.Logger) (*calls, error) {
	c := &calls{tell: tell, inbox: opts.Inbox, log: log, open: map[string]*call{}, news: make(chan call, mostNews)}
	if opts.HookSecret == "" {
		return c, nil
	}
	if opts.Inbox == nil {
		return nil, fmt.Errorf("inbox options: HookSecret needs Inbox")
	}
	if c.after = opts.CallAfter; c.after == 0 {
		c.after = defaultAfter
	}
	if c.after < time.Second {
		return nil, fmt.Errorf("inbox options: CallAfter: want at least a second")
	}
	var err error
	c.secret, err = readSecret(opts.HookSecret)
	return c, err
}

// run tells the pages what becomes of questions, until ctx ends.
func (c *calls) run(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case news := <-c.news:
			if err := c.publish(ctx, news); err != nil && ctx.Err() == nil {
				c.log.Error("tell of a call", "id", news.ID, "state", news.State, "error", err)
			}
		case <-tick.C:
			for _, one := range c.snapshot() {
				c.look(ctx, one)
			}
		}
	}
}

func (c *calls) publish(ctx context.Context, news call) error {
	ctx, cancel := context.WithTimeout(ctx, tellWithin)
	defer cancel()
	return c.tell.publish(ctx, news.ID+"-"+news.State, CallsTopic, "call", news)
}

// snapshot are the questions that somebody may have looked at by now.
func (c *calls) snapshot() (all []call) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, one := range c.open {
		if one.State != callAsking {
			all = append(all, *one)
		}
	}
	return all
}

// look asks whether a question is still unseen. A real backend has no need to: it learns by the webhook what it has to do.
func (c *calls) look(ctx context.Context, one call) {
	if time.Since(one.At) > c.after+ringFor {
		c.become(one.ID, callMissed)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, tryWithin)
	defer cancel()
	page, err := c.inbox.List(ctx, &allimv1.ListRequest{User: one.To.ID, Status: allimv1.ListRequest_UNSEEN, Category: question, Limit: 100})
	if err != nil { // it is asked again
		return
	}
	if slices.ContainsFunc(page.GetItems(), func(i *allimv1.Item) bool { return i.GetId() == one.ID }) {
		return
	}
	if one.State == callRings {
		c.become(one.ID, callAnswered)
	} else {
		c.become(one.ID, callLooked)
	}
}

// become notes a question's new state, where that follows from the one it is in, and has it told.
func (c *calls) become(id, state string) {
	one, ok := c.step(id, state)
	if !ok {
		return
	}
	select {
	case c.news <- one:
	default:
		c.log.Error("tell of a call", "id", id, "state", state, "error", "too many wait to be told")
	}
}

// follows are the states that may come after a state. What comes twice, or late, is none of them.
var follows = map[string][]string{
	callAsking:  {callWaiting, callRings}, // the webhook may be faster than the answer
	callWaiting: {callLooked, callRings, callMissed},
	callRings:   {callAnswered, callMissed},
}

func (c *calls) step(id, state string) (now call, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for to, one := range c.open {
		if one.ID != id || !slices.Contains(follows[one.State], state) {
			continue
		}
		one.State, one.TookMS = state, time.Since(one.At).Milliseconds()
		if follows[state] == nil {
			delete(c.open, to)
		}
		return *one, true
	}
	return call{}, false
}

// begin notes a question to somebody who is not asked already.
func (c *calls) begin(id string, from, to colleague) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open[to.ID] != nil {
		return false
	}
	c.open[to.ID] = &call{ID: id, State: callAsking, From: from, To: to, At: time.Now().UTC(), AfterMS: c.after.Milliseconds()}
	return true
}

// drop forgets a question that was never put.
func (c *calls) drop(to string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.open, to)
}

// ask takes {by, to}: a notification, and a phone that rings unless it is seen. It is mandatory: who mutes questions is asked all the same.
func (h *handler) ask(w http.ResponseWriter, r *http.Request) {
	var req struct{ By, To string }
	me, ok := h.read(w, r, &req, &req.By)
	if !ok {
		return
	}
	to, known := h.user(req.To)
	if !known || to.ID == me.ID {
		refuse(w, http.StatusBadRequest, "bad_to", "Choose a colleague.")
		return
	}
	id := fmt.Sprintf("question-%d", h.shop.stamp())
	if !h.calls.begin(id, colleague{me.ID, me.Name}, colleague{to.ID, to.Name}) {
		refuse(w, http.StatusConflict, "asked", to.Name+" is being asked already.")
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), tellWithin)
	defer cancel()
	_, err := h.calls.tell.notify(ctx, &allimv1.NotifyRequest{
		Id: id, To: &allimv1.Audience{Users: []string{to.ID}}, Category: question, Mandatory: true,
		Escalate: &allimv1.NotifyRequest_Escalate{
			Unless: allimv1.NotifyRequest_Escalate_SEEN, AfterMs: int32(h.calls.after.Milliseconds()), Via: allimv1.NotifyRequest_Escalate_WEBHOOK,
		},
	}, notice{Title: me.Name + " asks: can you come to the counter?", Body: fmt.Sprintf("Your phone rings if you have not looked in %.0f s.", h.calls.after.Seconds()), From: me.ID})
	if err != nil {
		h.calls.drop(to.ID)
		h.log.Error("ask a colleague", "to", to.ID, "error", err)
		refuse(w, http.StatusBadGateway, "not_told", "Allim's publisher did not take it. Please try again.")
		return
	}
	h.calls.become(id, callWaiting)
	answer(w, http.StatusOK, map[string]any{"to": colleague{to.ID, to.Name}})
}
