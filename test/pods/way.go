package pods

import (
	"fmt"
	"maps"
	"time"
)

// Ways are what became of a page's connections.
type Ways struct {
	Asked        int  // moves that gateways asked for
	Moved        int  // connections that took the place of one that was still open
	Lost         int  // connections that ended while no other had taken their place
	Code         int  // of the last of these: its close code, -1 where it was cut
	Degradations int  // how often a gateway said that messages may come late
	Degraded     bool // they may now
}

// Ways are those so far.
func (p *Page) Ways() Ways {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ways
}

// Drop cuts the page's connection; what was under way is lost.
func (p *Page) Drop() {
	p.mu.Lock()
	p.left = true
	client := p.client
	p.mu.Unlock()
	client.Drop()
}

// Resume connects again, at any gateway, and sends what was not answered.
func (p *Page) Resume(pod *Pod) {
	p.tb.Helper()
	if err := p.connect(pod); err != nil {
		p.tb.Fatalf("connect to %s: %v", pod.Name, err)
	}
}

// connect opens a connection, lets go of the one before it when the new one had its welcome, and goes on where the page is.
func (p *Page) connect(pod *Pod) error {
	p.opening.Lock()
	defer p.opening.Unlock()
	p.mu.Lock()
	p.next++
	n, before := p.next, p.client
	h := Hello{Token: p.visit.Token, Topics: p.visit.Topics, OnFrame: func(f Frame) { p.handle(n, f) }}
	if !p.visit.ByPositions {
		cursor := p.cursor
		h.Cursor = &cursor
	}
	p.mu.Unlock()
	client, err := Dial(p.tb, pod.Addr("public"), h)
	if err != nil {
		return err
	}
	if err := p.settle(client, "its welcome", func() bool { return p.live == n }); err != nil {
		return err
	}
	p.mu.Lock()
	p.client, p.left = client, false
	places, syncing := maps.Clone(p.at), p.syncing
	p.mu.Unlock()
	if before != nil {
		before.Drop()
	}
	p.moves.Go(func() { p.watch(client, n) })
	if syncing {
		client.Send(map[string]any{"type": "subscribe", "topics": places})
		if err := p.settle(client, "subscribed", func() bool { return !p.syncing }); err != nil {
			return err
		}
	}
	for _, m := range p.unanswered() {
		client.Send(m)
	}
	return nil
}

// unanswered are the marks without an answer, the oldest first.
func (p *Page) unanswered() (open []any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for ref := range p.ref + 1 {
		if m, ok := p.marks[ref]; ok {
			open = append(open, m)
		}
	}
	return open
}

// settle waits until cond, which is asked with the page's lock held.
func (p *Page) settle(client *Client, what string, cond func() bool) error {
	look := time.NewTicker(2 * time.Millisecond)
	defer look.Stop()
	for over := time.Now().Add(2 * Within); time.Now().Before(over); <-look.C {
		open := client.Open()
		p.mu.Lock()
		done := cond()
		p.mu.Unlock()
		if done {
			return nil
		}
		if !open {
			return fmt.Errorf("the connection ended before %s", what)
		}
	}
	return fmt.Errorf("waited in vain for %s; frames:\n%s", what, p.Tail())
}

// adoptLocked tells whether a frame of a connection that was not the live one counts: the welcome of the newest makes it that.
func (p *Page) adoptLocked(n int, f Frame) bool {
	if n != p.next {
		return false // of one that was let go of
	}
	if f.Type != "welcome" {
		p.faultLocked(f, "before the welcome")
		return false
	}
	if p.live > 0 && !p.left && p.client.Open() {
		p.ways.Moved++
	}
	p.live, p.ways.Degraded = n, false
	return true
}

// askedLocked does what a move asks for.
func (p *Page) askedLocked(f Frame) {
	p.ways.Asked++
	if p.visit.Elsewhere == nil {
		return
	}
	p.moves.Go(func() {
		after := time.NewTimer(time.Duration(f.AfterMS) * time.Millisecond)
		defer after.Stop()
		for {
			select {
			case <-after.C:
			case <-p.ending:
				return
			}
			if p.connect(p.visit.Elsewhere()) == nil {
				return
			}
			after.Reset(50 * time.Millisecond)
		}
	})
}

// watch takes down the end of a connection that nothing had taken the place of.
func (p *Page) watch(client *Client, n int) {
	select {
	case <-client.Done():
	case <-p.ending:
		return
	}
	code, _ := client.Closed(Within)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.live == n && !p.left {
		p.ways.Lost++
		p.ways.Code = code
	}
}
