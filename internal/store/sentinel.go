package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	askTimeout   = time.Second // for all Sentinels together
	watchEvery   = time.Second // between two looks at who is the primary
	mostWatchers = 32          // Sentinels that are asked; of others they name we take no notice
)

var errNoPrimary = errors.New("the Sentinels name a Redis that is no primary")

// A failover is the client of the Redis that Sentinels name. go-redis has one, too, but a Sentinel that is frozen, as one on the primary's
// machine is, keeps it from asking another as long as callers wait for less than five seconds, and its password can not change. Here every connection is made to whom
// the Sentinels name then, more than half of them where they answer; and as soon as they name another, the connections to the former one are closed, links of
// pub/sub among them, so that nobody stays with a primary that was cut off.
type failover struct {
	*redis.Client
	watch *sentinels
}

func newFailover(o *redis.Options, s Sentinel, to *redis.Options) *failover {
	w := &sentinels{master: s.Master, seeds: s.Addresses, to: to, dial: o.Dialer, asked: map[string]*redis.Client{}, open: map[net.Conn]string{}}
	w.ctx, w.stop = context.WithCancel(context.Background())
	to.TLSConfig, to.PoolSize, to.PipelinePoolSize = o.TLSConfig, 2, -1
	to.ReadBufferSize, to.WriteBufferSize = 4096, 4096
	o.Addr, o.Network, o.Dialer, o.OnConnect = s.Master, "tcp", w.connect, primary
	return &failover{Client: redis.NewClient(o), watch: w}
}

// Close is the client's. It waits until nobody is asked any more.
func (f *failover) Close() error {
	err := f.Client.Close()
	return errors.Join(err, f.watch.close())
}

// primary refuses a connection to who is none: a Sentinel may not know it yet, or not any more.
func primary(ctx context.Context, conn *redis.Conn) error {
	info, err := conn.Info(ctx, "replication").Result()
	if err == nil && !strings.Contains(info, "role:master") {
		err = errNoPrimary
	}
	return err
}

// sentinels know who the primary is.
type sentinels struct {
	master string
	seeds  []string
	to     *redis.Options // of a client of a Sentinel, but its address
	dial   dialFunc

	ctx  context.Context // over when closed
	stop context.CancelFunc
	busy sync.WaitGroup // every goroutine and every call of find; only added to while not closed

	mu      sync.Mutex // guards the fields below
	watched bool       // the watcher runs
	closed  bool
	asked   map[string]*redis.Client // by address
	at      answer                   // the last that counted
	open    map[net.Conn]string      // connections to Redis, by what was dialled
}

// An answer is what a Sentinel said.
type answer struct {
	addr  string // of the primary
	epoch int64  // of the configuration: a later failover has a greater one
	from  *redis.Client
}

// connect dials the primary.
func (s *sentinels) connect(ctx context.Context, network, _ string) (net.Conn, error) {
	addr, err := s.find(ctx)
	if err != nil {
		return nil, err
	}
	conn, err := s.dial(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return s.keep(conn, addr)
}

// keep knows a connection until it is closed.
func (s *sentinels) keep(conn net.Conn, addr string) (net.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.at.addr != addr {
		return nil, errors.Join(errNoPrimary, conn.Close()) // a failover went by while we dialled
	}
	s.open[conn] = addr
	kept := &keptConn{Conn: conn, forget: func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.open, conn)
	}}
	if raw, ok := conn.(syscall.Conn); ok { // go-redis looks at it whether an idle connection was closed
		return struct {
			*keptConn
			syscall.Conn
		}{kept, raw}, nil
	}
	return kept, nil
}

type keptConn struct {
	net.Conn
	forget func()
}

// Close is of net.Conn.
func (k *keptConn) Close() error { k.forget(); return k.Conn.Close() }

// find asks who the primary is, and lets go of every connection to another.
func (s *sentinels) find(ctx context.Context) (string, error) {
	clients, last, err := s.begin()
	if err != nil {
		return "", err
	}
	defer s.busy.Done()
	best, all, err := s.ask(ctx, clients, last)
	if err != nil {
		return "", err
	}
	return s.heard(best, all, last), nil
}

// heard takes the best answer to a question that was asked when the last one that counted was of epoch last, and says who the primary is.
func (s *sentinels) heard(best answer, all bool, last int64) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	// Who answered has not heard of the last failover. Where all who were asked since then agree, they were set up anew.
	if best.epoch < s.at.epoch && (!all || last < s.at.epoch) {
		best = s.at
	}
	if best.addr != s.at.addr {
		for conn, addr := range s.open {
			if addr != best.addr {
				_ = conn.Close() // whoever holds it finds out, and gives it back
			}
		}
	}
	s.at = best
	if !s.watched && !s.closed {
		s.watched = true
		s.busy.Go(s.look)
	}
	return best.addr
}

// look asks again and again until closed, and learns who else can be asked.
func (s *sentinels) look() {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		if _, err := s.find(s.ctx); err == nil {
			s.learn()
		}
		select {
		case <-s.ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// ask asks all at once. The answer with the greatest epoch counts, as soon as more than half have answered and it is not older than the last, or
// all have answered or failed to; all is whether everybody has answered.
func (s *sentinels) ask(ctx context.Context, clients []*redis.Client, last int64) (best answer, all bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout) // go-redis looks at the deadline alone: whose answer does not count ends by it
	defer cancel()
	type reply struct {
		answer
		err error
	}
	replies := make(chan reply, len(clients))
	for _, c := range clients {
		s.busy.Go(func() {
			a, err := question(ctx, c, s.master)
			replies <- reply{a, err}
		})
	}
	var first error
	good := 0
	for n := 0; n < len(clients) && (good <= len(clients)/2 || best.epoch < last); n++ {
		r := <-replies
		if r.err != nil {
			first = cmp.Or(first, r.err)
		} else if good++; good == 1 || r.epoch > best.epoch {
			best = r.answer
		}
	}
	if good == 0 {
		return best, false, fmt.Errorf("ask %d Sentinels for %q: %w", len(clients), s.master, first)
	}
	return best, good == len(clients), nil
}

// question asks one Sentinel.
func question(ctx context.Context, c *redis.Client, master string) (answer, error) {
	cmd := redis.NewMapStringStringCmd(ctx, "SENTINEL", "MASTER", master)
	if err := c.Process(ctx, cmd); err != nil {
		var refused redis.Error
		if errors.As(err, &refused) { // what a Sentinel refuses, Redis did not: this is an outage like any other
			err = errors.New(refused.Error())
		}
		return answer{}, hideAddr(err)
	}
	v := cmd.Val()
	epoch, err := strconv.ParseInt(v["config-epoch"], 10, 64)
	if err != nil {
		return answer{}, fmt.Errorf("a Sentinel answered epoch %q", v["config-epoch"])
	}
	return answer{net.JoinHostPort(v["ip"], v["port"]), epoch, c}, nil
}

// begin is the start of a find: whom to ask, and the epoch of the last answer that counted.
func (s *sentinels) begin() (clients []*redis.Client, last int64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, 0, redis.ErrClosed
	}
	for _, a := range s.seeds {
		s.addLocked(a)
	}
	s.busy.Add(1)
	return slices.Collect(maps.Values(s.asked)), s.at.epoch, nil
}

func (s *sentinels) addLocked(addr string) {
	if s.asked[addr] != nil || len(s.asked) >= mostWatchers {
		return
	}
	o := *s.to
	o.Addr = addr
	s.asked[addr] = redis.NewClient(&o)
}

// learn has those asked that the settings name, and whom the one that answered last knows.
func (s *sentinels) learn() {
	s.mu.Lock()
	from := s.at.from
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(s.ctx, askTimeout)
	defer cancel()
	cmd := redis.NewMapStringStringSliceCmd(ctx, "SENTINEL", "SENTINELS", s.master)
	if from.Process(ctx, cmd) != nil {
		return // the next one tells
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	named := append([]string{from.Options().Addr}, s.seeds...)
	for _, other := range cmd.Val() {
		if addr := net.JoinHostPort(other["ip"], other["port"]); noAddress("", []string{addr}) == nil {
			named = append(named, addr)
		}
	}
	for addr, c := range s.asked {
		if !slices.Contains(named, addr) {
			_ = c.Close() // nobody's answer counts any more
			delete(s.asked, addr)
		}
	}
	for _, addr := range named {
		s.addLocked(addr)
	}
}

// close ends all questions and waits for them.
func (s *sentinels) close() error {
	s.stop()
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.busy.Wait()
	var errs []error
	for _, c := range s.asked {
		errs = append(errs, c.Close())
	}
	clear(s.asked)
	return errors.Join(errs...)
}
