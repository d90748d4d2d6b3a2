package testkit

import (
	"net"
	"strconv"
	"sync"
	"testing"
	"time"
)

const (
	proxyChunk  = 32 << 10 // bytes copied at once
	proxyQueued = 64       // chunks that wait in one direction of a connection; then the sender feels it
)

// A Proxy stands between a client and a TCP server and breaks on demand. Its
// methods may be called from the test's goroutine at any time.
type Proxy struct {
	Addr string // where clients connect; the same through Cut and Heal

	tb   testing.TB
	wg   sync.WaitGroup // every goroutine of the proxy
	drop respDrop       // of messages that the target sends

	mu       sync.Mutex // guards the fields below
	target   string
	listener net.Listener
	links    map[*link]struct{}
	flows    chan struct{} // closed while bytes pass, open in a black hole
	hole     bool
	deaf     bool // the hole is there on the way to the client alone
	delay    time.Duration
	ended    bool
}

// A link is one client's connection and its counterpart to the target.
type link struct {
	client, server net.Conn // server is nil until it is dialled
	gone           chan struct{}
}

type chunk struct {
	bytes []byte
	due   time.Time
}

// NewProxy starts a proxy to target (host:port) on a loopback port; it ends with
// the test.
func NewProxy(t testing.TB, target string) *Proxy {
	t.Helper()
	p := &Proxy{tb: t, target: target, links: map[*link]struct{}{}, flows: make(chan struct{})}
	close(p.flows)
	var err error
	for range redisAttempts {
		var port int
		if port, err = freePort(); err != nil {
			break
		}
		p.Addr = net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		if err = p.listen(); err == nil {
			break
		}
	}
	if err != nil {
		t.Fatalf("start proxy: %v", err)
	}
	t.Cleanup(func() {
		p.mu.Lock()
		p.ended = true
		p.mu.Unlock()
		p.Cut()
		p.wg.Wait()
	})
	return p
}

// Turn leads connections from now on to another target, as a name does that became another server's.
func (p *Proxy) Turn(target string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = target
}

// Cut closes every connection and refuses new ones until Heal.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.listener != nil {
		_ = p.listener.Close()
		p.listener = nil
	}
	for l := range p.links {
		p.closeLocked(l)
	}
}

// Blackhole holds every byte in both directions, old and new connections alike,
// and closes none: packets are lost. Off again, the held bytes arrive, as TCP
// would send them again.
func (p *Proxy) Blackhole(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if on == p.hole {
		return
	}
	p.hole = on
	if on {
		p.flows = make(chan struct{})
	} else {
		close(p.flows)
	}
}

// Deafen is Blackhole on the way to the client alone: the target hears everything
// and, as nobody takes its answers, comes to hold them itself.
func (p *Proxy) Deafen(on bool) {
	p.mu.Lock()
	p.deaf = on
	p.mu.Unlock()
	p.Blackhole(on)
}

// Delay makes every byte that arrives from now on take d longer in each
// direction; 0 ends it.
func (p *Proxy) Delay(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay = d
}

// Heal ends Cut, Blackhole, Deafen and Delay. Connections that were cut stay cut.
func (p *Proxy) Heal() {
	p.tb.Helper()
	p.Deafen(false)
	p.Delay(0)
	EventuallyNil(p.tb, 5*time.Second, p.listen, "listen again at "+p.Addr)
}

// Links is the number of open connections.
func (p *Proxy) Links() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.links)
}

func (p *Proxy) listen() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.listener != nil || p.ended {
		return nil
	}
	l, err := net.Listen("tcp", p.Addr)
	if err != nil {
		return err
	}
	p.listener = l
	p.wg.Go(func() { p.accept(l) })
	return nil
}

func (p *Proxy) accept(listener net.Listener) {
	for {
		c, err := listener.Accept()
		if err != nil {
			return // closed by Cut
		}
		l := &link{client: c, gone: make(chan struct{})}
		p.mu.Lock()
		if p.listener != listener { // accepted while Cut was at work
			p.mu.Unlock()
			_ = c.Close()
			return
		}
		p.links[l] = struct{}{}
		p.mu.Unlock()
		p.wg.Go(func() { p.serve(l) })
	}
}

func (p *Proxy) serve(l *link) {
	defer p.close(l)
	if !p.pass(l, false) { // in a black hole not even the SYN arrives
		return
	}
	p.mu.Lock()
	target := p.target
	p.mu.Unlock()
	server, err := net.DialTimeout("tcp", target, 5*time.Second)
	if err != nil {
		return
	}
	p.mu.Lock()
	l.server = server
	_, open := p.links[l]
	p.mu.Unlock()
	if !open {
		_ = server.Close()
		return
	}
	var both sync.WaitGroup
	both.Go(func() { p.copy(l, server, l.client, nil); p.close(l) })
	both.Go(func() { p.copy(l, l.client, server, &respFilter{loses: p.drop.loses}); p.close(l) })
	both.Wait()
}

// copy moves bytes until an end closes; those on the way to the client go through
// a filter. A reader and a writer with a queue between them, so that a delay does
// not make the bytes fewer.
func (p *Proxy) copy(l *link, to, from net.Conn, filter *respFilter) {
	queue := make(chan chunk, proxyQueued) // closed by the reader
	var reader sync.WaitGroup
	reader.Go(func() {
		defer close(queue)
		for {
			b := make([]byte, proxyChunk)
			n, err := from.Read(b)
			if n > 0 {
				p.mu.Lock()
				due := time.Now().Add(p.delay)
				p.mu.Unlock()
				select {
				case queue <- chunk{b[:n], due}:
				case <-l.gone:
					return
				}
			}
			if err != nil {
				return
			}
		}
	})
	defer reader.Wait()
	for c := range queue {
		if !p.hold(l, c.due) || !p.pass(l, filter != nil) {
			break
		}
		if filter != nil {
			c.bytes = filter.take(c.bytes)
		}
		if _, err := to.Write(c.bytes); err != nil {
			break
		}
	}
	p.close(l) // frees the reader
}

// pass waits while there is a black hole on the way to the client or the other one;
// false means that the link is gone.
func (p *Proxy) pass(l *link, toClient bool) bool {
	for {
		p.mu.Lock()
		flows, hole := p.flows, p.hole && (toClient || !p.deaf)
		p.mu.Unlock()
		if !hole {
			return true
		}
		select {
		case <-flows:
		case <-l.gone:
			return false
		}
	}
}

func (p *Proxy) hold(l *link, due time.Time) bool {
	wait := time.Until(due)
	if wait <= 0 {
		return true
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-l.gone:
		return false
	}
}

func (p *Proxy) close(l *link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closeLocked(l)
}

func (p *Proxy) closeLocked(l *link) {
	if _, open := p.links[l]; !open {
		return
	}
	delete(p.links, l)
	close(l.gone)
	_ = l.client.Close()
	if l.server != nil {
		_ = l.server.Close()
	}
}
