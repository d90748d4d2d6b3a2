// Command publisher is what backends call: gRPC and JSON over HTTP in front of Redis. Run as many as there is load; they share
// nothing but Redis.
package main

import (
	"context"
	"log/slog"
	"os"

	"allim/internal/boot"
)

func main() { os.Exit(boot.Main("publisher", os.Args[1:], prepare)) }

func prepare(args []string) (boot.Program, error) {
	c, err := configure(args)
	return boot.Program{LogLevel: c.logLevel, Run: func(ctx context.Context, log *slog.Logger) error { return run(ctx, c, log) }}, err
}
