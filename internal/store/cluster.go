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

// A nodeWatch notices a node that does not answer or has a slot no more, and has the others asked who has its slots now. go-redis asks by itself only
// where a command of the whole cluster is told of another node: a dead one tells nothing, and its heir would wait for the next look, as would who
// speaks to one node (Store.node).
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
		for _, c := range cmds {
			if redis.HasErrorPrefix(c.Err(), "MOVED") || redis.HasErrorPrefix(c.Err(), "READONLY") {
				w.cluster.ReloadState(ctx)
				break
			}
		}
		return err
	}
}

func (w nodeWatch) look(ctx context.Context, err error) {
	var answered redis.Error
	if err == nil || errors.As(err, &answered) || errors.Is(err, context.Canceled) {
		return
	}
	w.cluster.ReloadState(ctx) // go-redis does it once at a time, and five times a second at most
}

// A single is a pipeline whose scripts are run once. go-redis runs those of a cluster again when the connection breaks, and the first run may
// come about after the second, behind what was written between the two.
type single struct{ redis.Pipeliner }

// Eval is of redis.Scripter.
func (s single) Eval(ctx context.Context, script string, keys []string, args ...any) *redis.Cmd {
	return s.run(ctx, "eval", script, keys, args)
}

// EvalSha is of redis.Scripter.
func (s single) EvalSha(ctx context.Context, sha1 string, keys []string, args ...any) *redis.Cmd {
	return s.run(ctx, "evalsha", sha1, keys, args)
}

func (s single) run(ctx context.Context, name, script string, keys []string, args []any) *redis.Cmd {
	all := make([]any, 0, 3+len(keys)+len(args))
	all = append(all, name, script, len(keys))
	for _, k := range keys {
		all = append(all, k)
	}
	cmd := redis.NewCmd(ctx, append(all, args...)...)
	_ = s.Process(ctx, onceCmd{cmd}) // a pipeline takes everything, and tells at its end
	return cmd
}

// A onceCmd is a command that is not sent again.
type onceCmd struct{ *redis.Cmd }

// NoRetry is of redis.Cmder.
func (onceCmd) NoRetry() bool { return true }
