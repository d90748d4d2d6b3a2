package store

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"allim/internal/audience"
	"allim/internal/keyspace"
	"allim/internal/testkit"
	"allim/pkg/notify"
)

func boardAt(offset uint64) *audience.Board { return &audience.Board{Epoch: "k3abcd", Top: offset} }

func TestNoMoreBoardsAreKeptThanThereIsRoomFor(t *testing.T) {
	c := newBoards(Segments{}.withDefaults())
	segment := func(i int) notify.Stream {
		return notify.Stream{Tenant: "default", Topic: notify.Topic(fmt.Sprint("segment:", i))}
	}
	there := func(i int) bool {
		b, r, _ := c.ask(segment(i), notify.Position{Epoch: "k3abcd", Offset: 1})
		if r != nil {
			r.err = errors.New("nobody reads")
			c.finish(r)
		}
		return b != nil
	}
	for i := range maxBoards + 2 {
		if there(i) {
			t.Fatalf("%d is there before it was read", i)
		}
		_, r, _ := c.ask(segment(i), notify.Position{Epoch: "k3abcd", Offset: 1})
		r.board = boardAt(1)
		c.finish(r)
		if !there(0) { // it is in use
			t.Fatalf("0 left with %d", i)
		}
	}
	if there(1) || there(2) || !there(3) || !there(maxBoards+1) || len(c.held) != maxBoards || c.order.Len() != maxBoards || len(c.reads) != 0 {
		t.Errorf("%d held, %d in order, %d on their way", len(c.held), c.order.Len(), len(c.reads))
	}
	if b, r, first := c.ask(segment(3), notify.Position{Epoch: "k3abcd"}); b != nil || r == nil || !first {
		t.Errorf("a board of what Redis has lost since: %+v", b)
	}
}

// Whoever waits for what another one reads goes by itself where that fails, or had begun too early.
func TestAReadingOfAnotherIsNoExcuse(t *testing.T) {
	rdb, err := Connect(Connection{URL: testkit.Redis(t).As("admin")})
	if err != nil {
		t.Fatal(err)
	}
	defer rdb.Close()
	keys, err := keyspace.NewMap(0)
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(Options{Redis: rdb, Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	ctx := testkit.Context(t, 20*time.Second)
	org := notify.Stream{Tenant: "default", Topic: "segment:org-7"}
	if err := rdb.HSet(ctx, keys.Segment(org).Meta, "e", "k3abcd", "s", "7").Err(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		board *audience.Board
		err   error
	}{{"it failed", nil, errors.New("its caller went away")}, {"it had begun before", boardAt(6), nil}, {"it is of an epoch before", &audience.Board{Epoch: "aaaaaa", Top: 9}, nil}} {
		s.boards = newBoards(s.segments)
		r := &reading{segment: org, done: make(chan struct{}), board: c.board, err: c.err}
		s.boards.reads[org] = r
		close(r.done)
		got, err := s.Boards(ctx, []notify.Stream{org})
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if b := got[0]; b.Position() != (notify.Position{Epoch: "k3abcd", Offset: 7}) {
			t.Errorf("%s: got %+v", c.name, b)
		}
	}
}
