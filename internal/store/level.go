package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"allim/internal/keyspace"
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

const levelWait = 200 * time.Millisecond // for a replica or the disk, after the commit

// Why a level is not reached.
var (
	// ErrNotReplicated is a write that was committed, and did not reach its level in time. The same again is safe, and waits for the level again.
	ErrNotReplicated = fmt.Errorf("committed, not replicated: %w", notify.ErrUnavailable)
	// ErrNotOnDisk is the same of Disk.
	ErrNotOnDisk = fmt.Errorf("committed, not known to be on disk: %w", notify.ErrUnavailable)
	// ErrNoDisk is Disk where nothing can promise it; nothing was written.
	ErrNoDisk = errors.New("DISK needs a Redis with WAITAOF (7.2), or one with appendfsync always and the setting redis.fsync: always")
)

// What is known of how the server tells that something is on disk.
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
	if level == Disk && s.disk.Load() == diskAlways {
		return s.evaluate(ctx, s.redis, calls, nil), nil, nil
	}
	n, err := s.node(ctx, part)
	if err != nil {
		return nil, nil, err
	}
	missing, command := ErrNotReplicated, []any{"WAIT", 1, levelWait.Milliseconds()}
	if level == Disk {
		missing, command = ErrNotOnDisk, []any{"WAITAOF", 1, 0, levelWait.Milliseconds()}
	}
	var wait *redis.Cmd
	cmds = s.evaluate(ctx, n, calls, func(p redis.Pipeliner) { wait = p.Do(ctx, command...) })
	if reached(wait) < 1 {
		if level == Disk {
			s.disk.Store(diskUnknown)
		}
		s.metrics.notReplicated(whenLevel)
		return cmds, missing, nil
	}
	return cmds, nil, nil
}

// reached is the number that WAIT answers, or the first that WAITAOF does; 0 for an error.
func reached(c *redis.Cmd) int64 {
	v := c.Val()
	if many, ok := v.([]any); ok && len(many) > 0 {
		v = many[0]
	}
	n, _ := v.(int64)
	return n
}

// promiseDisk finds out whether Disk can be promised; its error is ErrNoDisk, or that Redis cannot be asked.
func (s *Store) promiseDisk(ctx context.Context) error {
	if s.disk.Load() == diskUnknown {
		way, err := s.diskWay(ctx)
		if err != nil {
			return err
		}
		s.disk.Store(way)
	}
	if s.disk.Load() == diskNever {
		s.disk.Store(diskUnknown) // the server may be another one the next time
		return ErrNoDisk
	}
	return nil
}

func (s *Store) diskWay(ctx context.Context) (int32, error) {
	n, err := s.node(ctx, 0)
	if err != nil {
		return 0, err
	}
	pipe := n.Pipeline()
	wait, info := pipe.Do(ctx, "WAITAOF", 1, 0, 1), pipe.Info(ctx, "persistence")
	_, _ = pipe.Exec(ctx) // each command has its own error
	var refused redis.Error
	switch err := wait.Err(); {
	case err == nil:
		return diskWaits, nil
	case !errors.As(err, &refused):
		return 0, classify(err)
	case s.fsyncAlways && !strings.Contains(info.Val(), "aof_enabled:0"):
		return diskAlways, nil
	}
	return diskNever, nil
}

// Write does with m what its Change says (Publish, or Notify for a notification), and answers a stream when the write has reached level. One that was
// committed without reaching it has ErrNotReplicated or ErrNotOnDisk beside its place. An ephemeral message knows no level.
func (s *Store) Write(ctx context.Context, to []notify.Stream, m *notify.Message, level Level) []Result {
	body, err := keyspace.EncodeBody(m)
	if err == nil && level == Disk && m.Change != notify.ChangeEphemeral {
		err = s.promiseDisk(ctx)
	}
	if err != nil {
		return failAll(to, err)
	}
	if m.Change == notify.ChangeEphemeral {
		return s.ephemeral(ctx, to, keyspace.Ephemeral(m.ID, body))
	}
	return s.append(ctx, to, &write{change: m.Change, id: m.ID, category: m.Category, body: body}, level)
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
	servers := map[string]bool{}
	var all sync.WaitGroup
	for i, p := range s.replication(ctx, parts) {
		if p.replicas == 0 || servers[p.history] { // nobody to wait for, or a partition of a server that is waited for
			continue
		}
		servers[p.history] = true
		all.Go(func() {
			if got := s.await(ctx, parts[i], p.replicas, time.Until(end)-finishWait/10); got < p.replicas {
				s.metrics.notReplicated(whenStop)
				s.log.Warn("replicas_behind", "replicas", p.replicas, "reached", got)
			}
		})
	}
	all.Wait()
}

// await waits until n replicas of a partition's server have everything that it has now, and says how many do. The PING makes the connection one
// whose last command came after all of that: WAIT asks for what its own connection did.
func (s *Store) await(ctx context.Context, part, n int, most time.Duration) int {
	c, err := s.node(ctx, part)
	if err != nil {
		return 0
	}
	pipe := c.Pipeline()
	pipe.Ping(ctx)
	wait := pipe.Do(ctx, "WAIT", n, max(most.Milliseconds(), 1)) // 0 would wait for ever
	_, _ = pipe.Exec(ctx)                                        // its error is the command's
	return int(reached(wait))
}
