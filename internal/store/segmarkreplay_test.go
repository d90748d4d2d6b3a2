package store_test

import (
	"testing"

	"allim/internal/store"
	"allim/pkg/notify"
)

// loseAudience has what a user did to a segment, and the user's stream, be lost; with the segment itself, where it is named.
func (b *bench) loseAudience(write func(), segments ...notify.Stream) {
	b.Helper()
	keys := append(b.keys.Inbox(ann).WithTerms(), b.keys.Audience(ann).All()[1:]...)
	for _, st := range segments {
		k := b.keys.Segment(st)
		keys = append(keys, k.Meta, k.Events, k.Dedupe, k.Index, k.Items, k.Collapse, k.Deadlines)
	}
	behind := b.snapshot(keys...)
	write()
	behind()
	b.newHistory()
}

func TestLostMarksOfASegmentComeAgainInAnyOrder(t *testing.T) {
	t.Parallel()
	for _, swapped := range []bool{false, true} {
		b := epochBench(t)
		one, two := b.another("gateway"), b.another("gateway")
		b.member(ann, "org-7")
		b.notify(ann, "", "o1")
		for _, id := range []string{"n1", "n2", "n3"} {
			b.tell(notification(id, ""))
		}
		by := func(s *store.Store, c notify.Change, m store.Mark) {
			t.Helper()
			m.Change = c
			if _, err := s.MarkFor(b.ctx, store.Reader{Stream: ann}, m); err != nil {
				t.Fatal(err)
			}
		}
		b.loseAudience(func() {
			by(one, notify.ChangeRead, store.Mark{All: true})
			by(two, notify.ChangeUnread, store.Mark{IDs: []string{"n2"}})
			by(two, notify.ChangeArchive, store.Mark{IDs: []string{"n1"}})
			by(one, notify.ChangeUnarchive, store.Mark{IDs: []string{"n1"}})
			by(two, notify.ChangeDelete, store.Mark{IDs: []string{"n3"}})
		})
		b.wantAll(ann, store.Query{}, "n3 n2 n1 o1")
		first, second := one, two
		if swapped {
			first, second = two, one
		}
		for _, s := range []*store.Store{first, second} {
			b.touch(s)
			s.Remark(b.ctx)
		}
		b.wantAll(ann, store.Query{Status: store.All}, "n2/s n1/sr o1/sr")
		b.wantSum(ann, "1/0")
		for _, s := range []*store.Store{first, second} {
			if n := s.Remarks(); n != 0 {
				t.Errorf("%d marks wait", n)
			}
		}
	}
}

// The item of a mark was lost with it, and comes back at another place by who holds it.
func TestALostMarkOfASegmentWaitsForItsItem(t *testing.T) {
	t.Parallel()
	b := epochBench(t)
	gateway := b.another("gateway")
	b.member(ann, "org-7")
	b.tell(notification("n1", ""))
	b.loseAudience(func() {
		b.tell(notification("n2", ""))
		if _, err := gateway.MarkFor(b.ctx, store.Reader{Stream: ann}, store.Mark{Change: notify.ChangeRead, IDs: []string{"n1", "n2"}}); err != nil {
			t.Fatal(err)
		}
	}, org)
	b.touch(gateway)
	gateway.Remark(b.ctx)
	b.wantAll(ann, store.Query{}, "n1/sr")
	if n := gateway.Remarks(); n != 1 {
		t.Errorf("%d marks wait", n)
	}
	b.tell(notification("n3", ""))               // its publisher looks at its ring
	b.wantAll(ann, store.Query{}, "n2 n3 n1/sr") // it was behind n3 when it was found to be lost
	gateway.Remark(b.ctx)
	b.wantAll(ann, store.Query{}, "n2/sr n3 n1/sr")
}

// What cannot be read is no reason to try for ever.
func TestALostMarkOfASegmentThatCannotBeReadIsGivenUp(t *testing.T) {
	t.Parallel()
	b := epochBench(t)
	gateway := b.another("gateway")
	b.member(ann, "org-7")
	b.tell(notification("n1", ""))
	b.loseAudience(func() {
		if _, err := gateway.MarkFor(b.ctx, store.Reader{Stream: ann}, store.Mark{Change: notify.ChangeRead, IDs: []string{"n1"}}); err != nil {
			t.Fatal(err)
		}
	})
	b.tell(notification("n2", "")) // no board of before is good
	k := b.keys.Segment(org).Index
	b.rdb.Del(b.ctx, k)
	b.rdb.Set(b.ctx, k, "x", 0)
	b.touch(gateway)
	if n := gateway.Remarks(); n != 1 {
		t.Fatalf("%d marks wait", n)
	}
	for range 8 {
		gateway.Remark(b.ctx)
	}
	if n := gateway.Remarks(); n != 0 {
		t.Errorf("%d marks wait after eight attempts", n)
	}
}
