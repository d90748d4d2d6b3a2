package ws

import "testing"

// Memory is given back once for each storm, when it is over.
func TestAfterAStorm(t *testing.T) {
	var a afterStorm
	for i, c := range []struct {
		came uint64
		all  int
		want bool
	}{
		{0, 0, false}, {stormSize - 1, stormSize - 1, false}, {stormSize - 1, stormSize - 1, false}, // few
		{9000, 9000, false}, {10_000, 10_000, false}, // under way
		{10_000, 10_000, true}, {10_000, 10_000, false},
		{11_200, 11_200, false}, {11_200, 11_200, false}, // few beside those that there are
		{12_500, 10_000, false}, {12_500, 10_000, true}, // as many as a quarter, though others have left
		{12_501, 0, false}, {12_501, 0, false},
	} {
		if got := a.calm(c.came, c.all); got != c.want {
			t.Errorf("%d: %v of %+v", i, got, c)
		}
	}
}
