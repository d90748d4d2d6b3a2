package fanout

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// Why a link is given up.
var (
	errSilent    = errors.New("nothing received, not even a probe")
	errProbeLost = errors.New("a probe was accepted and did not come back")
	errMoved     = errors.New("the partition is at another node now")
)

// An ending is why a link ended, as metrics count it.
type ending uint8

const (
	endError ending = iota
	endSilent
	endProbe
	endMoved
	numEndings
)

var endingNames = [numEndings]string{"error", "silent", "probe", "moved"}

func endingOf(err error) ending {
	var re redis.Error
	switch {
	case errors.Is(err, errSilent):
		return endSilent
	case errors.Is(err, errProbeLost):
		return endProbe
	case errors.Is(err, errMoved), errors.As(err, &re) && strings.HasPrefix(re.Error(), "MOVED "):
		return endMoved
	}
	return endError
}

// lostProbe is after how many ProbeTimeouts a link that receives other things but not our probes is given up: it hangs on another Redis
// than our commands do, as after a failover that it did not notice. With ProbeEvery before and a resync after, messages still come within 20 s.
const lostProbe = 2

// mostChannels is how many channels one SUBSCRIBE or UNSUBSCRIBE names, mostUnanswered how many may be named before Redis has answered: a message
// waits behind so many answers at most, and so many fill no output buffer, however many topics begin or end at once.
const (
	mostChannels   = 512
	mostUnanswered = 4 * mostChannels
)

// noRedial is a context that is over but has no deadline. go-redis reads and writes under it as under any other, but when the connection
// breaks its PubSub cannot connect again behind our back: a link has one connection, and a new one is a new generation.
var noRedial = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

// A link is one pub/sub connection: one generation of a lane.
type link struct {
	feed   *feed
	gen    uint32
	pubsub *redis.PubSub // made by run
	heard  beat          // the last byte received, or the start

	unanswered atomic.Int64  // channels that were named to Redis; it answers each
	room       chan struct{} // buffered 1, wakes write; never closed
}

// A beat is when something last happened, by a clock that nobody can set.
type beat struct {
	begun time.Time    // constant
	last  atomic.Int64 // nanoseconds since begun
}

func (b *beat) now() { b.last.Store(int64(time.Since(b.begun))) }

// age is how long ago it was.
func (b *beat) age() time.Duration { return time.Since(b.begun) - time.Duration(b.last.Load()) }

// run connects and serves until something breaks or ctx ends; it returns when its goroutines have.
func (k *link) run(ctx context.Context) error {
	client, err := k.connect(ctx)
	if client != nil {
		defer client.Close()
	}
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	var wg sync.WaitGroup
	done := make(chan struct{})
	defer wg.Wait()
	defer k.pubsub.Close() // frees receive
	defer close(done)      // frees write

	k.heard.now()
	failed := make(chan error, 2) // one from each goroutine
	up := make(chan struct{})     // closed by receive
	wg.Go(func() { failed <- k.receive(up) })
	watch := time.NewTicker(k.feed.opt.watch())
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

// connect subscribes to the probes on a connection of its own. The client, where there is one, is to be closed after k.pubsub.
func (k *link) connect(ctx context.Context) (*redis.Client, error) {
	f := k.feed
	ctx, cancel := context.WithTimeout(ctx, f.opt.silence())
	defer cancel()
	node, err := f.opt.Link(ctx, f.channel)
	if err != nil {
		return nil, err
	}
	client := listener(node, f.opt.Sharded, &k.heard)
	k.pubsub = client.Subscribe(ctx)
	if err := k.join(ctx, f.channel); err != nil {
		_ = k.pubsub.Close()
		return client, err
	}
	return client, nil
}

func (k *link) join(ctx context.Context, channels ...string) error {
	if k.feed.opt.Sharded {
		return k.pubsub.SSubscribe(ctx, channels...)
	}
	return k.pubsub.Subscribe(ctx, channels...)
}

func (k *link) leave(ctx context.Context, channels ...string) error {
	if k.feed.opt.Sharded {
		return k.pubsub.SUnsubscribe(ctx, channels...)
	}
	return k.pubsub.Unsubscribe(ctx, channels...)
}

// alive is the watchdog.
func (k *link) alive() error {
	opt := k.feed.opt
	if k.heard.age() > opt.silence() {
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
		switch m := v.(type) {
		case *redis.Message:
			if m.Channel == k.feed.channel {
				k.feed.probed(k.gen)
				continue
			}
			k.feed.hub.loopOf(m.Channel).put(frame{gen: k.gen, channel: m.Channel, payload: m.Payload})
		case *redis.Subscription:
			probe := m.Channel == k.feed.channel
			if !probe {
				k.answered()
			}
			switch m.Kind {
			case "subscribe", "ssubscribe":
				switch {
				case !probe:
					k.feed.hub.loopOf(m.Channel).put(frame{gen: k.gen, ack: true, channel: m.Channel})
				case up != nil:
					close(up)
					up = nil
				default:
					return errors.New("the connection was replaced")
				}
			case "sunsubscribe": // we never leave the probes ourselves: the node lost the slot, and with it all channels
				if probe {
					return errMoved
				}
			}
		}
	}
}

// write carries out the orders of the loops, in their order, until done is closed.
func (k *link) write(done <-chan struct{}) error {
	for {
		for _, o := range k.feed.take() {
			for len(o.channels) > 0 {
				n := min(len(o.channels), mostChannels)
				do := k.leave
				if o.subscribe {
					do = k.join
				}
				if !k.roomFor(n, done) {
					return nil
				}
				if err := do(noRedial, o.channels[:n]...); err != nil {
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

// roomFor waits until n more channels may be named; false: done was closed.
func (k *link) roomFor(n int, done <-chan struct{}) bool {
	for k.unanswered.Load()+int64(n) > mostUnanswered {
		select {
		case <-done:
			return false
		case <-k.room:
		}
	}
	k.unanswered.Add(int64(n))
	return true
}

// answered notes that Redis answered one channel that was named.
func (k *link) answered() {
	k.unanswered.Add(-1)
	select {
	case k.room <- struct{}{}:
	default:
	}
}
