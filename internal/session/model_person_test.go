package session_test

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"allim/internal/store"
	"allim/pkg/auth"
	"allim/pkg/notify"
)

// A person is a user with devices.
type person struct {
	name    string
	stream  notify.Stream
	id      *auth.Identity
	devices []*device
	want    *want
	may     []*want // want first, and where a deadline passed during an operation what else there may be
	top     notify.Position
	looked  time.Time                  // last
	places  map[string]notify.Position // of items, also of those that went
	orders  map[string]int
}

func (p *play) meet(name string, devices int) *person {
	user := fmt.Sprint(name, p.runs)
	topic, err := notify.UserTopic(user)
	if err != nil {
		p.Fatal(err)
	}
	token, _ := p.st.token([]string{"user=" + user})
	id, err := verifier(p.t)(token)
	if err != nil {
		p.Fatal(err)
	}
	who := &person{name: name, stream: notify.Stream{Tenant: "default", Topic: topic}, id: id, want: newWant(p.st.inbox.Size), looked: time.Now(),
		places: map[string]notify.Position{}, orders: map[string]int{}}
	who.may = []*want{who.want}
	for i := range devices {
		who.devices = append(who.devices, &device{name: fmt.Sprint(name, "'s ", []string{"phone", "laptop"}[i]), who: who, gateway: p.gateways[i%2], origin: fmt.Sprintf("origin-of-%s-%d-page", name, i)})
	}
	return who
}

// matches holds an answer against the model's. What it may have been is left in may.
func (p *play) matches(who *person, what, got string, from, to time.Time, do func(w *want, now time.Time) string) {
	var want string
	was := who.may
	who.may = nil
	for _, before := range was {
		for _, at := range p.moments(from, to) {
			w := before.clone()
			w.looks(at)
			if text := do(w, at); text == got {
				w.looks(at)
				who.may = append(who.may, w)
			} else if want == "" {
				want = text
			}
		}
	}
	p.say("%s, %s: %s", who.name, what, got)
	if who.may == nil {
		p.fail("an answer to "+strings.Fields(what)[0], "the model answers: "+want)
	}
	who.changed(p, what, from)
}

// changed takes what may be as what is, and counts what can be seen of it.
func (who *person) changed(p *play, what string, from time.Time) {
	was, is := who.want, who.may[0]
	if slices.ContainsFunc(was.items, func(i wantItem) bool { return i.over(from) && is.at(i.id) < 0 }) {
		p.count(map[bool]string{true: "expired by the runner", false: "expired by a write"}[what == "due"])
	}
	if len(is.out) > len(was.out) {
		p.count("pushed out")
	}
	for _, i := range is.items {
		who.orders[i.id] = i.order
	}
	who.want = is
}

// lookAt compares list and counts of a user, and what its devices show, with the model.
func (p *play) lookAt(who *person) {
	var page store.Page
	var badge notify.Badge
	from, to := time.Time{}, time.Time{}
	for from.IsZero() || len(p.moments(from, to)) > 1 {
		from, to = p.during(func() {
			var err, failed error
			page, err = p.st.writer.List(p.st.ctx, who.stream, store.Query{Status: store.All, Limit: 100})
			badge, failed = p.st.writer.Counts(p.st.ctx, who.stream)
			if err = cmp.Or(err, failed); err != nil {
				p.Fatalf("look: %v", err)
			}
		})
	}
	got := ""
	for _, i := range page.Items {
		got += p.itemText(i.ID, i.Category, string(i.Data), i.ExpiresAt, i.Seen, i.Read, i.Archived)
		who.places[i.ID] = i.Position
	}
	who.settle(func(w *want) bool { return p.listText(w.visible(to)) == got })
	who.looks(p, to)
	who.top, who.looked = page.At, from
	if len(who.want.visible(to)) < len(who.want.items) {
		p.count("hidden")
	}
	p.same("the list of "+who.name, p.listText(who.want.visible(to)), got)
	for _, b := range []notify.Badge{page.Badge, badge} {
		by := map[string]int{}
		for _, c := range b.By {
			by[c.Category] = c.Unread
		}
		p.same("the counts of "+who.name, who.want.counts(to), countsText(b.Unread, b.Unseen, by))
	}
	for _, d := range who.devices {
		d.lookAt(p)
	}
}

// settle leaves what fits. Of those the one with the most items is what is compared: what has left it may still be there for a device.
func (who *person) settle(fits func(w *want) bool) {
	fit, known := []*want{}, map[string]bool{}
	for _, w := range who.may {
		if state := w.state() + strings.Join(w.badges, ","); fits(w) && !known[state] {
			known[state], fit = true, append(fit, w)
		}
	}
	if len(fit) == 0 {
		fit = who.may[:1]
	}
	slices.SortStableFunc(fit, func(a, b *want) int { return len(b.items) - len(a.items) })
	who.may, who.want = fit, fit[0]
}

// looks notes what devices may have been told by now.
func (who *person) looks(p *play, now time.Time) {
	for _, w := range who.may {
		for _, at := range p.moments(who.looked, now) {
			w.looks(at)
		}
	}
}

// badges are the counts that a device may show.
func (who *person) badges() (all []string) {
	for _, w := range who.may {
		all = append(all, w.badges...)
	}
	return all
}
