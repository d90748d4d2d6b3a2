package session_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"allim/internal/session"
	"allim/internal/store"
	"allim/pkg/notify"
)

// A device is one page of a user's. It keeps its view when its connection ends, as a page does, and may come back with it.
type device struct {
	name    string
	who     *person
	gateway *session.Sessions
	origin  string
	peer    *peer // nil: not connected
	view    *view // nil: it was never connected
	by      string
	asked   int
	spent   int             // of what a connection may ask for at once
	lists   int             // that its view had been replaced by
	lacks   map[string]bool // archived when it was: a list has active items alone
	frames  []string        // the last
}

// connected is a device that can ask for something; nil: there is none.
func (who *person) connected() *device {
	for _, d := range who.devices {
		if d.peer != nil && d.spent < 170 {
			return d
		}
	}
	return nil
}

func (d *device) close() {
	if d.peer == nil {
		return
	}
	d.peer.s.Gone()
	close(d.peer.stop)
	<-d.peer.done
	d.peer = nil
}

// open connects, and returns when the page is to be told everything behind its place. The ways: "fresh", a page without a past; "cursor"; "positions", by a
// subscribe behind the welcome; and both with places of no stream.
func (d *device) open(p *play, way string, list bool) {
	d.close()
	d.by, d.spent = way, 0
	h := session.Hello{Origin: d.origin}
	if list || way == "fresh" {
		h.Inbox = 100
	}
	own := string(d.who.stream.Topic)
	stale := notify.Position{Epoch: "zzzzzz", Offset: 3}
	switch way {
	case "fresh":
		d.view, d.lists = newView(own), 0
		h.HasCursor = !list
	case "cursor":
		h.HasCursor, h.Cursor = true, d.view.cursor
	case "stale cursor":
		h.HasCursor, h.Cursor = true, notify.EncodeCursor([]notify.TopicPosition{{Topic: d.who.stream.Topic, Position: stale}})
	case "garbage":
		h.HasCursor, h.Cursor = true, "garbage"
	default:
		d.view.live, d.view.cursor = false, ""
	}
	d.view.listing = h.Inbox > 0
	d.peer = &peer{wake: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{}), got: make(chan struct{}, 1)}
	d.peer.s = d.gateway.Open(d.peer, h, d.who.id)
	go d.peer.pull()
	if d.view.live {
		return
	}
	from := d.view.head.String()
	if way == "stale positions" {
		from = stale.String()
	}
	d.ask(p, "subscribe", map[string]any{"type": "subscribe", "topics": map[string]string{own: from}})
}

// take folds what came.
func (d *device) take() {
	for _, f := range d.peer.take() {
		d.frames = append(d.frames[max(0, len(d.frames)-7):], f)
		d.view.take(f)
	}
}

// until waits for frames. What must not be ends it, too.
func (d *device) until(p *play, what string, ok func() bool) {
	late := time.After(playWait)
	for {
		d.take()
		if d.view.wrong != "" {
			d.fail(p, d.view.wrong)
		}
		if ok() {
			return
		}
		select {
		case <-d.peer.got:
		case <-late:
			d.fail(p, "waits in vain for "+what)
		}
	}
}

func (d *device) fail(p *play, what string) {
	p.fail(d.name+": "+what, "its last frames:\n"+strings.Join(d.frames, "\n"))
}

// ask sends a frame, and returns its answer.
func (d *device) ask(p *play, kind string, cmd map[string]any) *pageFrame {
	d.asked++
	ref := fmt.Sprint(kind, d.asked)
	cmd["ref"] = ref
	text, err := json.Marshal(cmd)
	if err != nil {
		p.Fatal(err)
	}
	d.spent += 10
	d.peer.s.Handle(text)
	var answer *pageFrame
	d.until(p, "an answer to "+kind, func() bool { answer = d.view.answers[fmt.Sprintf("%q", ref)]; return answer != nil })
	delete(d.view.answers, fmt.Sprintf("%q", ref))
	return answer
}

// lookAt compares what a connected device shows with the model, when it has all that there is. What has expired it may still show.
func (d *device) lookAt(p *play) {
	if d.peer == nil {
		return
	}
	w := d.who.want
	d.until(p, "what its stream has", func() bool { return d.view.stands(d.who.top) })
	now := time.Now()
	d.who.looks(p, now)
	if d.lists != d.view.lists {
		d.lists, d.lacks = d.view.lists, map[string]bool{}
		for _, i := range w.items {
			d.lacks[i.id] = i.archived
		}
	}
	shown, extra := w.visible(now), map[string]bool{}
	for _, i := range w.items {
		extra[i.id] = i.over(now)
	}
	got := ""
	for _, i := range d.view.items {
		at, _ := time.Parse(time.RFC3339Nano, i.ExpiresAt)
		if !extra[i.ID] && !w.out[i.ID] {
			got += p.itemText(i.ID, i.Category, string(i.Data), at, i.Seen, i.Read, i.Archived)
		}
	}
	shown = slices.DeleteFunc(shown, func(i wantItem) bool { return d.lacks[i.id] })
	if want := p.listText(shown); want != got || !slices.Contains(d.who.badges(), d.view.counts()) || d.view.muteKnown && d.view.mute != w.muted() {
		p.say("the last frames of %s:\n%s", d.name, strings.Join(d.frames, "\n"))
		p.same("what "+d.name+" shows", want, got)
		p.same("what "+d.name+" knows to be muted", w.muted(), d.view.mute)
		p.same("the badge of "+d.name, strings.Join(d.who.badges(), " or "), d.view.counts())
	}
}

// connect connects a device, or has it come back, in any of the ways.
func (p *play) connect() {
	who := p.someone()
	d := who.devices[p.upto(len(who.devices)-1)]
	p.reconnect(d)
	p.lookAt(who)
}

func (p *play) reconnect(d *device) {
	ways := []string{"fresh"}
	if d.view != nil && !d.view.replacing {
		ways = append(ways, "positions", "positions", "stale positions", "stale cursor", "garbage")
		if d.view.cursor != "" {
			ways = append(ways, "cursor", "cursor", "cursor")
		}
	}
	way, list := p.one(ways...), p.in1of(4)
	p.say("%s connects: %s, list %v", d.name, way, list)
	before := view{}
	if d.view != nil {
		before = *d.view
	}
	p.calm()
	d.open(p, way, list)
	d.until(p, "its welcome", func() bool {
		return d.view.live && d.view.welcomes > before.welcomes || way == "fresh" && d.view.welcomes > 0
	})
	p.lookAt(d.who)
	switch {
	case way == "fresh":
		p.count(way)
	case d.view.resets > before.resets:
		p.count("reset")
	default:
		p.count("by " + way)
		if d.view.events > before.events {
			p.count("missed")
		}
	}
}

// drop ends a connection, perhaps while something comes.
func (p *play) drop() {
	who := p.someone()
	d := who.connected()
	if d == nil {
		return
	}
	p.say("%s goes", d.name)
	for range p.upto(2) {
		p.write(p.note(), []*person{who})
	}
	d.take()
	d.close()
	p.lookAt(who)
}

// page asks for a list page by page, in one of its forms.
func (p *play) page() {
	who := p.someone()
	status, category, limit := p.upto(4), p.one("", "", "a"), 1+p.upto(4)
	name := []string{"active", "unread", "unseen", "archived", "all"}[status]
	var got string
	var from, to time.Time
	for from.IsZero() || len(p.moments(from, to)) > 1 {
		from, to = p.during(func() {
			got = p.pages(who, name, store.Query{Status: store.Status(status), Category: category, Limit: limit})
		})
	}
	var want []wantItem
	for _, i := range who.want.visible(to) {
		fits := map[string]bool{"active": !i.archived, "unread": !i.read && !i.archived, "unseen": !i.seen, "archived": i.archived, "all": true}[name]
		if fits && (category == "" || i.category == category) {
			want = append(want, i)
		}
	}
	p.say("%s asks for pages of %d: %s %s", who.name, limit, name, category)
	p.same("pages of "+name, p.listText(want), got)
	p.lookAt(who)
}

func (p *play) pages(who *person, status string, q store.Query) (got string) {
	d := who.connected()
	for range 2 * playSize {
		if d != nil && d.spent < 170 {
			f := d.ask(p, "page", map[string]any{"type": "inbox", "status": status, "category": q.Category, "limit": q.Limit, "before": q.Before})
			for _, i := range f.Items {
				at, _ := time.Parse(time.RFC3339Nano, i.ExpiresAt)
				got += p.itemText(i.ID, i.Category, string(i.Data), at, i.Seen, i.Read, i.Archived)
			}
			q.Before = f.Before
		} else {
			page, err := p.st.store.List(p.st.ctx, who.stream, q)
			if err != nil {
				p.Fatalf("page: %v", err)
			}
			for _, i := range page.Items {
				got += p.itemText(i.ID, i.Category, string(i.Data), i.ExpiresAt, i.Seen, i.Read, i.Archived)
			}
			q.Before = page.Before
		}
		if q.Before == "" {
			return got
		}
	}
	p.Fatalf("pages without an end")
	return ""
}

// race has notifications come while a device lists its inbox anew, by a frame or by connecting.
func (p *play) race() {
	who := p.someone()
	d := who.devices[0]
	if d.peer == nil {
		p.reconnect(d)
	}
	way := p.one("list", "fresh", "garbage", "stale positions")
	p.say("%s lists its inbox (%s) while notifications come", d.name, way)
	notes := []wantNote{}
	for range 1 + p.upto(3) {
		notes = append(notes, p.note())
	}
	p.calm()
	done := make(chan struct{})
	ref := fmt.Sprintf(`"first%d"`, d.asked+1)
	if way == "list" {
		d.asked++
		d.spent += 10
		go func() {
			defer close(done)
			d.peer.s.Handle([]byte(`{"type":"inbox","limit":100,"ref":` + ref + `}`))
		}()
	} else {
		close(done)
		d.open(p, way, true)
	}
	for _, n := range notes {
		p.write(n, []*person{who})
	}
	<-done
	if way == "list" {
		d.until(p, "its list", func() bool { return d.view.answers[ref] != nil })
	}
	p.count("race")
	p.lookAt(who)
}
