package fanout

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"allim/internal/keyspace"
)

// indexMemory is how long the change index remembers a write (60 s), less what clocks and a slow check may take.
const indexMemory = 55 * time.Second

// A look at a partition brings at most checkTimes as many names as there are topics here, and checkSpare: to read that many takes Redis about as long
// as to compare all of those topics.
const (
	checkTimes = 8
	checkSpare = 64
)

// Where much must be compared it is in up to checkParts parts, one after the other within checkSpread of the interval: Redis feels no burst, and what was
// lost still comes within 20 s.
const (
	checkParts  = 16
	checkSpread = 0.4
	checkNames  = 1024 // so many that are named are no burst
)

// checkScript only reads. KEYS the index, the last tick. ARGV the tick from which on streams are named, most names. Answers {history id or ”, tick or '0',
// members}.
// One partition is one slot: on a cluster each runs where its partition is, and tells the history of that node.
var checkScript = redis.NewScript(`
local info = redis.pcall('INFO', 'replication')
return { type(info) == 'string' and string.match(info, 'master_replid:(%x+)') or '', redis.call('GET', KEYS[2]) or '0',
  redis.call('ZRANGEBYSCORE', KEYS[1], ARGV[1], '+inf', 'LIMIT', 0, ARGV[2]) }`)

// A glance is what one look at a partition's change index told of it, apart from the streams.
type glance struct {
	id   string        // of the Redis history; "" where the server hides it
	tick int64         // of the last write, in ms of Redis' clock; 0: there was none for a long time
	at   time.Duration // when, on our clock
}

// misses tells whether the index may not name all that was written between g and the next look, or may name what it does not know: everything in
// the partition must be compared. The zero g was before the hub began.
func (g glance) misses(next glance) bool {
	switch {
	case g.id != "" && g.id != next.id, next.tick < g.tick: // another history; or the tick was forgotten, as it is after ten quiet minutes
		return true
	case g.tick == 0: // nothing to compare with but our clock
		return next.tick > 0 && next.at-g.at > indexMemory
	}
	return next.tick-g.tick > indexMemory.Milliseconds()
}

// A checker notices a message that was lost and that nothing followed, so that there is no gap: at every check it reads which streams were
// written, and has their topics compared with Redis. What it reads is bounded by what is heard here, however much is written: where so many more streams
// of a partition were written that it is cheaper, all topics of the partition are compared; one of which nobody here hears anything is not looked at.
type checker struct {
	hub  *Hub
	last []glance // by partition: the last look that succeeded
}

func newChecker(h *Hub) *checker {
	return &checker{hub: h, last: make([]glance, h.opt.Keys.Partitions())}
}

func (c *checker) run(ctx context.Context) {
	every := c.hub.opt.CheckEvery
	timer := time.NewTimer(0) // at once: what the later looks are compared with
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		next := time.Now().Add(every*7/10 + rand.N(every*6/10+1))
		for i, f := range c.look(ctx).parts() {
			if i > 0 {
				pause(ctx, time.Duration(float64(every)*checkSpread/checkParts))
			}
			if !c.compare(ctx, f) {
				return
			}
		}
		timer.Reset(time.Until(next))
	}
}

// A finding is what must be compared.
type finding struct {
	channels []string
	all      map[int]bool // partitions of which everything must be
}

// parts cuts f into what is compared at once: even shares of the partitions, and of what is named if it is much.
func (f finding) parts() []finding {
	parts := make([]finding, 1, checkParts)
	names := max((len(f.channels)+checkParts-1)/checkParts, checkNames)
	for named := range slices.Chunk(f.channels, names) {
		if parts[0].channels != nil {
			parts = append(parts, finding{})
		}
		parts[len(parts)-1].channels = named
	}
	i, n := 0, (len(f.all)+checkParts-1)/checkParts
	for p := range f.all {
		if len(parts[i].all) == n {
			i++
		}
		if i == len(parts) {
			parts = append(parts, finding{})
		}
		if parts[i].all == nil {
			parts[i].all = map[int]bool{}
		}
		parts[i].all[p] = true
	}
	return parts
}

// look reads what changed. A partition that cannot be read is no news here, the feed says when Redis is away: its next look covers more.
func (c *checker) look(ctx context.Context) (f finding) {
	keys, now := c.hub.opt.Keys, time.Since(c.hub.begun)
	ctx, cancel := context.WithTimeout(ctx, 2*c.hub.opt.CallTimeout)
	defer cancel()
	pipe := c.hub.opt.Redis.Pipeline()
	type asked struct{ part, most int }
	var cmds []*redis.Cmd
	var each []asked
	for p := range c.last {
		held := c.hub.held(p)
		if held == 0 { // the next look covers more
			continue
		}
		index, tick := keys.ChangeIndex(p)
		a := asked{p, checkTimes*held + checkSpare}
		cmds = append(cmds, checkScript.Eval(ctx, pipe, []string{index, tick}, c.last[p].tick, a.most)) // inclusive: the same tick can come again
		each = append(each, a)
	}
	_, _ = pipe.Exec(ctx) // each command has its own error
	f.all = map[int]bool{}
	for i, cmd := range cmds {
		p := each[i].part
		next, members, err := glanceOf(cmd)
		if err != nil {
			continue
		}
		next.at = now
		if len(members) >= each[i].most || c.last[p].misses(next) {
			f.all[p] = true
		}
		for _, m := range members {
			if s, ok := keyspace.ParseMember(m); ok && !f.all[p] {
				f.channels = append(f.channels, keys.Channel(s))
			}
		}
		c.last[p] = next
	}
	return f
}

func glanceOf(cmd *redis.Cmd) (g glance, members []string, err error) {
	v, err := cmd.Slice()
	if err != nil {
		return g, nil, err
	}
	if len(v) != 3 {
		return g, nil, fmt.Errorf("script answered %d values, not 3", len(v))
	}
	id, _ := v[0].(string)
	tick, _ := v[1].(string)
	list, _ := v[2].([]any)
	if g.tick, err = strconv.ParseInt(tick, 10, 64); err != nil {
		return g, nil, fmt.Errorf("read tick: %w", err)
	}
	g.id = id
	for _, m := range list {
		if name, ok := m.(string); ok {
			members = append(members, name)
		}
	}
	return g, members, nil
}

// compare has the loops look; false means that ctx ended.
func (c *checker) compare(ctx context.Context, f finding) bool {
	mine := make(map[*loop][]string, len(c.hub.loops))
	for _, ch := range f.channels {
		l := c.hub.loopOf(ch)
		mine[l] = append(mine[l], ch)
	}
	var waits []<-chan struct{}
	for _, l := range c.hub.loops {
		if len(f.all) > 0 || len(mine[l]) > 0 {
			waits = append(waits, l.do(func(x *shard) { x.verify(mine[l], f.all) }))
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
