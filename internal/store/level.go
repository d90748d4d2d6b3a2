package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"allim/pkg/notify"
)

// A Level is what a write's acknowledgement means. Whatever it is, the write is acknowledged only after it was committed.
type Level byte

// The levels, in the order of the public enum.
const (
	Committed  Level = iota // it is in Redis' memory and on its way into the append file
	Replicated              // at least one replica has it
	Disk                    // the append file was synchronised with it
)

const (
	levelWait = 200 * time.Millisecond // for a replica or the disk, after the commit
	tickLife  = 10 * time.Minute       // of a partition's last tick (lua/lib.lua)
)

// Why a level is not reached.
var (
	// ErrNotReplicated is a write that was committed, and did not reach its level in time. The same again is safe, and waits for the level again.
	ErrNotReplicated = fmt.Errorf("committed, not replicated: %w", notify.ErrUnavailable)
	// ErrNotOnDisk is the same of Disk.
	ErrNotOnDisk = fmt.Errorf("committed, not known to be on disk: %w", notify.ErrUnavailable)
	// ErrNoDisk is Disk where nothing can promise it; nothing was written.
	ErrNoDisk = errors.New("DISK needs a Redis with WAITAOF (7.2) that our user may call, or one with appendfsync always and the setting redis.fsync: always")
)

// How a server tells that something is on disk.
const (
	diskUnknown = iota
	diskWaits   // it has WAITAOF
	diskAlways  // a reply comes after the disk
	diskNever
)

// node is a client of the server that has a partition alone: WAIT counts for the connection that wrote.
func (s *Store) node(ctx context.Context, part int) (redis.Cmdable, error) {
	c, ok := s.redis.(*redis.ClusterClient)
	if !ok {
		return s.redis, nil
	}
	_, tick := s.keys.ChangeIndex(part)
	n, err := c.MasterForKey(ctx, tick)
	if err != nil { // not a nil *redis.Client in an interface
		return nil, classify(err)
	}
	return n, nil
}

// evaluateAt runs calls of one partition and waits for their level on the same connection. A script that was sent again has its wait again. short
// says that the level was not reached by what is committed.
func (s *Store) evaluateAt(ctx context.Context, part int, calls []call, level Level) (cmds []*redis.Cmd, short, err error) {
	n, err := s.node(ctx, part)
	if err != nil {
		return nil, nil, err
	}
	missing, command := ErrNotReplicated, []any{"WAIT", 1, levelWait.Milliseconds()}
	if level == Disk {
		missing = ErrNotOnDisk
		if command, err = s.diskCommand(ctx, n, part); err != nil {
			return nil, nil, err
		}
	}
	var w waited
	cmds = s.evaluate(ctx, n, calls, func(p redis.Pipeliner) { w = s.wait(ctx, p, part, command) })
	if w.reached() < 1 {
		if level == Disk {
			s.diskOf(part).Store(diskUnknown)
		}
		s.metrics.notReplicated(whenLevel)
		return cmds, missing, nil
	}
	return cmds, nil, nil
}

// A waited is a wait in a pipeline.
type waited struct {
	wrote *redis.BoolCmd
	end   *redis.Cmd
}

// wait adds a command to a pipeline that waits for everything that the server has. From Redis 7.2 on WAIT and WAITAOF wait for the last that their own
// connection wrote, and who finds a duplicate, or asks for what others wrote, wrote nothing: so it writes. The tick is as good as none at 0 (lua/lib.lua).
func (s *Store) wait(ctx context.Context, p redis.Pipeliner, part int, command []any) waited {
	_, tick := s.keys.ChangeIndex(part)
	p.SetNX(ctx, tick, 0, tickLife)
	return waited{p.PExpire(ctx, tick, tickLife), p.Do(ctx, command...)}
}

// reached is the number that WAIT answers, or the first that WAITAOF does, or 1 where INFO tells of an append file; 0 for an error.
func (w waited) reached() int {
	if !w.wrote.Val() {
		return 0
	}
	v := w.end.Val()
	if info, ok := v.(string); ok && strings.Contains(info, "aof_enabled:1") {
		return 1
	}
	if many, ok := v.([]any); ok && len(many) > 0 {
		v = many[0]
	}
	return number(v)
}

// diskOf is what is known of the server that has a partition.
func (s *Store) diskOf(part int) *atomic.Int32 { return &s.disk[part%len(s.disk)] }

// diskCommand is what tells that a partition's server has something on disk. Its error is ErrNoDisk, or that the server cannot be asked.
func (s *Store) diskCommand(ctx context.Context, n redis.Cmdable, part int) ([]any, error) {
	way := s.diskOf(part)
	if way.Load() == diskUnknown {
		found, err := s.diskWay(ctx, n)
		switch {
		case err != nil:
			return nil, err
		case found == diskNever:
			return nil, ErrNoDisk // the server may be another one the next time
		}
		way.Store(found)
	}
	if way.Load() == diskWaits {
		return []any{"WAITAOF", 1, 0, levelWait.Milliseconds()}, nil
	}
	return []any{"INFO", "persistence"}, nil
}

func (s *Store) diskWay(ctx context.Context, n redis.Cmdable) (int32, error) {
	pipe := n.Pipeline()
	wait, info := pipe.Do(ctx, "WAITAOF", 1, 0, 1), pipe.Info(ctx, "persistence")
	execute(ctx, pipe)
	var refused redis.Error
	switch err := wait.Err(); {
	case err == nil:
		return diskWaits, nil
	case !errors.As(err, &refused):
		return 0, classify(err)
	case s.fsyncAlways && strings.Contains(info.Val(), "aof_enabled:1"):
		return diskAlways, nil
	}
	return diskNever, nil
}

// Write does with m what its Change says: it appends a message to each stream (event topics and users' streams), puts a notification into the inbox of each
// user's stream, or sends an ephemeral message on their channels alone. The results are in the order of the streams, and one that fails does not stop
// the others. A write that cannot reach Redis is tried again until ctx ends. One that was committed without reaching level has ErrNotReplicated or ErrNotOnDisk
// beside its place. An ephemeral message is sent once, within passingAge or not at all, and knows no level.
func (s *Store) Write(ctx context.Context, to []notify.Stream, m *notify.Message, level Level) []Result {
	return s.Begin(ctx, to, m, level, nil).Results()
}

// flushReplicas waits until the replicas have what the ring holds, at most finishWait.
func (s *Store) flushReplicas() {
	parts := s.ring.held()
	if len(parts) == 0 {
		return
	}
	if !s.cluster {
		parts = parts[:1]
	}
	ctx, cancel := context.WithTimeout(context.Background(), finishWait)
	defer cancel()
	end, _ := ctx.Deadline()
	servers, silent := map[string]bool{}, 0
	var all sync.WaitGroup
	asked, enough := context.WithTimeout(ctx, finishWait/2) // who is asked and silent leaves time to wait for the others
	defer enough()
	for i, p := range s.replication(asked, parts) {
		if p.at.IsZero() {
			silent++
			continue
		}
		if p.replicas == 0 || servers[p.history] { // nobody to wait for, or a partition of a server that is waited for
			continue
		}
		servers[p.history] = true
		all.Go(func() {
			if got := s.await(ctx, parts[i], p.replicas, time.Until(end)-finishWait/10); got < p.replicas {
				s.replicasBehind("replicas", p.replicas, "reached", got)
			}
		})
	}
	if silent > 0 {
		s.replicasBehind("partitions_silent", silent)
	}
	all.Wait()
}

func (s *Store) replicasBehind(which ...any) {
	s.metrics.notReplicated(whenStop)
	s.log.Warn("replicas_behind", which...)
}

// await waits until n replicas of a partition's server have everything that it has now, and says how many do.
func (s *Store) await(ctx context.Context, part, n int, most time.Duration) int {
	c, err := s.node(ctx, part)
	if err != nil {
		return 0
	}
	pipe := c.Pipeline()
	w := s.wait(ctx, pipe, part, []any{"WAIT", n, max(most.Milliseconds(), 1)}) // 0 would wait for ever
	execute(ctx, pipe)
	return w.reached()
}
