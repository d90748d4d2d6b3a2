//go:build fault

package fault

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"

	"allim/internal/testkit"
	"allim/test/pods"
)

// options say what a world is made of.
type options struct {
	gateways   int    // 0: two
	publishers int    // 0: two
	disk       bool   // Redis keeps its append file, as deployed
	sentinel   bool   // a primary, a replica and three Sentinels; no proxies to them
	cluster    bool   // three masters and three replicas; no proxies to them
	settings   string // lines of the settings file, besides those of every world
	clients    bool   // a proxy in front of each gateway's public port
}

// A world is everything that runs in one scenario. Its methods are for the goroutine of the test.
type world struct {
	tb     testing.TB
	log    *oplog
	seed   uint64
	rng    *rand.Rand // of the schedule: the test's goroutine alone
	row    *row
	ctx    context.Context // ends with the test
	cancel context.CancelFunc

	redis      *testkit.RedisServer // where there is one, or the first
	watched    *testkit.Watched     // with options.sentinel
	cluster    *testkit.RedisCluster
	dead       *testkit.RedisServer // a node that was killed for good
	gateways   []*node
	publishers []*node
	settings   string // path
	programs   string // directory of the binaries; "": ours
	forgets    bool   // the readers show what they know already: a sabotage
	patience   patience

	readers []*reader
	callers []*caller
	board   switchboard
	stop    chan struct{}  // closed when callers begin nothing more
	calling sync.WaitGroup // callers, and readers that mark
	writing sync.RWMutex   // held for reading during each operation; to hold it is to have quiet
	hearing sync.WaitGroup // readers
	reading context.Context
	leave   context.CancelFunc // ends reading; nil until somebody reads
	lines   atomic.Int64       // connections of readers so far
	slackOf sync.WaitGroup
}

// patience is how long a world waits for what should come; the rules tell what did not, or came too late.
type patience struct {
	answers  time.Duration // after the end of the load, for the last operations to get theirs
	settled  time.Duration // for every reader to have everything
	baseline time.Duration // for the processes to be as they were
}

var (
	patient = patience{40 * time.Second, healedAfter + 10*time.Second, time.Minute}
	hasty   = patience{6 * time.Second, 12 * time.Second, time.Second} // where it is known that something will not come
)

// A node is a process and its place: whoever is started after it gets its name, its addresses and its way to Redis.
type node struct {
	role, name string
	proxy      *testkit.Proxy    // to Redis, where there is one
	front      *testkit.Proxy    // of clients; nil where they come straight
	listen     map[string]string // port → address

	mu       sync.Mutex // guards the fields below
	pod      *pods.Pod
	starts   int
	draining bool // a balancer sends nobody here
}

func (n *node) now() *pods.Pod {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.pod
}

// public is where clients come.
func (n *node) public() string {
	if n.front != nil {
		return n.front.Addr
	}
	return n.listen["public"]
}

// drain says whether a balancer still sends anybody here.
func (n *node) drain(on bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.draining = on
}

// balanced is a gateway as a balancer chooses it, which looks whether they are ready and not whether they are there.
func (w *world) balanced() *node {
	start := rand.IntN(len(w.gateways))
	for i := range w.gateways {
		n := w.gateways[(start+i)%len(w.gateways)]
		n.mu.Lock()
		good := !n.draining
		n.mu.Unlock()
		if good {
			return n
		}
	}
	return w.gateways[start]
}

// seedOf is ALLIM_SEED, or one of the time.
func seedOf(tb testing.TB) uint64 {
	text := os.Getenv("ALLIM_SEED")
	if text == "" {
		return uint64(time.Now().UnixNano() % 1_000_000)
	}
	var seed uint64
	if _, err := fmt.Sscan(text, &seed); err != nil {
		tb.Fatalf("ALLIM_SEED: got %q, want a number", text)
	}
	return seed
}

// newWorld starts everything and measures it as it is before anything happens.
func newWorld(tb testing.TB, r *row, programs string, o options) *world {
	tb.Helper()
	w := &world{tb: tb, row: r, seed: seedOf(tb), programs: programs, patience: patient, board: switchboard{conns: map[string]*grpc.ClientConn{}}, stop: make(chan struct{}), settings: filepath.Join(tb.TempDir(), "allim.yaml")}
	tb.Logf("ALLIM_SEED=%d", w.seed)
	w.rng = rand.New(rand.NewPCG(w.seed, 1))
	var err error
	if w.log, err = openLog(strings.ReplaceAll(r.name, " ", "-")); err != nil {
		tb.Fatal(err)
	}
	w.ctx, w.cancel = context.WithCancel(context.Background())
	tb.Cleanup(w.end)
	more := "redis: {pool_size: 8}\ninbox: {size: 10000}\n" + o.settings
	if !strings.Contains(o.settings, "drain:") {
		more += "drain: {pause: 0s, window: 0s}\n"
	}
	if err := os.WriteFile(w.settings, []byte(pods.Settings(true)+more), 0o600); err != nil {
		tb.Fatal(err)
	}
	w.startRedis(o)
	for i := range cmp.Or(o.publishers, 2) {
		w.publishers = append(w.publishers, w.place("publisher", i, "grpc", "http", "ops"))
	}
	for i := range cmp.Or(o.gateways, 2) {
		n := w.place("gateway", i, "public", "ops")
		if o.clients {
			n.front = testkit.NewProxy(tb, n.listen["public"])
		}
		w.gateways = append(w.gateways, n)
	}
	for _, n := range w.nodes() {
		w.launch(n)
	}
	for _, n := range w.nodes() {
		n.now().WaitReady()
	}
	w.slackOf.Go(w.measureSlack)
	w.warm()
	w.measure("before")
	return w
}

func (w *world) nodes() []*node { return slices.Concat(w.publishers, w.gateways) }

func (w *world) place(role string, i int, ports ...string) *node {
	n := &node{role: role, name: fmt.Sprintf("%s-%d", role, i+1), listen: map[string]string{}}
	if w.watched == nil && w.cluster == nil {
		n.proxy = testkit.NewProxy(w.tb, w.redis.Addr)
	}
	for _, port := range ports {
		n.listen[port] = testkit.Address(w.tb)
	}
	return n
}

// launch starts the process of a node and waits for nothing.
func (w *world) launch(n *node) {
	w.tb.Helper()
	args := append(w.wayToRedis(n), "--config="+w.settings)
	for _, port := range slices.Sorted(maps.Keys(n.listen)) {
		args = append(args, "--listen-"+port+"="+n.listen[port])
	}
	path := filepath.Join(w.programs, n.role)
	if w.programs == "" {
		path = pods.Program(w.tb, n.role)
	}
	pod := pods.Launch(w.tb, n.name, path, args, nil)
	n.mu.Lock()
	n.pod, n.starts = pod, n.starts+1
	n.mu.Unlock()
}

// kill ends a process as kill -9 does.
func (w *world) kill(n *node) {
	w.log.add(Event{What: killed, Pod: n.name})
	n.now().Kill()
}

// again starts a killed or stopped process at the same place and returns when it is ready.
func (w *world) again(n *node) {
	w.tb.Helper()
	w.launch(n)
	n.now().WaitReady()
}

// fault writes that one begins, lets it happen, and writes that it has ended.
func (w *world) fault(what string, happen func()) {
	w.tb.Helper()
	w.say("%s", what)
	w.log.add(Event{What: faultOn, Text: what})
	happen()
	w.log.add(Event{What: faultOff, Text: what})
	w.say("healed")
}

// say tells what happens, and when in the log.
func (w *world) say(format string, args ...any) {
	w.tb.Helper()
	w.tb.Logf("%8.3fs %s", w.log.now().Seconds(), fmt.Sprintf(format, args...))
}

// pause lets load and fault run for a while.
func (w *world) pause(d time.Duration) { pause(w.ctx, d) }

// drawn is a random time of the schedule.
func (w *world) drawn(from, to time.Duration) time.Duration {
	return from + time.Duration(w.rng.Int64N(int64(to-from+1)))
}

// pause waits for d; false where ctx ended before.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// eventually waits until a fault shows, and fails the test where it does not.
func (w *world) eventually(within time.Duration, what string, cond func() bool) {
	w.tb.Helper()
	deadline := time.Now().Add(within)
	for !cond() {
		if time.Now().After(deadline) {
			w.tb.Fatalf("waited %v in vain: %s", within, what)
		}
		w.pause(50 * time.Millisecond)
	}
}

// metric is the sum of a metric over nodes.
func (w *world) metric(of []*node, name string, labels ...string) (sum int) {
	for _, n := range of {
		sum += int(n.now().Metric(name, labels...))
	}
	return sum
}

// proves writes down how often a fault bit. Where it did not, the scenario shows nothing, and fails.
func (w *world) proves(what string, n int) {
	w.tb.Helper()
	w.row.proofs = append(w.row.proofs, fmt.Sprintf("%s %d", what, n))
	if n <= 0 {
		w.tb.Errorf("the fault did not bite: %s: %d", what, n)
	}
}

// end ends what the test may have left.
func (w *world) end() {
	w.cancel()
	w.stopCallers()
	w.hearing.Wait()
	w.slackOf.Wait()
	w.log.close()
	if w.tb.Failed() {
		selection := ""
		if short {
			selection = "ALLIM_FAULT=short "
		}
		w.tb.Logf("the log of all that happened: %s\nagain: ALLIM_SEED=%d %sgo test -tags fault -vet=off -count=1 -v -run '^%s$' ./test/fault", w.log.path, w.seed, selection,
			strings.ReplaceAll(w.tb.Name(), "/", "$/^"))
	}
}

func (w *world) stopCallers() {
	select {
	case <-w.stop:
	default:
		close(w.stop)
	}
	w.calling.Wait()
	w.board.hangUp()
}

// measureSlack writes down each second by how much the machine was late with a short sleep: what nobody here can help.
func (w *world) measureSlack() {
	const nap = 20 * time.Millisecond
	worst, since := time.Duration(0), time.Now()
	for {
		start := time.Now()
		if !pause(w.ctx, nap) {
			return
		}
		worst = max(worst, time.Since(start)-nap)
		if time.Since(since) > time.Second {
			w.log.add(Event{What: slack, Bytes: int64(worst)})
			worst, since = 0, time.Now()
		}
	}
}
