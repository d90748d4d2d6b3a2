package boot

import (
	"context"
	"errors"
	"os"
	"syscall"
	"testing"
	"time"

	"allim/internal/settings"
	"allim/internal/testkit"
	"allim/pkg/notify"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// prepared is a prepare that finds no mistake.
func prepared(r Run) func(*settings.Loaded) (Run, error) {
	return func(*settings.Loaded) (Run, error) { return r, nil }
}

func TestTheExitCodeSaysWhatHappened(t *testing.T) {
	does := func(err error) func(*settings.Loaded) (Run, error) {
		return prepared(func(context.Context, Process) error { return err })
	}
	wrong := func(*settings.Loaded) (Run, error) { return nil, &notify.FieldError{Field: "keys", Want: "one"} }
	for name, c := range map[string]struct {
		args    []string
		prepare func(*settings.Loaded) (Run, error)
		want    int
	}{
		"help":               {[]string{"--help"}, wrong, 0},
		"version":            {[]string{"--version"}, wrong, 0},
		"defaults":           {[]string{"config", "defaults"}, wrong, 0},
		"an unknown flag":    {[]string{"--nope"}, does(nil), Mistaken},
		"a mistake":          {nil, wrong, Mistaken},
		"a mistake, checked": {[]string{"config", "check"}, wrong, Mistaken},
		"a mistake, printed": {[]string{"config", "print"}, wrong, Mistaken},
		"checked":            {[]string{"config", "check"}, does(errors.New("it ran")), 0},
		"printed":            {[]string{"config", "print"}, does(errors.New("it ran")), 0},
		"a failure":          {nil, does(errors.New("taken")), Failed},
		"a good end":         {nil, does(nil), 0},
	} {
		if got := Main(settings.Gateway, c.args, c.prepare); got != c.want {
			t.Errorf("%s: got %d, want %d", name, got, c.want)
		}
	}
}

func TestASignalEndsTheProgramWell(t *testing.T) {
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		ended := false
		got := Main(settings.Publisher, nil, prepared(func(ctx context.Context, _ Process) error {
			if err := syscall.Kill(os.Getpid(), s); err != nil {
				return err
			}
			select {
			case <-ctx.Done():
				ended = true
			case <-time.After(10 * time.Second):
			}
			return nil
		}))
		if got != 0 || !ended {
			t.Errorf("%v: got %d, ended: %v", s, got, ended)
		}
	}
}

func TestHangupIsHandedOn(t *testing.T) {
	heard := false
	got := Main(settings.Publisher, nil, prepared(func(_ context.Context, p Process) error {
		if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
			return err
		}
		select {
		case <-p.Hangup:
			heard = true
		case <-time.After(10 * time.Second):
		}
		return nil
	}))
	if got != 0 || !heard {
		t.Errorf("got %d, heard: %v", got, heard)
	}
}

func TestWhatWasSaidOfAValueIsNotSaidTwice(t *testing.T) {
	l, err := settings.Load(settings.Publisher, []string{"--inbox-size=x", "--keys=[{algorithm: [1]}]"}, nil)
	field := func(name string) error { return &notify.FieldError{Field: name, Want: "it"} }
	got := Mistakes(l, err, errors.Join(field("inbox.size"), errors.Join(field("keys[0].algorithm"), field("keys[0].secret")), field("topics"), errors.New("whatever")))
	want := "5 mistakes in the settings:\n" +
		"  flag --keys: keys[0].algorithm: expected text, not a list\n" +
		"  flag --inbox-size: inbox.size: expected a whole number, from 1 to 10000, not \"x\"\n" +
		"  flag --keys: keys[0].secret: expected it\n  topics: expected it\n  whatever"
	if got == nil || got.Error() != want {
		t.Errorf("got %v\nwant %s", got, want)
	}
	if err := Mistakes(l, nil, nil); err != nil {
		t.Errorf("no mistakes are %v", err)
	}
}
