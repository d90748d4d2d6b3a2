package fanout

import (
	"testing"

	"allim/pkg/notify"
)

// Who comes from a gateway that was faster is told the counts once this one is where it is: its welcome had older ones, and what changed them
// is skipped, for it had that already.
func TestWhoIsAheadGetsTheCountsWhenTheTopicIsThere(t *testing.T) {
	w, top, s := oneTopic(t, func(*Options) {})
	top.kind = notify.KindUser
	hear(w, 1, 3, 0)
	sub := top.subs[0]
	at := notify.Position{Epoch: "abcdef", Offset: 5}
	w.shard.begun(top, sub, Begin{Position: at, Recovered: true})
	w.shard.attach(top, sub)
	hear(w, 4, 4, 0)
	if s.others != 0 {
		t.Fatal("the counts came too early")
	}
	hear(w, 5, 5, 0)
	if s.others != 1 || s.got != 3 {
		t.Fatalf("got %d messages and %d counts, want 3 and 1", s.got, s.others)
	}
	hear(w, 6, 6, 0)
	if s.others != 1 || s.got != 4 {
		t.Fatalf("got %d messages and %d counts, want 4 and 1", s.got, s.others)
	}
}
