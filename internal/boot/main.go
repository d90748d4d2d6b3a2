package boot

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
)

// Exit codes of the programs.
const (
	Failed   = 1
	Mistaken = 2 // in flags, environment or settings file
)

// ErrShown is the error of a prepare that showed the help or the version, as asked.
var ErrShown = errors.New("shown")

// A Program is what a server does once its flags and settings are read.
type Program struct {
	LogLevel slog.Level
	Run      func(ctx context.Context, log *slog.Logger) error // until ctx ends
}

// Main is a server from its arguments to its exit code. It logs to stderr as JSON; SIGINT and SIGTERM end its context, a second
// one ends the process at once.
func Main(name string, args []string, prepare func(args []string) (Program, error)) int {
	p, err := prepare(args)
	if errors.Is(err, ErrShown) {
		return 0
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		return Mistaken
	}
	log := slog.New(slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: p.LogLevel}))
	LogRedis(log)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	if err := p.Run(ctx, log); err != nil {
		log.Error(name+"_failed", "error", err)
		return Failed
	}
	return 0
}
