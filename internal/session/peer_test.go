package session_test

import (
	"fmt"
	"sync"

	"allim/internal/session"
)

// A peer is a transport and its client in one: it pulls frames as fast as they come, unless it is stalled.
type peer struct {
	s    *session.Session
	wake chan struct{}
	stop chan struct{}
	done chan struct{}
	got  chan struct{} // buffered 1: frames came; nil: nobody waits for that

	mu     sync.Mutex
	frames []string
	still  bool
	pings  int
	pulls  bool // between Pull and the note of its frame
}

func (p *peer) Wake() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

func (p *peer) Ping()  { p.mu.Lock(); p.pings++; p.mu.Unlock() }
func (p *peer) Abort() {}

func (p *peer) pull() {
	defer close(p.done)
	for {
		p.mu.Lock()
		p.pulls = !p.still
		still := p.still
		p.mu.Unlock()
		var frame []byte
		var end *session.End
		if !still {
			frame, end = p.s.Pull()
		}
		p.mu.Lock()
		p.pulls = false
		if frame != nil {
			p.frames = append(p.frames, string(frame))
		}
		if end != nil && end.Reason != "gone" {
			p.frames = append(p.frames, fmt.Sprintf("close %d %s", end.Code, end.Reason))
		}
		p.mu.Unlock()
		select {
		case p.got <- struct{}{}:
		default:
		}
		if end != nil {
			p.s.Gone()
			return
		}
		if frame == nil {
			select {
			case <-p.wake:
			case <-p.stop:
				return
			}
		}
	}
}

func (p *peer) stall(on bool) {
	p.mu.Lock()
	p.still = on
	p.mu.Unlock()
	p.Wake()
}

func (p *peer) stalled() bool { p.mu.Lock(); defer p.mu.Unlock(); return p.still }
func (p *peer) busy() bool    { p.mu.Lock(); defer p.mu.Unlock(); return p.pulls }
func (p *peer) waiting() int  { p.mu.Lock(); defer p.mu.Unlock(); return len(p.frames) }

func (p *peer) take() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	f := p.frames
	p.frames = nil
	return f
}
