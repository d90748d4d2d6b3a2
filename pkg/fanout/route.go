package fanout

import (
	"context"
	"errors"
	"net"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// A lane is what has one link: everything where one Redis is, a partition on a cluster, whose channels are all in one slot and so at one node. go-redis'
// own PubSub of a cluster follows no slot (pitfalls A7, A8): each of our links goes to the node that had the slot when it was made, and ends with it.

// sharded tells whether a client is of a cluster, where only sharded pub/sub keeps a message from going to every node.
func sharded(c redis.UniversalClient) bool {
	_, ok := c.(*redis.ClusterClient)
	return ok
}

// nodeOf is how connections are made to the node that the link of a channel goes to.
func nodeOf(ctx context.Context, c redis.UniversalClient, channel string) (*redis.Options, error) {
	switch c := c.(type) {
	case interface{ Options() *redis.Options }: // of one Redis; its dialer may ask Sentinels which
		return c.Options(), nil
	case *redis.ClusterClient:
		node, err := c.MasterForKey(ctx, channel)
		if err != nil {
			return nil, err
		}
		return node.Options(), nil
	}
	return nil, errors.New("no client of one Redis or of a cluster")
}

// relocate has a cluster's client read anew which node has which slot. It does not wait: go-redis only starts to, at most five times a second.
func relocate(c redis.UniversalClient) {
	if cluster, ok := c.(*redis.ClusterClient); ok {
		cluster.ReloadState(context.Background())
	}
}

// listener is a client for one link, made as a node's connections are; heard is told whenever a byte comes. A link
// per partition has small buffers: a hundred links at 64 KiB would be a gateway's whole memory. The caller closes it.
func listener(node *redis.Options, small bool, heard *beat) *redis.Client {
	opt := *node
	dial := opt.Dialer
	if dial == nil {
		dial = redis.NewDialer(node)
	}
	opt.Dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return &heardConn{conn, heard}, nil
	}
	opt.PoolSize, opt.MinIdleConns, opt.MaxIdleConns, opt.MaxActiveConns = 1, 0, 0, 0 // of commands, which it never makes
	opt.MaxRetries = -1
	opt.PushNotificationProcessor = nil // the node's own; and no announced maintenance may move a link to another connection behind our back:
	opt.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	if small {
		opt.ReadBufferSize, opt.WriteBufferSize = 16<<10, 1<<10
	}
	return redis.NewClient(&opt)
}

// A heardConn notes when bytes come: a large message on a slow line is no silence.
type heardConn struct {
	net.Conn
	heard *beat
}

func (c *heardConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 {
		c.heard.now()
	}
	return n, err
}
