package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"

	"allim/internal/boot"
	"allim/internal/deliver"
	"allim/internal/gateway"
	"allim/internal/lifecycle"
	"allim/internal/store"
)

// run is the gateway until ctx ends.
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
	public, err := gateway.Listen(ctx, c.listen)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	ops, err := net.Listen("tcp", c.listenOps)
	if err != nil {
		return errors.Join(fmt.Errorf("listen for operations: %w", err), public.Close())
	}
	bank, err := deliver.New(deliver.Options{Redis: rdb, Keys: c.keys, Store: st, Verifier: c.verifier, Anonymous: c.anonymous, Hosts: c.hosts, Origins: c.origins,
		Registry: boot.Registry("gateway", version), Log: log, Public: public, Ops: ops})
	if err != nil {
		return errors.Join(err, public.Close(), ops.Close())
	}
	log.Info("listening", "version", version, "public", public.Addr().String(), "ops", ops.Addr().String(), "partitions", c.keys.Partitions())
	return lifecycle.Run(ctx, bank.Parts()...)
}
