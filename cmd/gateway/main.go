// Command gateway keeps the browsers' connections: WebSocket on the public port, behind it Redis pub/sub. Run as many as there are
// connections; they share nothing but Redis.
package main

import (
	"context"
	"log/slog"
	"os"

	"allim/internal/boot"
)

func main() { os.Exit(boot.Main("gateway", os.Args[1:], prepare)) }

func prepare(args []string) (boot.Program, error) {
	c, err := configure(args)
	return boot.Program{LogLevel: c.logLevel, Run: func(ctx context.Context, log *slog.Logger) error { return run(ctx, c, log) }}, err
}
