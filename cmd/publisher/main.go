// Command publisher is what backends call: gRPC and JSON over HTTP in front of Redis. Run as many as there is load; they share
// nothing but Redis.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/redis/go-redis/v9"

	"allim/internal/boot"
)

// Exit codes.
const (
	failed   = 1
	mistaken = 2 // in flags, environment or settings file
)

func main() { os.Exit(start(os.Args[1:])) }

func start(args []string) int {
	c, err := configure(args)
	if errors.Is(err, errShown) {
		return 0
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "publisher: %v\n", err)
		return mistaken
	}
	log := slog.New(slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: c.logLevel}))
	redis.SetLogger(boot.RedisLog{Log: log})
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	if err := run(ctx, c, log); err != nil {
		log.Error("publisher_failed", "error", err)
		return failed
	}
	return 0
}
