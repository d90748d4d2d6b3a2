package e2e

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"allim/internal/testkit"
	pb "allim/proto/allim/v1"
	"allim/test/pods"
)

// check holds every page against the truth, once all is quiet.
func (p *play) check() {
	p.t.Helper()
	if p.t.Failed() {
		return
	}
	for _, x := range p.pages {
		x.Answered()
	}
	tops := map[string]string{}
	for _, topic := range append([]string{p.short}, p.topics...) {
		tops[topic] = p.top(topic)
	}
	for _, user := range p.users {
		tops["user:"+user] = p.backend.Counts(user).Rev
	}
	for i, x := range p.pages {
		for topic, top := range tops {
			if strings.HasPrefix(topic, "user:") && topic != "user:"+x.user {
				continue
			}
			x.UntilAt(topic, top)
			for _, wrong := range p.wrong(topic, top, x.Log(topic)) {
				p.t.Errorf("page %d, %s: %s", i, topic, wrong)
			}
		}
		for _, fault := range x.Faults() {
			p.t.Errorf("page %d: %s", i, fault)
		}
		p.checkInbox(i, x)
	}
	for i, x := range p.pages[2:] { // the same user's other device
		if diff := cmp.Diff(p.pages[i].Log("user:"+x.user), x.Log("user:"+x.user)); diff != "" {
			p.t.Errorf("the devices of %s differ:\n%s", x.user, diff)
		}
	}
}

// top is the last place of an event topic, all of whose places the publisher acknowledged.
func (p *play) top(topic string) string {
	p.t.Helper()
	top := ""
	for pos := range p.truth.at[topic] {
		if top == "" || offset(pos) > offset(top) {
			top = pos
		}
	}
	if offset(top) != len(p.truth.at[topic]) {
		p.t.Errorf("%s ends at %s, but %d messages were acknowledged", topic, top, len(p.truth.at[topic]))
	}
	return top
}

// wrong says what is wrong with what a page handled of a topic: every place from the first to the last must be there once and in order, with what the
// publisher acknowledged for it. Only a reset may leave places out, and only on the short topic may there be one.
func (p *play) wrong(topic, top string, log []pods.Entry) (all []string) {
	at := 0
	for _, e := range log {
		n := offset(e.Pos)
		if e.What == "reset" {
			if topic != p.short || n < at {
				all = append(all, fmt.Sprintf("reset to %s after %d", e.Pos, at))
			}
			at = n
			continue
		}
		if n != at+1 {
			all = append(all, fmt.Sprintf("%s comes after %d", e.Pos, at))
		}
		at = n
		if want := p.truth.at[topic][e.Pos]; want != e.What && (want != "" || !isMark(e.What)) {
			all = append(all, fmt.Sprintf("at %s: got %q, want %q", e.Pos, e.What, want))
		}
	}
	if at != offset(top) {
		all = append(all, fmt.Sprintf("ends at %d, want %s", at, top))
	}
	for pos := range p.truth.at[topic] {
		if topic != p.short && !slices.ContainsFunc(log, func(e pods.Entry) bool { return e.Pos == pos }) {
			all = append(all, "lacks "+pos)
		}
	}
	for _, pos := range p.truth.marks[topic] {
		if !slices.ContainsFunc(log, func(e pods.Entry) bool { return e.Pos == pos && isMark(e.What) }) {
			all = append(all, "lacks the mark at "+pos)
		}
	}
	return all
}

func isMark(what string) bool {
	mark, _, _ := strings.Cut(what, " ")
	return slices.Contains(marks, mark)
}

// checkInbox compares the list that a page made of frames alone with that of the publisher, and the counts.
func (p *play) checkInbox(i int, x *page) {
	p.t.Helper()
	row := func(id, pos, category string, seen, read, archived bool) string {
		return fmt.Sprint(id, " ", pos, " ", category, " seen ", seen, " read ", read, " archived ", archived)
	}
	var got, want []string
	for _, it := range x.Items() {
		got = append(got, row(it.ID, it.Pos, it.Category, it.Seen, it.Read, it.Archived))
	}
	for _, it := range p.backend.List(x.user, pb.ListRequest_ALL) {
		want = append(want, row(it.Id, it.Pos, it.Category, it.Seen, it.Read, it.Archived))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		p.t.Errorf("page %d holds another inbox than the publisher (-want +got):\n%s", i, diff)
	}
	counts := p.backend.Counts(x.user)
	testkit.EventuallyNil(p.t, 5*time.Second, func() error {
		b := x.Badge()
		by := map[string]int32{}
		for category, n := range b.By {
			by[category] = int32(n)
		}
		if b.Unread != int(counts.Unread) || b.Unseen != int(counts.Unseen) || !cmp.Equal(by, orEmpty(counts.By)) {
			return fmt.Errorf("got %+v, want %v; its newest frames:\n%s", b, counts, x.Tail())
		}
		return nil
	}, fmt.Sprintf("the counts of page %d", i))
}

func orEmpty(m map[string]int32) map[string]int32 {
	if m == nil {
		return map[string]int32{}
	}
	return m
}

// offset is the number of a position.
func offset(pos string) int {
	_, n, _ := strings.Cut(pos, ".")
	v, err := strconv.Atoi(n)
	if err != nil {
		return -1
	}
	return v
}

// TestTheCheckSeesWhatItIsFor holds made-up logs against a made-up truth: a check that passes everything would pass everything.
func TestTheCheckSeesWhatItIsFor(t *testing.T) {
	p := &play{short: "short/x"}
	p.truth.init()
	for _, topic := range []string{"feed", p.short} {
		for n := range 4 {
			p.truth.wrote(topic, fmt.Sprint("e.", n+1), fmt.Sprint("message m", n+1))
		}
	}
	p.truth.marked("feed", "e.5")
	m := func(n int) pods.Entry { return pods.Entry{Pos: fmt.Sprint("e.", n), What: fmt.Sprint("message m", n)} }
	read := pods.Entry{Pos: "e.5", What: "read n1"}
	reset := pods.Entry{Pos: "e.2", What: "reset"}
	for _, c := range []struct {
		name, topic, top string
		log              []pods.Entry
		good             bool
	}{
		{"all", "feed", "e.5", []pods.Entry{m(1), m(2), m(3), m(4), read}, true},
		{"a hole", "feed", "e.5", []pods.Entry{m(1), m(3), m(4), read}, false},
		{"a repeat", "feed", "e.5", []pods.Entry{m(1), m(2), m(2), m(3), m(4), read}, false},
		{"another order", "feed", "e.5", []pods.Entry{m(1), m(3), m(2), m(4), read}, false},
		{"the end is missing", "feed", "e.5", []pods.Entry{m(1), m(2), m(3), m(4)}, false},
		{"another message", "feed", "e.5", []pods.Entry{m(1), m(2), {Pos: "e.3", What: "message x"}, m(4), read}, false},
		{"no mark", "feed", "e.5", []pods.Entry{m(1), m(2), m(3), m(4), {Pos: "e.5", What: "message m5"}}, false},
		{"a reset where none may be", "feed", "e.5", []pods.Entry{m(1), reset, m(3), m(4), read}, false},
		{"a reset of the short topic", p.short, "e.4", []pods.Entry{m(1), reset, m(3), m(4)}, true},
		{"a hole without a reset", p.short, "e.4", []pods.Entry{m(1), m(3), m(4)}, false},
	} {
		if wrong := p.wrong(c.topic, c.top, c.log); (len(wrong) == 0) != c.good {
			t.Errorf("%s: got %q", c.name, wrong)
		}
	}
}
