package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"allim/internal/boot"
	"allim/internal/due"
	"allim/internal/lifecycle"
	"allim/internal/ops"
	"allim/internal/presence"
	"allim/internal/publish"
	"allim/internal/store"
	"allim/pkg/auth"
)

var errNotServing = errors.New("not serving yet")

// live authenticates by the keys of the moment.
type live struct{ *boot.Live[boot.Outside] }

func (l live) Authenticate(credential string) (*auth.Principal, error) {
	return l.Load().Authenticate(credential)
}

// run is the publisher until ctx ends.
func run(ctx context.Context, c boot.Publisher, p boot.Process) error {
	registry := boot.Registry(p.Settings.Program)
	rdb, st, err := boot.Store(p.Settings, c.Keys, c.Classes, registry, p.Log)
	if err != nil {
		return err
	}
	defer rdb.Close()
	outside := live{boot.NewLive(p, c.Outside, boot.NewOutside)}
	o := options(&p.Settings.Settings)
	o.Store, o.Services, o.Log, o.Metrics, o.TLS = st, outside, p.Log, publish.NewMetrics(registry), boot.ServerTLS(c.Pair)
	o.Reaches = outside.reaches(c.Push != nil)
	server, err := publish.New(o)
	if err != nil {
		return err
	}
	tell, closeSenders := told(c, st, outside, registry, p.Log)
	defer closeSenders()
	opened := make(chan struct{}) // closed when Redis was found to be ours
	var serving atomic.Bool
	pulse := &ops.Pulse{Ping: func(ctx context.Context) error {
		if !serving.Load() {
			return errNotServing
		}
		return rdb.Ping(ctx).Err()
	}}
	opsAt, err := net.Listen("tcp", p.Settings.Listen.Ops)
	if err != nil {
		return fmt.Errorf("listen.ops: %w", err)
	}
	files := boot.NewReloader(p, registry, boot.File{Name: "keys", Reload: outside.Reload}, boot.Certificate(c.Pair, "publisher", registry))
	parts := []lifecycle.Part{
		{Name: "operations", Run: func(ctx context.Context) error {
			return ops.Run(ctx, opsAt, ops.Options{Ready: pulse.Ready, Metrics: registry, Level: p.Level, Log: p.Log})
		}, Budget: 5 * time.Second},
		{Name: "files", Run: files.Run, Budget: time.Second},
		{Name: "pulse", Run: pulse.Run, Budget: 5 * time.Second},
		{Name: "writer", Run: st.Run, Budget: store.StopBudget}, // after the calls that write
		{Name: "due", Budget: due.StopBudget, Run: func(ctx context.Context) error {
			select {
			case <-ctx.Done():
				return nil
			case <-opened:
				gone := make(chan error, 1)
				go func() { gone <- reaper(p, st).Run(ctx) }()
				return errors.Join(tell.Run(ctx), <-gone)
			}
		}},
		{Name: "calls", Budget: publish.StopBudget + 2*time.Second, Run: func(ctx context.Context) error {
			defer context.AfterFunc(ctx, pulse.Stopping)()
			if err := boot.Open(ctx, st.OpenWriter, p.Log); err != nil || ctx.Err() != nil {
				return err
			}
			close(opened)
			return serve(ctx, server, p, func() { serving.Store(true) })
		}}}
	p.Log.Info("starting", "version", boot.Version, "ops", opsAt.Addr().String(), "tls", c.Pair != nil, "partitions", c.Keys.Partitions(),
		"stop_budget", lifecycle.Budget(parts...).String())
	return lifecycle.Run(ctx, parts...)
}

// reaper tells which users are gone.
func reaper(p boot.Process, st *store.Store) presence.Reaper {
	return presence.Reaper{Store: st, Debounce: max(time.Duration(p.Settings.Presence.Debounce), time.Millisecond), Log: p.Log}
}

func serve(ctx context.Context, server *publish.Server, p boot.Process, serving func()) error {
	rpc, err := net.Listen("tcp", p.Settings.Listen.GRPC)
	if err != nil {
		return fmt.Errorf("listen.grpc: %w", err)
	}
	web, err := net.Listen("tcp", p.Settings.Listen.HTTP)
	if err != nil {
		return errors.Join(fmt.Errorf("listen.http: %w", err), rpc.Close())
	}
	p.Log.Info("listening", "grpc", rpc.Addr().String(), "http", web.Addr().String())
	serving()
	return server.Run(ctx, rpc, web)
}
