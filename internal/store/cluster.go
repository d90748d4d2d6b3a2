package store

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	redirects     = 3                // MOVED and ASK that one command follows
	reloadAtLeast = 10 * time.Second // between two looks at who has which slots, when no error asks for one
	slotsTimeout  = time.Second      // for a node to tell which slots are whose; then another one is asked
)

// newCluster is the client of a Redis Cluster: each command goes to the master of its key's slot. o says all but where the nodes are.
func newCluster(o *redis.Options, addresses []string) *redis.ClusterClient {
	c := redis.NewClusterClient(&redis.ClusterOptions{
		Addrs: addresses, ClientName: o.ClientName, Dialer: o.Dialer, TLSConfig: o.TLSConfig,
		Username: o.Username, Password: o.Password, CredentialsProviderContext: o.CredentialsProviderContext,
		MaxRedirects: redirects, // not -1: that is none, and every moved slot would be an error
		MaxRetries:   o.MaxRetries, DialerRetries: o.DialerRetries,
		DialTimeout: o.DialTimeout, ReadTimeout: o.ReadTimeout, WriteTimeout: o.WriteTimeout, ContextTimeoutEnabled: o.ContextTimeoutEnabled,
		PoolSize: o.PoolSize, PoolTimeout: o.PoolTimeout, MinIdleConns: o.MinIdleConns, MaxIdleConns: o.MaxIdleConns, MaxActiveConns: o.MaxActiveConns,
		ConnMaxIdleTime: o.ConnMaxIdleTime, ConnMaxLifetime: o.ConnMaxLifetime, ConnMaxLifetimeJitter: o.ConnMaxLifetimeJitter,
		DisableIdentity: o.DisableIdentity, MaintNotificationsConfig: o.MaintNotificationsConfig,
		DisableRoutingPolicies:     true, // they ask COMMAND, and a PING of all masters is one too many
		ClusterStateReloadInterval: reloadAtLeast,
	})
	c.OnNewNode(func(node *redis.Client) { node.AddHook(nodeWatch{c}) })
	return c
}

// A nodeWatch notices a node that does not answer, and has the others asked who has its slots now. go-redis asks by itself only where a node says
// that it has a slot no more: a dead one says nothing, and its heir would wait for the next look.
type nodeWatch struct{ cluster *redis.ClusterClient }

// DialHook is of redis.Hook.
func (w nodeWatch) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := next(ctx, network, addr)
		w.look(ctx, err)
		return conn, err
	}
}

// ProcessHook is of redis.Hook. It bounds CLUSTER SLOTS, which go-redis asks without a deadline: a frozen node must not hold it up.
func (w nodeWatch) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if cmd.Name() == "cluster" {
			ctx, cancel := context.WithTimeout(ctx, slotsTimeout)
			defer cancel()
			return next(ctx, cmd)
		}
		err := next(ctx, cmd)
		w.look(ctx, err)
		return err
	}
}

// ProcessPipelineHook is of redis.Hook.
func (w nodeWatch) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		err := next(ctx, cmds)
		w.look(ctx, err)
		return err
	}
}

func (w nodeWatch) look(ctx context.Context, err error) {
	var answered redis.Error
	if err == nil || errors.As(err, &answered) || errors.Is(err, context.Canceled) {
		return
	}
	w.cluster.ReloadState(ctx) // at most one at a time, five a second
}
