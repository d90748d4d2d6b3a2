package fanout

import (
	"testing"

	"allim/pkg/notify"
)

func TestEveryWhyIsCountedAndAnUnknownOneIsGone(t *testing.T) {
	if len(notify.Whys) != numWhys {
		t.Fatalf("%d reasons, room for %d", len(notify.Whys), numWhys)
	}
	h, _, l := stillHub(t, Options{})
	for i, why := range notify.Whys {
		for range i + 1 {
			l.count.reset(why)
		}
	}
	l.count.reset("news")
	got := h.Stats().Resets
	for i, why := range notify.Whys {
		want := uint64(i + 1)
		if why == notify.WhyGone {
			want++
		}
		if got[string(why)] != want {
			t.Errorf("%s: got %d, want %d", why, got[string(why)], want)
		}
	}
}

func TestWhatBecameOfAnEpochIsCounted(t *testing.T) {
	at := func(epoch string, o uint64) notify.Position { return notify.Position{Epoch: epoch, Offset: o} }
	for _, c := range []struct {
		name       string
		r          notify.Recovery
		want       [numTurns]uint64
		why        notify.Why // "": no reset
		regression uint64
	}{
		{"goes on", notify.Recovery{Outcome: notify.Delta, Position: at("newone", 2), Top: at("newone", 2)}, [numTurns]uint64{1, 0, 0}, "", 0},
		{"lost", notify.Recovery{Outcome: notify.Reset, Position: at("newone", 0), Top: at("newone", 1), Why: notify.WhyLost}, [numTurns]uint64{0, 1, 0}, notify.WhyLost, 0},
		{"wiped and written again", notify.Recovery{Outcome: notify.Reset, Top: at("newone", 1), Why: notify.WhyUnknown}, [numTurns]uint64{0, 0, 1}, notify.WhyUnknown, 0},
		{"wiped", notify.Recovery{Outcome: notify.Empty, Position: notify.EmptyAt(notify.Y2026 * 1000)}, [numTurns]uint64{0, 0, 1}, notify.WhyLost, 0},
		{"trimmed", notify.Recovery{Outcome: notify.Reset, Position: at("abcdef", 5), Top: at("abcdef", 9), Why: notify.WhyGone}, [numTurns]uint64{}, notify.WhyGone, 0},
		{"the impossible", notify.Recovery{Outcome: notify.Reset, Position: at("abcdef", 0), Top: at("abcdef", 1)}, [numTurns]uint64{}, notify.WhyGone, 1},
	} {
		w, top, s := oneTopic(t, func(*Options) {})
		e := &keptEnv{world: w}
		w.shard.env = e
		hear(w, 1, 2, 0)
		w.shard.startSync(top, byCheck)
		w.shard.answered(answer{query: e.take(t, resyncing), recovery: c.r})
		var got [numTurns]uint64
		for i := range got {
			got[i] = w.shard.count.epochs[i].Load()
		}
		if got != c.want || w.shard.count.regressions.Load() != c.regression {
			t.Errorf("%s: got %v and %d regressions, want %v and %d", c.name, got, w.shard.count.regressions.Load(), c.want, c.regression)
		}
		if resets := s.others; (resets == 1) != (c.why != "") {
			t.Errorf("%s: %d resets", c.name, resets)
		}
		for i, why := range notify.Whys {
			if n := w.shard.count.resets[i].Load(); (n == 1) != (why == c.why) {
				t.Errorf("%s: %d resets for %s", c.name, n, why)
			}
		}
	}
}
