package fanout

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// Why a link is given up.
var (
	errSilent    = errors.New("nothing received, not even a probe")
	errProbeLost = errors.New("a probe was accepted and did not come back")
)

// lostProbe is after how many ProbeTimeouts a link that receives other things but not our probes is given up: it hangs on another Redis
// than our commands do, as after a failover that it did not notice.
const lostProbe = 3

// mostChannels is how many channels one SUBSCRIBE or UNSUBSCRIBE names.
const mostChannels = 512

// noRedial is a context that is over but has no deadline. go-redis reads and writes under it as under any other, but when the connection
// breaks its PubSub cannot connect again behind our back: a link has one connection, and a new one is a new generation.
var noRedial = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

// A link is one pub/sub connection: one generation.
type link struct {
	feed   *feed
	gen    uint32
	pubsub *redis.PubSub
	heard  atomic.Int64 // Unix nanoseconds of the last thing received, or of the start
}

// run connects and serves until something breaks or ctx ends; it returns when its goroutines have.
func (k *link) run(ctx context.Context) error {
	var wg sync.WaitGroup
	done := make(chan struct{})
	defer wg.Wait()
	defer k.pubsub.Close() // frees receive
	defer close(done)      // frees write

	opt := k.feed.opt
	connect, cancel := context.WithTimeout(ctx, opt.ProbeEvery+opt.ProbeTimeout)
	err := k.pubsub.Subscribe(connect, k.feed.channel)
	cancel()
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	k.heard.Store(time.Now().UnixNano())
	failed := make(chan error, 2) // one from each goroutine
	up := make(chan struct{})     // closed by receive
	wg.Go(func() { failed <- k.receive(up) })
	watch := time.NewTicker(max(opt.ProbeTimeout/10, time.Millisecond))
	defer watch.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-failed:
			return err
		case <-up:
			up = nil
			k.feed.raise(k.gen)
			wg.Go(func() { failed <- k.write(done) })
		case <-watch.C:
			if err := k.alive(); err != nil {
				return err
			}
		}
	}
}

// alive is the watchdog.
func (k *link) alive() error {
	opt := k.feed.opt
	if time.Since(time.Unix(0, k.heard.Load())) > opt.ProbeEvery+opt.ProbeTimeout {
		return errSilent
	}
	if k.feed.overdue() > lostProbe*opt.ProbeTimeout {
		return errProbeLost
	}
	return nil
}

// receive hands what comes to the loops and never waits for them.
func (k *link) receive(up chan struct{}) error {
	for {
		v, err := k.pubsub.Receive(noRedial)
		if err != nil {
			return fmt.Errorf("receive: %w", err)
		}
		k.heard.Store(time.Now().UnixNano())
		switch m := v.(type) {
		case *redis.Message:
			if m.Channel == k.feed.channel {
				k.feed.probed(k.gen)
				continue
			}
			k.feed.hub.loopOf(m.Channel).put(frame{gen: k.gen, channel: m.Channel, payload: m.Payload})
		case *redis.Subscription:
			switch {
			case m.Kind != "subscribe": // an UNSUBSCRIBE that was carried out
			case m.Channel != k.feed.channel:
				k.feed.hub.loopOf(m.Channel).put(frame{gen: k.gen, ack: true, channel: m.Channel})
			case up != nil:
				close(up)
				up = nil
			default:
				return errors.New("the connection was replaced")
			}
		}
	}
}

// write carries out the orders of the loops, in their order, until done is closed.
func (k *link) write(done <-chan struct{}) error {
	for {
		for _, o := range merge(k.feed.take()) {
			for len(o.channels) > 0 {
				n := min(len(o.channels), mostChannels)
				f := k.pubsub.Unsubscribe
				if o.subscribe {
					f = k.pubsub.Subscribe
				}
				if err := f(noRedial, o.channels[:n]...); err != nil {
					return fmt.Errorf("subscribe: %w", err)
				}
				o.channels = o.channels[n:]
			}
		}
		select {
		case <-done:
			return nil
		case <-k.feed.wake:
		}
	}
}

// merge joins neighbours that order the same: a thousand topics of a storm are two commands.
func merge(orders []order) []order {
	var out []order
	for _, o := range orders {
		if n := len(out); n > 0 && out[n-1].subscribe == o.subscribe {
			out[n-1].channels = append(out[n-1].channels, o.channels...)
			continue
		}
		out = append(out, o)
	}
	return out
}
