package store

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"allim/pkg/notify"
)

// Ephemeral messages have no place in a history, nothing to be compared with and nothing to be tried again for, so they have no lane. They wait in a
// queue for each group of partitions and leave it in order, in one pipeline after the other: those of a topic keep their order among themselves,
// and none waits for a write. They are worth little when they are old: what could not leave in time is dropped.
const (
	passingMost   = 8192     // that wait or are being sent, beside waitingMost
	passingBytes  = 16 << 20 // that they hold
	passingAge    = time.Second
	passingWithin = time.Second // for one pipeline
	passingAtOnce = 512         // in it
)

// ErrNotSent is an ephemeral message that was dropped, since it had waited for passingAge.
var ErrNotSent = fmt.Errorf("ephemeral message waited too long and was not sent: %w", notify.ErrUnavailable)

// Why an ephemeral message was dropped.
const (
	droppedAge  = iota // ErrNotSent
	droppedRoom        // too many waited
	droppedLeft        // its caller had left
)

var droppedReasons = [...]string{droppedAge: "age", droppedRoom: "room", droppedLeft: "left"}

// ephemerals are the ephemeral messages of a group.
type ephemerals struct {
	queue      []*op
	sending    bool // a goroutine does, which ends by itself
	ops, bytes int  // also of those being sent
}

// pass takes ephemeral messages, and refuses those that would be too many.
func (w *writer) pass(ops []*op) {
	now := time.Now()
	for _, o := range ops {
		o.part, o.since = w.s.keys.Partition(o.stream), now
	}
	w.mu.Lock()
	defer w.unlock()
	for _, o := range ops {
		g, size := w.groupOf(o.part), o.size()
		p := &g.passing
		if w.passing.ops >= passingMost || w.passing.bytes+size > passingBytes || p.ops >= passingMost/w.share || p.bytes+size > passingBytes/w.share {
			o.err = busyFor("too many ephemeral messages wait")
			w.dropLocked(o, droppedRoom)
			continue
		}
		w.passLocked(p, 1, size)
		if p.queue = append(p.queue, o); !p.sending {
			p.sending = true
			go w.send(p)
		}
	}
}

func (w *writer) passLocked(p *ephemerals, n, size int) {
	w.passing.ops += n
	w.passing.bytes += size
	p.ops += n
	p.bytes += size
}

func (w *writer) dropLocked(o *op, why int) {
	w.s.metrics.dropped(why)
	w.finishLocked(o)
}

// send sends what waits, until nothing does.
func (w *writer) send(p *ephemerals) {
	var ops []*op
	for {
		if ops = w.takePassing(p, ops); len(ops) == 0 {
			return
		}
		w.s.sendAll(ops)
	}
}

// takePassing ends those that were sent and takes the next; none ends send.
func (w *writer) takePassing(p *ephemerals, sent []*op) (next []*op) {
	now := time.Now()
	w.mu.Lock()
	defer w.unlock()
	for _, o := range sent {
		w.passLocked(p, -1, -o.size())
		w.finishLocked(o)
	}
	bytes := 0
	for len(p.queue) > 0 && len(next) < passingAtOnce && bytes < batchBytes {
		o := p.queue[0]
		p.queue[0], p.queue = nil, p.queue[1:]
		why := droppedAge
		switch {
		case o.gone():
			o.err, why = ErrNotSent, droppedLeft
		case now.Sub(o.since) > passingAge:
			o.err = ErrNotSent
		default:
			next, bytes = append(next, o), bytes+len(o.write.body)
			continue
		}
		w.passLocked(p, -1, -o.size())
		w.dropLocked(o, why)
	}
	p.sending = len(next) > 0
	return next
}

// sendAll sends ephemeral messages in one pipeline, once.
func (s *Store) sendAll(ops []*op) {
	start, pipe := time.Now(), s.redis.Pipeline()
	ctx, cancel := context.WithDeadline(context.Background(), start.Add(passingWithin))
	defer cancel()
	cmds := make([]*redis.IntCmd, len(ops))
	for i, o := range ops {
		if s.cluster {
			cmds[i] = pipe.SPublish(ctx, s.keys.Channel(o.stream), o.write.body)
		} else {
			cmds[i] = pipe.Publish(ctx, s.keys.Channel(o.stream), o.write.body)
		}
	}
	execute(ctx, pipe)
	s.metrics.doneAll(opEphemeral, start, len(cmds), func(i int) error { return cmds[i].Err() })
	for i, o := range ops {
		if err := cmds[i].Err(); err != nil {
			o.err = classify(err)
		} else {
			o.reply.receivers = int(cmds[i].Val())
		}
	}
}
