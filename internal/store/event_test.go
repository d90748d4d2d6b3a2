package store_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"allim/internal/keyspace"
	"allim/internal/store"
	"allim/internal/testkit"
	"allim/pkg/notify"
)

func TestPublishedMessagesComeBackInOrderAndByteForByte(t *testing.T) {
	onEach(t, store.Options{}, func(b *bench) {
		s := stream("orders/7")
		first := b.publish(s, "a")
		last := b.publish(s, "b", "c")
		if last.Position.Epoch != first.Position.Epoch || last.Position.Offset != 3 || last.Duplicate {
			b.Fatalf("third ack %+v after %+v", last, first)
		}
		r := b.recover(s, first.Position, 10)
		if r.Outcome != notify.Delta || r.Position != last.Position || r.Top != last.Position || r.Badge != nil {
			b.Fatalf("recovery %+v", r)
		}
		want := message("b")
		want.Position = notify.Position{Epoch: first.Position.Epoch, Offset: 2}
		if diff := cmp.Diff(*want, r.Messages[0]); diff != "" {
			b.Fatalf("message (-want +got):\n%s", diff)
		}
	})
}

func TestRepeatedIDAnswersTheFirstPositionAndPublishesNothing(t *testing.T) {
	onEach(t, store.Options{}, func(b *bench) {
		s := stream("orders/7")
		sub := b.listen(s)
		first := b.publish(s, "a")
		if first.Receivers != 1 {
			b.Fatalf("receivers %d, want 1", first.Receivers)
		}
		b.publish(s, "b")
		again := b.publish(s, "a")
		if !again.Duplicate || again.Position != first.Position || again.Receivers != 0 {
			b.Fatalf("duplicate answered %+v, want position %s", again, first.Position)
		}
		b.publish(s, "c")
		for _, want := range []string{"a", "b", "c"} {
			got, err := sub.ReceiveMessage(b.ctx)
			if err != nil {
				b.Fatal(err)
			}
			m, err := keyspace.DecodePayload(s, got.Payload)
			if err != nil || m.ID != want {
				b.Fatalf("heard %+v, %v; want id %s", m, err, want)
			}
		}
	})
}

func TestEphemeralMessagesLeaveNothingInRedis(t *testing.T) {
	onEach(t, store.Options{}, func(b *bench) {
		s := stream("typing/7")
		before := b.dbsize()
		m := message("e1")
		m.Change = notify.ChangeEphemeral
		sub := b.listen(s)
		if r := b.Publish(b.ctx, []notify.Stream{s}, m)[0]; r.Err != nil || r.Receivers != 1 || r.Position != (notify.Position{}) {
			b.Fatalf("ephemeral: %+v", r)
		}
		got, err := sub.ReceiveMessage(b.ctx)
		if err != nil {
			b.Fatal(err)
		}
		d, err := keyspace.DecodePayload(s, got.Payload)
		if err != nil {
			b.Fatal(err)
		}
		if diff := cmp.Diff(m, d); diff != "" {
			b.Fatalf("ephemeral (-sent +heard):\n%s", diff)
		}
		if n := b.dbsize(); n != before {
			b.Fatalf("%d keys became %d", before, n)
		}
	})
}

func TestHistoryIsBoundedByTheClassWithTheLongestPrefix(t *testing.T) {
	o := store.Options{Classes: []store.Class{
		{Prefix: "orders/", History: store.History{Size: 5}}, {Prefix: "orders/vip/", History: store.History{Size: 3}}}}
	onEach(t, o, func(b *bench) {
		for topic, kept := range map[string]uint64{"orders/7": 5, "orders/vip/1": 3, "other": 10} {
			s := stream(topic)
			var first store.Ack
			for i := range 10 {
				ack := b.publish(s, fmt.Sprint("m", i))
				if i == 0 {
					first = ack
				}
			}
			at := func(o uint64) notify.Position { return notify.Position{Epoch: first.Position.Epoch, Offset: o} }
			if r := b.recover(s, at(10-kept), 100); r.Outcome != notify.Delta || len(r.Messages) != int(kept) {
				b.Fatalf("%s: the last %d: %v with %d messages", topic, kept, r.Outcome, len(r.Messages))
			}
			if kept == 10 {
				continue
			}
			if r := b.recover(s, at(10-kept-1), 100); r.Outcome != notify.Reset || r.Position != at(10-kept) {
				b.Fatalf("%s: one more: outcome %v at %s", topic, r.Outcome, r.Position)
			}
		}
	})
}

func TestRecoveryIsPagedByMessagesAndBytes(t *testing.T) {
	onEach(t, store.Options{}, func(b *bench) {
		s := stream("big")
		pos := b.publish(s, "first").Position
		for i := range 8 {
			m := message(fmt.Sprint("big", i))
			m.Data = []byte(`"` + strings.Repeat("x", 50_000) + `"`)
			if r := b.Publish(b.ctx, []notify.Stream{s}, m)[0]; r.Err != nil {
				b.Fatal(r.Err)
			}
		}
		var pages []int
		for {
			r := b.recover(s, pos, 3)
			if r.Outcome != notify.Delta {
				b.Fatalf("outcome %v", r.Outcome)
			}
			if len(r.Messages) == 0 {
				break
			}
			pages = append(pages, len(r.Messages))
			if last := r.Messages[len(r.Messages)-1].Position; last != r.Position {
				b.Fatalf("page ends at %s and says %s", last, r.Position)
			}
			pos = r.Position
		}
		if diff := cmp.Diff([]int{2, 2, 2, 2}, pages); diff != "" { // 128 KiB hold two of 50 kB
			b.Fatalf("pages (-want +got):\n%s", diff)
		}
		if r := b.recover(s, notify.Position{Epoch: pos.Epoch, Offset: 1}, 0); r.Outcome != notify.Delta || len(r.Messages) != 0 || r.Position.Offset != 1 {
			b.Fatalf("check: %+v", r)
		}
	})
}

func TestReadersCreateNothing(t *testing.T) {
	onEach(t, store.Options{}, func(b *bench) {
		before := b.dbsize()
		for i := range 300 {
			for _, s := range []notify.Stream{stream(fmt.Sprint("nobody/", i)), stream(fmt.Sprint("user:u", i))} {
				if r := b.recover(s, notify.Position{}, i%2); r.Outcome != notify.Empty || r.Position.Epoch[0] != '-' {
					b.Fatalf("recover of nothing: %+v", r)
				}
				b.recover(s, notify.Position{Epoch: "abcdef", Offset: 3}, 10)
				if err := b.Renew(b.ctx, []notify.Stream{s}); err != nil {
					b.Fatal(err)
				}
				tops, err := b.Tops(b.ctx, []notify.Stream{s})
				if err != nil || tops[0] != (notify.Position{}) {
					b.Fatalf("top of nothing: %v %v", tops, err)
				}
			}
			b.wantList(stream(fmt.Sprint("user:u", i)), store.Query{}, "")
			b.wantBadge(stream(fmt.Sprint("user:u", i)), "0/0")
			b.mark(stream(fmt.Sprint("user:u", i)), "read", store.Mark{All: true})
		}
		if n := b.dbsize(); n != before {
			b.Fatalf("%d keys became %d", before, n)
		}
	})
}

func TestWhoListenedBeforeTheTopicExistedMissesNothing(t *testing.T) {
	onEach(t, store.Options{Classes: []store.Class{{Prefix: "short/", History: store.History{Size: 2}}}}, func(b *bench) {
		s := stream("new/1")
		empty := b.recover(s, notify.Position{}, 0).Position
		if _, ok := empty.Empty(); !ok {
			b.Fatalf("position of nothing: %s", empty)
		}
		b.publish(s, "a", "b")
		if r := b.recover(s, empty, 10); r.Outcome != notify.Delta || cmp.Diff([]string{"a", "b"}, ids(r.Messages)) != "" {
			b.Fatalf("from empty: %+v", r)
		}
		if r := b.recover(s, notify.Position{}, 10); r.Outcome != notify.Delta || len(r.Messages) != 2 {
			b.Fatalf("from 0: %+v", r)
		}
		later := notify.EmptyAt(time.Now().Add(time.Hour).UnixMilli())
		if r := b.recover(s, later, 10); r.Outcome != notify.Reset || r.Why != notify.WhyUnknown {
			b.Fatalf("the topic was there before that time, yet: %+v", r)
		}
		long := notify.EmptyAt(time.Now().Add(-25 * time.Hour).UnixMilli())
		if r := b.recover(s, long, 10); r.Outcome != notify.Reset || r.Why != notify.WhyForgotten {
			b.Fatalf("a life of the topic may have come and gone, yet: %+v", r)
		}
		short := stream("short/1")
		b.publish(short, "a", "b", "c")
		if r := b.recover(short, empty, 10); r.Outcome != notify.Reset || r.Why != notify.WhyGone || r.Position.Offset != 1 {
			b.Fatalf("the first message is gone, yet: %+v", r)
		}
	})
}

func TestWhoWasAwayLongerThanATopicsLifeIsReset(t *testing.T) {
	onEach(t, store.Options{}, func(b *bench) {
		for topic, life := range map[string]time.Duration{"nothing/here": 24 * time.Hour, "user:nobody": 90 * 24 * time.Hour} {
			within := notify.EmptyAt(time.Now().Add(time.Minute - life).UnixMilli())
			if r := b.recover(stream(topic), within, 10); r.Outcome != notify.Empty {
				b.Errorf("%s, within a life: %+v", topic, r)
			}
			beyond := notify.EmptyAt(time.Now().Add(-life).UnixMilli())
			r := b.recover(stream(topic), beyond, 10)
			if _, empty := r.Position.Empty(); r.Outcome != notify.Reset || r.Why != notify.WhyForgotten || !empty || r.Badge != nil && r.Badge.Revision != r.Top {
				b.Errorf("%s, beyond a life: %+v", topic, r)
			}
		}
	})
}

func TestForeignAndFuturePositionsAreReset(t *testing.T) {
	onEach(t, store.Options{}, func(b *bench) {
		s := stream("orders/7")
		top := b.publish(s, "a", "b").Position
		for p, why := range map[notify.Position]notify.Why{{Epoch: "zzzzzz", Offset: 1}: notify.WhyUnknown, {Epoch: top.Epoch, Offset: 3}: notify.WhyLost} {
			if r := b.recover(s, p, 10); r.Outcome != notify.Reset || r.Why != why || r.Position.Offset != 0 || r.Top != top {
				b.Fatalf("from %s: %+v", p, r)
			}
		}
	})
}

// The three lifetimes, for event topics: entries live at least their TTL after the last write, the memory of epoch and top a day.
func TestQuietTopicForgetsItsMessagesButResetsNobody(t *testing.T) {
	o := store.Options{Classes: []store.Class{{Prefix: "", History: store.History{TTL: 300 * time.Millisecond}}}}
	onEach(t, o, func(b *bench) {
		s := stream("quiet")
		old := b.publish(s, "a").Position
		top := b.publish(s, "b").Position
		k := b.keys.Event(s)
		for _, key := range []string{k.Events, k.Dedupe} {
			if left := b.rdb.PTTL(b.ctx, key).Val(); left < 300*time.Millisecond || left > 600*time.Millisecond {
				b.Fatalf("%s lives %s", key, left)
			}
		}
		if left := b.rdb.PTTL(b.ctx, k.Meta).Val(); left < 24*time.Hour {
			b.Fatalf("meta lives %s", left)
		}
		testkit.Eventually(b.T, 5*time.Second, func() bool { return b.rdb.Exists(b.ctx, k.Events, k.Dedupe).Val() == 0 }, "entries expire")
		if r := b.recover(s, top, 10); r.Outcome != notify.Delta || len(r.Messages) != 0 {
			b.Fatalf("who had everything: %+v", r)
		}
		if r := b.recover(s, old, 10); r.Outcome != notify.Reset || r.Position != top {
			b.Fatalf("who missed what is gone: %+v", r)
		}
		if next := b.publish(s, "c").Position; next.Epoch != top.Epoch || next.Offset != top.Offset+1 {
			b.Fatalf("goes on at %s after %s", next, top)
		}
	})
}

func TestRenewKeepsTheMemoryOfAQuietTopic(t *testing.T) {
	onEach(t, store.Options{}, func(b *bench) {
		event := stream("orders/7")
		b.publish(event, "a")
		b.notify(ann, "", "n1")
		inbox := b.keys.Inbox(ann)
		for _, key := range append(inbox.All(), b.keys.Event(event).Meta) {
			b.rdb.PExpire(b.ctx, key, time.Minute)
		}
		if err := b.Renew(b.ctx, []notify.Stream{event, ann}); err != nil {
			b.Fatal(err)
		}
		if left := b.rdb.PTTL(b.ctx, b.keys.Event(event).Meta).Val(); left < 24*time.Hour {
			b.Fatalf("meta lives %s", left)
		}
		for _, key := range inbox.All() {
			if left := b.rdb.PTTL(b.ctx, key).Val(); left != -2 && left < 24*time.Hour {
				b.Fatalf("%s lives %s", key, left)
			}
		}
	})
}

func TestOpenRefusesAnotherPartitionCount(t *testing.T) {
	onEach(t, store.Options{}, func(b *bench) {
		keys, err := keyspace.NewMap(64)
		if err != nil {
			b.Fatal(err)
		}
		other, err := store.New(store.Options{Redis: b.rdb, Keys: keys})
		if err != nil {
			b.Fatal(err)
		}
		if err := other.Open(b.ctx); err == nil || !strings.Contains(err.Error(), "128 partitions") {
			b.Fatalf("open with 64 partitions: %v", err)
		}
	})
}

// What follows needs a process that can be stopped, frozen or filled: the real Redis alone, as the epochs (epoch_test.go).

func TestRedisThatIsAwayIsTriedUntilTheCallerLeaves(t *testing.T) {
	srv := testkit.Redis(t)
	b := newBench(t, srv.As, store.Options{})
	srv.Stop()
	ctx := testkit.Context(t, 200*time.Millisecond)
	if r := b.Publish(ctx, []notify.Stream{stream("a")}, message("x"))[0]; !errors.Is(r.Err, notify.ErrUnavailable) || ctx.Err() == nil {
		t.Fatalf("publish: %v, before its time: %t", r.Err, ctx.Err() == nil)
	}
	srv.Restart()
	if ack := b.publish(stream("a"), "x"); ack.Duplicate {
		t.Fatalf("half written: %+v", ack)
	}
}

func TestSilentRedisIsUnavailableWithinTheCallersDeadline(t *testing.T) {
	srv := testkit.Redis(t)
	b := newBench(t, srv.As, store.Options{})
	srv.Pause()
	defer srv.Resume()
	ctx := testkit.Context(t, 200*time.Millisecond)
	if r := b.Publish(ctx, []notify.Stream{stream("a")}, message("x"))[0]; !errors.Is(r.Err, notify.ErrUnavailable) {
		t.Fatalf("publish: %v", r.Err)
	}
}

func TestScriptsThatRedisForgotAreSentAgain(t *testing.T) {
	onEach(t, store.Options{}, func(b *bench) {
		b.publish(stream("a"), "x")
		if err := b.rdb.ScriptFlush(b.ctx).Err(); err != nil {
			b.Fatal(err)
		}
		to := []notify.Stream{stream("a"), stream("b"), stream("user:u")}
		for i, r := range b.Publish(b.ctx, to, message("y")) {
			if r.Err != nil || r.Duplicate {
				b.Fatalf("%s: %+v", to[i].Topic, r)
			}
		}
	})
}

func TestFullRedisRefusesBeforeTheFirstWrite(t *testing.T) {
	b := newBench(t, testkit.Redis(t, "--maxmemory", "3mb", "--maxmemory-policy", "noeviction").As, store.Options{})
	var refused error
	for i := 0; i < 5000 && refused == nil; i++ {
		m := message(fmt.Sprint("m", i))
		m.Data = []byte(`"` + strings.Repeat("x", 30_000) + `"`)
		refused = b.Publish(b.ctx, []notify.Stream{stream(fmt.Sprint("t/", i%50))}, m)[0].Err
	}
	if !errors.Is(refused, notify.ErrBusy) {
		t.Fatalf("a full Redis answered %v", refused)
	}
}
