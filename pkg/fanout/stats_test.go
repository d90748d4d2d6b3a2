package fanout

import (
	"slices"
	"testing"

	"allim/pkg/notify"
)

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
		var want []notify.Why
		if c.why != "" {
			want = append(want, c.why)
		}
		if !slices.Equal(s.whys, want) {
			t.Errorf("%s: resets for %v, want %v", c.name, s.whys, want)
		}
	}
}
