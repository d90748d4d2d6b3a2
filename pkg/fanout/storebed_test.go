package fanout_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"allim/internal/keyspace"
	"allim/internal/store"
	"allim/internal/testkit"
	"allim/pkg/fanout"
	"allim/pkg/notify"
)

const settled = 60 * time.Second // until Redis that lost a node is whole, and messages flow again

// A storeBed is the publisher and the gateways of some Redis as they are in production, but for their times.
type storeBed struct {
	keys       *keyspace.Map
	connection func(role string) store.Connection
	publisher  *store.Store
}

func newStoreBed(t *testing.T, connection func(role string) store.Connection) *storeBed {
	t.Helper()
	keys, err := keyspace.NewMap(0)
	if err != nil {
		t.Fatal(err)
	}
	b := &storeBed{keys: keys, connection: connection}
	_, b.publisher = b.store(t, "publisher")
	ctx, stop := context.WithCancel(context.Background())
	var run sync.WaitGroup
	run.Go(func() { _ = b.publisher.Run(ctx) })
	t.Cleanup(func() { stop(); run.Wait() })
	return b
}

func (b *storeBed) store(t *testing.T, role string) (redis.UniversalClient, *store.Store) {
	t.Helper()
	c, err := store.Connect(b.connection(role))
	if err == nil {
		t.Cleanup(func() { _ = c.Close() })
		var s *store.Store
		if s, err = store.New(store.Options{Redis: c, Keys: b.keys}); err == nil {
			return c, s
		}
	}
	t.Fatal(err)
	return nil, nil
}

func (b *storeBed) hub(t *testing.T, name string) *fanout.Hub {
	t.Helper()
	c, s := b.store(t, "gateway")
	h := fanout.New(fanout.Options{Redis: c, Keys: b.keys, History: s, Gateway: name, ProbeEvery: 500 * time.Millisecond, ProbeTimeout: 1500 * time.Millisecond,
		CheckEvery: time.Second, Sweep: 100 * time.Millisecond})
	ctx, stop := context.WithCancel(context.Background())
	var run sync.WaitGroup
	run.Go(func() { _ = h.Run(ctx) })
	t.Cleanup(func() { stop(); run.Wait() })
	testkit.Eventually(t, settled, h.Ready, "ready on every partition")
	return h
}

func (b *storeBed) publish(t *testing.T, s notify.Stream, id string) {
	m := &notify.Message{Change: notify.ChangeMessage, ID: id, Data: []byte(`1`)}
	if r := b.publisher.Write(testkit.Context(t, settled), []notify.Stream{s}, m, store.Committed)[0]; r.Err != nil {
		t.Errorf("publish %s: %v", id, r.Err)
	}
}

// A load publishes to its topics until it is stopped.
type load struct {
	sent map[notify.Topic]*atomic.Int64
	stop func()
}

func (b *storeBed) load(t *testing.T, topics []notify.Stream) *load {
	l := &load{sent: map[notify.Topic]*atomic.Int64{}}
	var writers sync.WaitGroup
	done := make(chan struct{})
	for _, s := range topics {
		n := &atomic.Int64{}
		l.sent[s.Topic] = n
		writers.Go(func() {
			pace := time.NewTicker(25 * time.Millisecond)
			defer pace.Stop()
			for {
				select {
				case <-done:
					return
				case <-pace.C:
				}
				b.publish(t, s, fmt.Sprint(n.Load()))
				n.Add(1)
			}
		})
	}
	l.stop = sync.OnceFunc(func() { close(done); writers.Wait() })
	t.Cleanup(l.stop)
	return l
}

// more waits until every topic was published to.
func (l *load) more(t *testing.T, n int64) {
	t.Helper()
	for name, sent := range l.sent {
		from := sent.Load()
		testkit.Eventually(t, settled, func() bool { return sent.Load() >= from+n }, fmt.Sprintf("%d more on %s", n, name))
	}
}

// wantAll waits for n messages, whose ids are 0 to n-1. No id may come twice, and none may be out of order, unless a reset said so; it returns how many resets did.
func (s *sink) wantAll(t *testing.T, name string, n int) (resets int) {
	t.Helper()
	testkit.EventuallyNil(t, settled, func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		have := map[string]bool{}
		for _, m := range s.got {
			have[m.ID] = true
		}
		for i := range n {
			if !have[fmt.Sprint(i)] {
				return fmt.Errorf("%s: message %d of %d is missing; %d came, resets for %v", name, i, n, len(s.got), s.whys)
			}
		}
		return nil
	}, "every message")
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.resets > 0 {
		return s.resets
	}
	for i, m := range s.got {
		if m.ID != fmt.Sprint(i) || m.Position.Offset != uint64(i+1) {
			t.Errorf("%s: message %d is %s at %v", name, i, m.ID, m.Position)
			break
		}
	}
	return 0
}
