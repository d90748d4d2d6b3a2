package store

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"allim/internal/tcp"
	"allim/pkg/notify"
)

const (
	dialTimeout = 3 * time.Second  // for TCP and, anew, for the TLS handshake behind it
	ioTimeout   = 5 * time.Second  // of a command without a deadline of its own
	userTimeout = 10 * time.Second // how long sent bytes may stay unacknowledged
)

// A Connection says how to reach Redis. Only URL is required.
type Connection struct {
	// redis://host:6379/0, rediss:// for TLS, or unix://; all servers' certificates must be for its host. With Sentinel or Cluster it says all
	// but where Redis is, and is not unix://.
	URL string

	Sentinel Sentinel // who knows which Redis is the primary; zero: nobody is asked
	Cluster  []string // host:port of some nodes of a Redis Cluster; none: it is no cluster

	// Who we are: in the URL, or here, as text or as files. A file holds nothing else but a line end, and is read for every new connection, so that
	// a new password needs no restart; where it can not be read any more, the last one that could be counts. No Username: Redis' default user.
	Username, UsernameFile string
	Password, PasswordFile string

	CAFile            string // PEM, read once: who may sign the server's certificate; "": the system's roots
	CertFile, KeyFile string // PEM, read for every handshake as the password is: our own certificate; "": none

	PoolSize int      // connections for commands; 0: what go-redis finds right, ten per processor
	Metrics  *Metrics // nil: nothing is counted
}

// ours are the parameters that a URL may have: what they set, we leave to deployments. The others of go-redis would overrule what is fixed below,
// or turn off the check of certificates (skip_verify).
var ours = []string{"db", "client_name", "pool_size", "pool_timeout", "min_idle_conns", "max_idle_conns", "max_active_conns",
	"conn_max_idle_time", "conn_max_lifetime", "conn_max_lifetime_jitter"}

// Connect makes the client that a Store and a feed share: a *redis.Client, of a cluster a *redis.ClusterClient. It does not dial yet; the caller
// closes it. Commands end with their context and are tried once: who retries is whoever knows what the caller waits for (pitfalls A10, and
// dependencies, finding 5); those of a cluster follow its redirections, see Store. Its error joins a *notify.FieldError, with the name of our
// setting, for each mistake; none holds a password.
func Connect(c Connection) (redis.UniversalClient, error) {
	o, err := c.parse()
	if err := errors.Join(err, c.misplaced(o), c.unreadable()); err != nil {
		return nil, err
	}
	sentinels := &redis.Options{}
	var nobody, insecure, unknown error
	o.CredentialsProviderContext, nobody = c.credentials(o)
	sentinels.CredentialsProviderContext, unknown = c.Sentinel.credentials(c.Metrics)
	insecure = c.secure(o)
	if err := errors.Join(nobody, unknown, insecure); err != nil {
		return nil, err
	}
	if c.PoolSize != 0 {
		o.PoolSize = c.PoolSize
	}
	dial := dialer(o.TLSConfig, c.Metrics)
	fix(o, dial)
	var client redis.UniversalClient
	switch {
	case len(c.Cluster) > 0:
		client = newCluster(o, c.Cluster)
	case c.Sentinel.Master != "":
		fix(sentinels, dial)
		client = newFailover(o, c.Sentinel, sentinels)
	default:
		client = redis.NewClient(o)
	}
	c.Metrics.watch(client)
	return client, nil
}

// fix sets what no deployment may set.
func fix(o *redis.Options, dial dialFunc) {
	o.ContextTimeoutEnabled = true
	o.MaxRetries = -1
	o.DialerRetries = 1
	o.DialTimeout, o.ReadTimeout, o.WriteTimeout = dialTimeout, ioTimeout, ioTimeout
	o.DisableIdentity = true // CLIENT SETINFO: Redis 7.0 does not know it, and ACLs need not allow it
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	o.Dialer = dial
}

type dialFunc = func(ctx context.Context, network, addr string) (net.Conn, error)

// parse reads the URL and what may stand beside it.
func (c Connection) parse() (*redis.Options, error) {
	u, err := url.Parse(c.URL)
	if err != nil { // its text has parts of the URL, and so perhaps of the password
		return nil, wrong("redis.url", "a URL such as redis://host:6379/0; in a user or password, write special characters as %%XX")
	}
	if port := u.Port(); port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return nil, wrong("redis.url", "a URL whose port is one, from 1 to 65535")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(u.Query())) {
		if slices.Contains(ours, name) {
			continue
		}
		if !parameter.MatchString(name) {
			name = "of another form" // it may be a password with a ? in it
		}
		return nil, wrong("redis.url", "no parameter %s, but any of %s", name, strings.Join(ours, ", "))
	}
	o, err := redis.ParseURL(c.URL)
	if err != nil {
		return nil, wrong("redis.url", "a URL such as redis://host:6379/0%s", reason(err))
	}
	if c.PoolSize < 0 {
		return nil, wrong("redis.pool_size", "at least 1, or 0 for the default")
	}
	if c.PoolSize > 0 && u.Query().Has("pool_size") {
		return nil, wrong("redis.pool_size", "nothing, since redis.url has pool_size")
	}
	return o, nil
}

var parameter = regexp.MustCompile("^[a-z_]{1,32}$")

// reason is why go-redis takes no URL, without the parts of it that go-redis quotes: where a password is not escaped, they may be its own.
func reason(err error) string {
	why := err.Error()
	switch {
	case strings.Contains(why, "URL scheme"):
		return " (its scheme is none of redis, rediss and unix)"
	case strings.Contains(why, "database number"), strings.Contains(why, "URL path"):
		return " (what follows the host is no database number)"
	}
	for _, name := range ours {
		if strings.Contains(why, name) {
			return " (" + name + " has a value that it can not have)"
		}
	}
	return ""
}

// dialer bounds how long sent bytes may stay unacknowledged: without it a silently cut link stays up for a quarter of an hour (pitfalls X1). go-redis
// leaves the handshake to whoever dials (its NewDialer), so we do it here, with a bound of its own.
func dialer(secure *tls.Config, m *Metrics) dialFunc {
	d := net.Dialer{Timeout: dialTimeout, KeepAliveConfig: tcp.KeepAlive, Control: tcp.Options{UserTimeout: userTimeout}.Control}
	dial := d.DialContext
	if secure != nil {
		dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
			raw, err := d.DialContext(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			ctx, cancel := context.WithTimeout(ctx, dialTimeout)
			defer cancel()
			conn := tls.Client(raw, secure)
			if err := conn.HandshakeContext(ctx); err != nil {
				_ = raw.Close() // it is of no use to anybody, and closed already where ctx ended the handshake
				return nil, fmt.Errorf("handshake: %w", err)
			}
			return conn, nil
		}
	}
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		m.dialled(err)
		return conn, err
	}
}

func wrong(field, want string, args ...any) error {
	return &notify.FieldError{Field: field, Want: fmt.Sprintf(want, args...)}
}
