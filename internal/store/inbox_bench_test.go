package store_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"allim/internal/store"
	"allim/pkg/notify"
)

// sizedItem is a notification with 200 bytes of data, in one of four categories.
func sizedItem(i int) *notify.Message {
	m := notification(fmt.Sprint("m", i), []string{"", "mention", "reply", "order"}[i%4])
	m.Data = []byte(`"` + strings.Repeat("x", 198) + `"`)
	return m
}

// fill gives one user so many items.
func (c *cost) fill(n int) {
	c.write(0, n, func(i int) (notify.Stream, *notify.Message) { return userOf(0), sizedItem(i) })
}

// each does something b.N times, and reports what Redis used for one: in scripts, and altogether.
func (c *cost) each(do func(i int)) {
	c.Helper()
	before := c.spent()
	c.ResetTimer()
	for i := range c.N {
		do(i)
	}
	c.StopTimer()
	after := c.spent()
	c.ReportMetric((after.script-before.script)/float64(c.N), "script-us/op")
	c.ReportMetric((after.cpu-before.cpu)/float64(c.N), "cpu-us/op")
}

// longest is how long the longest script took that Redis has logged since slow("0").
func (c *cost) longest() (most time.Duration) {
	for _, one := range c.admin.SlowLogGet(c.ctx, 1000).Val() {
		if strings.HasPrefix(one.Args[0], "eval") {
			most = max(most, one.Duration)
		}
	}
	return most
}

// BenchmarkNotifyOne is a notification to one user, one call after the other.
func BenchmarkNotifyOne(b *testing.B) {
	for _, terms := range []struct {
		name string
		of   *notify.Terms
	}{{"plain", nil}, {"collapse", &notify.Terms{Collapse: "key"}}} {
		b.Run(terms.name, func(b *testing.B) {
			c := newCost(b, store.Options{})
			c.fill(200)
			c.each(func(i int) {
				m := sizedItem(1000 + i)
				m.Terms = terms.of
				if r := c.Write(c.ctx, []notify.Stream{userOf(0)}, m, store.Committed)[0]; r.Err != nil || r.Duplicate {
					b.Fatalf("%+v", r)
				}
			})
		})
	}
}

// BenchmarkNotify10k is a notification to 10,000 users with one call, and the longest script of it.
func BenchmarkNotify10k(b *testing.B) {
	c := newCost(b, store.Options{})
	var to []notify.Stream
	for i := range 10_000 {
		to = append(to, stream(fmt.Sprint("user:u", i)))
	}
	if err := c.slow("0"); err != nil {
		b.Fatal(err)
	}
	c.each(func(i int) {
		for _, r := range c.Write(c.ctx, to, sizedItem(i), store.Committed) {
			if r.Err != nil || r.Duplicate {
				b.Fatalf("%+v", r)
			}
		}
	})
	b.ReportMetric(float64(c.longest().Microseconds())/1000, "longest-script-ms")
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/10_000, "us/user")
}

// BenchmarkInboxOf is what reading costs of inboxes of two lengths, and what their items weigh. Counts must not depend on the length.
func BenchmarkInboxOf(b *testing.B) {
	for _, size := range []int{200, 10_000} {
		for _, what := range []struct {
			name string
			do   func(c *cost) error
		}{
			{"list", func(c *cost) error { _, err := c.List(c.ctx, userOf(0), store.Query{Limit: 50}); return err }},
			{"counts", func(c *cost) error { _, err := c.Counts(c.ctx, userOf(0)); return err }},
		} {
			b.Run(fmt.Sprintf("%d/%s", size, what.name), func(b *testing.B) {
				c := newCost(b, store.Options{Inbox: store.Inbox{Size: size}})
				c.fill(size)
				c.each(func(int) {
					if err := what.do(c); err != nil {
						b.Fatal(err)
					}
				})
			})
		}
		b.Run(fmt.Sprintf("%d/memory", size), func(b *testing.B) {
			c := newCost(b, store.Options{Inbox: store.Inbox{Size: size}})
			c.fill(size)
			bytes, parts := int64(0), map[string]int64{}
			keys := c.admin.Keys(c.ctx, "al:*:i:u0:*").Val()
			for _, key := range keys {
				n, err := c.admin.MemoryUsage(c.ctx, key, 0).Result()
				if err != nil {
					b.Fatal(err)
				}
				bytes += n
				parts[key[strings.LastIndexByte(key, ':')+1:]] = n / int64(size)
			}
			if len(keys) < 7 {
				b.Fatalf("the inbox has %v", slices.Sorted(slices.Values(keys)))
			}
			b.Logf("of %d items, bytes of each in each key: %v", size, parts)
			b.ReportMetric(float64(bytes)/float64(size), "B/item")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// commandsOf is how often Redis was asked what, those in scripts among them. The questions about itself do not count.
func commandsOf(t testing.TB, rdb redis.UniversalClient) map[string]int {
	t.Helper()
	out := map[string]int{}
	for line := range strings.Lines(rdb.Info(context.Background(), "commandstats").Val()) {
		var n int
		name, rest, _ := strings.Cut(strings.TrimPrefix(line, "cmdstat_"), ":")
		if _, err := fmt.Sscanf(rest, "calls=%d,", &n); err == nil && name != "info" && name != "ping" {
			out[name] = n
		}
	}
	return out
}

// since is how often Redis was asked what between, and altogether.
func since(before, now map[string]int) (calls map[string]int, sum int) {
	calls = map[string]int{}
	for name, n := range now {
		if n > before[name] {
			calls[name] = n - before[name]
			sum += calls[name]
		}
	}
	return calls, sum
}

// Counts cost Redis as many commands however long the inbox is: what they cost does not depend on its length.
func TestCountsCostAsManyCommandsForAnyLength(t *testing.T) {
	b := realBench(t, store.Options{Inbox: store.Inbox{Size: 2000}})
	var want map[string]int
	for i := range 2000 {
		if r := b.Publish(b.ctx, []notify.Stream{ann}, sizedItem(i))[0]; r.Err != nil {
			t.Fatal(r.Err)
		}
		if i != 19 && i != 1999 {
			continue
		}
		b.wantCounts(i + 1) // Redis knows the script
		before := commandsOf(b, b.rdb)
		b.wantCounts(i + 1)
		got, _ := since(before, commandsOf(b, b.rdb))
		if want == nil {
			want = got
		}
		if fmt.Sprint(want) != fmt.Sprint(got) || len(got) < 3 {
			t.Errorf("of %d items: %v, of 20: %v", i+1, got, want)
		}
	}
}

func (b *bench) wantCounts(unread int) {
	b.Helper()
	if badge, err := b.Counts(b.ctx, ann); err != nil || badge.Unread != unread {
		b.Fatalf("%+v, %v, want %d unread", badge, err, unread)
	}
}
