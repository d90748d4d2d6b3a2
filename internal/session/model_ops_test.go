package session_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"pgregory.net/rapid"

	"allim/internal/session"
	"allim/internal/store"
	"allim/internal/wire"
	"allim/pkg/notify"
)

// The operations of backends, and what users do to their inboxes.

func (p *play) one(of ...string) string { return rapid.SampledFrom(of).Draw(p.T, "one of") }

func (p *play) upto(most int) int { return rapid.IntRange(0, most).Draw(p.T, "number") }

// in1of is true once in n times.
func (p *play) in1of(n int) bool { return p.upto(n-1) == n-1 }

// some is the id of a notification, most likely one of the last.
func (p *play) some() string { return fmt.Sprint("n", max(0, p.made-1-p.upto(8))) }

func (p *play) someone() *person { return p.people[p.upto(len(p.people)-1)] }

// somebody are the users that a backend writes to with one call.
func (p *play) somebody() []*person {
	switch n := p.upto(3); n {
	case 3:
		return p.people
	case 2:
		return p.people[:1]
	default:
		return p.people[n : n+1]
	}
}

func (p *play) notify() {
	n, to := p.note(), p.somebody()
	p.write(n, to)
	for _, who := range to {
		p.lookAt(who)
	}
}

// note draws a notification.
func (p *play) note() wantNote {
	n := wantNote{id: fmt.Sprint("n", p.made), category: p.one("", "a", "b", "c"), key: p.one("", "", "k0", "k1"), data: strconv.Itoa(p.upto(9)), mandatory: p.in1of(5)}
	p.made++
	switch p.upto(11) {
	case 6, 7, 8, 9:
		n.expires = p.in(time.Duration(20+10*p.upto(4)) * time.Millisecond)
	case 10:
		n.expires = p.in(time.Hour)
	case 11:
		n.expires = p.in(-time.Second)
	}
	if p.in1of(6) {
		n.notBefore = p.in(time.Duration(10*p.upto(4)) * time.Millisecond)
		if !n.expires.IsZero() {
			n.expires = p.in(time.Duration(60+10*p.upto(4)) * time.Millisecond)
		}
	}
	if p.in1of(10) {
		n.id = p.some()
	}
	return n
}

// write sends a notification with one call.
func (p *play) write(n wantNote, to []*person) {
	m := &notify.Message{Change: notify.ChangeNotification, ID: n.id, Category: n.category, Time: time.Now(), ExpiresAt: n.expires, Data: []byte(n.data)}
	if terms := (notify.Terms{Collapse: n.key, NotBefore: n.notBefore, Mandatory: n.mandatory}); terms != (notify.Terms{}) {
		m.Terms = &terms
	}
	var streams []notify.Stream
	for _, who := range to {
		streams = append(streams, who.stream)
	}
	var got []store.Result
	from, end := p.during(func() { got = p.st.writer.Write(p.st.ctx, streams, m, store.Committed) })
	what := "notify " + p.itemText(n.id, n.category, n.data, n.expires, false, false, false)
	what = fmt.Sprintf("%s key %q, mandatory %v, not before %q", what[:len(what)-1], n.key, n.mandatory, p.spans[n.notBefore.UnixMilli()])
	for i, who := range to {
		text := "written"
		switch r := got[i]; {
		case errors.Is(r.Err, notify.ErrPast):
			text = "past"
		case r.Err != nil:
			p.Fatalf("notify: %v", r.Err)
		case r.Duplicate:
			text = "duplicate"
		case r.Muted:
			text = "muted"
		case r.Scheduled:
			text, p.waits = "scheduled", n.id
		}
		p.count(text)
		if was := who.want.last[n.key]; text == "written" && n.key != "" && who.want.at(was) >= 0 {
			p.count("collapse")
		}
		if text == "duplicate" && who.places[n.id] != (notify.Position{}) && got[i].Position != who.places[n.id] {
			p.Fatalf("a duplicate has another place than the first")
		}
		p.matches(who, what, p.counted(text, got[i].Unread), from, end, func(w *want, now time.Time) string {
			answer, unread := w.notify(n, now), 0
			if answer != "past" {
				_, _ = fmt.Sscanf(w.counts(now), "%d", &unread)
			}
			return p.counted(answer, unread)
		})
	}
}

func (p *play) counted(answer string, unread int) string {
	return fmt.Sprintf("%s, %d unread", answer, unread)
}

// event is one in a user's stream that is no notification.
func (p *play) event() {
	who, id := p.someone(), fmt.Sprint("e", p.ops)
	m := &notify.Message{Change: notify.ChangeMessage, ID: id, Event: "e", Time: time.Now(), Data: []byte("1")}
	var got []store.Result
	from, to := p.during(func() { got = p.st.writer.Write(p.st.ctx, []notify.Stream{who.stream}, m, store.Committed) })
	p.matches(who, "event", fmt.Sprint(got[0].Err), from, to, func(w *want, now time.Time) string { w.writes(now); return "<nil>" })
	p.lookAt(who)
}

func (p *play) mark() {
	who, name := p.someone(), p.one(append([]string{"unread", "unarchive"}, markNames...)...) // which need others before them
	m, of := store.Mark{Change: notify.Marks[name]}, wantMark{upto: -1}
	how := p.one("ids", "ids", "ids", "upto", "all", "stale")
	switch {
	case how == "all":
		m.All, of.upto = true, who.want.came
	case how == "upto" && who.top.Offset > 0:
		m.Upto, of.upto = &who.top, who.want.came
		if id := p.some(); who.places[id] != (notify.Position{}) {
			at := who.places[id]
			m.Upto, of.upto = &at, who.orders[id]
		}
	case how == "stale" && who.top.Offset > 0:
		m.Upto = &notify.Position{Epoch: "zzzzzz", Offset: 3}
	default:
		how = "ids"
		for range 1 + p.upto(3) {
			if id := p.some(); !slices.Contains(of.ids, id) {
				of.ids = append(of.ids, id)
			}
		}
		m.IDs = of.ids
	}
	door, before := p.one("frame", "http", "backend"), who.want
	var got string
	from, to := p.during(func() { got = p.markBy(door, who, name, m) })
	p.matches(who, fmt.Sprintf("%s by %s: %s %v %d", name, door, how, of.ids, of.upto), got, from, to, func(w *want, now time.Time) string {
		if how == "stale" {
			return "stale_position"
		}
		return marked(w.mark(m.Change, of, now))
	})
	p.countMark(door, name, how, before, who.want, of.ids)
	p.lookAt(who)
}

func (p *play) countMark(door, name, how string, before, now *want, ids []string) {
	if how == "stale" {
		p.count("stale upto")
		return
	}
	for _, id := range ids {
		if before.current(id) < 0 {
			p.count("mark of unknown")
		}
	}
	if before.state() == now.state() {
		return
	}
	p.count(name)
	p.count(door)
	if how != "ids" {
		p.count(map[string]string{"all": "mark of all", "upto": "mark upto"}[how])
	}
	for _, id := range ids {
		if before.at(id) < 0 && before.current(id) >= 0 {
			p.count("mark by alias")
		}
	}
}

func marked(changed int, unknown []string) string {
	return fmt.Sprintf("%d changed, unknown %s", changed, strings.Join(unknown, ","))
}

// markBy does it through one of three doors: a frame of a device, HTTP, or a backend's call.
func (p *play) markBy(door string, who *person, name string, m store.Mark) string {
	cmd := map[string]any{"type": name}
	c := &wire.Command{Type: name, IDs: m.IDs, All: m.All}
	switch {
	case m.All:
		cmd["all"] = true
	case m.Upto != nil:
		c.UptoAt = map[string]string{string(who.stream.Topic): m.Upto.String()}
		cmd["upto"] = m.Upto.String()
	default:
		cmd["ids"] = m.IDs
	}
	if d := who.connected(); door == "frame" && d != nil {
		f := d.ask(p, "mark", cmd)
		if f.Type != "ok" || f.Changed == nil {
			return f.Code
		}
		return marked(*f.Changed, f.Unknown)
	}
	if door != "backend" {
		ok, err := p.calls().Mark(context.Background(), who.id, c, "")
		if err != nil {
			f, _ := wire.ErrorOf(err)
			return f.Code
		}
		return marked(*ok.Changed, ok.Unknown)
	}
	got, err := p.st.writer.Mark(p.st.ctx, who.stream, m)
	switch {
	case errors.Is(err, notify.ErrStalePosition):
		return "stale_position"
	case err != nil:
		return err.Error()
	}
	return marked(got.Changed, got.Unknown)
}

func (p *play) calls() *session.Calls { return p.gateways[p.upto(1)].Calls() }

// named draws what an update or a retraction names.
func (p *play) named() (id, key string) {
	if p.in1of(3) {
		return "", p.one("k0", "k1")
	}
	return p.some(), ""
}

func (p *play) update() {
	u := store.UpdateOf{Data: []byte(strconv.Itoa(p.upto(4))), Origin: p.one("", "origin-of-a-page")}
	u.ID, u.Collapse = p.named()
	v := 4 - int32(p.upto(4))
	if u.ID != "" && p.updated != "" && p.in1of(2) { // once more, and most likely with a smaller version
		u.ID, v = p.updated, 4-v
	}
	p.updated = u.ID
	if v > 0 {
		u.Version = &v
	}
	for _, who := range p.somebody() {
		p.change(who, fmt.Sprintf("update %s%s to %s, version %d", u.ID, u.Collapse, u.Data, deref(u.Version)), u.ID, u.Collapse,
			func() store.Result {
				return p.st.writer.Update(p.st.ctx, []notify.Stream{who.stream}, u, store.Committed)[0]
			},
			func(w *want, now time.Time) string {
				return w.update(u.ID, u.Collapse, string(u.Data), u.Version, now)
			})
	}
}

func deref(v *int32) int32 {
	if v == nil {
		return 0
	}
	return *v
}

func (p *play) retract() {
	r := store.RetractOf{}
	r.ID, r.Collapse = p.named()
	if p.waits != "" && p.in1of(3) {
		r.ID, r.Collapse = p.waits, ""
	}
	for _, who := range p.somebody() {
		p.change(who, fmt.Sprintf("retract %s%s", r.ID, r.Collapse), r.ID, r.Collapse,
			func() store.Result {
				return p.st.writer.Retract(p.st.ctx, []notify.Stream{who.stream}, r, store.Committed)[0]
			},
			func(w *want, now time.Time) string { return w.retract(r.ID, r.Collapse, now) })
	}
}

// change does an update or a retraction of one user's.
func (p *play) change(who *person, what, id, key string, do func() store.Result, want func(w *want, now time.Time) string) {
	var r store.Result
	from, to := p.during(func() { r = do() })
	text := "unchanged"
	switch {
	case errors.Is(r.Err, notify.ErrNotFound):
		text = "not found"
	case errors.Is(r.Err, notify.ErrConflict):
		text = "older"
	case r.Err != nil:
		p.Fatalf("change: %v", r.Err)
	case r.Changed:
		text = "changed"
	}
	before := who.want
	p.matches(who, what, text, from, to, want)
	kind := strings.Fields(what)[0]
	switch {
	case text == "older":
		p.count("older update")
	case text == "changed":
		p.count(kind)
		if key != "" {
			p.count(kind + " by key")
		} else if before.at(id) < 0 && before.current(id) >= 0 {
			p.count(kind + " by alias")
		}
		if len(who.want.waits) < len(before.waits) {
			p.count("cancelled")
		}
	}
	p.lookAt(who)
}

// prefer mutes categories.
func (p *play) prefer() {
	who, mute := p.someone(), []string{}
	for _, c := range []string{"a", "b", "c"} {
		if p.in1of(3) {
			mute = append(mute, c)
		}
	}
	door := p.one("frame", "http", "backend")
	var got string
	from, to := p.during(func() { got = p.preferBy(door, who, mute) })
	p.matches(who, fmt.Sprintf("mute %v by %s", mute, door), got, from, to, func(w *want, now time.Time) string { return w.prefer(mute, now) })
	if got == "changed" {
		p.count("mute")
	}
	p.lookAt(who)
	muted, _, _, err := p.st.store.Preferences(p.st.ctx, who.stream, nil, "")
	if err != nil {
		p.Fatalf("read preferences: %v", err)
	}
	p.same("what "+who.name+" muted", who.want.muted(), strings.Join(muted, ","))
}

func (p *play) preferBy(door string, who *person, mute []string) string {
	changed := map[bool]string{true: "changed", false: "unchanged"}
	if d := who.connected(); door == "frame" && d != nil {
		f := d.ask(p, "prefer", map[string]any{"type": "preferences", "mute": mute})
		return changed[f.Type == "ok" && f.Pos != ""]
	}
	if door != "backend" {
		f, err := p.calls().Preferences(context.Background(), who.id, &wire.Command{Type: "preferences", Mute: &mute}, "")
		ok, _ := f.(*wire.OK)
		return changed[err == nil && ok != nil && ok.Pos != ""]
	}
	_, _, is, err := p.st.writer.Preferences(p.st.ctx, who.stream, &mute, "")
	return changed[is && err == nil]
}

// wait waits until the next deadline is over.
func (p *play) wait() {
	p.calm()
	d := p.next()
	if d.IsZero() || time.Until(d) > time.Second {
		return
	}
	p.say("wait until %s is over", p.spans[d.UnixMilli()])
	<-time.After(time.Until(d))
	for _, who := range p.people {
		p.lookAt(who)
	}
}

// due has done what is due.
func (p *play) due() {
	var err error
	from, to := p.during(func() { _, err = p.st.writer.Due(p.st.ctx, free{}) })
	for _, who := range p.people {
		before := len(who.want.waits)
		p.matches(who, "due", fmt.Sprint(err), from, to, func(w *want, now time.Time) string { w.due(now); return "<nil>" })
		if len(who.want.waits) < before {
			p.count("came at its time")
		}
		p.lookAt(who)
	}
}

// free slots are as many as are asked for.
type free struct{}

func (free) Take(_ string, most int) int { return most }
func (free) Free(string, int)            {}
