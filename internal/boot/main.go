package boot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"allim/internal/settings"
	"allim/pkg/notify"
)

// Exit codes of the programs.
const (
	Failed   = 1
	Mistaken = 2 // in flags, environment or files
)

// A Process is what a program runs with.
type Process struct {
	Log      *slog.Logger
	Level    *slog.LevelVar                   // of Log; it may be changed at any time
	Settings *settings.Loaded                 // as at the start
	Reread   func() (*settings.Loaded, error) // the same flags, environment and files again
	Hangup   <-chan os.Signal                 // SIGHUP: read files again now
}

// A Run is a program at work until ctx ends.
type Run func(ctx context.Context, p Process) error

// Main is a server from its arguments to its exit code. prepare checks what the settings mean and starts nothing; its error joins a
// notify.FieldError for each mistake. The log goes to stderr as JSON. SIGINT and SIGTERM end the context, a second one ends the process at once.
func Main(name string, args []string, prepare func(*settings.Loaded) (Run, error)) int {
	hangup := make(chan os.Signal, 1) // first of all: nobody who asks for a reload means to end us
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	l, err := settings.Load(name, args, os.Environ())
	if code, done := show(l, os.Stdout); done {
		return code
	}
	if l.Command == "healthcheck" && err == nil {
		return ended(healthcheck(l.Listen.Ops))
	}
	run, wrong := prepare(l)
	if mistakes := Mistakes(l, err, wrong); mistakes != nil {
		if l.Command == "config print" {
			_ = l.Print(os.Stdout) // what is known helps to find what is wrong
		}
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, mistakes)
		return Mistaken
	}
	switch l.Command {
	case "config check":
		fmt.Printf("%s: the settings are good\n", name)
		return 0
	case "config print":
		return ended(l.Print(os.Stdout))
	}
	level := &slog.LevelVar{}
	level.Set(l.Log.Level)
	log := slog.New(slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
	LogRedis(log)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	p := Process{Log: log, Level: level, Settings: l, Hangup: hangup, Reread: func() (*settings.Loaded, error) { return settings.Load(name, args, os.Environ()) }}
	if err := run(ctx, p); err != nil {
		log.Error("failed", "program", name, "error", err)
		return Failed
	}
	log.Info("stopped")
	return 0
}

// show does what needs no settings.
func show(l *settings.Loaded, w io.Writer) (code int, done bool) {
	switch {
	case l.Help != "":
		fmt.Fprint(w, l.Help)
	case l.Version:
		fmt.Fprintln(w, About(l.Program))
	case l.Command == "config defaults":
		return ended(settings.Defaults(w, l.Program)), true
	default:
		return 0, false
	}
	return 0, true
}

func ended(err error) int {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return Failed
	}
	return 0
}

// Mistakes joins what settings.Load and prepare found; nil when neither found anything. What prepare says of a value that could not be read is left
// out: it was said.
func Mistakes(l *settings.Loaded, reading, meaning error) error {
	all := &settings.Mistakes{}
	if reading != nil && !errors.As(reading, &all) {
		return reading
	}
	all = &settings.Mistakes{List: all.List, Unread: all.Unread}
	read := slices.Clone(all.List)
	said := func(path string) bool {
		for _, m := range read {
			if m.Path != "" && (path == m.Path || strings.HasPrefix(m.Path, path+"_file") || strings.HasPrefix(path, m.Path+".") || strings.HasPrefix(path, m.Path+"[")) {
				return true
			}
		}
		return false
	}
	for _, e := range flatten(meaning) {
		var fe *notify.FieldError
		switch {
		case !errors.As(e, &fe):
			all.List = append(all.List, settings.Mistake{Want: e.Error()})
		case all.Unread && l.Source(fe.Field) == "": // it may stand in what could not be read
		case !said(fe.Field):
			m := settings.Mistake{Source: l.Source(fe.Field), Path: fe.Field, Want: "expected " + fe.Want}
			if !slices.Contains(all.List, m) { // gateway and publisher may both have found it
				all.List = append(all.List, m)
			}
		}
	}
	if len(all.List) == 0 {
		return nil
	}
	all.Sort()
	return all
}

// flatten is what errors.Join joined, at every depth.
func flatten(err error) []error {
	if err == nil {
		return nil
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	var all []error
	for _, e := range joined.Unwrap() {
		all = append(all, flatten(e)...)
	}
	return all
}
