//go:build fault

package fault

import (
	"strings"

	"github.com/redis/go-redis/v9"

	"allim/internal/testkit"
)

// startRedis starts what the world's data lives in.
func (w *world) startRedis(o options) {
	w.tb.Helper()
	switch {
	case o.sentinel:
		w.watched = testkit.Sentinel(w.tb, testkit.SentinelOptions{})
		w.redis = w.watched.Servers[0]
	case o.cluster:
		w.cluster = testkit.Cluster(w.tb, 3, 3)
		w.redis = w.cluster.Nodes[0]
	case o.disk:
		w.redis = testkit.RedisDeployed(w.tb)
	default:
		w.redis = testkit.Redis(w.tb)
	}
}

// wayToRedis are the flags by which a process finds its Redis.
func (w *world) wayToRedis(n *node) []string {
	w.tb.Helper()
	url := w.redis.As(n.role)
	if w.watched != nil {
		name, pass := testkit.User(w.tb, n.role)
		return []string{"--redis-url=" + url, "--redis-sentinel-master=" + testkit.WatchedName, "--redis-sentinel-addresses=" + strings.Join(w.watched.Addresses(), ","),
			"--redis-sentinel-username=" + name, "--redis-sentinel-password=" + pass}
	}
	if w.cluster != nil {
		return []string{"--redis-url=" + url, "--redis-cluster-addresses=" + strings.Join(w.cluster.Addresses(), ",")}
	}
	return []string{"--redis-url=" + strings.Replace(url, w.redis.Addr, n.proxy.Addr, 1)}
}

// admin are clients of every server whose data counts now.
func (w *world) admin() (all []*redis.Client) {
	w.tb.Helper()
	switch {
	case w.watched != nil:
		all = append(all, w.watched.Primary().Client())
	case w.cluster != nil:
		for _, s := range w.cluster.Nodes {
			if s != w.dead && s.Info("replication")["role"] == "master" {
				all = append(all, s.Client())
			}
		}
	default:
		all = append(all, w.redis.Client())
	}
	return all
}

// A standing stream is one that a server has.
type standing struct {
	key string // of its meta, which tells the slot
	top string // position of its last event
}

// streamsOn are the streams that stand in a server.
func (w *world) streamsOn(s *testkit.RedisServer) map[string]standing {
	w.tb.Helper()
	rdb, all := s.Client().Conn(), map[string]standing{}
	defer rdb.Close()
	if w.cluster != nil {
		rdb.ReadOnly(w.ctx) // it may be a replica
	}
	keys, err := rdb.Keys(w.ctx, "al:*:m").Result()
	if err != nil {
		w.tb.Fatal(err)
	}
	for _, k := range keys { // al:{tag}:<tenant>:<kind>:<name>:m
		parts := strings.SplitN(strings.TrimSuffix(k, ":m"), ":", 5)
		at, err := rdb.HMGet(w.ctx, k, "e", "s").Result()
		if err != nil || len(parts) != 5 {
			w.tb.Fatalf("read %s: got %v, %v", k, at, err)
		}
		if at[0] == nil || at[1] == nil { // on its way to another node
			continue
		}
		topic := parts[4]
		if parts[3] == "i" {
			topic = "user:" + topic
		}
		all[key(parts[2], topic)] = standing{k, at[0].(string) + "." + at[1].(string)}
	}
	return all
}

// A loss is what a server that takes over lacks of what was acknowledged.
type loss struct {
	messages, marks int // that somebody holds, and has to write again
	unknown         int // operations whose holder was killed
}

// keeps writes down how far streams go in the server that takes over from one that is gone, and is what it lacks.
func (w *world) keeps(s *testkit.RedisServer, streams map[string]standing) (lost loss) {
	w.tb.Helper()
	w.eventually(failoverWithin, "the replica has seen the end of its primary", func() bool {
		info := s.Info("replication")
		return info["role"] == "master" || info["master_link_status"] == "down" // it has read all that it was sent
	})
	has, tops := w.streamsOn(s), map[string]int{}
	for _, c := range w.callers {
		if _, ok := streams[c.stream()]; !ok {
			continue
		}
		at := epoch(streams[c.stream()].top) + ".0"
		if st, ok := has[c.stream()]; ok {
			at = st.top
		}
		tops[c.stream()] = offset(at)
		w.log.add(Event{What: kept, Stream: c.stream(), Pos: at})
	}
	v := newView(w.log.all(), allowed{})
	for _, o := range v.ops {
		switch top, ok := tops[o.stream]; {
		case !ok || !o.acked || offset(o.pos) <= top:
		case v.excused(o):
			lost.unknown++
		case o.isMark():
			lost.marks++
		default:
			lost.messages++
		}
	}
	return lost
}

// wroteAgain holds what was written again against what was lost: each message, and of marks what no later one overtook. An operation of each caller
// may have been on its way to who asked for it.
func (w *world) wroteAgain(lost loss) {
	w.tb.Helper()
	m := w.metric(w.nodes(), "allim_redis_replayed_total", "kind", "publish") + w.metric(w.nodes(), "allim_redis_replayed_total", "kind", "notify")
	k := w.metric(w.nodes(), "allim_redis_replayed_total", "kind", "mark")
	w.say("lost: %d messages, %d marks, and %d operations whose holder was killed; written again: %d and %d", lost.messages, lost.marks, lost.unknown, m, k)
	if m < lost.messages || m > lost.messages+len(w.callers) || k > lost.marks+len(w.callers)+len(w.readers) {
		w.tb.Errorf("lost were %+v, written again %d messages and %d marks", lost, m, k)
	}
}

// unknown tells whether nobody can say what became of an item, so that who wants to mark it may give up.
func (w *world) unknown(stream, id string) bool {
	v := newView(w.log.all(), allowed{})
	return v.excused(v.written[key(stream, id)])
}
