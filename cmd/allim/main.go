// Command allim is for people: the demo that needs nothing but Go, and the calls of the publisher from a shell.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"

	"allim/internal/boot"
)

type commands struct {
	Demo    demo           `cmd:"" help:"Run publisher, gateway, Redis and an example page in one process, and say what to try."`
	Notify  notifyCommand  `cmd:"" help:"Put a notification into users' inboxes."`
	Publish publishCommand `cmd:"" help:"Publish a message on topics."`
	Token   tokenCommand   `cmd:"" help:"Make tokens, for development, and explain them."`
	Config  configCommand  `cmd:"" help:"Check or show the settings of gateway and publisher together."`

	PushKeys pushKeys `cmd:"" help:"Make a pair of keys for Web Push, as the settings take it."`

	Conformance conformance `cmd:"" help:"Serve an echo for public WebSocket suites, such as Autobahn."`

	Version kong.VersionFlag `help:"Show version, commit and Go."`
}

func main() { os.Exit(start(os.Args[1:])) }

// Exit codes.
const (
	failed   = 1
	mistaken = 2 // in flags or environment
)

func start(args []string) (code int) {
	var c commands
	shown := false
	parser, err := kong.New(&c, kong.Name("allim"), kong.Description("알림: what happened, on the page at once."), kong.UsageOnError(), kong.Exit(func(int) { shown = true }),
		kong.Vars{"version": boot.About("allim")})
	if err != nil {
		fmt.Fprintf(os.Stderr, "allim: %v\n", err)
		return failed
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	parsed, err := parser.Parse(args)
	if shown {
		return 0
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "allim: %v\n", err)
		return mistaken
	}
	parsed.BindTo(ctx, (*context.Context)(nil))
	if err := parsed.Run(); err != nil {
		fmt.Fprintf(os.Stderr, "allim: %v\n", err)
		var m *mistake
		if errors.As(err, &m) {
			return mistaken
		}
		return failed
	}
	return 0
}
