package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"allim/internal/boot"
	"allim/internal/deliver"
	"allim/internal/gateway"
	"allim/internal/lifecycle"
	"allim/internal/store"
	"allim/pkg/auth"
)

// run is the gateway until ctx ends.
func run(ctx context.Context, c deliver.Config, p boot.Process) error {
	registry := boot.Registry(p.Settings.Program)
	rdb, st, err := boot.Store(p.Settings, c.Keys, c.Classes, registry, p.Log)
	if err != nil {
		return err
	}
	defer rdb.Close()
	public, err := gateway.Listen(ctx, p.Settings.Listen.Public)
	if err != nil {
		return fmt.Errorf("listen.public: %w", err)
	}
	ops, err := net.Listen("tcp", p.Settings.Listen.Ops)
	if err != nil {
		return errors.Join(fmt.Errorf("listen.ops: %w", err), public.Close())
	}
	verifiers := boot.NewLive(p, c.Verifier, deliver.Verifier)
	bank, err := deliver.New(deliver.Options{Redis: rdb, Keys: c.Keys, Store: st, Anonymous: c.Anonymous, Hosts: c.Hosts, Origins: c.Origins,
		Verify: func(token string) (*auth.Identity, error) { return verifiers.Load().Verify(token) },
		Pause:  time.Duration(p.Settings.Drain.Pause), Window: time.Duration(p.Settings.Drain.Window),
		Limits: limits(p.Settings.Limits), Push: c.Push, Deflate: int(p.Settings.WebSocket.Deflate), Upgrades: p.Settings.Limits.Upgrades, TLS: boot.ServerTLS(c.Pair), Registry: registry, Debounce: max(time.Duration(p.Settings.Presence.Debounce), time.Millisecond), Log: p.Log, Level: p.Level, Public: public, Ops: ops})
	if err != nil {
		return errors.Join(err, public.Close(), ops.Close())
	}
	files := boot.NewReloader(p, registry, boot.File{Name: "keys", Reload: verifiers.Reload}, boot.Certificate(c.Pair, "public", registry))
	parts := append([]lifecycle.Part{{Name: "files", Run: files.Run, Budget: time.Second},
		{Name: "writer", Run: st.Run, Budget: store.StopBudget}}, bank.Parts()...) // the clients' marks: it ends after those who make them
	p.Log.Info("listening", "version", boot.Version, "public", public.Addr().String(), "ops", ops.Addr().String(), "tls", c.Pair != nil,
		"partitions", c.Keys.Partitions(), "stop_budget", lifecycle.Budget(parts...).String())
	return lifecycle.Run(ctx, parts...)
}
