package session

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// Who is forgotten between two turns had nothing to be remembered for.
func TestARateIsHeldAcrossTurnsAndForgottenWhenItIsWholeAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRates(5) // 20 at once
		ann := rated{"default", "ann"}
		burst := func(want int) {
			t.Helper()
			n := 0
			for r.take(ann, 1) {
				n++
			}
			if n != want {
				t.Errorf("after %v: got %d, want %d", time.Since(r.begun), n, want)
			}
		}
		burst(20)
		time.Sleep(3900 * time.Millisecond)
		burst(19)
		time.Sleep(200 * time.Millisecond) // the turn is over: what ann took counts all the same
		burst(1)
		time.Sleep(4 * time.Second)
		r.take(rated{"default", "ben"}, 1)
		time.Sleep(4 * time.Second)
		r.take(rated{"default", "ben"}, 1)
		if len(r.now)+len(r.before) != 2 {
			t.Errorf("%d and %d are held, want ben alone, in both turns", len(r.now), len(r.before))
		}
		burst(20)
	})
}

func TestRatesAreBounded(t *testing.T) {
	r := newRates(50)
	for i := range 3 * mostRates {
		r.take(rated{"default", fmt.Sprint(i)}, 1)
	}
	if n := len(r.now) + len(r.before); n > 2*mostRates {
		t.Errorf("%d users are held, want at most %d", n, 2*mostRates)
	}
}
