package session

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"allim/internal/store"
	"allim/internal/wire"
	"allim/pkg/auth"
	"allim/pkg/fanout"
)

// Options say what sessions share. Zero durations and bounds mean the default that is named.
type Options struct {
	Hub       *fanout.Hub
	Store     *store.Store
	Verify    func(token string) (*auth.Identity, error)
	Anonymous *auth.Identity // nil: everybody needs a token
	Log       *slog.Logger   // nil: none
	Metrics   *Metrics       // nil: counted by nobody

	Degraded func() bool // tells whether messages may come late; nil: never

	Push *Push // nil: nothing is pushed

	Limits     Limits        // of connections
	RedisWait  time.Duration // of one command in Redis; 4 s
	ListPause  time.Duration // between two tries to list an inbox, ± 50 %; 1 s
	BadgePause time.Duration // between two looks at which segments changed, whose members' badges follow; 250 ms
	Tick       time.Duration // step of everything that waits for time to pass; 1 s
	Window     time.Duration // over which clients are asked to connect elsewhere when Run ends; 0: nobody is asked
	MoveWait   time.Duration // after it, for the last of them to come there; 2 s
	Grace      time.Duration // then, for closing those that did not; 4 s
}

// Warn is how long before its end a token's client is told.
const Warn = 60 * time.Second

// leastLife is how long an accepted token is good for at least: one that is taken within the leeway of clocks must not end at once.
const leastLife = 10 * time.Second

// Sessions are all sessions of a gateway. Make them with New, Run them once.
type Sessions struct {
	opt       Options
	metrics   *Metrics
	calls     *Calls
	audiences *audiences
	lists     chan struct{} // a place for each inbox that is listed without being asked for by a command

	stopping chan struct{} // closed by Run when it ends the sessions
	left     chan struct{} // buffered 1: the last session has gone; never closed
	degraded atomic.Bool   // what sessions are told

	mu      sync.Mutex // guards the rest
	all     map[*Session]struct{}
	closing bool
	wg      sync.WaitGroup // lists under way
}

// New makes sessions; Run must be running for them to live.
func New(o Options) *Sessions {
	for _, d := range []struct {
		p *time.Duration
		d time.Duration
	}{{&o.RedisWait, 4 * time.Second}, {&o.ListPause, time.Second}, {&o.BadgePause, badgePause}, {&o.Tick, time.Second}, {&o.MoveWait, 2 * time.Second}, {&o.Grace, 4 * time.Second}} {
		if *d.p == 0 {
			*d.p = d.d
		}
	}
	o.Limits = o.Limits.withDefaults()
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Metrics == nil {
		o.Metrics = NewMetrics(nil)
	}
	ss := &Sessions{opt: o, metrics: o.Metrics, lists: make(chan struct{}, 8*runtime.GOMAXPROCS(0)),
		stopping: make(chan struct{}), left: make(chan struct{}, 1), all: map[*Session]struct{}{}}
	ss.opt.Verify = ss.Within(o.Verify)
	ss.calls = newCalls(&ss.opt)
	ss.audiences = newAudiences(&ss.opt, ss.snapshot)
	return ss
}

// Run keeps time for all sessions: pings, deadlines, the ends of tokens. When ctx ends it takes no new ones, asks those that there are to move, ends
// with 1012 who did not, and returns when their transports have let go of them, at the latest after Budget.
func (ss *Sessions) Run(ctx context.Context) error {
	ss.wg.Go(func() { ss.audiences.run(ss.stopping) })
	tick := time.NewTicker(max(ss.opt.Tick/steps, time.Millisecond))
	defer tick.Stop()
	for all, n := []*Session(nil), 0; ctx.Err() == nil; {
		select {
		case <-ctx.Done():
		case now := <-tick.C:
			if n == 0 {
				all, n = ss.snapshot(), steps
			}
			all, n = ss.step(now, all, n), n-1
		}
	}
	ss.mu.Lock()
	ss.closing = true
	ss.mu.Unlock()
	ss.drain()
	close(ss.stopping)
	ss.dismiss()
	ss.wg.Wait()
	return nil
}

// steps are the parts of a Tick in which sessions have their turns: messages would wait behind the pings of all that are due in a second, 10 ms for a
// thousand of them.
const steps = 20

// step does for a part of all, the first of n that are left, what time asks for, and returns the others.
func (ss *Sessions) step(now time.Time, all []*Session, n int) []*Session {
	ss.watch()
	part := (len(all) + n - 1) / n
	for _, s := range all[:part] {
		s.sweep(now)
	}
	return all[part:]
}

// sweep does for all sessions what time asks for.
func (ss *Sessions) sweep(now time.Time) {
	ss.step(now, ss.snapshot(), 1)
}

// watch sees whether messages may come late, which every session tells at its next turn.
func (ss *Sessions) watch() { ss.degraded.Store(ss.opt.Degraded != nil && ss.opt.Degraded()) }

// Len is how many sessions there are.
func (ss *Sessions) Len() int {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	return len(ss.all)
}

// Full tells whether there is no place for another session now. Open refuses it all the same if there is none when it comes.
func (ss *Sessions) Full() bool { return ss.Len() >= ss.opt.Limits.Sessions }

func (ss *Sessions) has(s *Session) bool {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	_, there := ss.all[s]
	return there
}

func (ss *Sessions) snapshot() []*Session {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	all := make([]*Session, 0, len(ss.all))
	for s := range ss.all {
		all = append(all, s)
	}
	return all
}

// A refusal is why a session was not added.
type refusal uint8

const (
	added refusal = iota
	refusedClosing
	refusedFull
)

func (ss *Sessions) add(s *Session) refusal {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	switch {
	case ss.closing:
		return refusedClosing
	case len(ss.all) >= ss.opt.Limits.Sessions:
		ss.metrics.limit("sessions")
		return refusedFull
	}
	ss.all[s] = struct{}{}
	ss.metrics.sessions.Inc()
	return added
}

func (ss *Sessions) remove(s *Session, code int) {
	ss.mu.Lock()
	_, there := ss.all[s]
	delete(ss.all, s)
	last := len(ss.all) == 0
	ss.mu.Unlock()
	if last {
		select {
		case ss.left <- struct{}{}:
		default: // it says so already
		}
	}
	if there {
		ss.metrics.sessions.Dec()
		ss.metrics.closed(code)
	}
}

// End ends the session with a close code after what waits for it.
func (s *Session) End(code int, reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.finish(code, reason)
}

// sweep does what time asks for.
func (s *Session) sweep(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tellDegraded()
	if now.Before(s.due) {
		return
	}
	if s.end != nil {
		if s.end.Code == wire.CloseTooSlow {
			s.conn.Abort()
		}
		return
	}
	if !now.Before(s.ping) {
		s.ping = now.Add(jitter(s.shared.opt.Limits.Ping))
		s.conn.Ping()
	}
	switch {
	case s.identity == nil:
		if now.Sub(s.begun) >= s.shared.opt.Limits.AuthTimeout {
			s.shared.metrics.limit("auth_timeout")
			s.send(&wire.Error{Code: wire.CodeUnauthorized, Message: "no token came in time"}, item{})
			s.finish(wire.CloseExpired, "no token")
		}
	case !s.identity.Anonymous:
		if !now.Before(s.expiry()) {
			s.finish(wire.CloseExpired, "expired")
		} else if left := s.expiry().Sub(now); left <= Warn && !s.expiring && s.batch == nil { // never before the welcome
			s.expiring = true
			s.send(&wire.Expiring{In: int(left / time.Second)}, item{})
		}
	}
	s.plan()
}

func (s *Session) expiry() time.Time {
	if least := s.accepted.Add(leastLife); least.After(s.identity.Expires) {
		return least
	}
	return s.identity.Expires
}

// plan sets when the sweep looks at the session again.
func (s *Session) plan() {
	s.due = s.ping
	at := s.begun.Add(s.shared.opt.Limits.AuthTimeout)
	if s.identity != nil {
		if s.identity.Anonymous {
			return
		}
		left := time.Until(s.expiry()) // what a clock that is set does to it is seen at the next ping
		if !s.expiring {
			left -= Warn
		}
		at = time.Now().Add(left)
	}
	if at.Before(s.due) {
		s.due = at
	}
}

func jitter(d time.Duration) time.Duration {
	return d - d/5 + rand.N(2*d/5+1)
}
