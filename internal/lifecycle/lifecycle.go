// Package lifecycle runs the parts of a process: they start together and stop
// one after the other, last first, so that a part may rely on those before it
// until its own end.
package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// DefaultBudget is the budget of a part that names none.
const DefaultBudget = 5 * time.Second

var (
	// ErrEnded is the error of a part that returned nil without being asked to stop.
	ErrEnded = errors.New("ended unasked")
	// ErrOverBudget is the error of a part that did not stop in time.
	ErrOverBudget = errors.New("over its budget")
)

// A Part is something that runs until its context ends.
type Part struct {
	Name string // for errors
	// Run blocks until ctx ends, has by then freed what it holds, and returns
	// nil. An error, or a return before that, ends the whole process.
	Run func(ctx context.Context) error
	// Budget is the longest time from the end of ctx to the return of Run;
	// 0 means DefaultBudget. The budgets of all parts together must stay below
	// the time that a supervisor grants (terminationGracePeriodSeconds).
	Budget time.Duration
}

// running is a part at work. done is closed by its goroutine after err is set.
type running struct {
	Part
	stop context.CancelFunc
	done chan struct{}
	err  error
}

// Run starts the parts and blocks until ctx ends or the first part does; then it
// stops them all, last first, each within its budget. It returns nil when ctx
// ended and every part stopped cleanly; else everything that went wrong, the
// first cause first. A part over its budget is named and left behind: its
// goroutine ends only with the process. The parts' contexts carry ctx's values.
func Run(ctx context.Context, parts ...Part) error {
	all := make([]*running, 0, len(parts))
	ended := make(chan *running, len(parts)) // one each, never read twice, never closed
	for _, p := range parts {
		own, stop := context.WithCancel(context.WithoutCancel(ctx))
		r := &running{Part: p, stop: stop, done: make(chan struct{})}
		all = append(all, r)
		go func() { // waited for by halt
			defer func() { close(r.done); ended <- r }()
			r.err = p.Run(own)
		}()
	}
	var errs []error
	var first *running
	select {
	case <-ctx.Done():
	case first = <-ended:
		cause := first.err
		if cause == nil {
			cause = ErrEnded
		}
		errs = append(errs, fmt.Errorf("run %s: %w", first.Name, cause))
	}
	for _, r := range slices.Backward(all) {
		if err := r.halt(); r != first {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// halt asks the part to stop and waits for it.
func (r *running) halt() error {
	r.stop()
	budget := r.Budget
	if budget == 0 {
		budget = DefaultBudget
	}
	timer := time.NewTimer(budget)
	defer timer.Stop()
	select {
	case <-r.done:
		return r.failure()
	case <-timer.C:
		return fmt.Errorf("stop %s: %w of %v", r.Name, ErrOverBudget, budget)
	}
}

// failure is the error of a part that was asked to end. That its context was
// cancelled is none: halt did it.
func (r *running) failure() error {
	if r.err == nil || errors.Is(r.err, context.Canceled) {
		return nil
	}
	return fmt.Errorf("run %s: %w", r.Name, r.err)
}

// Budget is the longest time that Run takes to stop these parts.
func Budget(parts ...Part) (sum time.Duration) {
	for _, p := range parts {
		if p.Budget == 0 {
			p.Budget = DefaultBudget
		}
		sum += p.Budget
	}
	return sum
}
