package store_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"allim/internal/keyspace"
	"allim/internal/store"
	"allim/internal/testkit"
	"allim/pkg/notify"
)

// clusterBench is a bench on a cluster.
func clusterBench(t *testing.T, c *testkit.RedisCluster, o store.Options) *bench {
	t.Helper()
	return newBench(t, c.As, o, func(conn *store.Connection) { conn.Cluster = c.Addresses() })
}

// everywhere are streams in each partition, event topics and users, and the slots of those.
func everywhere(keys *keyspace.Map) (all []notify.Stream, slots []int) {
	seen := map[int]bool{}
	for i := 0; len(seen) < keys.Partitions(); i++ {
		for _, s := range []notify.Stream{stream(fmt.Sprintf("topic/%d", i)), stream(fmt.Sprintf("user:u%d", i))} {
			all = append(all, s)
			if p := keys.Partition(s); !seen[p] {
				seen[p] = true
				slots = append(slots, slotOf(keys, s))
			}
		}
	}
	return all, slots
}

func slotOf(keys *keyspace.Map, s notify.Stream) int {
	_, tag, _ := strings.Cut(keys.Channel(s), "{")
	tag, _, _ = strings.Cut(tag, "}")
	return int(keyspace.Slot(tag))
}

func TestOneCallReachesEveryPartOfACluster(t *testing.T) {
	c := testkit.SharedCluster(t)
	b := clusterBench(t, c, store.Options{})
	streams, _ := everywhere(b.keys)
	for _, id := range []string{"m1", "m2"} {
		for i, r := range b.Publish(b.ctx, streams, message(id)) {
			if r.Err != nil {
				t.Fatalf("%s to %s: %v", id, streams[i].Topic, r.Err)
			}
		}
		for _, node := range c.Nodes { // it has forgotten the scripts, as after a failover
			if err := node.Client().ScriptFlush(b.ctx).Err(); err != nil {
				t.Fatal(err)
			}
		}
	}
	tops, err := b.Tops(b.ctx, streams)
	if err != nil {
		t.Fatal(err)
	}
	for i, top := range tops {
		if top.Offset != 2 {
			t.Errorf("%s: top %s, want the second", streams[i].Topic, top)
		}
	}
	if err := b.Renew(b.ctx, streams); err != nil {
		t.Error(err)
	}
	for _, node := range c.Nodes {
		if n := node.Client().DBSize(b.ctx).Val(); n < 100 {
			t.Errorf("%s has %d keys: they are not spread", node.Addr, n)
		}
	}
	if err := b.publisher.OpenWriter(b.ctx); err != nil {
		t.Error(err)
	}
	other, err := keyspace.NewMap(64)
	if err != nil {
		t.Fatal(err)
	}
	s, err := store.New(store.Options{Redis: b.rdb, Keys: other})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Open(b.ctx); err == nil || !strings.Contains(err.Error(), "128 partitions") {
		t.Errorf("with another number of partitions: %v", err)
	}
}

// Shard channels: what is published reaches the node of its slot alone, and who subscribes there.
func TestAClusterPublishesInItsShards(t *testing.T) {
	c := testkit.SharedCluster(t)
	b := clusterBench(t, c, store.Options{})
	gateway := connect(t, c.As("gateway"), func(conn *store.Connection) { conn.Cluster = c.Addresses() })
	for _, s := range []notify.Stream{stream("a"), ann} {
		sub := gateway.SSubscribe(b.ctx, b.keys.Channel(s))
		defer sub.Close()
		if _, err := sub.Receive(b.ctx); err != nil {
			t.Fatal(err)
		}
		b.publish(s, "kept")
		if r := b.Publish(b.ctx, []notify.Stream{s}, &notify.Message{Change: notify.ChangeEphemeral, ID: "e", Data: []byte(`1`)})[0]; r.Err != nil || r.Receivers != 1 {
			t.Fatalf("ephemeral: %+v", r)
		}
		for _, id := range []string{"kept", "e"} {
			if m, err := sub.ReceiveMessage(b.ctx); err != nil || !strings.Contains(m.Payload, "\n"+id+"\n") {
				t.Fatalf("%s: got %v, %v, want %s", s.Topic, m, err, id)
			}
		}
	}
}

// A crowd publishes to all streams until it is told to stop.
type crowd struct {
	*testing.T
	acked  sync.Map // topic/id
	failed atomic.Int64
	good   atomic.Int64
	stop   context.CancelFunc
	done   sync.WaitGroup
}

func gather(b *bench, streams []notify.Stream) *crowd {
	c := &crowd{T: b.T}
	ctx, cancel := context.WithCancel(b.ctx)
	c.stop = cancel
	for w := range 4 {
		c.done.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				call, cancel := context.WithTimeout(b.ctx, 2*time.Second)
				id := fmt.Sprintf("m%d-%d", w, i)
				some := streams[(i*16)%len(streams):]
				some = some[:min(16, len(some))]
				for k, r := range b.Publish(call, some, message(id)) {
					switch {
					case r.Err == nil:
						c.good.Add(1)
						c.acked.Store(string(some[k].Topic)+" "+id, true)
					case errors.Is(r.Err, notify.ErrUnavailable):
						c.failed.Add(1)
					default:
						c.Errorf("%s: %v is no outage", some[k].Topic, r.Err)
					}
				}
				cancel()
			}
		})
	}
	return c
}

// wantAll ends it and looks for everything that was acknowledged, once.
func (c *crowd) wantAll(b *bench, streams []notify.Stream) {
	c.Helper()
	c.stop()
	c.done.Wait()
	for _, s := range streams {
		at, got := notify.Position{}, map[string]int{}
		for {
			r := b.recover(s, at, 1000)
			for _, m := range r.Messages {
				got[m.ID]++
			}
			if len(r.Messages) == 0 || r.Position == r.Top {
				break
			}
			at = r.Position
		}
		for id, n := range got {
			if n != 1 {
				c.Errorf("%s: %s is there %d times", s.Topic, id, n)
			}
		}
		c.acked.Range(func(k, _ any) bool {
			topic, id, _ := strings.Cut(k.(string), " ")
			if topic == string(s.Topic) && got[id] == 0 {
				c.Errorf("%s: %s was acknowledged and is gone", topic, id)
			}
			return true
		})
	}
}

func eventsOf(all []notify.Stream) (events []notify.Stream) {
	for _, s := range all {
		if s.Topic.Kind() == notify.KindEvent {
			events = append(events, s)
		}
	}
	return events
}

func TestSlotsMoveUnderWritersAndNothingIsLost(t *testing.T) {
	c := testkit.Cluster(t, 3, 0)
	b := clusterBench(t, c, store.Options{Classes: []store.Class{{Prefix: "", History: store.History{Size: 10_000}}}})
	b.ctx = testkit.Context(t, 2*time.Minute)
	all, slots := everywhere(b.keys)
	events := eventsOf(all)
	w := gather(b, events)
	for i, slot := range slots[:20] {
		to := c.Nodes[i%3]
		if to == c.Owner(slot) {
			to = c.Nodes[(i+1)%3]
		}
		was := w.good.Load()
		c.MoveSlots(to, slot)
		testkit.Eventually(t, 10*time.Second, func() bool { return w.good.Load() > was+100 }, "writes go on")
	}
	w.wantAll(b, events)
	t.Logf("%d written, %d not", w.good.Load(), w.failed.Load())
}

// Who waits for a replica speaks to the slot's node itself.
func TestALevelFollowsASlotThatMoved(t *testing.T) {
	t.Parallel()
	c := testkit.Cluster(t, 3, 0)
	b := clusterBench(t, c, store.Options{})
	s := stream("a")
	b.publish(s, "first")
	slot := slotOf(b.keys, s)
	for i, to := range slices.DeleteFunc(slices.Clone(c.Nodes), func(n *testkit.RedisServer) bool { return n == c.Owner(slot) }) {
		c.MoveSlots(to, slot)
		ctx, cancel := context.WithTimeout(b.ctx, 5*time.Second)
		r := b.publisher.Write(ctx, []notify.Stream{s}, message(fmt.Sprint(i)), store.Replicated)[0]
		if !errors.Is(r.Err, store.ErrNotReplicated) || r.Position.Offset != uint64(i+2) {
			t.Errorf("at %s: got %+v, want offset %d, not replicated", to.Addr, r, i+2)
		}
		cancel()
	}
}

func TestAMasterDiesAndItsHeirIsFound(t *testing.T) {
	for name, end := range map[string]func(*testkit.RedisServer){"killed": (*testkit.RedisServer).Stop, "frozen": (*testkit.RedisServer).Pause} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := testkit.Cluster(t, 3, 3)
			b := clusterBench(t, c, store.Options{})
			b.ctx = testkit.Context(t, 2*time.Minute)
			all, slots := everywhere(b.keys)
			w := gather(b, all)
			testkit.Eventually(t, 10*time.Second, func() bool { return w.good.Load() > 1000 }, "writes")
			old := c.Owner(slots[0])
			end(old)
			c.Promoted(old, slots[0], time.Minute)
			start := time.Now()
			testkit.EventuallyNil(t, 5*time.Second, func() error {
				call, cancel := context.WithTimeout(b.ctx, time.Second)
				defer cancel()
				var errs []error
				for _, r := range b.Publish(call, all, message("after")) {
					errs = append(errs, r.Err)
				}
				return errors.Join(errs...)
			}, "writes everywhere")
			t.Logf("everything was written %v after the promotion; %d written, %d not before", time.Since(start).Round(time.Millisecond), w.good.Load(), w.failed.Load())
			w.stop()
			w.done.Wait()
		})
	}
}

func TestAFrozenNodeHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	c := testkit.Cluster(t, 3, 0)
	b := clusterBench(t, c, store.Options{})
	all, _ := everywhere(b.keys)
	live := slices.DeleteFunc(all, func(s notify.Stream) bool { return slotOf(b.keys, s) >= 16384/3 })
	c.Nodes[1].Pause()
	for range 6 { // whom a client asks first for the slots is chance
		gateway := storeOn(t, connect(t, c.As("gateway"), func(conn *store.Connection) { conn.Cluster = c.Addresses()[:2] }))
		ctx, cancel := context.WithTimeout(b.ctx, 4*time.Second)
		if _, err := gateway.Tops(ctx, live); err != nil {
			t.Error(err)
		}
		cancel()
	}
}

func TestAClusterSpeaksTLS(t *testing.T) {
	a := testkit.NewAuthority(t)
	cert, key := a.Pair("gateway")
	node := testkit.RedisTLS(t, a, "--cluster-enabled", "yes", "--tls-cluster", "yes")
	admin, ctx := node.Client(), testkit.Context(t, 20*time.Second)
	if err := admin.ClusterAddSlotsRange(ctx, 0, 16383).Err(); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, 15*time.Second, func() bool { return strings.Contains(admin.ClusterInfo(ctx).Val(), "cluster_state:ok") }, "a cluster of one")
	secure := store.Connection{URL: strings.Replace(node.As("gateway"), "127.0.0.1", "nobody-dials-this", 1), Cluster: []string{node.Addr}, CAFile: a.CAFile, CertFile: cert, KeyFile: key}
	if _, err := storeOn(t, connected(t, secure)).Tops(ctx, []notify.Stream{ann}); err == nil || !strings.Contains(err.Error(), "x509: certificate is") {
		t.Errorf("a certificate for another name than the URL's: %v", err)
	}
	secure.URL = node.As("gateway")
	if _, err := storeOn(t, connected(t, secure)).Tops(ctx, []notify.Stream{ann}); err != nil {
		t.Error(err)
	}
}

// A script whose answer never came may still be run: go-redis must not send it again.
func TestAScriptOfAClusterIsSentOnce(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var scripts atomic.Int64
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { clusterOfOne(conn, l.Addr().(*net.TCPAddr).Port, &scripts) })
		}
	})
	c, err := store.Connect(store.Connection{URL: "redis://h", Cluster: []string{l.Addr().String()}})
	if err != nil {
		t.Fatal(err)
	}
	err = storeOn(t, c).Renew(testkit.Context(t, 10*time.Second), []notify.Stream{stream("a")})
	if !errors.Is(err, notify.ErrUnavailable) || scripts.Load() != 1 {
		t.Errorf("got %v and %d scripts, want an outage and 1", err, scripts.Load())
	}
	if err := errors.Join(c.Close(), l.Close()); err != nil {
		t.Error(err)
	}
	serving.Wait()
}

// clusterOfOne speaks as much RESP as a client of a cluster needs, and hangs up when it gets a script.
func clusterOfOne(conn net.Conn, port int, scripts *atomic.Int64) {
	defer conn.Close()
	for in := bufio.NewReader(conn); ; {
		line, err := in.ReadString('\n')
		n, _ := strconv.Atoi(strings.TrimSpace(strings.TrimPrefix(line, "*")))
		words := make([]string, n)
		for i := range words {
			_, _ = in.ReadString('\n') // the length: no word here has a line end
			words[i], err = in.ReadString('\n')
		}
		if err != nil {
			return
		}
		switch strings.ToLower(strings.TrimSpace(words[0])) {
		case "evalsha":
			scripts.Add(1)
			return
		case "cluster":
			_, err = fmt.Fprintf(conn, "*1\r\n*3\r\n:0\r\n:16383\r\n*3\r\n$9\r\n127.0.0.1\r\n:%d\r\n$1\r\nx\r\n", port)
		default:
			_, err = fmt.Fprint(conn, "-ERR unknown\r\n")
		}
		if err != nil {
			return
		}
	}
}
