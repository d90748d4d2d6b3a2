package store_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"allim/internal/keyspace"
	"allim/internal/store"
	"allim/internal/testkit"
	"allim/pkg/notify"
)

// What Redis says, of one version or another.
const (
	command = "NOPERM .* has no permissions to run the '"
	channel = "NOPERM .*o permissions to access .* channel"
	inLua   = "(access at least one of the keys|to access a key).* script: "
)

// What each role needs, all stories show: they run under the users of deploy/redis. Here is what it may not, and what comes close to that and it may.
func TestEachRoleMayDoWhatItMustAndNoMore(t *testing.T) {
	srv := testkit.Redis(t, "--enable-debug-command", "yes")
	clients := map[string]redis.UniversalClient{"gateway": connect(t, srv.As("gateway")), "publisher": connect(t, srv.As("publisher"))}
	const (
		key       = "NOPERM .*o permissions to access .* key"
		noCluster = "ERR This instance has cluster support disabled" // it may: a cluster would answer
		noLua     = "(can't run this command|to run the ').* script: "
		inbox     = "al:{7}:acme:i:ann"
		orders    = "al:{7}:acme:h:orders"
		set       = "return redis.call('XADD', KEYS[1], '*', 'd', 'forged')"
	)
	for _, c := range []struct{ do, gateway, publisher string }{ // do: split at blanks; "" where it may
		{"FLUSHALL", command, command}, {"FLUSHDB", command, command}, {"CONFIG GET maxmemory", command, command},
		{"CONFIG SET maxmemory 1mb", command, command}, {"DEBUG SLEEP 0", command, command}, {"KEYS *", command, command},
		{"SCAN 0", command, command}, {"MONITOR", command, command}, {"SHUTDOWN NOSAVE", command, command},
		{"SCRIPT FLUSH", command, command}, {"SCRIPT KILL", command, command}, {"FUNCTION LIST", command, command},
		{"ACL LIST", command, command}, {"ACL WHOAMI", command, command}, {"CLIENT KILL TYPE normal", command, command},
		{"CLIENT LIST", command, command}, {"REPLICAOF NO ONE", command, command}, {"SWAPDB 0 1", command, command},
		{"SELECT 1", command, command}, {"COMMAND COUNT", command, command}, {"MODULE LIST", command, command},
		{"PUBSUB CHANNELS", command, command}, {"PSUBSCRIBE al:*", command, command}, {"RENAME " + inbox + ":z x", command, command},

		{"PING", "", ""}, {"INFO replication", "", ""}, {"WAIT 0 1", "", ""}, {"TIME", "", ""},
		{"GET other", key, key}, {"SET other x", key, key}, {"SET al:else x", key, key}, {"HMGET al:schema schema", "", ""},
		{"HSET al:schema partitions 7", key, key}, {"HSETNX al:schema probe x", "", ""}, {"DEL al:schema", key, key},
		{"HSETNX " + inbox + ":m e x", key, key},

		{"XADD " + orders + ":e * d x", key, ""}, {"ZADD " + orders + ":x 1 id", key, ""}, {"DEL " + orders + ":e", key, key},
		{"HSET " + orders + ":m e x", "", ""}, {"PEXPIRE " + orders + ":m 60000", "", ""}, {"PEXPIRE " + orders + ":e 1", key, ""},
		{"XADD " + inbox + ":e * d x", "", ""}, {"HDEL " + inbox + ":h x", "", ""}, {"DEL " + inbox + ":c", "", ""},
		{"XRANGE " + orders + ":e - +", "", key}, {"ZADD al:{7}:chg 1 x", "", ""}, {"SET al:{7}:chgn 1", "", ""},
		{"SET al:{7}:chgn 0 PX 600000 NX", "", ""}, {"PEXPIRE al:{7}:chgn 600000", "", ""}, // in front of a WAIT
		{"SET " + inbox + ":m x", key, ""},

		{"XADD al:{7}:acme:ev * d x", "", ""}, {"HSET al:{7}:acme:evm b 0", "", ""}, {"XLEN al:{7}:acme:ev", "", ""}, {"XLEN " + orders + ":e", key, key},
		{"XRANGE al:{7}:acme:ev - +", "", ""}, {"XTRIM al:{7}:acme:ev MAXLEN 0", command, ""}, {"XTRIM " + orders + ":e MAXLEN 0", command, key},
		{"XGROUP CREATE al:{7}:acme:ev g $", command, ""}, {"XGROUP CREATE " + inbox + ":e g $", command, key}, {"XGROUP DESTROY al:{7}:acme:ev g", command, ""},
		{"XREADGROUP GROUP g w COUNT 1 STREAMS " + inbox + ":e >", command, key}, {"HLEN al:{7}:acme:evg", command, ""}, {"HSET al:{7}:acme:evg g x", key, ""},

		{"PUBLISH " + orders + " forged", channel, ""}, {"PUBLISH " + inbox + " x", "", ""}, {"PUBLISH al:{7}:probe:g1 x", "", ""},
		{"PUBLISH other x", channel, channel}, {"SUBSCRIBE other", channel, command}, {"SUBSCRIBE " + orders, "", command},

		{"SPUBLISH " + orders + " forged", channel, ""}, {"SPUBLISH " + inbox + " x", "", ""}, {"SPUBLISH al:{7}:probe:g1 x", "", ""},
		{"SPUBLISH other x", channel, channel}, {"SSUBSCRIBE other", channel, command}, {"SSUBSCRIBE " + orders, "", command},
		{"ASKING", noCluster, noCluster}, {"CLUSTER SLOTS", noCluster, noCluster},
		{"CLUSTER NODES", command, command}, {"CLUSTER FAILOVER", command, command}, {"CLUSTER SETSLOT 1 NODE x", command, command},
		{"READONLY", command, command}, {"PSYNC ? -1", command, command}, {"REPLCONF ack 1", command, command}, {"ROLE", command, command},
	} {
		for role, want := range map[string]string{"gateway": c.gateway, "publisher": c.publisher} {
			wantPermission(t, role, c.do, want, doAs(t, clients[role], c.do))
		}
	}
	for _, c := range []struct{ src, on, gateway, publisher string }{
		{set, orders + ":e", inLua, ""}, {set, inbox + ":e", "", ""}, {set, "other", key, key},
		{"return redis.call('FLUSHALL')", inbox + ":m", noLua, noLua},
		{"return redis.call('DEL', 'other')", inbox + ":m", inLua, inLua},
	} {
		for role, want := range map[string]string{"gateway": c.gateway, "publisher": c.publisher} {
			wantPermission(t, role, c.src, want, clients[role].Eval(t.Context(), c.src, []string{c.on}).Err())
		}
	}
}

// The users of servers: what a replica and a Sentinel need, the tests of testkit show.
func TestServersMayDoNothingWithTheData(t *testing.T) {
	srv := testkit.Redis(t)
	for _, c := range []struct{ do, replica, sentinel string }{
		{"PING", "", ""}, {"INFO replication", command, ""}, {"GET al:schema", command, command}, {"SET al:schema x", command, command},
		{"CONFIG SET maxmemory 1mb", command, command}, {"EVAL return 0", command, command}, {"PUBLISH al:{7}:probe:g1 x", command, channel},
		{"SUBSCRIBE al:{7}:probe:g1", command, channel}, {"PUBLISH __sentinel__:hello x", command, ""}, {"SHUTDOWN NOSAVE", command, command},
		{"CLIENT LIST", command, command}, {"ACL LIST", command, command},
	} {
		for role, want := range map[string]string{"replica": c.replica, "sentinel": c.sentinel} {
			wantPermission(t, role, c.do, want, doAs(t, connect(t, srv.As(role)), c.do))
		}
	}
}

// doAs runs one command on a connection that is thrown away: some leave it in another state.
func doAs(t *testing.T, c redis.UniversalClient, line string) error {
	t.Helper()
	var args []any
	for _, a := range strings.Fields(line) {
		args = append(args, a)
	}
	if strings.Contains(args[0].(string), "SUBSCRIBE") {
		sub := c.Subscribe(t.Context())
		defer sub.Close()
		do := map[any]func(context.Context, ...string) error{"SUBSCRIBE": sub.Subscribe, "PSUBSCRIBE": sub.PSubscribe, "SSUBSCRIBE": sub.SSubscribe}[args[0]]
		if err := do(t.Context(), args[1].(string)); err != nil {
			return err
		}
		_, err := sub.ReceiveTimeout(t.Context(), 5*time.Second)
		return err
	}
	return c.Do(t.Context(), args...).Err()
}

func wantPermission(t *testing.T, role, do, want string, err error) {
	t.Helper()
	if err == redis.Nil {
		err = nil
	}
	if want == "" && err != nil {
		t.Errorf("%s: %s: got %v, but it must be allowed", role, do, err)
	}
	if want != "" && (err == nil || !regexp.MustCompile(want).MatchString(err.Error())) {
		t.Errorf("%s: %s: got %v, want %s", role, do, err, want)
	}
}

// An ACL without INFO would hide the id of the Redis history, and no lost write would be noticed.
func TestBothRolesSeeTheHistoryOfRedis(t *testing.T) {
	b := realBench(t, store.Options{})
	id := func() string { return b.rdb.HGet(b.ctx, b.keys.Event(stream("a")).Meta, "r").Val() }
	b.publish(stream("a"), "x")
	if got := id(); len(got) != 40 {
		t.Fatalf("a publisher wrote history %q", got)
	}
	b.rdb.HSet(b.ctx, b.keys.Event(stream("a")).Meta, "r", "another")
	b.recover(stream("a"), notify.Position{Epoch: "zzzzzz", Offset: 1}, 10)
	if got := id(); len(got) != 40 {
		t.Fatalf("a gateway wrote history %q", got)
	}
}

func TestWhatARoleMayNotDoIsAnErrorAndNoOutage(t *testing.T) {
	srv := testkit.Redis(t)
	keys, err := keyspace.NewMap(0)
	if err != nil {
		t.Fatal(err)
	}
	s, err := store.New(store.Options{Redis: connect(t, srv.As("gateway")), Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	r := s.Write(t.Context(), []notify.Stream{stream("a")}, message("x"), store.Committed)[0]
	if r.Err == nil || !regexp.MustCompile("access at least one of the keys|to access a key").MatchString(r.Err.Error()) {
		t.Fatalf("a gateway that publishes: %v", r.Err)
	}
	if got := srv.Client().Keys(t.Context(), "al:*:h:a:e").Val(); len(got) != 0 {
		t.Fatalf("it wrote %v", got)
	}
}

// The files of deploy/redis as they are deployed: made by the script, loaded by Redis with its settings.
func TestTheDeployedFilesLoad(t *testing.T) {
	dir := t.TempDir()
	args := []string{"../../deploy/redis/users.sh"}
	for _, role := range []string{"admin", "gateway", "publisher", "replica", "sentinel"} {
		path := filepath.Join(dir, role)
		_, password := testkit.User(t, role)
		if err := os.WriteFile(path, []byte(password+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, path)
	}
	made := usersSh(t, args...)
	for _, user := range []string{"replica", "sentinel"} {
		if text := string(usersSh(t, args[:4]...)); strings.Contains(text, user) || !strings.Contains(text, "allim-publisher") || !strings.Contains(string(made), "allim-"+user) {
			t.Errorf("the users of replicas and Sentinels without their passwords: got %s, and with them %s", text, made)
		}
	}
	if text := string(usersSh(t, append([]string{args[0], "--sentinel"}, args[1:]...)...)); strings.Count(text, "\nuser ") != 4 || strings.Contains(text, "#{") {
		t.Errorf("the users of Sentinels: %s", text)
	}
	users := filepath.Join(dir, "users.acl")
	if err := os.WriteFile(users, made, 0o600); err != nil {
		t.Fatal(err)
	}
	conf, err := filepath.Abs("../../deploy/redis/redis.conf")
	if err != nil {
		t.Fatal(err)
	}
	srv := testkit.Redis(t, "--include", conf, "--aclfile", users)
	admin := srv.Client()
	for name, want := range map[string]string{"maxmemory-policy": "noeviction", "repl-backlog-ttl": "0", "tcp-keepalive": "60", "acl-pubsub-default": "resetchannels",
		"client-output-buffer-limit": "pubsub 67108864 16777216 30", "appendonly": "yes", "appendfsync": "everysec", "timeout": "0", "aclfile": users} {
		if got := admin.ConfigGet(t.Context(), name).Val()[name]; !strings.Contains(got, want) {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	b := newBench(t, srv.As, store.Options{})
	b.publish(stream("a"), "x")
	b.recover(stream("a"), notify.Position{}, 10)
	c := connect(t, "redis://"+srv.Addr)
	if err := c.Ping(t.Context()).Err(); err == nil || !strings.Contains(err.Error(), "NOAUTH") {
		t.Errorf("without a user: got %v", err)
	}
}

func usersSh(t *testing.T, args ...string) []byte {
	t.Helper()
	made, err := exec.Command("sh", args...).Output()
	if err != nil {
		t.Fatalf("users.sh: %v", err)
	}
	return made
}

func TestUsersAreMadeOfLongPasswordsAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "short")
	if err := os.WriteFile(path, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("sh", "../../deploy/redis/users.sh", path, path, path).Output()
	if err == nil || len(out) != 0 {
		t.Errorf("got %v and %q", err, out)
	}
}
