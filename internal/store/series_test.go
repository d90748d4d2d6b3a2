package store_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"allim/internal/keyspace"
	"allim/internal/store"
	"allim/internal/testkit"
	"allim/pkg/notify"
)

// together begins writes while Redis stands still, so that those behind the first share one call, and returns what became of each.
func together(b *bench, srv *testkit.RedisServer, to []notify.Stream, ms ...*notify.Message) (out []store.Result) {
	b.Helper()
	srv.Pause()
	first := b.publisher.Begin(b.ctx, []notify.Stream{stream("in-front")}, message("first"), store.Committed, nil)
	var begun []*store.Pending
	for i, m := range ms {
		begun = append(begun, b.publisher.Begin(b.ctx, to[i%len(to):i%len(to)+1], m, store.Committed, nil))
	}
	srv.Resume()
	first.Results()
	for _, p := range begun {
		out = append(out, p.Results()...)
	}
	return out
}

func scripts(b *bench) (n int) {
	b.Helper()
	_, rest, _ := strings.Cut(b.rdb.Info(b.ctx, "commandstats").Val(), "cmdstat_evalsha:calls=")
	text, _, _ := strings.Cut(rest, ",")
	n, _ = strconv.Atoi(text)
	return n
}

func TestMessagesOfOneTopicShareACallAndKeepTheirOrder(t *testing.T) {
	t.Parallel()
	srv := testkit.Redis(t)
	b := newBench(t, srv.As, store.Options{Classes: []store.Class{{History: store.History{Size: 500}}}})
	s := stream("hot")
	b.publish(s, "0")
	sub := b.listen(s)
	before := scripts(b)
	var ms []*notify.Message
	var want []string
	for i := range 300 {
		ms, want = append(ms, message(fmt.Sprint("m", i))), append(want, fmt.Sprint("m", i))
	}
	for i, r := range together(b, srv, []notify.Stream{s}, ms...) {
		if r.Err != nil || r.Duplicate || r.Position.Offset != uint64(2+i) || r.Receivers != 1 {
			t.Fatalf("message %d: %+v", i, r)
		}
	}
	if n := scripts(b) - before; n > 20 {
		t.Errorf("%d calls for 300 messages", n)
	}
	if diff := cmp.Diff(append([]string{"0"}, want...), ids(b.recover(s, notify.Position{}, 400).Messages)); diff != "" {
		t.Errorf("history (-want +got):\n%s", diff)
	}
	for i := range ms {
		got, err := sub.ReceiveMessage(b.ctx)
		if err != nil {
			t.Fatal(err)
		}
		if m, err := keyspace.DecodePayload(s, got.Payload); err != nil || m.ID != want[i] || m.Position.Offset != uint64(2+i) {
			t.Fatalf("heard %+v, %v; want %s", m, err, want[i])
		}
	}
}

func TestAnIDTwiceInOneCallIsADuplicateOfTheFirst(t *testing.T) {
	t.Parallel()
	srv := testkit.Redis(t)
	b := newBench(t, srv.As, store.Options{})
	for _, s := range []notify.Stream{stream("a"), ann} {
		b.publish(s, "old")
		got := together(b, srv, []notify.Stream{s}, message("x"), message("old"), message("y"), message("x"), message("y"))
		var text string
		for _, r := range got {
			text += fmt.Sprint(r.Position.Offset, r.Duplicate, r.Err, " ")
		}
		if want := "2 false <nil> 1 true <nil> 3 false <nil> 2 true <nil> 3 true <nil> "; text != want {
			t.Errorf("%s: got %q, want %q", s.Topic, text, want)
		}
	}
}

// An inbox knows its items by their index alone: who leaves it is remembered as long as messages are.
func TestAnItemThatLeftIsStillADuplicate(t *testing.T) {
	onEach(t, store.Options{Inbox: store.Inbox{Size: 2}}, func(b *bench) {
		b.notify(ann, "", "n1", "n2", "n3")
		b.mark(ann, "delete", store.Mark{IDs: []string{"n2"}})
		b.publish(ann, "m1")
		for id, at := range map[string]uint64{"n1": 1, "n2": 2, "n3": 3, "m1": 5} {
			for _, m := range []*notify.Message{message(id), notification(id, "")} {
				if r := b.Publish(b.ctx, []notify.Stream{ann}, m)[0]; !r.Duplicate || r.Position.Offset != at || r.Unread != 1 {
					b.Errorf("%s again: %+v", id, r)
				}
			}
		}
		b.wantList(ann, store.Query{Status: store.All}, "n3")
		if b.real {
			b.wantLifetimes(ann)
		}
	})
}

// Of a stream at least the newest thousand ids are remembered, and not many more.
func TestAThousandIDsOfAStreamAreRemembered(t *testing.T) {
	t.Parallel()
	b := realBench(t, store.Options{Inbox: store.Inbox{Size: 50}})
	for _, c := range []struct {
		s   notify.Stream
		one func(id string) *notify.Message
	}{{stream("a"), message}, {ann, func(id string) *notify.Message { return notification(id, "") }}} {
		var begun []*store.Pending
		for i := range 1300 {
			begun = append(begun, b.publisher.Begin(b.ctx, []notify.Stream{c.s}, c.one(fmt.Sprint("m", i)), store.Committed, nil))
		}
		for _, p := range begun {
			if r := p.Results()[0]; r.Err != nil || r.Duplicate {
				t.Fatalf("got %+v", r)
			}
		}
		for _, i := range []int{300, 700, 1299} {
			if r := b.Publish(b.ctx, []notify.Stream{c.s}, c.one(fmt.Sprint("m", i)))[0]; !r.Duplicate || r.Position.Offset != uint64(i+1) {
				t.Errorf("%s: m%d again: %+v", c.s.Topic, i, r)
			}
		}
		if n := b.rdb.ZCard(b.ctx, b.keys.Event(c.s).Dedupe).Val(); n > 1063 {
			t.Errorf("%s: %d ids are remembered", c.s.Topic, n)
		}
	}
}

// Marks take offsets, too, and what is deleted is remembered: in no rhythm do ids grow without end.
func TestIDsAreLetGoWhateverComesBetween(t *testing.T) {
	t.Parallel()
	for _, mark := range []string{"read", "delete"} {
		b := realBench(t, store.Options{Inbox: store.Inbox{Size: 20}})
		k := b.keys.Inbox(ann)
		b.notify(ann, "", "n0")
		b.mark(ann, "read", store.Mark{IDs: []string{"n0"}}) // notifications have odd offsets now

		for i := range 1050 { // as if many had left
			b.rdb.ZAdd(b.ctx, k.Dedupe, redis.Z{Score: 0, Member: fmt.Sprint("old", i)})
		}
		for i := range 100 {
			id := fmt.Sprint("m", i)
			b.notify(ann, "", id)
			b.mark(ann, mark, store.Mark{IDs: []string{id}})
		}
		if n := b.rdb.ZCard(b.ctx, k.Dedupe).Val(); n < 1000 || n > 1063 {
			t.Errorf("notify and %s: %d ids are remembered", mark, n)
		}
		var all []string
		for i := range 15 {
			all = append(all, fmt.Sprint("last", i))
		}
		b.notify(ann, "", all...)
		for i := range 800 {
			b.rdb.ZAdd(b.ctx, k.Dedupe, redis.Z{Score: 0, Member: fmt.Sprint("older", i)})
		}
		b.mark(ann, "delete", store.Mark{All: true})
		if n := b.rdb.ZCard(b.ctx, k.Dedupe).Val(); n < 1000 || n > 1063 {
			t.Errorf("after all is deleted: %d ids are remembered", n)
		}
	}
}

// What comes in one call is one change of the inbox: each message says what counts behind the last, and that it does.
func TestMessagesOfOneCallCountTogether(t *testing.T) {
	onEach(t, store.Options{Inbox: store.Inbox{Size: 4}}, func(b *bench) {
		b.notify(ann, "e", "old")
		b.notify(ann, "", "read")
		b.notify(ann, "c", "unread")
		b.mark(ann, "read", store.Mark{IDs: []string{"read"}})
		sub := b.listen(ann)
		got, err := b.publisher.Series(b.ctx, ann, notification("n1", "d"), notification("n2", "c"), notification("n3", ""), notification("n2", "c"), notification("n4", "d"))
		if err != nil {
			b.Fatal(err)
		}
		for i, r := range got {
			if r.Unread != 4 || r.Duplicate != (i == 3) || r.Position.Offset != []uint64{5, 6, 7, 6, 8}[i] {
				b.Errorf("message %d: %+v", i, r)
			}
		}
		for at := range uint64(4) {
			heard, err := sub.ReceiveMessage(b.ctx)
			if err != nil {
				b.Fatal(err)
			}
			if m, err := keyspace.DecodePayload(ann, heard.Payload); err != nil || badgeText(m.Badge) != "4/4 c=1 d=2" || m.Position.Offset != 5+at ||
				m.Badge.Revision.Offset != 8 || m.Badge.Revision.Epoch != m.Position.Epoch {
				b.Errorf("heard %+v, %v", m, err)
			}
		}
		b.wantBadge(ann, "4/4 c=1 d=2")
		b.wantList(ann, store.Query{Status: store.All}, "n4 n3 n2 n1")
		if b.real {
			b.wantLifetimes(ann)
		}
	})
}

// A script holds Redis up as long as its work takes: however many items are too many, few leave at once.
func TestAnInboxThatKeepsFewerThanBeforeShrinksWithTheWritesThatCome(t *testing.T) {
	onEach(t, store.Options{Inbox: store.Inbox{Size: 60}}, func(b *bench) {
		for i := range 60 {
			b.notify(ann, []string{"", "c"}[i%2], fmt.Sprint("n", i))
		}
		small := open(b, b.rdb, store.Options{Keys: b.keys, Inbox: store.Inbox{Size: 4}})
		left := func() int64 { return b.rdb.ZCard(b.ctx, b.keys.Inbox(ann).Index).Val() }
		if _, err := small.Series(b.ctx, ann, notification("a1", ""), notification("a2", "")); err != nil || left() != 60+2-10 {
			b.Fatalf("%d are left: %v", left(), err)
		}
		for i := range 7 {
			if _, err := small.Series(b.ctx, ann, notification(fmt.Sprint("b", i), "")); err != nil {
				b.Fatal(err)
			}
		}
		b.wantBadge(ann, "4/4")
		b.wantList(ann, store.Query{Status: store.All}, "b6 b5 b4 b3")
	})
}

func TestWhatOneStreamFailsForHarmsNoOtherOfItsCall(t *testing.T) {
	t.Parallel()
	srv := testkit.Redis(t)
	b := newBench(t, srv.As, store.Options{})
	for _, c := range []struct {
		kind func(name string) notify.Stream
		m    func(id string) *notify.Message
	}{
		{stream, message},
		{func(name string) notify.Stream { return stream("user:" + name) }, func(id string) *notify.Message { return notification(id, "") }},
	} {
		bad, good := c.kind("bad"), c.kind("good")
		k := b.keys.Inbox(bad)
		broken := []string{k.Events, k.Dedupe}
		if bad.Topic.Kind() == notify.KindUser {
			broken = append(broken, k.Index)
		}
		for i, key := range broken {
			b.rdb.Set(b.ctx, key, "made by hand", time.Hour)
			got := together(b, srv, []notify.Stream{bad, good}, c.m("x"), c.m(fmt.Sprint("x", i)), c.m("y"), c.m(fmt.Sprint("y", i)))
			for n, r := range got {
				if n%2 == 1 && (r.Err != nil || r.Position.Offset != uint64(2*i+1+n/2)) {
					t.Errorf("%s: the other: %+v", key, r)
				}
				if n%2 == 0 && (r.Err == nil || errors.Is(r.Err, notify.ErrUnavailable) || !strings.Contains(r.Err.Error(), "WRONGTYPE")) {
					t.Errorf("%s: got %+v", key, r)
				}
			}
			for _, key := range k.All() {
				if b.rdb.PTTL(b.ctx, key).Val() == -1 {
					t.Errorf("%s lives for ever", key)
				}
			}
			b.rdb.Del(b.ctx, key)
		}
		for n, r := range together(b, srv, []notify.Stream{bad}, c.m("x"), c.m("y")) { // what failed is not remembered as written
			if r.Err != nil || r.Duplicate || r.Position.Offset != uint64(n+1) {
				t.Errorf("%s: again: %+v", bad.Topic, r)
			}
		}
		b.rdb.Del(b.ctx, k.Events)
		b.rdb.Set(b.ctx, k.Events, "made by hand", time.Hour) // where there is a meta, it is the message itself that cannot be added
		if r := b.Publish(b.ctx, []notify.Stream{bad}, c.m("z"))[0]; r.Err == nil {
			t.Errorf("%s: got %+v", bad.Topic, r)
		}
		b.rdb.Del(b.ctx, k.Events)
		if r := b.Publish(b.ctx, []notify.Stream{bad}, c.m("z"))[0]; r.Err != nil || r.Duplicate || r.Position.Offset != 3 {
			t.Errorf("%s: the last again: %+v", bad.Topic, r)
		}
	}
}

func TestStreamsShareCallsUntilTheyFail(t *testing.T) {
	t.Parallel()
	b := realBench(t, store.Options{})
	var all []notify.Stream
	for i := range 100 {
		all = append(all, stream(fmt.Sprint("s", i)))
	}
	for _, c := range []struct{ streams, tries, want int }{{1, 0, 1}, {64, 0, 1}, {100, 0, 2}, {64, 1, 64}} {
		if got := open(b, b.rdb, store.Options{Keys: b.keys}).Calls(c.tries, all[:c.streams]...); got != c.want {
			t.Errorf("%d streams after %d failures: %d calls, want %d", c.streams, c.tries, got, c.want)
		}
	}
}

func TestMarksGoAloneAndMessagesOfAKindTogether(t *testing.T) {
	t.Parallel()
	b := realBench(t, store.Options{})
	const m, n, r = notify.ChangeMessage, notify.ChangeNotification, notify.ChangeRead
	for _, c := range []struct {
		writes []notify.Change
		want   int
	}{{[]notify.Change{m, m, r}, 2}, {[]notify.Change{n, n, n, r}, 3}, {[]notify.Change{n, m}, 1}, {[]notify.Change{m, n}, 1}, {[]notify.Change{r, r}, 1}, {[]notify.Change{r, m}, 1}} {
		if got := open(b, b.rdb, store.Options{Keys: b.keys}).Together(ann, c.writes...); got != c.want {
			t.Errorf("%c: %d in one turn, want %d", c.writes, got, c.want)
		}
	}
}

// A gate holds the first pipeline up.
type gate struct {
	testkit.Passes
	once           sync.Once
	began, goAhead chan struct{}
}

func (g *gate) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		g.once.Do(func() {
			close(g.began)
			<-g.goAhead
		})
		return next(ctx, cmds)
	}
}

func TestWhoseTimeIsOverLeavesTheMiddleOfASeries(t *testing.T) {
	t.Parallel()
	b := realBench(t, store.Options{})
	g, s := &gate{began: make(chan struct{}), goAhead: make(chan struct{})}, stream("a")
	c := connect(t, b.as("publisher"))
	b.publisher = open(b, c, store.Options{Keys: b.keys})
	c.AddHook(g)
	begin := func(ctx context.Context, i int) *store.Pending {
		return b.publisher.Begin(ctx, []notify.Stream{s}, message(fmt.Sprint("m", i)), store.Committed, nil)
	}
	begun := []*store.Pending{begin(b.ctx, 0)}
	testkit.Closed(t, 5*time.Second, g.began, "the first at work")
	for i := 1; i < 6; i++ {
		ctx := b.ctx
		if i%3 == 2 {
			ctx = testkit.Context(t, 50*time.Millisecond)
		}
		begun = append(begun, begin(ctx, i))
	}
	for _, i := range []int{2, 5} {
		if r := begun[i].Results()[0]; !errors.Is(r.Err, notify.ErrUnavailable) {
			t.Fatalf("it left: %+v", r)
		}
	}
	close(g.goAhead)
	for _, i := range []int{0, 1, 3, 4} {
		if r := begun[i].Results()[0]; r.Err != nil {
			t.Fatalf("message %d: %+v", i, r)
		}
	}
	testkit.Eventually(t, 5*time.Second, func() bool { return b.publisher.Waiting() == 0 }, "count nothing any more")
	if got := ids(b.recover(s, notify.Position{}, 10).Messages); cmp.Diff([]string{"m0", "m1", "m3", "m4"}, got) != "" {
		t.Errorf("got %v", got)
	}
}
