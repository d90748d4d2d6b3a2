package store_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"allim/internal/keyspace"
	"allim/internal/store"
	"allim/internal/testkit"
	"allim/pkg/notify"
)

func ephemeral(id string) *notify.Message {
	m := message(id)
	m.Change = notify.ChangeEphemeral
	return m
}

func TestWhatIsBegunComesInThatOrderBeforeAnybodyWaitsForIt(t *testing.T) {
	onEach(t, store.Options{}, func(b *bench) {
		s := stream("typing/7")
		sub := b.listen(s)
		var begun []*store.Pending
		var decided atomic.Int32
		for i := range 60 {
			m := message(fmt.Sprint("event", i))
			if i%3 > 0 {
				m = ephemeral(fmt.Sprint("light", i))
			}
			begun = append(begun, b.publisher.Begin(b.ctx, []notify.Stream{s}, m, store.Committed, func() { decided.Add(1) }))
		}
		last := map[string]int{"event": -1, "light": -1} // each kind keeps its order
		for range 60 {
			got, err := sub.ReceiveMessage(b.ctx)
			if err != nil {
				b.Fatal(err)
			}
			m, err := keyspace.DecodePayload(s, got.Payload)
			if err != nil {
				b.Fatal(err)
			}
			var n int
			if _, err := fmt.Sscan(m.ID[5:], &n); err != nil || n <= last[m.ID[:5]] {
				b.Fatalf("%s came after %d: %v", m.ID, last[m.ID[:5]], err)
			}
			last[m.ID[:5]] = n
		}
		for i, p := range begun {
			testkit.Closed(b, 10*time.Second, p.Done(), "each")
			if r := p.Results()[0]; r.Err != nil || r.Receivers != 1 || (r.Position == notify.Position{}) != (i%3 > 0) {
				b.Fatalf("result %d: %+v", i, r)
			}
		}
		testkit.Eventually(b, 5*time.Second, func() bool { return decided.Load() == 60 }, "say so")
	})
}

func TestAnEphemeralMessageWaitsForNoEventOfItsTopic(t *testing.T) {
	t.Parallel()
	srv := testkit.Redis(t)
	o, r := counted()
	b := newBench(t, srv.As, o)
	s := stream("a")
	begin := func(m *notify.Message, l store.Level) *store.Pending {
		return b.publisher.Begin(b.ctx, []notify.Stream{s}, m, l, nil)
	}
	undecided := func(p *store.Pending) {
		t.Helper()
		select {
		case <-p.Done():
			t.Errorf("it is decided: %+v", p.Results())
		default:
		}
	}
	level := begin(message("level"), store.Replicated) // there is no replica: it is tried again and again
	for i := range 100 {
		if got := begin(ephemeral(fmt.Sprint(i)), store.Committed).Results()[0]; got.Err != nil {
			t.Errorf("beside one that waits for a replica: %+v", got)
		}
	}
	undecided(level)
	srv.Stop()
	event := begin(message("event"), store.Committed)
	testkit.Eventually(t, 5*time.Second, func() bool { return value(t, r, "allim_redis_retries_total", "") > 1 }, "try again")
	once := begin(ephemeral("once"), store.Committed)
	testkit.Closed(t, 10*time.Second, once.Done(), "one that is not tried again")
	if got := once.Results()[0]; !errors.Is(got.Err, notify.ErrUnavailable) {
		t.Errorf("got %+v", got)
	}
	undecided(event)
}

// refused tells whether p was, for want of room.
func refused(p *store.Pending) bool {
	select {
	case <-p.Done():
		return errors.Is(p.Results()[0].Err, notify.ErrBusy)
	default:
		return false
	}
}

func TestEphemeralMessagesAreDroppedWhenTheyAreOldTooManyOrNobodys(t *testing.T) {
	t.Parallel()
	srv := testkit.Redis(t)
	o, r := counted()
	b := newBench(t, srv.As, o)
	s := stream("typing/7")
	sub := b.listen(s)
	begin := func(ctx context.Context, id string) *store.Pending {
		return b.publisher.Begin(ctx, []notify.Stream{s}, ephemeral(id), store.Committed, nil)
	}
	dropped := func(reason string) float64 {
		return value(t, r, "allim_redis_ephemeral_dropped_total", "reason="+reason)
	}
	if got := begin(b.ctx, "before").Results()[0]; got.Err != nil {
		t.Fatal(got.Err)
	}
	srv.Pause()
	left, leave := context.WithCancel(b.ctx)
	first := begin(b.ctx, "first") // it is being sent, for a second at the most
	gone := begin(left, "gone")
	leave()
	var begun []*store.Pending
	for i := range store.PassingMost {
		begun = append(begun, begin(b.ctx, fmt.Sprint("m", i)))
	}
	if dropped("room") == 0 || !slices.ContainsFunc(begun, refused) {
		t.Errorf("%d wait, and none was refused", len(begun)) // a slow machine may have dropped some of them by now
	}
	if got := gone.Results()[0]; got.Err == nil {
		t.Errorf("got %+v", got)
	}
	last := begun[len(begun)-3]
	testkit.Closed(t, 15*time.Second, last.Done(), "the last that waits")
	if got := last.Results()[0]; !errors.Is(got.Err, store.ErrNotSent) || !errors.Is(got.Err, notify.ErrUnavailable) || dropped("age") == 0 || dropped("left") != 1 {
		t.Errorf("an old one: %+v", got)
	}
	if got := first.Results()[0]; !errors.Is(got.Err, notify.ErrUnavailable) || errors.Is(got.Err, store.ErrNotSent) {
		t.Errorf("one that may have been sent: %+v", got)
	}
	srv.Resume()
	testkit.EventuallyNil(t, 10*time.Second, func() error { return begin(b.ctx, "after").Results()[0].Err }, "send again")
	for {
		m, err := sub.ReceiveMessage(b.ctx)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(m.Payload, `"after"`) {
			break
		}
		if strings.Contains(m.Payload, `"gone"`) || strings.Contains(m.Payload, fmt.Sprintf(`"m%d"`, len(begun)-3)) {
			t.Errorf("it was sent: %q", m.Payload)
		}
	}
}
