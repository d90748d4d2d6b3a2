package boot

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"syscall"
	"testing"
	"time"

	"allim/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

func TestTheExitCodeSaysWhatHappened(t *testing.T) {
	does := func(err error) func(context.Context, *slog.Logger) error {
		return func(context.Context, *slog.Logger) error { return err }
	}
	for name, c := range map[string]struct {
		p    Program
		err  error
		want int
	}{
		"the help was shown": {err: fmt.Errorf("read flags: %w", ErrShown), want: 0},
		"a mistake":          {err: errors.New("no such flag"), want: Mistaken},
		"a failure":          {p: Program{Run: does(errors.New("taken"))}, want: Failed},
		"a good end":         {p: Program{Run: does(nil)}, want: 0},
	} {
		args := []string{"--a", "b"}
		got := Main("x", args, func(given []string) (Program, error) {
			if !slices.Equal(given, args) {
				t.Errorf("%s: prepared from %q", name, given)
			}
			return c.p, c.err
		})
		if got != c.want {
			t.Errorf("%s: got %d, want %d", name, got, c.want)
		}
	}
}

func TestASignalEndsTheProgramWell(t *testing.T) {
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		ended := false
		run := func(ctx context.Context, _ *slog.Logger) error {
			if err := syscall.Kill(os.Getpid(), s); err != nil {
				return err
			}
			select {
			case <-ctx.Done():
				ended = true
			case <-time.After(10 * time.Second):
			}
			return nil
		}
		if got := Main("x", nil, func([]string) (Program, error) { return Program{Run: run}, nil }); got != 0 || !ended {
			t.Errorf("%v: got %d, ended: %v", s, got, ended)
		}
	}
}
