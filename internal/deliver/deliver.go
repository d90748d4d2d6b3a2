// Package deliver is the delivery bank put together, from Redis to the public port: what cmd/gateway runs, and the demo beside a
// publisher.
package deliver

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"allim/internal/boot"
	"allim/internal/gateway"
	"allim/internal/keyspace"
	"allim/internal/lifecycle"
	"allim/internal/ops"
	"allim/internal/presence"
	"allim/internal/session"
	"allim/internal/store"
	"allim/internal/transport/ws"
	"allim/pkg/auth"
	"allim/pkg/fanout"
)

// Options make a Bank.
type Options struct {
	Redis     redis.UniversalClient
	Keys      *keyspace.Map
	Store     *store.Store
	Verify    func(token string) (*auth.Identity, error)
	Anonymous *auth.Identity // nil: everybody needs a token
	Hosts     []string
	Origins   []string
	Fallback  http.Handler // see gateway.Options
	Registry  *prometheus.Registry
	Limits    session.Limits // of connections; zeros: the defaults
	Push      *session.Push  // nil: nothing is pushed
	Deflate   int            // see ws.Options
	Upgrades  int            // new connections in a second; 0: gateway.Options' default
	TLS       *tls.Config    // of the public port; nil: plain
	Debounce  time.Duration  // that a user has to come back before backends are told that he is gone; 0: presence.DefaultDebounce
	Lag       time.Duration  // how long a reader may lag without getting nearer; 0: fanout.Options' default
	Pause     time.Duration  // after it said that it is not ready any more, until it takes no connections
	Window    time.Duration  // then, over which clients are asked to connect elsewhere; 0: they are closed at once
	Log       *slog.Logger
	Level     *slog.LevelVar // of Log, changed on the operations port; nil: it is not
	Public    net.Listener   // closed when the bank stops, as is Ops
	Ops       net.Listener
}

// A Bank is the parts of a gateway.
type Bank struct {
	opt      Options
	hub      *fanout.Hub
	presence *presence.Keeper
	sessions *session.Sessions
	sockets  *ws.Server
	front    *gateway.Gateway
	open     atomic.Bool // the store is open
	stopping atomic.Bool
}

// New puts the parts together; it starts nothing.
func New(o Options) (*Bank, error) {
	b := &Bank{opt: o}
	metrics := session.NewMetrics(o.Registry)
	verify := gateway.Limited(o.Verify)
	b.presence = presence.NewKeeper(presence.Options{Store: o.Store, Users: func(ctx context.Context, part int) error { return b.hub.Users(ctx, part) },
		Partitions: o.Keys.Partitions(), Debounce: o.Debounce, Metrics: presence.NewMetrics(o.Registry), Log: o.Log})
	b.hub = fanout.New(fanout.Options{Redis: o.Redis, Keys: o.Keys, History: o.Store, Gateway: rand.Text(), LagTimeout: o.Lag, Log: o.Log, Present: b.presence.Heard})
	o.Registry.MustRegister(newHubMetrics(b.hub))
	b.sessions = session.New(session.Options{Limits: o.Limits, Hub: b.hub, Store: o.Store, Verify: verify, Anonymous: o.Anonymous, Window: o.Window, Push: o.Push, Degraded: func() bool { return !b.hub.Ready() }, Log: o.Log, Metrics: metrics})
	b.sockets = ws.New(ws.Options{Limits: b.sessions.Limits(), Metrics: metrics, Log: o.Log, Deflate: o.Deflate})
	var err error
	b.front, err = gateway.New(gateway.Options{Sessions: b.sessions, Sockets: b.sockets, Metrics: metrics, Verify: verify,
		Hosts: o.Hosts, Origins: o.Origins, Fallback: o.Fallback, Upgrades: o.Upgrades, Pause: o.Pause, Log: o.Log})
	return b, err
}

// Ready tells whether messages really flow through this gateway.
func (b *Bank) Ready() bool { return b.open.Load() && !b.stopping.Load() && b.hub.Ready() }

func (b *Bank) notReady() error {
	if !b.Ready() {
		return errors.New("no probe came back through Redis yet, or stopping")
	}
	return nil
}

// feedBudget is above the 5 s of a probe, the longest call of a hub: a Redis that stands still answers none of them, and no call ends before its
// own time.
const feedBudget = 5500 * time.Millisecond

const opsBudget = 2 * time.Second

// socketsBudget is for what is left when the sessions have ended: their goroutines.
const socketsBudget = 500 * time.Millisecond

// Parts are what lifecycle.Run runs, in their order: the feed first, the front door last, which is stopped first.
func (b *Bank) Parts() []lifecycle.Part {
	return []lifecycle.Part{
		{Name: "operations", Run: b.ops, Budget: opsBudget},
		{Name: "feed", Run: b.feed, Budget: feedBudget},
		{Name: "sockets", Run: b.sockets.Run, Budget: socketsBudget},
		{Name: "sessions", Run: b.sessions.Run, Budget: b.sessions.Budget()},
		{Name: "front", Run: b.serve, Budget: b.front.Budget()},
	}
}

func (b *Bank) ops(ctx context.Context) error {
	return ops.Run(ctx, b.opt.Ops, ops.Options{Ready: b.notReady, Metrics: b.opt.Registry, Level: b.opt.Level, Log: b.opt.Log, Stop: opsBudget * 3 / 4})
}

// feed runs the hub at once, so that who comes before Redis does is answered, and ends if the Redis that comes is not ours.
func (b *Bank) feed(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	opened := make(chan error, 1)
	go func() {
		err := boot.Open(ctx, b.opt.Store.Open, b.opt.Log)
		if b.open.Store(err == nil); err != nil {
			stop()
		}
		opened <- err
	}()
	kept := make(chan error, 1)
	go func() { kept <- b.presence.Run(ctx) }()
	err := b.hub.Run(ctx)
	stop()
	err = errors.Join(err, <-kept)
	return errors.Join(err, <-opened)
}

func (b *Bank) serve(ctx context.Context) error {
	defer context.AfterFunc(ctx, func() { b.stopping.Store(true) })()
	return b.front.Serve(ctx, b.opt.Public, b.opt.TLS)
}
