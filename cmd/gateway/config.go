package main

import (
	"context"

	"allim/internal/boot"
	"allim/internal/deliver"
	"allim/internal/settings"
)

// prepare checks what the settings mean. Its error joins every mistake.
func prepare(l *settings.Loaded) (boot.Run, error) {
	c, err := deliver.Configure(l)
	return func(ctx context.Context, p boot.Process) error { return run(ctx, c, p) }, err
}
