package fanout_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"allim/internal/testkit"
	"allim/pkg/fanout"
	"allim/pkg/notify"
)

// A register is who is here, as a hub told it.
type register struct {
	mu   sync.Mutex
	here map[notify.Stream]int // how often he came
	gone map[notify.Stream]int
}

func (r *register) heard(s notify.Stream, here bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if here {
		r.here[s]++
	} else {
		r.gone[s]++
	}
}

// text is "user:ann 1/0 …": how often each came and left.
func (r *register) text(users ...string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []string
	for _, u := range users {
		s := topic(u)
		out = append(out, fmt.Sprintf("%s %d/%d", u, r.here[s], r.gone[s]))
	}
	return strings.Join(out, " ")
}

func TestAHubTellsWhoIsHereAndWhoLeft(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	r := &register{here: map[notify.Stream]int{}, gone: map[notify.Stream]int{}}
	h := b.hub(t, "g1", "", func(o *fanout.Options) {
		o.Present, o.UserLinger, o.Linger = r.heard, 20*time.Millisecond, 20*time.Millisecond
	})
	ready(t, h)
	all := []string{"user:ann", "user:bob", "orders"}
	subs := map[string][]*fanout.Subscription{}
	for _, name := range append(all, "user:ann") {
		s := newSink()
		subs[name] = append(subs[name], h.Attach(topic(name), fromNow, s))
		wantBegin(t, s, 1)
	}
	if got := r.text(all...); got != "user:ann 1/0 user:bob 1/0 orders 0/0" {
		t.Fatalf("at first: %s", got)
	}
	for part := range b.keys.Partitions() {
		if err := h.Users(testkit.Context(t, soon), part); err != nil {
			t.Fatal(err)
		}
	}
	if got := r.text(all...); got != "user:ann 2/0 user:bob 2/0 orders 0/0" {
		t.Fatalf("told again: %s", got)
	}
	subs["user:ann"][0].Detach()
	subs["user:bob"][0].Detach()
	subs["orders"][0].Detach()
	testkit.EventuallyNil(t, soon, func() error {
		if got := r.text(all...); got != "user:ann 2/0 user:bob 2/1 orders 0/0" {
			return fmt.Errorf("then %s", got)
		}
		return nil
	}, "bob is gone")
	subs["user:ann"][1].Detach()
	testkit.EventuallyNil(t, soon, func() error {
		if got := r.text(all...); got != "user:ann 2/1 user:bob 2/1 orders 0/0" {
			return fmt.Errorf("at last %s", got)
		}
		return nil
	}, "ann is gone")
}
