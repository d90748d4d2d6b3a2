package store_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"allim/internal/keyspace"
	"allim/internal/store"
	"allim/internal/testkit"
	"allim/pkg/notify"
)

// collapsing is a notification with a collapse key.
func collapsing(id, category, key string) *notify.Message {
	m := notification(id, category)
	m.Terms = &notify.Terms{Collapse: key}
	return m
}

// expiring is one that expires so soon.
func expiring(id, category string, in time.Duration) *notify.Message {
	m := notification(id, category)
	m.ExpiresAt = time.Now().Add(in).Truncate(time.Millisecond)
	return m
}

// put has the publisher write to ann.
func (b *bench) put(m *notify.Message) store.Result {
	b.Helper()
	r := b.Publish(b.ctx, []notify.Stream{ann}, m)[0]
	if r.Err != nil {
		b.Fatalf("write %s: %v", m.ID, r.Err)
	}
	return r
}

// past waits until Redis' clock is past a time.
func (b *bench) past(at time.Time) {
	b.Helper()
	testkit.Eventually(b.T, soon, func() bool {
		now, err := b.rdb.Time(b.ctx).Result()
		return err == nil && now.UnixMilli() > at.UnixMilli()
	}, "let time pass")
}

// hurry has the time of deadlines of ann's items be over: what is x of those that expire, s of those that wait, w of those to be told.
func (b *bench) hurry(what string, ids ...string) {
	b.Helper()
	now, err := b.rdb.Time(b.ctx).Result()
	if err != nil {
		b.Fatal(err)
	}
	over := float64(now.UnixMilli() - 1)
	for _, id := range ids {
		key, member := b.keys.Inbox(ann).Deadlines, what+"\x00"+id
		if b.rdb.ZScore(b.ctx, key, member).Val() == 0 {
			b.Fatalf("%s has no deadline", id)
		}
		b.rdb.ZAdd(b.ctx, key, redis.Z{Score: over, Member: member})
		b.rdb.ZAdd(b.ctx, b.keys.Due(b.keys.Partition(ann)), redis.Z{Score: over, Member: keyspace.Member(ann)})
	}
}

func (b *bench) update(u store.UpdateOf) store.Result {
	return b.publisher.Update(b.ctx, []notify.Stream{ann}, u, store.Committed)[0]
}

func (b *bench) retract(r store.RetractOf) store.Result {
	b.Helper()
	got := b.publisher.Retract(b.ctx, []notify.Stream{ann}, r, store.Committed)[0]
	if got.Err != nil {
		b.Fatalf("retract %+v: %v", r, got.Err)
	}
	return got
}

// events is what the stream says behind an offset: changes, ids, and what they replaced.
func (b *bench) events(from uint64) string {
	b.Helper()
	top := b.recover(ann, notify.Position{}, 0).Top
	var out []string
	for _, m := range b.recover(ann, notify.Position{Epoch: top.Epoch, Offset: from}, 100).Messages {
		one := string(rune(m.Change)) + ":" + m.ID + strings.Join(m.IDs, ",")
		if m.Replaces != "" {
			one += ">" + m.Replaces
		}
		out = append(out, one)
	}
	return strings.Join(out, " ")
}

// heard is the next message on a subscription, as change:id badge.
func (b *bench) heard(next func() (string, error)) string {
	b.Helper()
	payload, err := next()
	if err != nil {
		b.Fatal(err)
	}
	m, err := keyspace.DecodePayload(ann, payload)
	if err != nil {
		b.Fatal(err)
	}
	return fmt.Sprintf("%c:%s%s %s @%d/%d", m.Change, m.ID, strings.Join(m.IDs, ","), badgeText(m.Badge), m.Position.Offset, m.Badge.Revision.Offset)
}

func (b *bench) hears() func() (string, error) {
	sub := b.listen(ann)
	return func() (string, error) {
		ctx, cancel := context.WithTimeout(b.ctx, 5*time.Second)
		defer cancel()
		m, err := sub.ReceiveMessage(ctx)
		if err != nil {
			return "", err
		}
		return m.Payload, nil
	}
}

func TestANewerOneOfACollapseKeyTakesThePlaceOfTheOlder(t *testing.T) {
	onEach(t, store.Options{}, func(b *bench) {
		b.put(collapsing("n1", "c", "k"))
		b.notify(ann, "d", "other")
		b.mark(ann, "archive", store.Mark{IDs: []string{"n1"}})
		hears := b.hears()
		r := b.put(collapsing("n2", "c", "k"))
		if r.Unread != 2 || r.Position.Offset != 4 {
			b.Errorf("it is %+v", r)
		}
		if got := b.heard(hears); got != "n:n2 2/2 c=1 d=1 @4/4" {
			b.Errorf("heard %s", got)
		}
		b.wantList(ann, store.Query{Status: store.All}, "n2 other")
		b.wantBadge(ann, "2/2 c=1 d=1")
		if got := b.events(2); got != "a:n1 n:n2>n1" {
			b.Errorf("the stream says %s", got)
		}
		for _, id := range []string{"n1", "n2"} {
			if again := b.put(collapsing(id, "c", "k")); !again.Duplicate {
				b.Errorf("%s again: %+v", id, again)
			}
		}
		if got := b.put(collapsing("x1", "c", "another")); got.Position.Offset != 5 {
			b.Errorf("another key: %+v", got)
		}
		b.wantList(ann, store.Query{Status: store.All}, "x1 n2 other")
		if b.real {
			b.wantLifetimes(ann)
		}
	})
}

// A stream with terms and its plain messages: each sees what those before it in the same call did.
func TestMessagesOfOneCallSeeWhatThoseBeforeThemDid(t *testing.T) {
	onEach(t, store.Options{Inbox: store.Inbox{Size: 5}}, func(b *bench) {
		b.put(collapsing("n0", "c", "k"))
		got, err := b.publisher.Notices(b.ctx, ann, collapsing("n1", "c", "k"), notification("p1", ""), collapsing("n2", "c", "k"), collapsing("n1", "c", "k"), message("m1"))
		if err != nil {
			b.Fatal(err)
		}
		for i, r := range got {
			if r.Unread != 2 || r.Duplicate != (i == 3) || r.Position.Offset != []uint64{2, 3, 4, 2, 5}[i] {
				b.Errorf("message %d: %+v", i, r)
			}
		}
		b.wantList(ann, store.Query{}, "n2 p1")
		if got := b.events(1); got != "n:n1>n0 n:p1 n:n2>n1 m:m1" {
			b.Errorf("the stream says %s", got)
		}
		b.wantBadge(ann, "2/2 c=1")
	})
}

func TestWhatHasExpiredIsHiddenByReadersAndTakenAwayByWriters(t *testing.T) {
	onEach(t, store.Options{}, func(b *bench) {
		b.notify(ann, "d", "stays")
		last := expiring("n2", "c", time.Hour)
		b.put(expiring("n1", "c", time.Hour))
		b.put(last)
		if p := b.wantList(ann, store.Query{}, "n2 n1 stays"); !p.Items[0].ExpiresAt.Equal(last.ExpiresAt) || !p.Items[2].ExpiresAt.IsZero() {
			b.Errorf("they expire at %v and %v", p.Items[0].ExpiresAt, p.Items[2].ExpiresAt)
		}
		b.mark(ann, "archive", store.Mark{IDs: []string{"n1"}})
		b.hurry("x", "n1", "n2")
		for range 2 { // who reads writes nothing
			b.wantList(ann, store.Query{Status: store.All}, "stays")
			b.wantList(ann, store.Query{Status: store.Archived}, "")
			b.wantList(ann, store.Query{Status: store.Unread}, "stays")
			b.wantBadge(ann, "1/1 d=1")
			if r := b.recover(ann, notify.Position{}, 0); badgeText(r.Badge) != "1/1 d=1" || r.Top.Offset != 4 || b.rdb.ZCard(b.ctx, b.keys.Inbox(ann).Index).Val() != 3 {
				b.Fatalf("recovered: %s at %s", badgeText(r.Badge), r.Top)
			}
		}
		hears := b.hears()
		if got := b.mark(ann, "read", store.Mark{IDs: []string{"stays", "n2"}}); got.Changed != 1 || cmp.Diff([]string{"n2"}, got.Unknown) != "" {
			b.Errorf("the mark: %+v", got)
		}
		for _, want := range []string{"x:n1 1/1 d=1 @5/6", "x:n2 1/1 d=1 @6/6", "r:stays 0/0 @7/7"} {
			if got := b.heard(hears); got != want {
				b.Errorf("heard %s, want %s", got, want)
			}
		}
		if n := b.rdb.HLen(b.ctx, b.keys.Inbox(ann).Items).Val(); n != 2 {
			b.Errorf("%d fields of items are left", n)
		}
		if again := b.put(expiring("n1", "c", time.Hour)); !again.Duplicate {
			b.Errorf("n1 again: %+v", again)
		}
		if b.real {
			b.wantLifetimes(ann)
		}
	})
}

// A plain notification meets what has expired, and says the counts without it.
func TestAPlainNotificationTakesAwayWhatHasExpiredFirst(t *testing.T) {
	onEach(t, store.Options{}, func(b *bench) {
		b.put(expiring("n1", "c", time.Hour))
		b.hurry("x", "n1")
		hears := b.hears()
		if r := b.put(notification("n2", "c")); r.Unread != 1 || r.Position.Offset != 3 {
			b.Errorf("it is %+v", r)
		}
		for _, want := range []string{"x:n1 0/0 @2/2", "n:n2 1/1 c=1 @3/3"} {
			if got := b.heard(hears); got != want {
				b.Errorf("heard %s, want %s", got, want)
			}
		}
		if meta := b.rdb.HExists(b.ctx, b.keys.Inbox(ann).Meta, "o").Val(); meta {
			b.Error("nothing is left of terms, and the stream says that it has some")
		}
		if r := b.put(notification("n3", "c")); r.Unread != 2 {
			b.Errorf("and without terms: %+v", r)
		}
	})
}

// A script takes away fifty at a time; who reads or counts leaves out the rest.
func TestMoreThanFiftyExpireFiftyAtATime(t *testing.T) {
	onEach(t, store.Options{}, func(b *bench) {
		var ms []*notify.Message
		var all []string
		for i := range 60 {
			all = append(all, fmt.Sprint("n", i))
			ms = append(ms, expiring(all[i], "c", time.Hour))
		}
		if _, err := b.publisher.Notices(b.ctx, ann, ms...); err != nil {
			b.Fatal(err)
		}
		b.notify(ann, "c", "stays")
		b.hurry("x", all...)
		hears := b.hears()
		b.mark(ann, "read", store.Mark{All: true})
		for i := range 50 {
			if got := b.heard(hears); !strings.HasPrefix(got, "x:n") || !strings.HasSuffix(got, fmt.Sprintf(" 1/1 c=1 @%d/111", 62+i)) {
				b.Fatalf("heard %s", got)
			}
		}
		b.wantBadge(ann, "0/0")
		b.wantList(ann, store.Query{}, "stays/sr")
		b.mark(ann, "seen", store.Mark{IDs: []string{"stays"}})
		if n := b.rdb.ZCard(b.ctx, b.keys.Inbox(ann).Index).Val(); n != 1 {
			b.Errorf("%d items are left", n)
		}
	})
}

func TestWhatIsPastByRedisClockIsNotWrittenAndARepeatIsStillADuplicate(t *testing.T) {
	onEach(t, store.Options{}, func(b *bench) {
		if r := b.Publish(b.ctx, []notify.Stream{ann}, expiring("n1", "c", -time.Second))[0]; !errors.Is(r.Err, notify.ErrPast) {
			b.Errorf("got %+v", r)
		}
		b.wantList(ann, store.Query{}, "")
		m := expiring("n2", "c", 300*time.Millisecond)
		first := b.put(m)
		b.past(m.ExpiresAt)
		if again := b.put(m); !again.Duplicate || again.Position != first.Position {
			b.Errorf("again: %+v", again)
		}
	})
}

// What is known of collapse keys goes with the ids by which it is known.
func TestCollapseKeysAreForgottenWithTheirIDs(t *testing.T) {
	t.Parallel()
	b := realBench(t, store.Options{Inbox: store.Inbox{Size: 50}})
	var last *store.Pending
	for i := range 1200 {
		last = b.publisher.Begin(b.ctx, []notify.Stream{ann}, collapsing(fmt.Sprint("n", i), "", fmt.Sprint("k", i%100)), store.Committed, nil)
	}
	for i := range 1300 {
		last = b.publisher.Begin(b.ctx, []notify.Stream{ann}, notification(fmt.Sprint("p", i), ""), store.Committed, nil)
	}
	if r := last.Results()[0]; r.Err != nil {
		t.Fatal(r.Err)
	}
	k := b.keys.Inbox(ann)
	if n := b.rdb.HLen(b.ctx, k.Collapse).Val(); n != 0 {
		t.Errorf("%d are known: %v", n, b.rdb.HGetAll(b.ctx, k.Collapse).Val())
	}
	if n := b.rdb.ZCard(b.ctx, k.Dedupe).Val(); n < 1000 || n > 1063 {
		t.Errorf("%d ids are remembered", n)
	}
	b.notify(ann, "", "end")
	if b.rdb.HExists(b.ctx, k.Meta, "o").Val() {
		t.Error("the stream still says that it has terms")
	}
}

func TestItemsOlderThanTheRetentionLeaveWithAWrite(t *testing.T) {
	t.Parallel()
	for _, terms := range []bool{false, true} {
		b := realBench(t, store.Options{Inbox: store.Inbox{Retention: time.Hour}})
		b.notify(ann, "c", "old", "young")
		k := b.keys.Inbox(ann)
		head := fmt.Sprintf("t%d\nc\n0\n", time.Now().Add(-2*time.Hour).UnixMilli())
		b.rdb.HSet(b.ctx, k.Items, "old", head)
		b.rdb.HDel(b.ctx, k.Meta, "l") // as if it were time to renew
		if m := notification("new", "c"); terms {
			b.put(collapsing("new", "c", "k"))
		} else {
			b.put(m)
		}
		b.wantList(ann, store.Query{}, "new young")
		b.wantBadge(ann, "2/2 c=2")
	}
}
