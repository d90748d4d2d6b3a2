package session_test

import (
	"context"
	"regexp"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
)

// commands are all that Allim sends to Redis, from Go and from scripts. Each is in Redis 7.0 (redis-server 7.0.15, COMMAND DOCS); the ACL
// users of a deployment need no other.
var commands = strings.Fields(`
	client client|setinfo client|setname eval evalsha exists flushall get hdel hello hget hlen hmget hset hsetnx info
	hgetall hkeys zmscore pexpire ping pttl publish quit set subscribe time unsubscribe
	xadd xrange xrevrange zadd zcard zlexcount zrange zrangebylex zrangebyscore zrem zremrangebyrank zrevrange zrevrangebyscore zscore del`)

var called = regexp.MustCompile(`(?m)^cmdstat_([^:]+):`)

// wantKnownCommands checks what a story made Redis do.
func wantKnownCommands(t *testing.T, ctx context.Context, rdb *redis.Client) {
	t.Helper()
	info, err := rdb.Info(ctx, "commandstats").Result()
	if err != nil {
		t.Fatal(err)
	}
	all := called.FindAllStringSubmatch(info, -1)
	if len(all) < 5 {
		t.Fatalf("only %d commands were called: %s", len(all), info)
	}
	known := map[string]bool{}
	for _, c := range commands {
		known[c] = true
	}
	for _, c := range all {
		if !known[c[1]] {
			t.Errorf("command %s is used: is it in Redis 7.0, and in the ACL of deployments?", c[1])
		}
	}
}
