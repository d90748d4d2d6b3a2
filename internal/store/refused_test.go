package store_test

// What was lost is written again through whatever stands in its way meanwhile.

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"allim/internal/keyspace"
	"allim/internal/store"
	"allim/internal/testkit"
	"allim/pkg/notify"
)

// right gives the publisher a right, or takes it, as a server with an older file of users does.
func (b *bench) right(what string) {
	b.Helper()
	if err := b.rdb.Do(b.ctx, "ACL", "SETUSER", "allim-publisher", what).Err(); err != nil {
		b.Fatal(err)
	}
}

func givenUp(t *testing.T, r *prometheus.Registry, kind string) float64 {
	t.Helper()
	return value(t, r, "allim_redis_replay_given_up_total", "kind="+kind)
}

func refusals(t *testing.T, r *prometheus.Registry) float64 {
	t.Helper()
	return value(t, r, "allim_redis_operations_total", "operation=replay result=error")
}

// lostEvent is a topic that has lost a message.
func (b *bench) lostEvent() (s notify.Stream, kept notify.Position) {
	b.Helper()
	s = stream("orders/7")
	kept = b.publish(s, "kept").Position
	behind := b.snapshot(b.keys.Event(s).All()...)
	b.publish(s, "lost")
	behind()
	b.newHistory()
	return s, kept
}

func TestWhatRedisRefusesForAWhileIsWrittenAgainWhenItTakesIt(t *testing.T) {
	t.Parallel()
	b, r := countedBench(t, store.Options{})
	s, kept := b.lostEvent()
	b.right("-xadd")
	run(b, b.publisher)
	testkit.Eventually(t, soon, func() bool { return refusals(t, r) >= 2 }, "be refused twice")
	if givenUp(t, r, "publish") != 0 {
		t.Fatal("it was given up")
	}
	b.right("+xadd")
	testkit.Eventually(t, soon, func() bool { return replayed(t, r)["publish"] == 1 }, "write it again")
	if got := ids(b.recover(s, kept, 10).Messages); cmp.Diff([]string{"lost"}, got) != "" {
		t.Errorf("got %v", got)
	}
}

func TestWhoWritesWhereRedisRefusesWhatWasLostIsToldToComeAgain(t *testing.T) {
	t.Parallel()
	b, _ := countedBench(t, store.Options{})
	s, _ := b.lostEvent()
	b.right("-xadd")
	short := testkit.Context(t, 300*time.Millisecond)
	// a duplicate adds nothing: it is refused for what was lost alone
	if got := b.publisher.Write(short, []notify.Stream{s}, message("kept"), store.Committed)[0].Err; got == nil || !strings.Contains(got.Error(), "unavailable") {
		t.Fatalf("got %v", got)
	}
}

func TestWhatRedisRefusesForTwoMinutesIsGivenUpAndTold(t *testing.T) {
	t.Parallel()
	var said bytes.Buffer
	b, _ := countedBench(t, store.Options{})
	o, r := counted()
	o.Log, o.Keys = slog.New(slog.NewTextHandler(&said, nil)), b.keys
	b.publisher = open(b, connect(t, b.as("publisher")), o)
	s, kept := b.lostEvent()
	b.right("-xadd")
	b.publisher.Age(3 * time.Minute)
	for range 2 {
		if !b.publish(s, "kept").Duplicate { // with whatever the next one adds it would be refused, too
			t.Fatal("no duplicate")
		}
		b.newHistory()
	}
	if givenUp(t, r, "publish") != 1 || strings.Count(said.String(), "msg=replay_failed writes=1") != 1 {
		t.Errorf("given up %v; the log:\n%s", givenUp(t, r, "publish"), said.String())
	}
	b.right("+xadd")
	b.publish(s, "next")
	if got := ids(b.recover(s, kept, 10).Messages); cmp.Diff([]string{"next"}, got) != "" {
		t.Errorf("got %v", got)
	}
}

// A stall holds up what a client sends about one stream, from one pipeline on.
type stall struct {
	testkit.Passes
	key    string
	passes atomic.Int64 // pipelines that are not held up
	stands chan struct{}
}

func (s *stall) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		for _, c := range cmds {
			if strings.Contains(fmt.Sprint(c.Args()...), s.key) {
				if s.passes.Add(-1) < 0 {
					<-s.stands
				}
				break
			}
		}
		return next(ctx, cmds)
	}
}

func TestAStreamThatLostMuchHoldsUpNoneThatLostLittle(t *testing.T) {
	t.Parallel()
	b := newBench(t, testkit.Redis(t, "--enable-debug-command", "yes").As, store.Options{Classes: []store.Class{{Prefix: "large", History: store.History{Size: 500}}}})
	large, small := stream("large"), stream("small")
	c := connect(t, b.as("publisher"))
	hook := &stall{key: b.keys.Event(large).Meta, stands: make(chan struct{})}
	release := sync.OnceFunc(func() { close(hook.stands) })
	defer release()
	hook.passes.Store(1 << 20)
	c.AddHook(hook)
	o, r := counted()
	o.Keys, o.Classes = b.keys, b.opt.Classes
	b.publisher = open(b, c, o)
	b.publish(large, "kept")
	b.publish(small, "kept")
	behind := b.snapshot(append(b.keys.Event(large).All(), b.keys.Event(small).All()...)...)
	for i := range 300 {
		b.publish(large, fmt.Sprint("m", i))
	}
	b.publish(small, "lost")
	behind()
	b.newHistory()
	hook.passes.Store(4) // the write, the look, twice since its script is new there, and the first pipeline
	end := later(t, func() error { return b.Publish(b.ctx, []notify.Stream{large, small}, message("next"))[0].Err })
	testkit.Eventually(t, soon, func() bool { return hook.passes.Load() < 0 }, "stand still")
	testkit.Eventually(t, soon, func() bool { return holds(t, r) == 304 }, "be done with the small one")
	release()
	if err := testkit.Receive(t, soon, end, "the large one"); err != nil || holds(t, r) != 305 {
		t.Errorf("%v; %v are held", err, holds(t, r))
	}
	wantReplayed(t, r, 2, 301, 0, 0)
}

func TestAMarkComesBackBehindItsItemThoughRedisKnowsItsScriptAlone(t *testing.T) {
	t.Parallel()
	b := epochBench(t)
	b.notify(ann, "", "n1")
	read := func(id string) {
		if _, err := b.publisher.Mark(b.ctx, ann, store.Mark{Change: notify.ChangeRead, IDs: []string{id}}); err != nil {
			t.Fatal(err)
		}
	}
	b.lose(func() {
		b.notify(ann, "", "n2")
		read("n2")
		b.notify(ann, "", "n3")
		read("n3")
	})
	if err := b.rdb.ScriptFlush(b.ctx).Err(); err != nil {
		t.Fatal(err)
	}
	b.touch(b.publisher) // it knows marks now
	b.wantList(ann, store.Query{}, "n3/sr n2/sr n1")
}

func TestAfterTwoFailoversTheLaterMarkWinsToo(t *testing.T) {
	t.Parallel()
	b := epochBench(t)
	first, second := b.another("gateway"), b.another("gateway")
	b.notify(ann, "", "n1")
	behind := b.snapshot(b.keys.Inbox(ann).All()...)
	if _, err := first.Mark(b.ctx, ann, store.Mark{Change: notify.ChangeRead, IDs: []string{"n1"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := second.Mark(b.ctx, ann, store.Mark{Change: notify.ChangeUnread, IDs: []string{"n1"}}); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		behind()
		b.newHistory()
		b.touch(second)
		b.touch(first)
		b.wantBadge(ann, "1/0")
	}
}

func TestAMarkLeavesWhatALaterBuildSaysOfAnItem(t *testing.T) {
	t.Parallel()
	b := epochBench(t)
	top := b.notify(ann, "c", "n1").Position
	items := b.keys.Inbox(ann).Items
	head := func() string { return b.rdb.HGet(b.ctx, items, "n1").Val() }
	b.mark(ann, "archive", store.Mark{All: true})
	b.rdb.HSet(b.ctx, items, "n1", head()+"\nmore of it\nand more")
	b.mark(ann, "unarchive", store.Mark{All: true})
	b.mark(ann, "read", store.Mark{All: true})
	lines := strings.Split(head(), "\n")
	if len(lines) != 7 || lines[5] != "more of it" || lines[6] != "and more" || strings.Count(lines[4], top.Epoch+".") != 2 {
		t.Errorf("the head is %q", head())
	}
	b.wantList(ann, store.Query{Category: "c"}, "n1/sr")
	if _, err := keyspace.DecodeItem("n1", head(), nil, nil); err != nil {
		t.Error(err)
	}
}

func TestARefusedHandshakeIsNoAnswer(t *testing.T) {
	t.Parallel()
	b := epochBench(t)
	b.publish(stream("a"), "m1")
	if err := b.rdb.Do(b.ctx, "ACL", "SETUSER", "allim-publisher", "resetpass", ">another password").Err(); err != nil {
		t.Fatal(err)
	}
	killAll(t, b.rdb.(*redis.Client), "allim-publisher")
	m := message("")
	m.Change = notify.ChangeEphemeral
	testkit.Eventually(t, soon, func() bool {
		return errors.Is(b.publisher.Write(b.ctx, []notify.Stream{stream("a")}, m, store.Committed)[0].Err, notify.ErrUnavailable)
	}, "be refused")
	if got, err := b.publisher.Tops(b.ctx, []notify.Stream{stream("a")}); !errors.Is(err, notify.ErrUnavailable) {
		t.Errorf("got %v, %v", got, err)
	}
}

// A split is a pipeline that Redis reads in two pieces, the one with a text in its first command: much happens there between the two.
type split struct {
	stall   // the hooks that do nothing
	text    string
	between func()
	done    atomic.Bool
}

func (s *split) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if !strings.Contains(fmt.Sprint(cmds[0].Args()...), s.text) || !s.done.CompareAndSwap(false, true) {
			return next(ctx, cmds)
		}
		half := (len(cmds) + 1) / 2
		err := next(ctx, cmds[:half])
		if s.between(); half < len(cmds) {
			err = errors.Join(err, next(ctx, cmds[half:]))
		}
		return err
	}
}

func TestWhatComesAgainIsInOrderThoughItsTroubleEndsInsideAPipeline(t *testing.T) {
	t.Parallel()
	for name, of := range map[string]struct{ begins, ends func(b *bench) }{
		"a script that Redis has forgotten": {func(b *bench) {
			if err := b.rdb.ScriptFlush(b.ctx).Err(); err != nil {
				b.Fatal(err)
			}
		}, func(b *bench) {
			if got := b.another("publisher").Write(b.ctx, []notify.Stream{stream("another")}, message("m"), store.Committed)[0]; got.Err != nil {
				b.Error(got.Err)
			}
		}},
		"a right": {func(b *bench) { b.right("-xadd") }, func(b *bench) { b.right("+xadd") }},
	} {
		t.Run(name, func(t *testing.T) {
			b := epochBench(t)
			hook, c := &split{text: "lost0", between: func() { of.ends(b) }}, connect(t, b.as("publisher"))
			hook.done.Store(true)
			c.AddHook(hook)
			b.publisher = open(b, c, store.Options{Keys: b.keys})
			s := stream("orders/7")
			kept := b.publish(s, "kept").Position
			behind := b.snapshot(b.keys.Event(s).All()...)
			var want []string
			for i := range 10 {
				want = append(want, fmt.Sprint("lost", i))
			}
			b.publish(s, want...)
			behind()
			b.newHistory()
			hook.done.Store(false)
			of.begins(b)
			run(b, b.publisher)
			testkit.Eventually(t, soon, func() bool { return len(b.recover(s, kept, 20).Messages) == len(want) }, "write all again")
			if diff := cmp.Diff(want, ids(b.recover(s, kept, 20).Messages)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// What stands where the stream of another should be is somebody else's, or of another build.
func TestAStreamThatCannotBeReadKeepsNoneOfItsNeighboursFromComingBack(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(b *bench, meta string) error{
		"another type": func(b *bench, meta string) error { return b.rdb.Set(b.ctx, meta, "made by hand", 0).Err() },
		"no top":       func(b *bench, meta string) error { return b.rdb.HDel(b.ctx, meta, "s").Err() },
	} {
		t.Run(name, func(t *testing.T) {
			b, r := countedBench(t, store.Options{})
			broken, well := stream("a"), stream("b")
			for i := 0; b.keys.Partition(well) != b.keys.Partition(broken); i++ {
				well = stream(fmt.Sprint("b/", i))
			}
			b.publish(broken, "kept")
			kept := b.publish(well, "kept").Position
			behind := b.snapshot(b.keys.Event(well).All()...)
			b.publish(well, "lost")
			behind()
			if err := spoil(b, b.keys.Event(broken).Meta); err != nil {
				t.Fatal(err)
			}
			b.newHistory()
			run(b, b.publisher)
			testkit.Eventually(t, soon, func() bool { return replayed(t, r)["publish"] == 1 }, "write the other again")
			if got := ids(b.recover(well, kept, 10).Messages); cmp.Diff([]string{"lost"}, got) != "" {
				t.Errorf("got %v", got)
			}
			if holds(t, r) != 3 {
				t.Errorf("%v are held", holds(t, r))
			}
		})
	}
}
