package main

import (
	"context"
	"time"

	"allim/internal/boot"
	"allim/internal/deliver"
	"allim/internal/session"
	"allim/internal/settings"
)

// prepare checks what the settings mean. Its error joins every mistake.
func prepare(l *settings.Loaded) (boot.Run, error) {
	c, err := deliver.Configure(l)
	return func(ctx context.Context, p boot.Process) error { return run(ctx, c, p) }, err
}

// limits are the settings of one connection in the words of its room.
func limits(l settings.Limits) session.Limits {
	return session.Limits{Sessions: l.Sessions, Topics: l.Topics, Frame: int(l.Frame), Queue: int(l.Queue), QueueFrames: l.QueueFrames, MarkIDs: l.MarkIDs,
		Header: int(l.Header), Token: int(l.Token), AuthTimeout: time.Duration(l.AuthTimeout), Ping: time.Duration(l.Ping), Pong: time.Duration(l.Pong), Requests: l.Requests}
}
