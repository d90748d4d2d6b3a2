package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"time"

	"github.com/redis/go-redis/v9"
	"google.golang.org/grpc/credentials/insecure"

	"allim/examples/inbox"
	"allim/internal/boot"
	"allim/internal/deliver"
	"allim/internal/embedded"
	"allim/internal/gateway"
	"allim/internal/keyspace"
	"allim/internal/lifecycle"
	"allim/internal/ops"
	"allim/internal/presence"
	"allim/internal/publish"
	"allim/internal/store"
	"allim/pkg/auth"
	allimv1 "allim/proto/allim/v1"
)

// demo is everything in one process: nothing to install, nothing kept.
type demo struct {
	Redis    string     `env:"ALLIM_REDIS" placeholder:"URL" help:"A real Redis, as redis:// URL, instead of the one in this process. The demo's topics and inboxes are written to it."`
	Host     string     `default:"127.0.0.1" help:"Address to listen on (${default}). Any but loopback needs --open-to-network."`
	Open     bool       `name:"open-to-network" help:"Let others reach the demo. Whoever can is everybody: its page hands out every user's token."`
	LogLevel slog.Level `default:"warn" env:"ALLIM_LOG_LEVEL" placeholder:"LEVEL" help:"debug, info, warn or error (${default})."`
}

// The demo's ports; one that is taken is replaced by a free one.
var ports = []struct {
	name string
	port int
}{{"page and gateway", 8080}, {"publisher, gRPC", 50051}, {"publisher, HTTP", 8081}, {"operations of the gateway", 9090}, {"operations of the publisher", 9091}}

// Listeners in the order of ports.
const (
	web = iota
	rpc
	api
	gatewayOps
	publisherOps
)

// Run runs the demo until ctx ends.
func (d *demo) Run(ctx context.Context) error {
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: d.LogLevel}))
	boot.LogRedis(log)
	return d.run(ctx, os.Stdout, log)
}

func (d *demo) run(ctx context.Context, out io.Writer, log *slog.Logger) (err error) {
	listeners, taken, err := d.listen()
	if err != nil {
		return err
	}
	served := false
	defer func() {
		if !served {
			closeAll(listeners)
		}
	}()
	cast, err := newCast()
	if err != nil {
		return err
	}
	url, parts := d.Redis, []lifecycle.Part(nil)
	if url == "" {
		srv, err := embedded.Listen(embedded.Options{})
		if err != nil {
			return err
		}
		url, parts = srv.URL(), []lifecycle.Part{{Name: "redis", Run: srv.Run}}
	}
	rdb, err := store.Connect(store.Connection{URL: url})
	if err != nil {
		return err
	}
	defer rdb.Close()
	keys, err := keyspace.NewMap(0)
	if err != nil {
		return err
	}
	st, err := store.New(store.Options{Redis: rdb, Keys: keys})
	if err != nil {
		return err
	}
	parts = append(parts, lifecycle.Part{Name: "writer", Run: st.Run, Budget: store.StopBudget})
	if parts, err = writingBank(parts, st, rdb, cast, listeners, log); err != nil {
		return err
	}
	conn, err := dial(listeners[rpc].Addr().String(), cast.shopKey, insecure.NewCredentials())
	if err != nil {
		return err
	}
	defer conn.Close()
	page, err := inbox.New(inbox.Options{Publisher: allimv1.NewPublisherClient(conn), Users: cast.users, Hosts: d.names(), Log: log})
	if err != nil {
		return err
	}
	bank, err := deliver.New(deliver.Options{Redis: rdb, Keys: keys, Store: st, Verify: cast.verifier.Verify, Anonymous: cast.anonymous, Hosts: d.names(), Origins: d.origins(listeners[web]),
		Fallback: page, // nobody else is there to move to: it ends without a drain
		Registry: boot.Registry("gateway"), Log: log, Public: listeners[web], Ops: listeners[gatewayOps]})
	if err != nil {
		return err
	}
	say := lifecycle.Part{Name: "words", Run: func(ctx context.Context) error {
		if awaitReady(ctx, bank) {
			d.say(out, listeners, taken, cast)
		}
		<-ctx.Done()
		return nil
	}}
	served = true
	return lifecycle.Run(ctx, append(append(parts, bank.Parts()...), say)...)
}

// writingBank is the publisher with its operations port.
func writingBank(parts []lifecycle.Part, st *store.Store, rdb redis.UniversalClient, cast *cast, l []net.Listener, log *slog.Logger) ([]lifecycle.Part, error) {
	registry := boot.Registry("publisher")
	server, err := publish.New(publish.Options{Store: st, Services: cast.services, Log: log, Metrics: publish.NewMetrics(registry)})
	if err != nil {
		return nil, err
	}
	pulse := &ops.Pulse{Ping: func(ctx context.Context) error { return rdb.Ping(ctx).Err() }}
	return append(parts,
		lifecycle.Part{Name: "publisher operations", Run: func(ctx context.Context) error {
			return ops.Run(ctx, l[publisherOps], ops.Options{Ready: pulse.Ready, Metrics: registry, Log: log})
		}},
		lifecycle.Part{Name: "publisher pulse", Run: pulse.Run},
		lifecycle.Part{Name: "presence", Run: presence.Reaper{Store: st, Log: log}.Run, Budget: time.Second},
		lifecycle.Part{Name: "publisher", Run: func(ctx context.Context) error { return server.Run(ctx, l[rpc], l[api]) }, Budget: publish.StopBudget}), nil
}

// awaitReady waits until a probe came back through Redis; false: the demo ends before.
func awaitReady(ctx context.Context, bank *deliver.Bank) bool {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !bank.Ready() {
		select {
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
	}
	return true
}

// listen opens every port, and says which ones were taken.
func (d *demo) listen() (all []net.Listener, taken []string, err error) {
	if ip := net.ParseIP(d.Host); d.Host != "localhost" && (ip == nil || !ip.IsLoopback()) && !d.Open {
		return nil, nil, fmt.Errorf("--host %s is not loopback: the demo gives every user's token to whoever opens its page. Say --open-to-network if that is what you want", d.Host)
	}
	for _, p := range ports {
		l, err := gateway.Listen(context.Background(), net.JoinHostPort(d.Host, fmt.Sprint(p.port)))
		if err != nil {
			var free error
			if l, free = gateway.Listen(context.Background(), net.JoinHostPort(d.Host, "0")); free != nil {
				closeAll(all)
				return nil, nil, fmt.Errorf("listen for %s: %w", p.name, errors.Join(err, free))
			}
			taken = append(taken, fmt.Sprintf("Port %d is taken. On %d instead: %s.", p.port, l.Addr().(*net.TCPAddr).Port, p.name))
		}
		all = append(all, l)
	}
	return all, taken, nil
}

func closeAll(ls []net.Listener) {
	for _, l := range ls {
		_ = l.Close()
	}
}

// names and origins let in who was let in on purpose; loopback always is.
func (d *demo) names() []string {
	if !d.Open || net.ParseIP(d.Host) != nil && net.ParseIP(d.Host).IsUnspecified() {
		return localAddresses(d.Open)
	}
	return []string{d.Host}
}

func (d *demo) origins(l net.Listener) (all []string) {
	for _, name := range d.names() {
		all = append(all, "http://"+net.JoinHostPort(name, fmt.Sprint(l.Addr().(*net.TCPAddr).Port)))
	}
	return all
}

// localAddresses are this machine's own, for a demo that is open to the network.
func localAddresses(open bool) (all []string) {
	if !open {
		return nil
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	for _, a := range addrs {
		if ip, ok := a.(*net.IPNet); ok && ip.IP.To4() != nil && !ip.IP.IsLoopback() {
			all = append(all, ip.IP.String())
		}
	}
	if name, err := os.Hostname(); err == nil {
		all = append(all, name)
	}
	return all
}

// A cast is who plays in the demo. Every key is made anew at each start.
type cast struct {
	users     []inbox.User
	shopKey   string // of the example backend
	yourKey   string // of whoever pastes commands
	verifier  *auth.Verifier
	anonymous *auth.Identity
	services  *auth.Services
}
