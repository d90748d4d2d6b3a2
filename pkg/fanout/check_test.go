package fanout

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"allim/internal/keyspace"
	"allim/internal/testkit"
	"allim/pkg/notify"
)

// Others write 5,000 streams of a partition of which this gateway hears one: it reads 72 names, and compares its own.
func TestTheCheckReadsNoMoreThanWhatIsHeardHere(t *testing.T) {
	t.Parallel()
	srv := testkit.Redis(t)
	h, _, l := stillHub(t, Options{Redis: srv.ClientAs("gateway")})
	c, admin, ctx, keys := newChecker(h), srv.Client(), testkit.Context(t, 10*time.Second), h.opt.Keys
	heard := notify.Stream{Tenant: "default", Topic: "orders"}
	part := keys.Partition(heard)
	index, last := keys.ChangeIndex(part)
	ms := int64(notify.Y2026) * 1000
	write := func(s ...notify.Stream) {
		t.Helper()
		pipe := admin.Pipeline()
		for _, s := range s {
			pipe.ZAdd(ctx, index, redis.Z{Score: float64(ms), Member: keyspace.Member(s)})
		}
		pipe.Set(ctx, last, ms, 0)
		if _, err := pipe.Exec(ctx); err != nil {
			t.Fatal(err)
		}
	}
	others := make([]notify.Stream, 5000)
	for i := range others {
		others[i] = notify.Stream{Tenant: "default", Topic: notify.Topic(fmt.Sprint("other/", i))}
	}
	scripts := func() string {
		t.Helper()
		info, err := admin.Info(ctx, "commandstats").Result()
		if err != nil {
			t.Fatal(err)
		}
		_, calls, _ := strings.Cut(info, "cmdstat_zrangebyscore:calls=")
		calls, _, _ = strings.Cut(calls, ",")
		return calls
	}
	write(others...)
	if f := c.look(ctx); len(f.channels) != 0 || len(f.all) != 0 || scripts() != "" {
		t.Errorf("nothing is heard here: found %d channels, all of %v, %q scripts", len(f.channels), f.all, scripts())
	}
	h.Attach(heard, From{Live: true}, &countSink{})
	l.step()
	if f := c.look(ctx); len(f.channels) != 0 || len(f.all) != 1 || !f.all[part] || scripts() != "1" {
		t.Errorf("one of 5,000 is heard here: found %d channels, all of %v, %q scripts", len(f.channels), f.all, scripts())
	}
	ms++
	write(others[0])
	c.look(ctx) // from the tick of the 5,000 on
	ms++
	write(heard, others[1])
	if f := c.look(ctx); len(f.channels) != 3 || len(f.all) != 0 || scripts() != "3" {
		t.Errorf("three writes since: found %d channels, all of %v, %q scripts", len(f.channels), f.all, scripts())
	}
	ms++
	const most = checkTimes + checkSpare
	write(others[:most-2]...) // and the heard one is of the last tick
	if f := c.look(ctx); len(f.channels) != most-1 || len(f.all) != 0 {
		t.Errorf("as many names as it reads: found %d channels, all of %v", len(f.channels), f.all)
	}
	ms++
	write(others[:most]...)
	if f := c.look(ctx); !f.all[part] {
		t.Errorf("one more: found %d channels, all of %v", len(f.channels), f.all)
	}
	h.begun = h.begun.Add(-time.Hour)
	l.opt.Linger = 0
	for s := range l.topics {
		l.topics[s].subs[0].Detach()
	}
	l.step()
	l.sweep()
	if n := h.held(part); n != 0 {
		t.Errorf("%d topics are held at the end", n)
	}
}

// Whatever must be compared is, once, and no part of it is a burst.
func TestWhatMustBeComparedIsInParts(t *testing.T) {
	for _, c := range []struct{ names, all, parts, most, mostAll int }{
		{0, 0, 1, 0, 0},
		{checkNames, 0, 1, checkNames, 0},
		{checkNames + 1, 1, 2, checkNames, 1},
		{100_000, 0, checkParts, 6250, 0},
		{3, 3, 3, 3, 1},
		{2000, 128, checkParts, checkNames, 8},
		{100_001, 1023, checkParts, 6251, 64},
	} {
		f := finding{all: map[int]bool{}}
		for i := range c.names {
			f.channels = append(f.channels, fmt.Sprint(i))
		}
		for p := range c.all {
			f.all[p] = true
		}
		parts := f.parts()
		var names []string
		all := map[int]bool{}
		for _, p := range parts {
			names = append(names, p.channels...)
			maps.Copy(all, p.all)
			if len(p.channels) > c.most || len(p.all) > c.mostAll {
				t.Errorf("%+v: a part has %d names and %d partitions", c, len(p.channels), len(p.all))
			}
		}
		if len(parts) != c.parts || !slices.Equal(names, f.channels) || !maps.Equal(all, f.all) {
			t.Errorf("%+v: %d parts with %d names and %d partitions", c, len(parts), len(names), len(all))
		}
	}
	o := Options{}.withDefaults()
	if late := float64(o.CheckEvery)*(1.3+checkSpread) + 2*float64(o.Sweep); late > float64(19*time.Second) {
		t.Errorf("a lost message is read %v after it was, which leaves history less than 1 s of 20", time.Duration(late))
	}
}

// After a failover everything here must be compared: the loops are asked for a share of it at a time, with a pause before the next.
func TestThePartsOfACheckAreNotABurst(t *testing.T) {
	t.Parallel()
	const every = 800 * time.Millisecond
	h, _, l := stillHub(t, Options{Redis: testkit.Redis(t).ClientAs("gateway"), CheckEvery: every})
	c := newChecker(h)
	for i := range 2000 {
		h.Attach(notify.Stream{Tenant: "default", Topic: notify.Topic(fmt.Sprint("t/", i))}, From{Live: true}, &countSink{})
	}
	l.step()
	for p := range c.last {
		c.last[p].id = "another"
	}
	ctx, stop := context.WithCancel(context.Background())
	var run sync.WaitGroup
	run.Go(func() { c.run(ctx) })
	defer run.Wait()
	defer stop()
	asked := func() int { l.mu.Lock(); defer l.mu.Unlock(); return len(l.asked) }
	var first time.Time
	for i := range checkParts {
		testkit.Eventually(t, 10*time.Second, func() bool { return asked() > 0 }, fmt.Sprint("part ", i))
		if first.IsZero() {
			first = time.Now()
		}
		l.step()
	}
	if took, want := time.Since(first), time.Duration(float64(every)*checkSpread*(checkParts-2)/checkParts); took < want {
		t.Errorf("all parts within %v, want them spread over %v", took, want)
	}
}
