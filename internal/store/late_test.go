package store_test

// What an attempt does that was given up and comes about all the same: a server that was frozen executes what is in its sockets, a proxy delivers what
// it took from a connection that it has closed.

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"allim/internal/store"
	"allim/internal/testkit"
	"allim/pkg/notify"
)

// A relay stands before a Redis and keeps what it is told to.
type relay struct {
	addr, target string
	eat          atomic.Bool   // the next request is passed on, and its connection closed instead of the answer
	executed     atomic.Int64  // late requests that were answered
	late         atomic.Int64  // requests that wait
	resets       atomic.Bool   // who sent what waits is told at once, as by a proxy that loses him
	end          chan struct{} // closed with the test

	mu   sync.Mutex // guards the fields below
	hold chan struct{}
	open []net.Conn
	all  sync.WaitGroup
}

// through is a Store behind a relay.
func (b *bench) through(role string, o store.Options) (*store.Store, *relay) {
	b.Helper()
	u, err := url.Parse(b.as(role))
	if err != nil {
		b.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	r := &relay{addr: l.Addr().String(), target: u.Host, end: make(chan struct{})}
	r.all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			r.all.Go(func() { r.serve(c) })
		}
	})
	b.Cleanup(func() {
		_ = l.Close()
		close(r.end)
		r.mu.Lock()
		for _, c := range r.open {
			_ = c.Close()
		}
		r.mu.Unlock()
		r.all.Wait()
	})
	u.Host, o.Keys = r.addr, b.keys
	return open(b, connect(b.T, u.String()), o), r
}

// holdBack keeps what comes on the connections that are open, until release.
func (r *relay) holdBack(resets bool) (release func()) {
	r.resets.Store(resets)
	r.mu.Lock()
	defer r.mu.Unlock()
	hold := make(chan struct{})
	r.hold = hold
	return func() { close(hold) }
}

// pass begins to let new connections through, while those that wait go on waiting.
func (r *relay) pass() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hold = nil
}

func (r *relay) serve(client net.Conn) {
	server, err := net.Dial("tcp", r.target)
	if err != nil {
		_ = client.Close()
		return
	}
	r.mu.Lock()
	r.open = append(r.open, client, server)
	r.mu.Unlock()
	var late, eaten atomic.Bool
	r.all.Go(func() {
		b := make([]byte, 64<<10)
		for {
			n, err := server.Read(b)
			if n > 0 && late.Load() {
				r.executed.Add(1)
			}
			if n > 0 && eaten.Load() || err != nil {
				_ = client.Close()
				return
			}
			_, _ = client.Write(b[:n])
		}
	})
	b := make([]byte, 64<<10)
	for {
		n, err := client.Read(b)
		if n > 0 {
			r.mu.Lock()
			hold := r.hold
			r.mu.Unlock()
			if hold != nil {
				late.Store(true)
				if r.late.Add(1); r.resets.Load() {
					_ = client.Close()
				}
				select {
				case <-hold:
				case <-r.end:
				}
			} else if r.eat.CompareAndSwap(true, false) {
				eaten.Store(true)
			}
			if _, err := server.Write(b[:n]); err != nil {
				return
			}
		}
		if err != nil {
			if !late.Load() && !eaten.Load() {
				_ = server.Close()
			}
			return
		}
	}
}

// lateForms are the two ways in which an attempt is given up that comes about later.
var lateForms = map[string]bool{"timeout": false, "reset": true}

// lateFirst has the first attempt of do come about after then.
func (r *relay) lateFirst(t *testing.T, resets bool, do func() error, then func()) {
	t.Helper()
	release, before, executed := r.holdBack(resets), r.late.Load(), r.executed.Load()
	end := later(t, do)
	testkit.Eventually(t, soon, func() bool { return r.late.Load() > before }, "hold the first attempt back")
	r.pass()
	if err := testkit.Receive(t, 2*soon, end, "the second attempt"); err != nil {
		t.Fatal(err)
	}
	then()
	release()
	testkit.Eventually(t, soon, func() bool { return r.executed.Load()-executed >= r.late.Load()-before }, "execute the first attempt")
}

func TestAnAttemptOfAMarkThatComesLateUndoesNothing(t *testing.T) {
	t.Parallel()
	for form, resets := range lateForms {
		t.Run(form, func(t *testing.T) {
			t.Parallel()
			b := epochBench(t)
			s, r := b.through("publisher", store.Options{})
			b.notify(ann, "", "n1")
			mark := func(name string, m store.Mark) error {
				m.Change = notify.Marks[name]
				_, err := s.Mark(b.ctx, ann, m)
				return err
			}
			b.touch(s)
			r.lateFirst(t, resets, func() error { return mark("read", store.Mark{IDs: []string{"n1"}}) }, func() {
				b.wantBadge(ann, "0/0")
				if err := mark("unread", store.Mark{IDs: []string{"n1"}}); err != nil {
					t.Fatal(err)
				}
			})
			b.wantBadge(ann, "1/0")
			r.lateFirst(t, resets, func() error { return mark("read", store.Mark{All: true}) }, func() {
				b.wantBadge(ann, "0/0")
				b.notify(ann, "", "n2")
			})
			b.wantList(ann, store.Query{}, "n2 n1/sr")
		})
	}
}

func TestAnAttemptOfAMarkThatWasGivenUpUndoesNothingThatItsProgramDidLater(t *testing.T) {
	t.Parallel()
	b := epochBench(t)
	s, r := b.through("publisher", store.Options{})
	b.notify(ann, "", "n1")
	b.touch(s)
	release := r.holdBack(true)
	ctx, cancel := context.WithCancel(b.ctx)
	end := later(t, func() error {
		_, err := s.Mark(ctx, ann, store.Mark{Change: notify.ChangeRead, All: true})
		return err
	})
	testkit.Eventually(t, soon, func() bool { return r.late.Load() > 1 }, "try in vain")
	cancel()
	if err := testkit.Receive(t, soon, end, "the caller's end"); !errors.Is(err, notify.ErrUnavailable) {
		t.Fatalf("got %v", err)
	}
	testkit.Eventually(t, soon, func() bool { return s.Busy() == 0 }, "give up")
	r.pass()
	if _, err := s.Mark(b.ctx, ann, store.Mark{Change: notify.ChangeUnread, IDs: []string{"n1"}}); err != nil {
		t.Fatal(err)
	}
	n := r.late.Load()
	release()
	testkit.Eventually(t, soon, func() bool { return r.executed.Load() >= n }, "execute what was given up")
	b.wantBadge(ann, "1/1")
}

func TestAnAttemptOfAMessageThatComesLateIsADuplicate(t *testing.T) {
	t.Parallel()
	for form, resets := range lateForms {
		t.Run(form, func(t *testing.T) {
			t.Parallel()
			b := epochBench(t)
			s, r := b.through("publisher", store.Options{})
			write := func(m *notify.Message, to ...notify.Stream) error {
				for _, got := range s.Write(b.ctx, to, m, store.Committed) {
					if got.Err != nil {
						return got.Err
					}
				}
				return nil
			}
			b.touch(s)
			r.lateFirst(t, resets, func() error { return write(message("m1"), stream("a"), ann) }, func() {
				if err := write(message("m2"), stream("a"), ann); err != nil {
					t.Fatal(err)
				}
			})
			for _, st := range []notify.Stream{stream("a"), ann} {
				if got := ids(b.recover(st, notify.Position{}, 10).Messages); cmp.Diff([]string{"m1", "m2"}, got) != "" {
					t.Errorf("%s has %v", st.Topic, got)
				}
			}
			r.lateFirst(t, resets, func() error { return write(notification("n1", ""), ann) }, func() {
				b.mark(ann, "delete", store.Mark{IDs: []string{"n1"}})
			})
			b.wantList(ann, store.Query{Status: store.All}, "")
		})
	}
}

// eaten does a mark whose first attempt is executed, and its answer lost.
func (b *bench) eaten(s *store.Store, r *relay, name string, m store.Mark) store.Marked {
	b.Helper()
	b.touch(s)
	m.Change = notify.Marks[name]
	r.eat.Store(true)
	got, err := s.Mark(b.ctx, ann, m)
	if err != nil || r.eat.Load() {
		b.Fatalf("%s %+v: %v", name, m, err)
	}
	return got
}

func TestAMarkThatIsTriedAgainIsAnsweredAsTheFirstTime(t *testing.T) {
	t.Parallel()
	b := epochBench(t)
	s, r := b.through("publisher", store.Options{Inbox: store.Inbox{Size: 700}})
	b.publisher = s
	for i := range 620 {
		b.notify(ann, "", fmt.Sprint("n", i))
	}
	upto := notify.Position{Epoch: b.recover(ann, notify.Position{}, 0).Top.Epoch, Offset: 600}
	at := uint64(620)
	for _, step := range []struct {
		name    string
		mark    store.Mark
		changed int
		events  uint64
		unknown []string
	}{
		{"read", store.Mark{IDs: []string{"n1", "x", "n2"}}, 2, 1, []string{"x"}},
		{"read", store.Mark{IDs: []string{"n1"}}, 0, 0, nil},
		{"delete", store.Mark{IDs: []string{"n1", "y", "n2"}}, 2, 1, []string{"y"}},
		{"seen", store.Mark{Upto: &upto}, 598, 2, nil},
		{"archive", store.Mark{All: true}, 618, 2, nil},
		{"delete", store.Mark{All: true}, 618, 2, nil},
		{"delete", store.Mark{All: true}, 0, 0, nil},
	} {
		got := b.eaten(s, r, step.name, step.mark)
		if at += step.events; step.events > 0 && got.Position.Offset != at || step.events == 0 && got.Position.Offset != 0 {
			t.Errorf("%s: at %s, want %d", step.name, got.Position, at)
		}
		if got.Changed != step.changed || !slices.Equal(got.Unknown, step.unknown) {
			t.Errorf("%s %+v: %+v", step.name, step.mark, got)
		}
	}
}

func TestAMarkThatIsTriedAgainIsHeld(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{"read": "n2/sr n1/sr", "archive": "n2/sa n1/sa", "delete": ""} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := epochBench(t)
			s, r := b.through("gateway", store.Options{})
			b.notify(ann, "", "n1", "n2")
			b.lose(func() { b.eaten(s, r, name, store.Mark{All: true}) })
			b.touch(s)
			b.wantList(ann, store.Query{Status: store.All}, want)
		})
	}
}

func TestAMarkOfAllHoldsWhatAnotherHadMarked(t *testing.T) {
	t.Parallel()
	b := epochBench(t)
	other := b.another("gateway")
	b.notify(ann, "", "n1", "n2")
	b.lose(func() {
		b.mark(ann, "read", store.Mark{IDs: []string{"n1"}}) // and dies
		if got, err := other.Mark(b.ctx, ann, store.Mark{Change: notify.ChangeRead, All: true}); err != nil || got.Changed != 1 {
			t.Fatalf("%+v, %v", got, err)
		}
	})
	b.touch(other)
	b.wantList(ann, store.Query{}, "n2/sr n1/sr")
}

func TestTheLastMarksOfEightProgramsAreKept(t *testing.T) {
	t.Parallel()
	b := epochBench(t)
	b.notify(ann, "", "n1")
	s, r := b.through("gateway", store.Options{})
	b.touch(s)
	r.lateFirst(t, true, func() error {
		_, err := s.Mark(b.ctx, ann, store.Mark{Change: notify.ChangeRead, IDs: []string{"n1"}})
		return err
	}, func() {
		for range 6 {
			other := b.another("gateway")
			for range 10 {
				b.touch(other)
			}
		}
		b.mark(ann, "unread", store.Mark{IDs: []string{"n1"}}) // by the seventh
	})
	b.wantBadge(ann, "1/0")
	for range 4 {
		b.touch(b.another("gateway"))
	}
	if kept := strings.Fields(b.rdb.HGet(b.ctx, b.keys.Inbox(ann).Meta, "m").Val()); len(kept) != 8 {
		t.Errorf("%d are kept: %v", len(kept), kept)
	}
}
