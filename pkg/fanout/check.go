package fanout

import (
	"context"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"allim/internal/keyspace"
)

// indexMemory is how long the change index remembers a write (60 s), less what clocks and a slow check may take.
const indexMemory = 55 * time.Second

// A checker notices a message that was lost and that nothing followed, so that there is no gap: at every check it reads which streams were
// written, and has their topics compared with Redis. Streams that are not written cost nothing.
type checker struct {
	hub  *Hub
	last []int64   // by partition: the last tick seen; 0 none
	id   string    // of the Redis history; "" where the server hides it
	ok   time.Time // when the last check succeeded
}

func newChecker(h *Hub) *checker {
	return &checker{hub: h, last: make([]int64, h.opt.Keys.Partitions()), ok: time.Now()}
}

func (c *checker) run(ctx context.Context) {
	every := c.hub.opt.CheckEvery
	timer := time.NewTimer(every)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		// An error is no news here: the feed says when Redis is away. The next check then covers more.
		if changed, all, err := c.look(ctx); err == nil && !c.compare(ctx, changed, all) {
			return
		}
		timer.Reset(every*7/10 + rand.N(every*6/10+1))
	}
}

// look reads what changed: channels, and the partitions of which everything must be compared.
func (c *checker) look(ctx context.Context) (channels []string, all map[int]bool, err error) {
	keys, start := c.hub.opt.Keys, time.Now()
	ctx, cancel := context.WithTimeout(ctx, 2*c.hub.opt.CallTimeout)
	defer cancel()
	pipe := c.hub.opt.Redis.Pipeline()
	info := pipe.Info(ctx, "replication")
	ticks, members := make([]*redis.StringCmd, len(c.last)), make([]*redis.StringSliceCmd, len(c.last))
	for p := range c.last {
		index, tick := keys.ChangeIndex(p)
		ticks[p] = pipe.Get(ctx, tick)
		members[p] = pipe.ZRangeByScore(ctx, index, &redis.ZRangeBy{Min: strconv.FormatInt(c.last[p], 10), Max: "+inf"}) // inclusive: the same tick can come again
	}
	_, _ = pipe.Exec(ctx) // each command has its own error; a missing tick is one
	id := ""
	if info.Err() == nil { // an access list may hide it
		_, id, _ = strings.Cut(info.Val(), "master_replid:")
		id, _, _ = strings.Cut(id, "\r\n")
	}
	everything := id != c.id && c.id != "" || start.Sub(c.ok) > indexMemory
	now := make([]int64, len(c.last))
	all = map[int]bool{}
	for p, cmd := range ticks {
		now[p], err = cmd.Int64()
		if err != nil && err != redis.Nil {
			return nil, nil, err
		}
		found, err := members[p].Result()
		if err != nil {
			return nil, nil, err
		}
		if everything || now[p] < c.last[p] { // the tick is forgotten after ten quiet minutes, too
			all[p] = true
			continue
		}
		for _, m := range found {
			if s, ok := keyspace.ParseMember(m); ok {
				channels = append(channels, keys.Channel(s))
			}
		}
	}
	c.last, c.id, c.ok = now, id, start
	return channels, all, nil
}

// compare has the loops look; false means that ctx ended.
func (c *checker) compare(ctx context.Context, channels []string, all map[int]bool) bool {
	mine := make(map[*loop][]string, len(c.hub.loops))
	for _, ch := range channels {
		l := c.hub.loopOf(ch)
		mine[l] = append(mine[l], ch)
	}
	var which func(channel string) bool
	if len(all) > 0 {
		which = func(channel string) bool {
			s, _ := c.hub.opt.Keys.ParseChannel(channel)
			return all[c.hub.opt.Keys.Partition(s)]
		}
	}
	var waits []<-chan struct{}
	for _, l := range c.hub.loops {
		if which != nil || len(mine[l]) > 0 {
			waits = append(waits, l.do(func(x *shard) { x.verify(mine[l], which) }))
		}
	}
	for _, w := range waits {
		select {
		case <-w:
		case <-ctx.Done():
			return false
		}
	}
	return true
}
