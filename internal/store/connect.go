package store

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"allim/internal/keyspace"
	"allim/internal/tcp"
	"allim/pkg/notify"
)

// Connect makes the client that a Store and a feed share, for a redis:// or rediss:// URL. It does not dial yet; the caller closes it. Commands end with
// their context and are tried once: who retries is whoever knows what the caller waits for (pitfalls A10, and dependencies, finding 5).
func Connect(url string) (*redis.Client, error) {
	o, err := redis.ParseURL(url)
	if err != nil {
		return nil, &notify.FieldError{Field: "redis", Want: "a URL such as redis://user:password@host:6379/0 (" + err.Error() + ")"}
	}
	o.ContextTimeoutEnabled = true
	o.MaxRetries = -1
	o.DialerRetries = 1
	o.DialTimeout, o.ReadTimeout, o.WriteTimeout = 3*time.Second, 5*time.Second, 5*time.Second
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	if o.TLSConfig == nil { // go-redis dials TLS by itself
		o.Dialer = dial
	}
	return redis.NewClient(o), nil
}

// dial bounds how long sent bytes may stay unacknowledged: without it a silently cut link stays up for a quarter of an hour (pitfalls X1).
func dial(ctx context.Context, network, addr string) (net.Conn, error) {
	d := net.Dialer{Timeout: 3 * time.Second, KeepAliveConfig: tcp.KeepAlive, Control: tcp.Options{UserTimeout: 10 * time.Second}.Control}
	return d.DialContext(ctx, network, addr)
}

// New makes a Store. It does not call Redis: Open does.
func New(o Options) (*Store, error) {
	if o.Redis == nil || o.Keys == nil {
		return nil, fmt.Errorf("store: options need Redis and Keys")
	}
	s := &Store{redis: o.Redis, keys: o.Keys, classes: o.Classes, inbox: o.Inbox, publishCmd: "PUBLISH"}
	if s.inbox.Size == 0 {
		s.inbox.Size = 200
	}
	if s.inbox.Retention == 0 {
		s.inbox.Retention = 90 * 24 * time.Hour
	}
	return s, nil
}

// A Store reads and writes Redis. It holds no state but its options and is safe for concurrent use.
type Store struct {
	redis      redis.UniversalClient
	keys       *keyspace.Map
	classes    []Class
	inbox      Inbox
	publishCmd string // PUBLISH on one Redis, SPUBLISH on a cluster
}

// Open checks that Redis answers and that its schema and partition count are this Store's; the first one to open an empty Redis writes them.
func (s *Store) Open(ctx context.Context) error {
	pipe := s.redis.Pipeline()
	pipe.HSetNX(ctx, keyspace.SchemaKey, "schema", keyspace.Schema)
	pipe.HSetNX(ctx, keyspace.SchemaKey, "partitions", s.keys.Partitions())
	got := pipe.HMGet(ctx, keyspace.SchemaKey, "schema", "partitions")
	if _, err := pipe.Exec(ctx); err != nil {
		return fmt.Errorf("open store: %w", classify(err))
	}
	v := got.Val()
	if want := fmt.Sprint(keyspace.Schema); v[0] != want {
		return fmt.Errorf("open store: this Redis holds schema %v, this build speaks %s", v[0], want)
	}
	if want := fmt.Sprint(s.keys.Partitions()); v[1] != want {
		return fmt.Errorf("open store: this Redis was set up with %v partitions, the setting says %s: the number is fixed for its life", v[1], want)
	}
	return nil
}
