package store

import (
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

// A Sentinel says who knows which Redis is the primary. Sentinels speak TLS if the URL does, with the same certificates.
type Sentinel struct {
	Master    string   // what they call the primary; "": there are none
	Addresses []string // host:port of some of them; they know the others

	// Who we are to them, as Connection has it for Redis; nothing: they ask for no password. A password alone is that of their requirepass.
	Username, UsernameFile string
	Password, PasswordFile string
}

// misplaced tells which settings of Sentinel and cluster do not go together. o is nil where the URL is none.
func (c Connection) misplaced(o *redis.Options) error {
	s, cluster := c.Sentinel, len(c.Cluster) > 0
	switch {
	case s.Master == "" && (len(s.Addresses) > 0 || len(s.login(nil).given()) > 0):
		return wrong("redis.sentinel.master", "what the Sentinels call the primary, since other settings of redis.sentinel are set")
	case s.Master != "" && len(s.Addresses) == 0:
		return wrong("redis.sentinel.addresses", "host:port of one Sentinel or more")
	case s.Master != "" && cluster:
		return wrong("redis.cluster.addresses", "nothing, since redis.sentinel.master is set: a cluster has no Sentinels")
	case o == nil || s.Master == "" && !cluster:
		return nil
	case o.Network == "unix":
		return wrong("redis.url", "redis:// or rediss://, since redis.sentinel or redis.cluster says where Redis is")
	case cluster && o.DB != 0:
		return wrong("redis.url", "database 0: a cluster has no other")
	case cluster:
		return noAddress("redis.cluster.addresses", c.Cluster)
	}
	return noAddress("redis.sentinel.addresses", s.Addresses)
}

// noAddress names the first that is no host:port.
func noAddress(field string, list []string) error {
	for i, a := range list {
		host, port, err := net.SplitHostPort(a)
		n, noNumber := strconv.ParseUint(port, 10, 16)
		if err != nil || noNumber != nil || n == 0 || host == "" || strings.ContainsAny(host, "/@ ") {
			return wrong(fmt.Sprintf("%s[%d]", field, i), "host:port")
		}
	}
	return nil
}
