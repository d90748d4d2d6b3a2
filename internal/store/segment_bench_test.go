package store_test

import (
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"allim/internal/audience"
	"allim/internal/keyspace"
	"allim/internal/store"
	"allim/pkg/notify"
)

const (
	manyMembers = 1_000_000
	memberLife  = 90 * 24 * time.Hour * 5 / 4 // as the store gives it to what it remembers of a user
)

func memberOf(i int) notify.Stream { return stream(fmt.Sprint("user:member", i)) }

// A membership is a Redis with a full segment and its recorded members.
type membership struct {
	*cost
	keys    *keyspace.Map
	members int
	made    int // writes
}

// newMembership records members as the store does when they are seen first, each in its user's partition.
func newMembership(b *testing.B, members int) *membership {
	b.Helper()
	keys, err := keyspace.NewMap(0)
	if err != nil {
		b.Fatal(err)
	}
	c := &membership{cost: newCost(b, store.Options{}), keys: keys, members: members}
	for range audience.MaxItems {
		c.tell()
	}
	at := c.board().Position()
	of := audience.Member{Joined: notify.Position{Epoch: at.Epoch}, IssuedAt: issued(1).Unix()}
	line, _ := of.Lines()
	before := c.used()
	for from := 0; from < members; from += 10_000 {
		pipe := c.admin.Pipeline()
		for i := from; i < min(from+10_000, members); i++ {
			key := keys.Audience(memberOf(i)).Members
			pipe.HSet(c.ctx, key, org.Topic.Name(), line)
			pipe.PExpire(c.ctx, key, memberLife)
		}
		if _, err := pipe.Exec(c.ctx); err != nil {
			b.Fatal(err)
		}
	}
	b.Logf("%d members: %d bytes of Redis' memory", members, c.used()-before)
	return c
}

// tell writes to the segment.
func (c *membership) tell() {
	c.Helper()
	c.made++
	if r := c.Write(c.ctx, []notify.Stream{org}, sizedItem(c.made), store.Committed)[0]; r.Err != nil || r.Duplicate {
		c.Fatalf("%+v", r)
	}
}

func (c *membership) board() *audience.Board {
	c.Helper()
	got, err := c.Boards(c.ctx, []notify.Stream{org})
	if err != nil {
		c.Fatal(err)
	}
	return got[0]
}

// used is Redis' memory, in bytes.
func (c *membership) used() int64 {
	c.Helper()
	var n int64
	for line := range strings.Lines(c.admin.Info(c.ctx, "memory").Val()) {
		if _, err := fmt.Sscanf(line, "used_memory:%d", &n); err == nil {
			return n
		}
	}
	c.Fatal("Redis does not say what it holds")
	return 0
}

// visit is a member who comes with the token that it had before.
func (c *membership) visit(i int) store.Reader {
	return store.Reader{Stream: memberOf(i % c.members), Segments: []string{org.Topic.Name()}, IssuedAt: issued(1)}
}

// run is a benchmark of a membership, which is made once for all of them. It reports the commands of one, those in scripts among them: the fewest of five, for the
// store asks for other things now and then.
func (c *membership) run(b *testing.B, name string, do func(i int)) (commands map[string]int) {
	b.Run(fmt.Sprintf("%d/%s", c.members, name), func(b *testing.B) {
		outer := c.B
		c.B = b
		defer func() { c.B = outer }()
		least := -1
		for i := range 5 {
			before := commandsOf(b, c.admin)
			do(i)
			if got, sum := since(before, commandsOf(b, c.admin)); least < 0 || sum < least {
				commands, least = got, sum
			}
		}
		c.each(func(i int) { do(5 + i) })
		b.ReportMetric(float64(least), "commands/op")
	})
	return commands
}

// BenchmarkSegment is what a segment with one and with a million recorded members costs Redis: a notification for all of them, and what a member asks. -short leaves
// the million out, which needs 300 MB.
func BenchmarkSegment(b *testing.B) {
	of := map[int]map[string]int{}
	for _, members := range []int{1, manyMembers} {
		if members > 1 && testing.Short() {
			continue
		}
		c := newMembership(b, members)
		of[members] = c.run(b, "notify", func(int) { c.tell() })
		c.run(b, "counts", func(i int) {
			if got, err := c.CountsFor(c.ctx, c.visit(i)); err != nil || got.Unread != audience.MaxItems {
				c.Fatalf("%+v, %v", got, err)
			}
		})
		c.run(b, "come256", func(i int) { // as a gateway asks for those who come, and counts
			var all []store.Visit
			for n := range 256 {
				all = append(all, store.Visit{Reader: c.visit(256*i + n)})
			}
			board, sum := c.board(), audience.Tally{}
			members, errs := c.TouchAll(c.ctx, all)
			for n, m := range members {
				if errs[n] != nil || len(m.Of) != 1 {
					c.Fatalf("%+v, %v", m, errs[n])
				}
				sum.Reset()
				if sum.Add(board, &m.Of[0], audience.Reader{Now: time.Now()}); sum.Unread != audience.MaxItems {
					c.Fatalf("counted %+v", sum)
				}
			}
		})
		c.memory(b)
	}
	if many := of[manyMembers]; many != nil && of[1] != nil && !maps.Equal(of[1], many) {
		b.Errorf("a write costs %v, with a million members %v", of[1], many)
	}
}

// memory is what Redis holds of an item and of a member, and of one who marked ten items.
func (c *membership) memory(b *testing.B) {
	var ids []string
	for _, h := range c.board().Items[:10] {
		ids = append(ids, h.ID)
	}
	k, s, last := c.keys.Audience(memberOf(c.members-1)), c.keys.Segment(org), c.visit(c.members-1)
	member := c.size(k.Members)
	if got, err := c.MarkFor(c.ctx, last, store.Mark{Change: notify.Marks["read"], IDs: ids}); err != nil || got.Changed != len(ids) {
		b.Fatalf("%+v, %v", got, err)
	}
	marked, items := c.size(k.Members, k.Exceptions), c.size(s.Items, s.Index, s.Events, s.Dedupe, s.Meta)
	b.Run(fmt.Sprintf("%d/memory", c.members), func(b *testing.B) {
		b.Logf("of an item, bytes of head and body: %d, of its event: %d", c.size(s.Items)/audience.MaxItems, c.size(s.Events)/audience.MaxItems)
		b.ReportMetric(float64(member), "B/member")
		b.ReportMetric(float64(marked), "B/member-marked")
		b.ReportMetric(float64(items)/audience.MaxItems, "B/item")
		b.ReportMetric(0, "ns/op")
	})
}

// size is what keys take of Redis' memory, in bytes.
func (c *membership) size(keys ...string) (sum int64) {
	c.Helper()
	for _, key := range keys {
		n, err := c.admin.MemoryUsage(c.ctx, key, 0).Result()
		if err != nil {
			c.Fatal(err)
		}
		sum += n
	}
	return sum
}
