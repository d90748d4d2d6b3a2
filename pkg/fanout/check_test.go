package fanout

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"allim/internal/keyspace"
	"allim/internal/testkit"
	"allim/pkg/notify"
)

// Others write 5,000 streams of a partition of which this gateway hears one: it reads 65 names, and compares its own.
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
	write(others[:checkSpare+1]...)
	if f := c.look(ctx); !f.all[part] {
		t.Errorf("as many names as may be: found %d channels, all of %v", len(f.channels), f.all)
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
