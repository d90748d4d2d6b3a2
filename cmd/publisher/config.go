package main

import (
	"context"
	"time"

	"allim/internal/boot"
	"allim/internal/publish"
	"allim/internal/settings"
)

// prepare checks what the settings mean. Its error joins every mistake.
func prepare(l *settings.Loaded) (boot.Run, error) {
	c, err := boot.NewPublisher(l)
	return func(ctx context.Context, p boot.Process) error { return run(ctx, c, p) }, err
}

// options are the settings of calls in the words of their room.
func options(s *settings.Settings) publish.Options {
	l := s.Limits
	return publish.Options{InFlight: l.Calls, InFlightBytes: int(l.CallsBytes), Receiving: l.Receiving, Streams: l.Streams, Watchers: l.Watchers, Connections: l.Connections, Deadline: time.Duration(l.Deadline), NoReflection: !s.Reflect,
		Limits: publish.Limits{Data: int(l.Data), Notification: int(l.Notification), Request: int(l.Request), Topics: l.PublishTopics, Users: l.NotifyUsers, MarkIDs: l.MarkIDs,
			Retention: time.Duration(s.Inbox.Retention)}}
}
