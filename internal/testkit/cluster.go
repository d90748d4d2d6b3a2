package testkit

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	clusterSlots = 16384
	clusterReady = 60 * time.Second
	migrateKeys  = 1000 // moved at once
)

// A RedisCluster is a Redis Cluster of one test. Its nodes are processes of their own that can be frozen, killed and started again; a node
// that comes back is the one that it was, without its data.
type RedisCluster struct {
	Nodes []*RedisServer // the first masters, then their replicas: that of master i is at masters+i, masters+i+masters, …

	tb testing.TB
}

// Cluster starts a cluster that lives as long as the test, its slots spread evenly over the masters in their order, and returns when all nodes
// know that and every replica has the data. Replicas are of master 0, 1, … in turn. The settings are the deployed ones, but a node counts as failing after 2 s; args are further
// arguments of every node, such as "--cluster-node-timeout", "1000".
func Cluster(t testing.TB, masters, replicas int, args ...string) *RedisCluster {
	t.Helper()
	c := &RedisCluster{tb: t}
	args = slices.Concat(replicates(t), []string{"--save", "", "--appendonly", "no", "--cluster-node-timeout", "2000"}, args)
	for range masters + replicas {
		s := newRedis(t)
		s.bus = 1 // one is chosen
		s.conf, s.args = []string{filepath.Join(deployed(t), "cluster.conf")}, append([]string{"--aclfile", userFile(t, s.dir)}, args...)
		c.Nodes = append(c.Nodes, s.launch())
	}
	for i, s := range c.Nodes {
		s.must("CLUSTER", "SET-CONFIG-EPOCH", i+1) // else they have to find out that they have the same
		if i < masters {
			s.must("CLUSTER", "ADDSLOTSRANGE", i*clusterSlots/masters, (i+1)*clusterSlots/masters-1)
		}
		for _, other := range c.Nodes[:i] {
			host, port, _ := net.SplitHostPort(other.Addr)
			s.must("CLUSTER", "MEET", host, port, other.bus)
		}
	}
	EventuallyNil(t, clusterReady, func() error { return c.ready(masters, 0) }, "the nodes know one another")
	for i, s := range c.Nodes[masters:] {
		s.must("CLUSTER", "REPLICATE", c.id(c.Nodes[i%masters]))
	}
	EventuallyNil(t, clusterReady, func() error { return c.ready(masters, replicas) }, "a cluster with its replicas")
	return c
}

// Addresses are the nodes', as host:port.
func (c *RedisCluster) Addresses() (all []string) {
	for _, s := range c.Nodes {
		all = append(all, s.Addr)
	}
	return all
}

// As is the URL of the first node for a role; whoever takes part in the cluster uses all but its address.
func (c *RedisCluster) As(role string) string { c.tb.Helper(); return c.Nodes[0].As(role) }

// Client is a new client of the whole cluster that may do all; it is closed when the test ends.
func (c *RedisCluster) Client() *redis.ClusterClient { c.tb.Helper(); return c.ClientAs("admin") }

// ClientAs is Client for a role.
func (c *RedisCluster) ClientAs(role string) *redis.ClusterClient {
	c.tb.Helper()
	name, pass := User(c.tb, role)
	client := redis.NewClusterClient(&redis.ClusterOptions{Addrs: c.Addresses(), Username: name, Password: pass, ContextTimeoutEnabled: true, DisableIdentity: true})
	c.tb.Cleanup(func() { _ = client.Close() }) // the test may have closed it already
	return client
}

// Owner is the node that serves a slot, as most nodes that answer say; nil: none does.
func (c *RedisCluster) Owner(slot int) *RedisServer {
	c.tb.Helper()
	votes := map[*RedisServer]int{}
	for _, s := range c.Nodes {
		for _, m := range c.known(s) {
			if m.has(slot) {
				votes[c.at(m.addr)]++
			}
		}
	}
	var owner *RedisServer
	for s, n := range votes {
		if s != nil && n > votes[owner] {
			owner = s
		}
	}
	return owner
}

// Promoted waits until another node than old serves the slot, and all nodes that answer know of a whole cluster.
func (c *RedisCluster) Promoted(old *RedisServer, slot int, within time.Duration) *RedisServer {
	c.tb.Helper()
	var now *RedisServer
	Eventually(c.tb, within, func() bool { now = c.Owner(slot); return now != nil && now != old && c.whole() }, fmt.Sprintf("a failover of slot %d from %s", slot, old.Addr))
	return now
}

// MoveSlots moves slots with what is in them to another master, one after the other, and returns when all nodes that answer know it. Clients go on
// meanwhile: those who meet a slot on its way are answered ASK or TRYAGAIN, after it MOVED. Subscriptions of its shard channels end.
func (c *RedisCluster) MoveSlots(to *RedisServer, slots ...int) {
	c.tb.Helper()
	host, port, _ := net.SplitHostPort(to.Addr)
	name, pass := User(c.tb, "admin")
	id := c.id(to)
	for _, slot := range slots {
		from := c.Owner(slot)
		if from == nil {
			c.tb.Fatalf("move slot %d: nobody has it", slot)
		}
		if from == to {
			continue
		}
		to.must("CLUSTER", "SETSLOT", slot, "IMPORTING", c.id(from))
		from.must("CLUSTER", "SETSLOT", slot, "MIGRATING", id)
		for {
			keys, _ := from.must("CLUSTER", "GETKEYSINSLOT", slot, migrateKeys).([]any)
			if len(keys) == 0 {
				break
			}
			from.must(append([]any{"MIGRATE", host, port, "", 0, 5000, "AUTH2", name, pass, "KEYS"}, keys...)...) // what went meanwhile is NOKEY
		}
		to.must("CLUSTER", "SETSLOT", slot, "NODE", id) // the new owner first: it gives itself a greater epoch, so that no failover can undo it
		from.must("CLUSTER", "SETSLOT", slot, "NODE", id)
	}
	EventuallyNil(c.tb, clusterReady, func() error {
		for _, s := range c.Nodes {
			for _, m := range c.known(s) {
				for _, slot := range slots {
					if m.has(slot) && m.addr != to.Addr {
						return fmt.Errorf("%s: slot %d at %s", s.Addr, slot, m.addr)
					}
				}
			}
		}
		return nil
	}, "all nodes know where the slots are")
}

// ready tells what a node lacks that is to know that many masters with slots and replicas with data.
func (c *RedisCluster) ready(masters, replicas int) error {
	for i, s := range c.Nodes {
		nodes, with, slaves := c.known(s), 0, 0
		for _, n := range nodes {
			if len(n.slots) > 0 {
				with++
			}
			if strings.Contains(n.flags, "slave") {
				slaves++
			}
			if strings.Contains(n.flags, "handshake") || strings.Contains(n.flags, "fail") || n.link != "connected" {
				return fmt.Errorf("%s: %s is %s, %s", s.Addr, n.addr, n.flags, n.link)
			}
		}
		if state := s.must("CLUSTER", "INFO").(string); len(nodes) != len(c.Nodes) || with != masters || slaves != replicas || !strings.Contains(state, "cluster_state:ok") {
			return fmt.Errorf("%s: %d nodes, %d with slots, %d replicas", s.Addr, len(nodes), with, slaves)
		}
		if link := s.Info("replication")["master_link_status"]; replicas > 0 && i >= masters && link != "up" {
			return fmt.Errorf("%s: link %s", s.Addr, link)
		}
	}
	return nil
}

// whole is whether all nodes that answer see every slot served.
func (c *RedisCluster) whole() bool {
	answered := false
	for _, s := range c.Nodes {
		text, err := c.text(s, "INFO")
		if err == nil && (!strings.Contains(text, "cluster_state:ok") || !strings.Contains(text, "cluster_slots_ok:"+strconv.Itoa(clusterSlots))) {
			return false
		}
		answered = answered || err == nil
	}
	return answered
}

func (c *RedisCluster) id(s *RedisServer) string { return s.must("CLUSTER", "MYID").(string) }

func (c *RedisCluster) at(addr string) *RedisServer {
	for _, s := range c.Nodes {
		if s.Addr == addr {
			return s
		}
	}
	return nil
}

// A member is a node as another one knows it: a line of CLUSTER NODES.
type member struct {
	addr, flags, link string
	slots             [][2]int // from, to
}

func (m *member) has(slot int) bool {
	return slices.ContainsFunc(m.slots, func(r [2]int) bool { return r[0] <= slot && slot <= r[1] })
}

// known are the members that s knows; none where it does not answer.
func (c *RedisCluster) known(s *RedisServer) (all []member) {
	c.tb.Helper()
	text, err := c.text(s, "NODES")
	if err != nil {
		return nil
	}
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 8 {
			continue
		}
		addr, _, _ := strings.Cut(f[1], "@")
		m := member{addr: addr, flags: f[2], link: f[7]}
		for _, r := range f[8:] {
			from, to, ok := strings.Cut(r, "-")
			if strings.HasPrefix(r, "[") { // on its way
				continue
			}
			a, _ := strconv.Atoi(from)
			b := a
			if ok {
				b, _ = strconv.Atoi(to)
			}
			m.slots = append(m.slots, [2]int{a, b})
		}
		all = append(all, m)
	}
	return all
}

// text is CLUSTER NODES or INFO of a node.
func (c *RedisCluster) text(s *RedisServer, what string) (string, error) {
	c.tb.Helper()
	if s.stopped() {
		return "", errStopped
	}
	client := s.Client()
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	return client.Do(ctx, "CLUSTER", what).Text()
}
