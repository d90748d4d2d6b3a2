package store_test

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"allim/internal/store"
	"allim/internal/testkit"
	"allim/pkg/notify"
)

// Whatever a stream of a call fails for, each write of the pipeline has its own answer: go-redis does not read what follows an error in a list.
func TestWhatAStreamFailsForIsNoOthersAnswer(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text  string // of the error
		class error  // nil: it is for good
		make  func(b *bench)
	}{
		{"out of memory", notify.ErrBusy, func(b *bench) { b.rdb.ConfigSet(b.ctx, "maxmemory", "1") }},
		{"NOREPLICAS", notify.ErrUnavailable, func(b *bench) { b.rdb.ConfigSet(b.ctx, "min-replicas-to-write", "1") }},
		{"READONLY", notify.ErrUnavailable, func(b *bench) { b.rdb.Do(b.ctx, "REPLICAOF", "127.0.0.1", "1") }},
		{"can't run this command", nil, func(b *bench) { b.right("-zadd") }},
		{"WRONGTYPE", nil, func(b *bench) {
			for i := 0; i < 130; i += 2 {
				k := b.keys.Inbox(stream(fmt.Sprint("user:u", i)))
				b.rdb.Set(b.ctx, k.Dedupe, "made by hand", time.Hour)
			}
		}},
	} {
		t.Run(c.text, func(t *testing.T) {
			t.Parallel()
			b := realBench(t, store.Options{})
			var all []notify.Stream
			for i := range 130 {
				all = append(all, stream(fmt.Sprint("user:u", i)))
			}
			b.Publish(b.ctx, all, notification("old", ""))
			for i := 1; i < len(all); i += 2 {
				b.publish(all[i], []string{"x", "y", "z"}[:i%3]...) // each at a place of its own
				b.publish(all[i], "new")
			}
			b.notify(ann, "", "n1")
			b.mark(ann, "read", store.Mark{IDs: []string{"n1"}})
			c.make(b)
			messages, mark := b.publisher.Tried(all, notification("new", ""), ann, &notify.Message{Change: notify.ChangeUnread, IDs: []string{"n1"}})
			for i, r := range messages {
				if i%2 == 1 && c.text != "READONLY" { // a duplicate writes nothing
					if r.Err != nil || !r.Duplicate || r.Position.Offset != uint64(2+i%3) {
						t.Fatalf("message %d: %+v", i, r)
					}
				} else if err := r.Err; err == nil || !strings.Contains(err.Error(), c.text) || c.class != nil && !errors.Is(err, c.class) ||
					c.class == nil && (errors.Is(err, notify.ErrUnavailable) || errors.Is(err, notify.ErrBusy)) {
					t.Fatalf("message %d: %v", i, err)
				}
			}
			if ours := c.text == "WRONGTYPE"; ours != (mark == nil) {
				t.Errorf("mark: %v", mark)
			}
			b.wantBadge(ann, map[bool]string{true: "0/0", false: "1/0"}[mark != nil])
		})
	}
}

// A new stream may delete what an older one of its name left. Redis refuses nothing to a call that has written something.
func TestFullMemoryIsPassedByNoStreamOfACall(t *testing.T) {
	t.Parallel()
	b := realBench(t, store.Options{})
	all := []notify.Stream{stream("user:new"), ann}
	b.notify(ann, "", "old")
	b.rdb.SAdd(b.ctx, b.keys.Inbox(all[0]).Unread, "a ghost")
	b.rdb.ConfigSet(b.ctx, "maxmemory", "1")
	messages, _ := b.publisher.Tried(all, notification("new", ""), ann, &notify.Message{})
	for i, r := range messages {
		if !errors.Is(r.Err, notify.ErrBusy) {
			t.Errorf("message %d: %+v", i, r)
		}
	}
	b.wantBadge(ann, "1/1")
}

// What fails behind a message that stands is no reason for those that come to fail.
func TestAStreamGoesOnBehindWhatACallLeftInTheMiddle(t *testing.T) {
	onEach(t, store.Options{}, func(b *bench) {
		for _, s := range []notify.Stream{stream("a"), ann} {
			at := b.publish(s, "one").Position
			if err := b.publisher.Torn(b.ctx, s, at.Epoch, message("two"), message("three")); err == nil || !strings.Contains(err.Error(), "number") ||
				b.real && !strings.Contains(err.Error(), "user_script:") {
				b.Fatalf("got %v", err)
			}
			if r := b.Publish(b.ctx, []notify.Stream{s}, message("four"))[0]; r.Err != nil || r.Duplicate || r.Position.Offset != 3 {
				b.Errorf("%s: got %+v", s.Topic, r)
			}
			if got := ids(b.recover(s, at, 10).Messages); cmp.Diff([]string{"two", "four"}, got) != "" {
				b.Errorf("%s: got %v", s.Topic, got)
			}
		}
	})
}

// A primary that was demoted, and whose name is another's now: only an error of a whole call has go-redis let the connection go.
func TestWhoIsDemotedBehindANameIsLeft(t *testing.T) {
	t.Parallel()
	old, now := testkit.Redis(t), testkit.Redis(t)
	name := testkit.NewProxy(t, old.Addr)
	b := newBench(t, func(role string) string { return strings.Replace(old.As(role), old.Addr, name.Addr, 1) }, store.Options{})
	s := stream("a")
	b.publish(s, "one")
	name.Turn(now.Addr)
	host, port, _ := net.SplitHostPort(now.Addr)
	if err := old.Client().Do(b.ctx, "REPLICAOF", host, port).Err(); err != nil {
		t.Fatal(err)
	}
	if r := b.Publish(b.ctx, []notify.Stream{s}, message("two"))[0]; r.Err != nil {
		t.Errorf("got %+v", r)
	}
}
