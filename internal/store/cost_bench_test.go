package store_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"allim/internal/keyspace"
	"allim/internal/store"
	"allim/internal/testkit"
	"allim/pkg/notify"
)

const (
	costStreams = 1000
	costAhead   = 1024 // writes that are begun and not decided
	costRound   = 1000 // writes, and then as many of the bare script
)

// A cost is a Redis whose processor time is measured.
type cost struct {
	*testing.B
	*store.Store

	ctx   context.Context
	admin *redis.Client
}

// A spending is what Redis used: in scripts, by its own clock, and altogether.
type spending struct{ script, cpu float64 } // us

func newCost(b *testing.B, o store.Options) *cost {
	b.Helper()
	server := testkit.Redis(b)
	rdb, err := store.Connect(store.Connection{URL: server.As("publisher")})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = rdb.Close() })
	if o.Keys, err = keyspace.NewMap(0); err != nil {
		b.Fatal(err)
	}
	o.Redis = rdb
	c := &cost{B: b, ctx: testkit.Context(b, 10*time.Minute), admin: server.Client()}
	if c.Store, err = store.New(o); err != nil {
		b.Fatal(err)
	}
	if err := c.Open(c.ctx); err != nil {
		b.Fatal(err)
	}
	return c
}

func (c *cost) spent() (s spending) {
	c.Helper()
	text, err := c.admin.Info(c.ctx, "cpu", "commandstats").Result()
	if err != nil {
		c.Fatal(err)
	}
	for line := range strings.Lines(text) {
		var x, calls float64
		for _, name := range []string{"used_cpu_user:", "used_cpu_sys:"} {
			if _, err := fmt.Sscanf(line, name+"%f", &x); err == nil {
				s.cpu += 1e6 * x
			}
		}
		for _, name := range []string{"eval", "evalsha"} {
			if _, err := fmt.Sscanf(line, "cmdstat_"+name+":calls=%f,usec=%f", &calls, &x); err == nil {
				s.script += x
			}
		}
	}
	return s
}

// measure has do make writes number from to to, and the bare script as many, in turns on one Redis. It reports what a write costs Redis in
// us, and how many times the bare script's. What prepare does is not counted.
func (c *cost) measure(prepare, do func(from, to int)) {
	c.Helper()
	var ours, bare spending
	c.StopTimer()
	round := func(sum *spending, do func(from, to int), from, to int) {
		before := c.spent()
		do(from, to)
		after := c.spent()
		sum.script += after.script - before.script
		sum.cpu += after.cpu - before.cpu
	}
	for from := 0; from < c.N; from += costRound {
		to := min(from+costRound, c.N)
		prepare(from, to)
		round(&bare, c.bare, from, to)
		c.StartTimer()
		round(&ours, do, from, to)
		c.StopTimer()
	}
	n := float64(c.N)
	c.ReportMetric(ours.script/n, "script-us/op")
	c.ReportMetric(ours.cpu/n, "cpu-us/op")
	c.ReportMetric(ours.script/bare.script, "x-bare-script")
	c.ReportMetric(ours.cpu/bare.cpu, "x-bare-cpu")
}

var costData = []byte(`{"text":"` + strings.Repeat("x", 100) + `"}`)

// bareScript is the least that a kept message costs Redis: to be stored, and sent.
var bareScript = redis.NewScript(`redis.call('XADD', KEYS[1], 'MAXLEN', '=', '64', '*', 'd', ARGV[1])
return redis.call('PUBLISH', KEYS[2], ARGV[1])`)

// bare makes pipelines as long as the store does.
func (c *cost) bare(from, to int) {
	if err := bareScript.Load(c.ctx, c.admin).Err(); err != nil {
		c.Fatal(err)
	}
	for ; from < to; from += store.BatchWrites {
		pipe := c.admin.Pipeline()
		for i := from; i < min(to, from+store.BatchWrites); i++ {
			topic := fmt.Sprint("bare-", i%costStreams)
			bareScript.EvalSha(c.ctx, pipe, []string{topic, topic}, costData)
		}
		if _, err := pipe.Exec(c.ctx); err != nil {
			c.Fatal(err)
		}
	}
}

// write begins one message after the other, many ahead of what is decided.
func (c *cost) write(from, to int, one func(i int) (notify.Stream, *notify.Message)) {
	var ahead []*store.Pending
	wait := func(left int) {
		for len(ahead) > left {
			if r := ahead[0].Results()[0]; r.Err != nil || r.Duplicate {
				c.Fatalf("%+v", r)
			}
			ahead = ahead[1:]
		}
	}
	for i := from; i < to; i++ {
		s, m := one(i)
		ahead = append(ahead, c.Begin(c.ctx, []notify.Stream{s}, m, store.Committed, nil))
		wait(costAhead)
	}
	wait(0)
}

func costMessage(i int) *notify.Message {
	m := message(fmt.Sprint("m", i))
	m.Data = costData
	return m
}

func costItem(i int, category string) *notify.Message {
	m := notification(fmt.Sprint("m", i), category)
	m.Data = costData
	return m
}

func userOf(i int) notify.Stream { return stream(fmt.Sprint("user:u", i%costStreams)) }

// BenchmarkRedisCost is what each class of writes costs Redis.
func BenchmarkRedisCost(b *testing.B) {
	categories := []string{"", "mention", "reply"}
	small := store.Options{Inbox: store.Inbox{Size: 20}}
	for _, class := range []struct {
		name string
		o    store.Options
		warm int
		one  func(i int) (notify.Stream, *notify.Message)
	}{
		{"event/many", store.Options{}, 0, func(i int) (notify.Stream, *notify.Message) {
			return stream(fmt.Sprint("topic-", i%costStreams)), costMessage(i)
		}},
		{"event/one", store.Options{}, 0, func(i int) (notify.Stream, *notify.Message) { return stream("topic"), costMessage(i) }},
		{"inbox/many", store.Options{}, 0, func(i int) (notify.Stream, *notify.Message) { return userOf(i), costItem(i, "") }},
		{"inbox/categories", store.Options{}, 0, func(i int) (notify.Stream, *notify.Message) {
			return userOf(i), costItem(i, categories[i/costStreams%3])
		}},
		{"inbox/full", small, 21 * costStreams, func(i int) (notify.Stream, *notify.Message) { return userOf(i), costItem(i, "") }},
		{"inbox/one", store.Options{}, 201, func(i int) (notify.Stream, *notify.Message) { return userOf(0), costItem(i, "") }},
	} {
		b.Run(class.name, func(b *testing.B) {
			c := newCost(b, class.o)
			c.write(-class.warm, 0, class.one)
			c.measure(func(int, int) {}, func(from, to int) { c.write(from, to, class.one) })
		})
	}
	b.Run("mark/many", func(b *testing.B) {
		c := newCost(b, store.Options{})
		c.measure(func(from, to int) {
			c.write(from, to, func(i int) (notify.Stream, *notify.Message) { return userOf(i), costItem(i, "") })
		}, c.mark)
	})
}

// mark has each item read by one call, many at once.
func (c *cost) mark(from, to int) {
	var all sync.WaitGroup
	for w := range 64 {
		all.Go(func() {
			for i := from + w; i < to; i += 64 {
				if _, err := c.Mark(c.ctx, userOf(i), store.Mark{Change: notify.Marks["read"], IDs: []string{fmt.Sprint("m", i)}}); err != nil {
					c.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
}

// BenchmarkMarkAll10k prints how long the longest script of a mark of 10,000 items holds Redis up.
func BenchmarkMarkAll10k(b *testing.B) {
	for _, name := range []string{"read", "archive", "delete"} {
		b.Run(name, func(b *testing.B) {
			c := newCost(b, store.Options{Inbox: store.Inbox{Size: 10_000}})
			var each []time.Duration
			var all float64
			for i := range b.N {
				b.StopTimer()
				c.write(i*10_000, (i+1)*10_000, func(i int) (notify.Stream, *notify.Message) { return userOf(0), costItem(i, "mention") })
				if err := c.slow("0"); err != nil {
					b.Fatal(err)
				}
				before := c.spent()
				b.StartTimer()
				if got, err := c.Mark(c.ctx, userOf(0), store.Mark{Change: notify.Marks[name], All: true}); err != nil || got.Changed != 10_000 {
					b.Fatalf("%+v, %v", got, err)
				}
				b.StopTimer()
				all += c.spent().cpu - before.cpu
				for _, one := range c.admin.SlowLogGet(c.ctx, 1000).Val() {
					if strings.HasPrefix(one.Args[0], "eval") {
						each = append(each, one.Duration)
					}
				}
				if err := c.slow("-1"); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
			slices.Sort(each)
			b.ReportMetric(float64(each[len(each)-1].Microseconds())/1000, "longest-script-ms") // also where others have the processor meanwhile
			b.ReportMetric(float64(each[len(each)/2].Microseconds())/1000, "median-script-ms")
			b.ReportMetric(all/1000/float64(b.N), "cpu-ms/op")
		})
	}
}

// slow has Redis log how long each command takes from now on; "-1": none.
func (c *cost) slow(us string) error {
	return errors.Join(c.admin.ConfigSet(c.ctx, "slowlog-max-len", "1000").Err(), c.admin.ConfigSet(c.ctx, "slowlog-log-slower-than", us).Err(), c.admin.Do(c.ctx, "SLOWLOG", "RESET").Err())
}
