package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync/atomic"
	"time"

	"allim/internal/boot"
	"allim/internal/lifecycle"
	"allim/internal/ops"
	"allim/internal/publish"
	"allim/internal/store"
)

var errNotServing = errors.New("not serving yet")

// run is the publisher until ctx ends.
func run(ctx context.Context, c config, log *slog.Logger) error {
	rdb, err := store.Connect(store.Connection{URL: c.redis})
	if err != nil {
		return err
	}
	defer rdb.Close()
	st, err := store.New(store.Options{Redis: rdb, Keys: c.keys, Classes: c.classes, Inbox: c.inbox})
	if err != nil {
		return err
	}
	registry := boot.Registry("publisher", version)
	server, err := publish.New(publish.Options{Store: st, Services: c.services, Log: log, Metrics: publish.NewMetrics(registry), NoReflection: c.noReflection})
	if err != nil {
		return err
	}
	var serving atomic.Bool
	pulse := &ops.Pulse{Ping: func(ctx context.Context) error {
		if !serving.Load() {
			return errNotServing
		}
		return rdb.Ping(ctx).Err()
	}}
	opsAt, err := net.Listen("tcp", c.listenOps)
	if err != nil {
		return fmt.Errorf("listen for operations: %w", err)
	}
	log.Info("starting", "version", version, "ops", opsAt.Addr().String(), "partitions", c.keys.Partitions())
	return lifecycle.Run(ctx,
		lifecycle.Part{Name: "operations", Run: func(ctx context.Context) error { return ops.Serve(ctx, opsAt, pulse.Ready, registry, log) }},
		lifecycle.Part{Name: "pulse", Run: pulse.Run},
		lifecycle.Part{Name: "calls", Budget: publish.StopBudget + 2*time.Second, Run: func(ctx context.Context) error {
			defer context.AfterFunc(ctx, pulse.Stopping)()
			if err := boot.Open(ctx, st, log); err != nil || ctx.Err() != nil {
				return err
			}
			return serve(ctx, server, c, log, func() { serving.Store(true) })
		}})
}

func serve(ctx context.Context, server *publish.Server, c config, log *slog.Logger, serving func()) error {
	rpc, err := net.Listen("tcp", c.listenGRPC)
	if err != nil {
		return fmt.Errorf("listen for gRPC: %w", err)
	}
	web, err := net.Listen("tcp", c.listenHTTP)
	if err != nil {
		return errors.Join(fmt.Errorf("listen for HTTP: %w", err), rpc.Close())
	}
	log.Info("listening", "grpc", rpc.Addr().String(), "http", web.Addr().String())
	serving()
	return server.Run(ctx, rpc, web)
}
