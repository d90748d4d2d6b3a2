package lifecycle_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"allim/internal/lifecycle"
	"allim/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// diary notes what parts do, in order.
type diary struct {
	mu    sync.Mutex
	lines []string
}

func (d *diary) note(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lines = append(d.lines, fmt.Sprintf(format, args...))
}

func (d *diary) want(t *testing.T, want string) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	if got := strings.Join(d.lines, ", "); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// part stops slowly: it takes `slow` from being asked to its return.
func (d *diary) part(name string, slow, budget time.Duration, err error) lifecycle.Part {
	return lifecycle.Part{Name: name, Budget: budget, Run: func(ctx context.Context) error {
		<-ctx.Done()
		d.note("%s asked", name)
		<-time.After(slow) // of the bubble's time: nothing really waits
		d.note("%s gone", name)
		return err
	}}
}

func TestPartsStopLastFirstEachAfterTheOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d diary
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		err := lifecycle.Run(ctx,
			d.part("feed", time.Second, 2*time.Second, nil),
			d.part("front", time.Second, 2*time.Second, context.Canceled))
		if err != nil {
			t.Errorf("a clean stop: %v", err)
		}
		d.want(t, "front asked, front gone, feed asked, feed gone")
	})
}

func TestAPartOverItsBudgetIsNamedAndDoesNotHoldUpTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d diary
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		start := time.Now()
		err := lifecycle.Run(ctx,
			d.part("feed", time.Second, 0, nil),
			d.part("front", time.Hour, 30*time.Second, nil))
		if took := time.Since(start); took != 31*time.Second {
			t.Errorf("took %v, want the budget of front and the second of feed", took)
		}
		if !errors.Is(err, lifecycle.ErrOverBudget) || !strings.Contains(err.Error(), "front") || strings.Contains(err.Error(), "feed") {
			t.Errorf("got %v, want front over its budget", err)
		}
		d.want(t, "front asked, feed asked, feed gone")
		time.Sleep(time.Hour) // front ends inside the bubble
		synctest.Wait()
	})
}

func TestTheDefaultBudgetHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d diary
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		start := time.Now()
		err := lifecycle.Run(ctx, d.part("feed", time.Hour, 0, nil))
		if took := time.Since(start); took != lifecycle.DefaultBudget || !errors.Is(err, lifecycle.ErrOverBudget) {
			t.Errorf("got %v after %v, want %v after %v", err, took, lifecycle.ErrOverBudget, lifecycle.DefaultBudget)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
	})
}

func TestTheFirstErrorEndsAllAndComesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d diary
		cause, after := errors.New("no port"), errors.New("no flush")
		err := lifecycle.Run(t.Context(),
			d.part("feed", time.Second, 0, after),
			lifecycle.Part{Name: "front", Run: func(context.Context) error { return cause }},
			d.part("ops", time.Second, 0, nil))
		if want := "run front: no port\nrun feed: no flush"; err == nil || err.Error() != want {
			t.Errorf("got %v, want %q", err, want)
		}
		if !errors.Is(err, cause) || !errors.Is(err, after) {
			t.Errorf("%v does not wrap both causes", err)
		}
		d.want(t, "ops asked, ops gone, feed asked, feed gone")
	})
}

func TestAPartThatEndsWithoutBeingAskedIsAnError(t *testing.T) {
	for _, c := range []struct{ returns, want error }{
		{nil, lifecycle.ErrEnded},
		{context.Canceled, context.Canceled}, // of some context of its own
	} {
		synctest.Test(t, func(t *testing.T) {
			var d diary
			err := lifecycle.Run(t.Context(),
				d.part("feed", 0, 0, nil),
				lifecycle.Part{Name: "front", Run: func(context.Context) error { return c.returns }})
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), "front") {
				t.Errorf("front returns %v: got %v, want %v of front", c.returns, err, c.want)
			}
		})
	}
}

func TestPartsSeeTheValuesOfTheContext(t *testing.T) {
	type key struct{}
	ctx, cancel := context.WithCancel(context.WithValue(t.Context(), key{}, "v"))
	err := lifecycle.Run(ctx, lifecycle.Part{Name: "p", Run: func(ctx context.Context) error {
		if got := ctx.Value(key{}); got != "v" {
			t.Errorf("value: got %v, want v", got)
		}
		cancel()
		<-ctx.Done()
		return nil
	}})
	if err != nil {
		t.Error(err)
	}
}
