package session

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"allim/internal/audience"
	"allim/internal/store"
	"allim/internal/wire"
	"allim/pkg/auth"
	"allim/pkg/notify"
)

const (
	badgePause = 250 * time.Millisecond // between two looks at which segments changed
	askMost    = 256                    // sessions that are told at once what their users are members of
	readMost   = 256                    // boards that are read at once
	countMost  = 1024                   // sessions that count anew before those who wait to be told have their turn
	askWait    = 5 * time.Second        // after which who waits for that with its welcome is sent away
	askLog     = 10 * time.Second       // between two lines in the log that say that it fails
)

// Audiences are what sessions share of segments: a board of each that somebody hears, kept up by the messages that come anyway, so that a notification for a million
// costs Redis nothing for any of them. One goroutine, which Sessions.Run owns, asks Redis what users are members of, many at once, and has whoever hears a segment that
// changed count anew: within a second, on one processor at most.
type audiences struct {
	opt  *Options          // constant
	all  func() []*Session // constant
	wake chan struct{}     // buffered 1; never closed
	said time.Time         // when the log was told last that it fails; the goroutine's

	mu       sync.Mutex // guards the rest, and the fields of lives; nothing is locked while it is held. Sessions' locks come before it
	live     map[notify.Stream]*live
	asks     map[*Session]time.Time // since when those wait who must know what their users are members of
	later    map[*Session]time.Time // those of them who could not be told, until the next look; nil: none
	telling  map[*Session]struct{}  // those who are told now
	counting bool                   // some count anew
}

// A live is a segment that sessions hear.
type live struct {
	of      *audiences
	segment notify.Stream
	board   atomic.Pointer[audience.Board] // nil: nobody has read it yet

	heard int       // sessions
	stale bool      // only Redis knows what it holds
	err   error     // for which it could not be read last: its members are told nothing until it can; nil: it was read
	dirty bool      // its members' counts may be others now
	ends  time.Time // when the next item is gone; zero: none ends
}

func newAudiences(o *Options, all func() []*Session) *audiences {
	return &audiences{opt: o, all: all, wake: make(chan struct{}, 1), live: map[notify.Stream]*live{}, asks: map[*Session]time.Time{}, telling: map[*Session]struct{}{}}
}

// failed says that Redis did not tell.
func (a *audiences) failed(err error) {
	if time.Since(a.said) >= askLog {
		a.said = time.Now()
		a.opt.Log.Warn("members_failed", "error", err)
	}
}

// join is a segment that a session hears from now on.
func (a *audiences) join(segment notify.Stream) *live {
	a.mu.Lock()
	defer a.mu.Unlock()
	l := a.live[segment]
	if l == nil {
		l = &live{of: a, segment: segment, stale: true}
		a.live[segment] = l
	}
	l.heard++
	return l
}

// leave is its end.
func (l *live) leave() {
	l.of.mu.Lock()
	defer l.of.mu.Unlock()
	if l.heard--; l.heard == 0 {
		delete(l.of.live, l.segment)
	}
}

// apply takes a message into the board, whichever of those who hear it has it first.
func (l *live) apply(m *notify.Message) {
	if b := l.board.Load(); b != nil && b.Epoch == m.Position.Epoch && b.Top >= m.Position.Offset {
		return
	}
	l.of.mu.Lock()
	defer l.of.mu.Unlock()
	b := l.board.Load()
	if b == nil {
		l.stale = true
		return
	}
	next, ok := b.Apply(m)
	if !ok {
		l.stale = true
	} else if next != b {
		l.putLocked(next)
	}
}

func (l *live) putLocked(b *audience.Board) {
	l.board.Store(b)
	l.ends, l.dirty = b.Ends(time.Now()), true
}

// takeLocked takes a board that was read, unless messages have gone on meanwhile from the one that there was.
func (l *live) takeLocked(b *audience.Board) {
	if has := l.board.Load(); has == nil || has.Epoch != b.Epoch || has.Top < b.Top {
		l.putLocked(b)
	}
}

// begins says where somebody begins to hear the segment. The board may lack what stands before that, where all the others lag behind; or have what Redis has lost.
func (l *live) begins(at notify.Position) {
	b := l.board.Load()
	_, empty := at.Empty()
	if b == nil || b.Epoch == at.Epoch && b.Top >= at.Offset || b.Epoch == "" && empty {
		return
	}
	l.of.mu.Lock()
	defer l.of.mu.Unlock()
	l.stale = true
}

// ask has a session be told what its user is a member of.
func (a *audiences) ask(s *Session) {
	a.mu.Lock()
	if _, asked := a.asks[s]; !asked {
		a.asks[s] = time.Now()
	}
	a.mu.Unlock()
	select {
	case a.wake <- struct{}{}:
	default: // it is awake
	}
}

// forget ends what a session that is gone asked for.
func (a *audiences) forget(s *Session) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.asks, s)
	delete(a.later, s)
}

// run does all that until stop is closed.
func (a *audiences) run(stop <-chan struct{}) {
	tick := time.NewTicker(a.opt.BadgePause)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return
		case <-a.wake:
		case <-tick.C:
			a.look()
		}
		for a.tell() {
			select {
			case <-stop:
				return
			case <-tick.C: // badges follow within a second, however many come
				a.look()
			default:
			}
		}
	}
}

// look reads the boards that are stale, and has whoever hears a segment that changed count anew.
func (a *audiences) look() {
	a.read(a.stale(nil))
	now := time.Now()
	dirty := map[*live]bool{}
	a.mu.Lock()
	for s, since := range a.later {
		a.asks[s] = since
	}
	a.later = nil
	for _, l := range a.live {
		if !l.ends.IsZero() && !l.ends.After(now) {
			l.dirty, l.ends = true, l.board.Load().Ends(now)
		}
		if l.dirty {
			dirty[l], l.dirty = true, false
		}
	}
	a.counting = len(dirty) > 0
	a.mu.Unlock()
	if len(dirty) == 0 {
		return
	}
	for i, s := range a.all() {
		if i%countMost == countMost-1 {
			a.tell()
		}
		s.mu.Lock()
		for _, c := range s.subs {
			if c.live != nil && dirty[c.live] {
				s.recount()
				break
			}
		}
		s.mu.Unlock()
	}
	a.mu.Lock()
	a.counting = false
	a.mu.Unlock()
}

// stale are the boards to be read: of the segments that these sessions hear, but for those that could not be read lately; of all with nil. What is found out while they
// are read makes them so again.
func (a *audiences) stale(sessions []*Session) (read []*live) {
	heard := map[*live]bool{}
	for _, s := range sessions {
		s.mu.Lock()
		for _, c := range s.subs {
			if c.live != nil {
				heard[c.live] = true
			}
		}
		s.mu.Unlock()
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, l := range a.live {
		if l.stale && (sessions == nil || heard[l] && l.err == nil) {
			l.stale = false
			read = append(read, l)
		}
	}
	return read
}

// read reads boards anew; those of which it fails are stale again.
func (a *audiences) read(stale []*live) {
	for len(stale) > 0 {
		part := stale[:min(len(stale), readMost)]
		segments := make([]notify.Stream, len(part))
		for i, l := range part {
			segments[i] = l.segment
		}
		ctx, cancel := context.WithTimeout(context.Background(), a.opt.RedisWait)
		boards, errs := a.opt.Store.BoardsEach(ctx, segments)
		cancel()
		a.mu.Lock()
		for i, l := range part {
			if l.err = errs[i]; l.err != nil {
				l.stale = true
				continue
			}
			l.takeLocked(boards[i])
		}
		a.mu.Unlock()
		for _, err := range errs {
			if err != nil {
				a.failed(err)
			}
		}
		stale = stale[len(part):]
	}
}

// unread is why a segment that a session hears could not be read; nil: all were. The session's lock is held.
func (a *audiences) unread(s *Session) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, c := range s.subs {
		if c.live != nil && c.live.err != nil {
			return c.live.err
		}
	}
	return nil
}

// tell tells sessions what their users are members of; false: nobody waits for that, or nobody could be told. Who could not asks again with the next look: one whose
// segments Redis does not tell holds up no others.
func (a *audiences) tell() bool {
	asking, since := a.take()
	if len(asking) == 0 {
		return false
	}
	a.read(a.stale(asking))
	visits, of, errs := make([]store.Visit, 0, len(asking)), make([]int, 0, len(asking)), make([]error, len(asking))
	who := make([]*auth.Identity, len(asking))
	for i, s := range asking {
		s.mu.Lock()
		who[i] = s.identity
		if errs[i] = a.unread(s); errs[i] == nil {
			if v, ok := s.visit(); ok {
				visits, of = append(visits, v), append(of, i)
			}
		}
		s.mu.Unlock()
	}
	ctx, cancel := context.WithTimeout(context.Background(), a.opt.RedisWait)
	defer cancel()
	members, failed := a.opt.Store.TouchAll(ctx, visits)
	told := make([]*store.Members, len(asking))
	for n, i := range of {
		told[i], errs[i] = &members[n], failed[n]
	}
	progress := false
	for i, s := range asking {
		s.mu.Lock()
		switch {
		case errs[i] != nil:
			a.failed(errs[i])
			a.untold(s, since[i])
		case told[i] != nil:
			s.told(told[i], who[i])
			progress = true
		default: // it is gone
			progress = true
		}
		s.mu.Unlock()
	}
	a.mu.Lock()
	clear(a.telling)
	a.mu.Unlock()
	return progress
}

// untold has a session ask again with the next look, or sends it away where its welcome waits for too long. Its lock is held.
func (a *audiences) untold(s *Session, since time.Time) {
	switch {
	case s.end != nil:
	case s.batch != nil && s.batch.counting && time.Since(since) > askWait:
		s.finish(wire.CloseOverload, "unavailable")
	default:
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.later == nil {
			a.later = map[*Session]time.Time{}
		}
		a.later[s] = since
	}
}

// take are some of those who ask, and since when.
func (a *audiences) take() (asking []*Session, since []time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for s, at := range a.asks {
		asking, since = append(asking, s), append(since, at)
		a.telling[s] = struct{}{}
		delete(a.asks, s) // who asks again meanwhile is told again
		if len(asking) == askMost {
			break
		}
	}
	if len(a.asks) == 0 { // many ask at once after a storm: the room is not kept
		a.asks = map[*Session]time.Time{}
	}
	return asking, since
}

// busy tells whether a session may be told something yet.
func (a *audiences) busy(s *Session) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	_, asked := a.asks[s]
	if _, waits := a.later[s]; waits {
		asked = true
	}
	_, telling := a.telling[s]
	for _, c := range s.subs {
		asked = asked || c.live != nil && (c.live.dirty || c.live.stale)
	}
	return asked || telling || a.counting
}
