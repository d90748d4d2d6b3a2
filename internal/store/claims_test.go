package store_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"allim/internal/store"
	"allim/internal/testkit"
	"allim/pkg/notify"
)

// places are slots for so many claims.
type places struct{ left int }

func (p *places) Take(_ string, most int) int {
	n := max(min(most, p.left), 0)
	p.left -= n
	return n
}

func (p *places) Free(_ string, n int) { p.left += n }

// escalated puts a notification into Ann's inbox of which somebody is told at once, unless a device shows it.
func (b *bench) escalated(id string, unless notify.Change, via notify.Via, change ...func(*notify.Message)) {
	b.Helper()
	m := notification(id, "mention")
	m.Terms = &notify.Terms{Escalate: &notify.Escalate{Unless: unless, After: time.Millisecond, Via: via}}
	for _, f := range change {
		f(m)
	}
	if r := b.Publish(b.ctx, []notify.Stream{ann}, m)[0]; r.Err != nil {
		b.Fatalf("notify %s: %v", id, r.Err)
	}
	b.tick()
	b.tick()
}

// look is one look of a store, with places for so many claims.
func (b *bench) look(s *store.Store, most int) store.Due {
	b.Helper()
	got, err := s.Due(b.ctx, &places{most})
	if err != nil {
		b.Fatal(err)
	}
	return got
}

// rival is one more publisher, also of a cluster.
func (b *bench) rival() *store.Store {
	b.Helper()
	if c, ok := b.rdb.(*redis.ClusterClient); ok {
		return open(b, connect(b.T, b.as("publisher"), func(conn *store.Connection) { conn.Cluster = c.Options().Addrs }), b.opt)
	}
	return b.another("publisher")
}

func claimed(d store.Due) string {
	var all []string
	for _, c := range d.Claims {
		all = append(all, fmt.Sprintf("%s/%d", c.Item.ID, c.Attempt))
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

func wantClaims(t *testing.T, d store.Due, want string) {
	t.Helper()
	if got := claimed(d); got != want {
		t.Fatalf("claims: got %q, want %q", got, want)
	}
}

// wantNothingDue wants no trace of a deadline.
func (b *bench) wantNothingDue() {
	b.Helper()
	k := b.keys.Inbox(ann)
	if n := b.rdb.Exists(b.ctx, k.Deadlines).Val(); n != 0 {
		b.Errorf("deadlines are left: %v", b.rdb.ZRangeWithScores(b.ctx, k.Deadlines, 0, -1).Val())
	}
	if got := b.rdb.ZRange(b.ctx, b.keys.Due(b.keys.Partition(ann)), 0, -1).Val(); len(got) != 0 {
		b.Errorf("the partition waits for %v", got)
	}
	for field := range b.rdb.HGetAll(b.ctx, k.Items).Val() {
		if strings.HasSuffix(field, "\x00w") {
			b.Errorf("%q is left", field)
		}
	}
}

func zOf(at float64, member string) redis.Z { return redis.Z{Score: at, Member: member} }

// passed has the deadline of an escalation be over.
func (b *bench) passed(id string) {
	b.Helper()
	k := b.keys.Inbox(ann)
	past := float64(b.now() - 1)
	b.rdb.ZAdd(b.ctx, k.Deadlines, zOf(past, "w\x00"+id))
	b.rdb.ZAdd(b.ctx, b.keys.Due(b.keys.Partition(ann)), zOf(past, "default:i:ann"))
}

func TestWhatNobodyShowsIsClaimedByOne(t *testing.T) {
	onEach(t, store.Options{}, func(b *bench) {
		b.escalated("n1", notify.ChangeSeen, notify.ViaWebhook, func(m *notify.Message) { m.Terms.Collapse = "thread" })
		other := b.rival()
		first := b.look(b.publisher, 8)
		if wantClaims(b.T, first, "n1/1"); first.Lag <= 0 || first.More {
			b.Errorf("got %+v", first)
		}
		c := first.Claims[0]
		if c.Stream != ann || c.Via != notify.ViaWebhook || c.Unless != notify.ChangeSeen || c.Collapse != "thread" || string(c.Item.Data) != `{"id":"n1"}` || c.Item.Category != "mention" ||
			c.Item.Position.Offset != 1 || c.Item.Position.Epoch == "" || c.Item.Topic != ann.Topic || len(c.Done) != 0 || c.Since.UnixMilli() > b.now() || b.now()-c.Since.UnixMilli() > 60_000 {
			b.Errorf("got %+v", c)
		}
		wantClaims(b.T, b.look(other, 8), "")
		wantClaims(b.T, b.look(b.publisher, 8), "")
		if err := b.publisher.Escalated(b.ctx, c, store.Outcome{}); err != nil {
			b.Fatal(err)
		}
		b.wantNothingDue()
		b.wantList(ann, store.Query{}, "n1")
	})
}

func TestWhatADeviceShowedIsNotClaimed(t *testing.T) {
	onEach(t, store.Options{}, func(b *bench) {
		n := 0
		for _, c := range []struct {
			unless notify.Change
			marks  string
			open   bool
		}{
			{notify.ChangeSeen, "", true}, {notify.ChangeSeen, "seen", false}, {notify.ChangeSeen, "read", false}, {notify.ChangeSeen, "archive", false}, {notify.ChangeSeen, "delete", false},
			{notify.ChangeSeen, "read unread", false}, {notify.ChangeSeen, "archive unarchive", false},
			{notify.ChangeRead, "", true}, {notify.ChangeRead, "seen", true}, {notify.ChangeRead, "read", false}, {notify.ChangeRead, "archive", false}, {notify.ChangeRead, "delete", false},
			{notify.ChangeRead, "read unread", true}, {notify.ChangeRead, "archive unarchive", true},
		} {
			n++
			id, via := fmt.Sprint("n", n), notify.ViaWebhook
			if n%2 == 0 {
				via = notify.ViaWebPush
			}
			b.escalated(id, c.unless, via)
			for _, name := range strings.Fields(c.marks) {
				b.mark(ann, name, store.Mark{IDs: []string{id}})
			}
			got := b.look(b.publisher, 8)
			if c.open {
				wantClaims(b.T, got, id+"/1")
				if err := b.publisher.Escalated(b.ctx, got.Claims[0], store.Outcome{}); err != nil {
					b.Fatal(err)
				}
			} else if claimed(got) != "" || c.marks != "delete" && got.Cancelled[via] != 1 {
				b.Errorf("%c %s: got %+v", c.unless, c.marks, got)
			}
			b.wantNothingDue()
		}
	})
}

// Whoever claimed it is gone: another claims it when the lease is over, and nobody hears of the first any more.
func TestALeaseThatIsOverIsAnothers(t *testing.T) {
	onEach(t, store.Options{}, func(b *bench) {
		b.escalated("n1", notify.ChangeRead, notify.ViaWebPush)
		other := b.rival()
		first := b.look(b.publisher, 8)
		wantClaims(b.T, first, "n1/1")
		b.passed("n1")
		second := b.look(other, 8)
		wantClaims(b.T, second, "n1/1") // an attempt counts when it has ended
		if !second.Claims[0].Since.Equal(first.Claims[0].Since) {
			b.Errorf("it is due since %v, and was since %v", second.Claims[0].Since, first.Claims[0].Since)
		}
		for _, late := range []store.Outcome{{}, {Again: true}} {
			if err := b.publisher.Escalated(b.ctx, first.Claims[0], late); err != nil {
				b.Fatal(err)
			}
		}
		wantClaims(b.T, b.look(b.publisher, 8), "")
		if err := other.Escalated(b.ctx, second.Claims[0], store.Outcome{}); err != nil {
			b.Fatal(err)
		}
		b.wantNothingDue()
	})
}

// Answers of Redis may be lost with the claims in them: they use up no attempt, and each is a claim of its own, also of one program.
func TestClaimsThatWereLostUseUpNoAttempt(t *testing.T) {
	onEach(t, store.Options{}, func(b *bench) {
		b.escalated("n1", notify.ChangeSeen, notify.ViaWebhook)
		var lost []store.Claim
		for range 8 {
			d := b.look(b.publisher, 8)
			wantClaims(b.T, d, "n1/1")
			lost = append(lost, d.Claims...)
			b.passed("n1")
		}
		d := b.look(b.publisher, 8)
		wantClaims(b.T, d, "n1/1")
		for _, c := range lost {
			if err := b.publisher.Escalated(b.ctx, c, store.Outcome{}); err != nil {
				b.Fatal(err)
			}
		}
		if err := b.publisher.Escalated(b.ctx, d.Claims[0], store.Outcome{Again: true, After: time.Hour}); err != nil {
			b.Fatal(err)
		}
		b.passed("n1")
		wantClaims(b.T, b.look(b.publisher, 8), "n1/2")
	})
}

func TestAnAttemptThatFailedIsFollowedByAnother(t *testing.T) {
	onEach(t, store.Options{}, func(b *bench) {
		b.escalated("n1", notify.ChangeSeen, notify.ViaWebPush)
		claim := func(want string, done ...string) store.Claim {
			b.Helper()
			got := b.look(b.publisher, 8)
			if wantClaims(b.T, got, want); !slices.Equal(got.Claims[0].Done, done) {
				b.Fatalf("done: got %q, want %q", got.Claims[0].Done, done)
			}
			return got.Claims[0]
		}
		end := func(c store.Claim, o store.Outcome) {
			b.Helper()
			if err := b.publisher.Escalated(b.ctx, c, o); err != nil {
				b.Fatal(err)
			}
		}
		end(claim("n1/1"), store.Outcome{Again: true, After: time.Hour, Done: []string{"a-1", "_b"}})
		wantClaims(b.T, b.look(b.publisher, 8), "")
		at := b.rdb.ZScore(b.ctx, b.keys.Inbox(ann).Deadlines, "w\x00n1").Val() - float64(b.now())
		if at < 59*60_000 || at > 60*60_000 {
			b.Errorf("the next is in %v ms", at)
		}
		b.passed("n1")
		end(claim("n1/2", "a-1", "_b"), store.Outcome{Again: true, Same: true, Done: []string{"a-1", "_b"}})
		b.tick()
		b.tick()
		end(claim("n1/2", "a-1", "_b"), store.Outcome{Again: true, After: time.Hour, Done: []string{"a-1", "_b", "c"}})
		b.mark(ann, "seen", store.Mark{All: true}) // between two attempts
		b.passed("n1")
		if got := b.look(b.publisher, 8); claimed(got) != "" || got.Cancelled[notify.ViaWebPush] != 1 {
			b.Errorf("got %+v", got)
		}
		b.wantNothingDue()
	})
}

// What finds no place waits a second, and is nobody's meanwhile.
func TestOnlyAsMuchIsClaimedAsThereArePlaces(t *testing.T) {
	onEach(t, store.Options{}, func(b *bench) {
		for n := range 12 {
			b.escalated(fmt.Sprint("n", n), notify.ChangeSeen, notify.ViaWebhook)
		}
		slots := &places{3}
		got, err := b.publisher.Due(b.ctx, slots)
		if err != nil || len(got.Claims) != 3 || slots.left != 0 {
			b.Fatalf("%d claims, %d places left, %v", len(got.Claims), slots.left, err)
		}
		wantClaims(b.T, b.look(b.publisher, 100), "") // the others wait
		taken := map[string]bool{}
		for _, c := range got.Claims {
			taken[c.Item.ID] = true
		}
		for n := range 12 {
			if id := fmt.Sprint("n", n); !taken[id] {
				b.passed(id)
			}
		}
		slots = &places{100}
		for len(taken) < 12 {
			got, err := b.publisher.Due(b.ctx, slots)
			if err != nil || len(got.Claims) == 0 {
				b.Fatalf("%d claims, %v", len(got.Claims), err)
			}
			for _, c := range got.Claims {
				if taken[c.Item.ID] {
					b.Errorf("%s is claimed twice", c.Item.ID)
				}
				taken[c.Item.ID] = true
			}
			for n := range 12 {
				if id := fmt.Sprint("n", n); !taken[id] {
					b.passed(id)
				}
			}
		}
		if slots.left != 100-9 {
			b.Errorf("%d places are left", slots.left)
		}
	})
}

// Two programs look at once: each escalation is claimed once.
func TestTwoProgramsNeverClaimTheSame(t *testing.T) {
	onEach(t, store.Options{}, func(b *bench) {
		const many = 40
		m := notification("n1", "mention")
		m.Terms = &notify.Terms{Escalate: &notify.Escalate{Unless: notify.ChangeSeen, After: time.Millisecond, Via: notify.ViaWebhook}}
		var all []notify.Stream
		for n := range many {
			all = append(all, stream(fmt.Sprint("user:u", n)))
		}
		for _, r := range b.Publish(b.ctx, all, m) {
			if r.Err != nil {
				b.Fatal(r.Err)
			}
		}
		b.tick()
		b.tick()
		claims, done := make(chan string, 10*many), make(chan error, 4)
		for _, s := range []*store.Store{b.publisher, b.rival(), b.publisher, b.rival()} {
			go func() {
				var errs []error
				for range 5 {
					d, err := s.Due(b.ctx, &places{1000})
					errs = append(errs, err)
					for _, c := range d.Claims {
						claims <- string(c.Stream.Topic)
					}
				}
				done <- errors.Join(errs...)
			}()
		}
		for range 4 {
			if err := testkit.Receive(b.T, 30*time.Second, done, "the looks"); err != nil {
				b.Fatal(err)
			}
		}
		close(claims)
		got := map[string]int{}
		for topic := range claims {
			if got[topic]++; got[topic] > 1 {
				b.Errorf("%s was claimed twice", topic)
			}
		}
		if len(got) != many {
			b.Errorf("%d were claimed, want %d", len(got), many)
		}
	})
}

// A stream that is there no more, and what other builds put into a partition's deadlines, stop nobody.
func TestWhatIsNoStreamIsLeftAlone(t *testing.T) {
	onEach(t, store.Options{}, func(b *bench) {
		b.escalated("n1", notify.ChangeSeen, notify.ViaWebhook)
		key := b.keys.Due(b.keys.Partition(ann))
		b.rdb.ZAdd(b.ctx, key, zOf(1, "g\ngateway"), zOf(2, "default:s:all"), zOf(3, "default:h:orders"))
		bob := stream("user:bob")
		b.rdb.ZAdd(b.ctx, b.keys.Due(b.keys.Partition(bob)), zOf(4, "default:i:bob"))
		wantClaims(b.T, b.look(b.publisher, 8), "n1/1")
		if n := b.rdb.Exists(b.ctx, b.keys.Inbox(bob).Meta).Val(); n != 0 {
			b.Error("a look made a stream")
		}
		if got := b.rdb.ZScore(b.ctx, b.keys.Due(b.keys.Partition(bob)), "default:i:bob").Val(); got != 0 {
			b.Error("what is gone is due for ever")
		}
		if n := b.rdb.ZCard(b.ctx, key).Val(); n != 4 {
			b.Errorf("%d deadlines, want those of others too", n)
		}
	})
}

func TestARedisThatIsAwayIsAnError(t *testing.T) {
	srv := testkit.Redis(t)
	b := newBench(t, srv.As, store.Options{})
	b.escalated("n1", notify.ChangeSeen, notify.ViaWebhook)
	c := b.look(b.publisher, 8).Claims[0]
	srv.Stop()
	slots := &places{8}
	if got, err := b.publisher.Due(b.ctx, slots); !errors.Is(err, notify.ErrUnavailable) || len(got.Claims) != 0 || slots.left != 8 {
		t.Errorf("got %+v, %v, %d places", got, err, slots.left)
	}
	if err := b.publisher.Escalated(b.ctx, c, store.Outcome{}); !errors.Is(err, notify.ErrUnavailable) {
		t.Errorf("escalated: %v", err)
	}
}
