package store_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"allim/internal/keyspace"
	"allim/internal/store"
	"allim/internal/testkit"
	"allim/pkg/notify"
)

// events and ephemeral messages in turns, to one topic.
func mixed(i int) *notify.Message {
	m := message(fmt.Sprint("m", i))
	if i%3 > 0 {
		m.Change = notify.ChangeEphemeral
	}
	return m
}

func TestWhatIsBegunComesInThatOrderBeforeAnybodyWaitsForIt(t *testing.T) {
	onEach(t, store.Options{}, func(b *bench) {
		s := stream("typing/7")
		sub := b.listen(s)
		var begun []*store.Pending
		for i := range 60 {
			begun = append(begun, b.publisher.Begin(b.ctx, []notify.Stream{s}, mixed(i), store.Committed))
		}
		testkit.Closed(b, 10*time.Second, begun[59].Done(), "the last")
		for i := range 60 {
			got, err := sub.ReceiveMessage(b.ctx)
			if err != nil {
				b.Fatal(err)
			}
			if m, err := keyspace.DecodePayload(s, got.Payload); err != nil || m.ID != fmt.Sprint("m", i) {
				b.Fatalf("message %d: got %+v, %v", i, m, err)
			}
			if r := begun[i].Results()[0]; r.Err != nil || r.Receivers != 1 || (r.Position == notify.Position{}) != (i%3 > 0) {
				b.Fatalf("result %d: %+v", i, r)
			}
		}
	})
}

func TestAnEphemeralMessageIsNotSentBeforeAnEventThatIsTriedAgain(t *testing.T) {
	t.Parallel()
	srv := testkit.Redis(t)
	o, r := counted()
	b := newBench(t, srv.As, o)
	s := stream("a")
	srv.Stop()
	event := b.publisher.Begin(b.ctx, []notify.Stream{s}, mixed(0), store.Committed)
	testkit.Eventually(t, 5*time.Second, func() bool { return value(t, r, "allim_redis_retries_total", "") > 1 }, "try again")
	behind := b.publisher.Begin(b.ctx, []notify.Stream{s}, mixed(1), store.Committed)
	short, cancel := context.WithTimeout(b.ctx, 50*time.Millisecond)
	defer cancel()
	late := b.publisher.Begin(short, []notify.Stream{s}, mixed(2), store.Committed)
	if got := late.Results()[0]; got.Err == nil {
		t.Errorf("one whose time was over: %+v", got)
	}
	for _, p := range []*store.Pending{event, behind} {
		select {
		case <-p.Done():
			t.Error("it is decided without Redis")
		default:
		}
	}
	once := b.publisher.Begin(b.ctx, []notify.Stream{stream("b")}, mixed(1), store.Committed)
	testkit.Closed(t, 10*time.Second, once.Done(), "one with nothing in front of it, which is not tried again")
	if got := once.Results()[0]; !errors.Is(got.Err, notify.ErrUnavailable) {
		t.Errorf("got %+v", got)
	}
	srv.Restart()
	for _, p := range []*store.Pending{event, behind} {
		if got := p.Results()[0]; got.Err != nil {
			t.Errorf("got %+v", got)
		}
	}
}
