package due

import (
	"bytes"
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"allim/internal/store"
	"allim/internal/testkit"
	"allim/internal/webpush"
	"allim/pkg/notify"
)

const within = 10 * time.Second

// recorded is a Store that has been told what it answers.
type recorded struct {
	mu        sync.Mutex
	due       []store.Due // one look each
	failures  int         // of Escalated, before it works
	err       error       // of Due
	looks     []time.Time
	outcomes  map[string][]store.Outcome // by id
	browsers  []store.Subscription
	forgotten []string
	renewed   int
}

func (r *recorded) Due(_ context.Context, slots store.Slots) (store.Due, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.looks = append(r.looks, time.Now())
	if len(r.due) == 0 || r.err != nil {
		return store.Due{}, r.err
	}
	next := r.due[0]
	r.due = r.due[1:]
	all := next.Claims
	next.Claims = nil
	for i, c := range all { // what finds no place waits for the next look, as in Redis
		if slots.Take(c.Stream.Tenant, 1) == 1 {
			next.Claims = append(next.Claims, all[i])
		} else if len(r.due) == 0 {
			r.due = append(r.due, store.Due{Claims: []store.Claim{c}})
		} else {
			r.due[0].Claims = append(r.due[0].Claims, c)
		}
	}
	return next, nil
}

func (r *recorded) Escalated(_ context.Context, c store.Claim, o store.Outcome) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failures > 0 {
		r.failures--
		return notify.ErrUnavailable
	}
	if r.outcomes == nil {
		r.outcomes = map[string][]store.Outcome{}
	}
	r.outcomes[c.Item.ID] = append(r.outcomes[c.Item.ID], o)
	return nil
}

func (r *recorded) PushSubscriptions(context.Context, notify.Stream) ([]store.Subscription, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.browsers), nil
}

func (r *recorded) PushForget(_ context.Context, _ notify.Stream, key string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forgotten = append(r.forgotten, key)
	return nil
}

func (r *recorded) PushRenew(context.Context, notify.Stream) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.renewed++
	return nil
}

// of is what was written of a claim so far.
func (r *recorded) of(id string) []store.Outcome {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.outcomes[id])
}

func (r *recorded) lookedAt() []time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.looks)
}

// run runs a Runner until the test ends, or stop is called, which returns when Run has.
func run(t *testing.T, r *Runner) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return stop
}

func claim(tenant, id string) store.Claim {
	return store.Claim{Stream: notify.Stream{Tenant: tenant, Topic: "user:ann"}, Via: notify.ViaWebhook, Unless: notify.ChangeSeen, Since: time.UnixMilli(1_795_000_010_000), Attempt: 1,
		Item: notify.Item{Topic: "user:ann", ID: id, Position: notify.Position{Epoch: "abc", Offset: 7}, Time: time.UnixMilli(1_795_000_000_123), Data: []byte(`{"title":"Tea"}`)}}
}

func TestDeadlinesAreLookedAtTwiceASecondAndNotInStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := &recorded{}
		stop := run(t, New(Options{Store: st}))
		time.Sleep(time.Minute)
		stop()
		looks, pauses := st.lookedAt(), map[time.Duration]bool{}
		for i := range looks[1:] {
			pause := looks[i+1].Sub(looks[i])
			if pause < 400*time.Millisecond || pause > 600*time.Millisecond {
				t.Errorf("a pause of %v", pause)
			}
			pauses[pause] = true
		}
		if len(looks) < 100 || len(looks) > 150 || len(pauses) < 50 {
			t.Errorf("%d looks with %d different pauses", len(looks), len(pauses))
		}
	})
}

// Many are to be told, and those that found no place come a second later: it looks often from the first look that claimed and put off, as long as that goes on.
func TestItLooksOftenWhileThereIsMoreToTellThanThereArePlaces(t *testing.T) {
	for name, c := range map[string]struct {
		first store.Due
		often bool
	}{
		"claimed and put off": {store.Due{Claims: []store.Claim{claim("a", "n1")}, PutOff: 7}, true},
		"all are claimed":     {store.Due{Claims: []store.Claim{claim("a", "n1")}}, false},
		"it stands still":     {store.Due{PutOff: 7}, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			st := &recorded{due: []store.Due{c.first}}
			for range 20 {
				st.due = append(st.due, store.Due{})
			}
			st.due = append(st.due, store.Due{Claims: []store.Claim{claim("a", "n2")}})
			stop := run(t, New(Options{Store: st}))
			time.Sleep(10 * time.Second)
			stop()
			short, last := 0, time.Time{}
			looks := st.lookedAt()
			for i := range looks[1:] {
				if looks[i+1].Sub(looks[i]) <= 60*time.Millisecond {
					short, last = short+1, looks[i+1]
				}
			}
			if took := last.Sub(looks[0]); c.often && (short < 40 || took < 2500*time.Millisecond || took > 4*time.Second) || !c.often && short > 0 {
				t.Errorf("%s: %d short pauses, for %v", name, short, took)
			}
		})
	}
}

func TestWhereThereIsMoreItIsLookedAtAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := &recorded{due: []store.Due{{More: true}, {More: true}, {More: true}, {}}}
		stop := run(t, New(Options{Store: st}))
		time.Sleep(700 * time.Millisecond)
		stop()
		if looks := st.lookedAt(); len(looks) < 4 || looks[3] != looks[0] {
			t.Errorf("looked at %v", looks)
		}
	})
}

func TestAnEndlessMoreDoesNotOutliveItsEnd(t *testing.T) {
	st := &recorded{}
	for range 1_000_000 {
		st.due = append(st.due, store.Due{More: true})
	}
	r := New(Options{Store: st, Every: time.Millisecond})
	stop := run(t, r)
	testkit.Eventually(t, within, func() bool { return len(st.lookedAt()) > 10 }, "it looks")
	stop()
	if len(st.due) == 0 {
		t.Error("it went on to the end")
	}
}

func TestARedisThatFailsIsAskedAgainAndToldOfOnceAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		st := &recorded{err: notify.ErrUnavailable}
		stop := run(t, New(Options{Store: st, Log: slog.New(slog.NewTextHandler(&log, nil))}))
		time.Sleep(150 * time.Second)
		stop()
		if n := strings.Count(log.String(), "due_failed"); n != 3 || len(st.lookedAt()) < 250 {
			t.Errorf("%d lines, %d looks", n, len(st.lookedAt()))
		}
	})
}

func TestPausesGrowAndDiffer(t *testing.T) {
	for attempt, want := range map[int]time.Duration{1: 5 * time.Second, 2: 30 * time.Second, 3: 2 * time.Minute, 4: 10 * time.Minute, 5: 30 * time.Minute, 6: 2 * time.Hour} {
		seen := map[time.Duration]bool{}
		for range 100 {
			got, ok := backoff(attempt, 0)
			if !ok || got < want*8/10 || got > want*12/10 {
				t.Fatalf("after %d: %v, %v", attempt, got, ok)
			}
			seen[got] = true
		}
		if len(seen) < 50 {
			t.Errorf("after %d: %d different ones", attempt, len(seen))
		}
	}
	if got, ok := backoff(1, time.Hour); got != time.Hour || !ok {
		t.Errorf("who asks for an hour waits %v", got)
	}
	for _, attempt := range []int{0, 7, 8} {
		if got, ok := backoff(attempt, time.Minute); ok {
			t.Errorf("after %d: %v", attempt, got)
		}
	}
}

func TestOneTenantTakesHalfOfTheSlotsAndAllTakeNoMoreThanAll(t *testing.T) {
	s := slots{tenants: map[string]int{}}
	for _, c := range []struct {
		tenant     string
		most, want int
	}{{"a", 5, 5}, {"a", 50, 11}, {"a", 1, 0}, {"b", 10, 10}, {"c", 10, 6}, {"d", 1, 0}, {"d", -1, 0}} {
		if got := s.Take(c.tenant, c.most); got != c.want {
			t.Errorf("%s asks for %d: got %d, want %d", c.tenant, c.most, got, c.want)
		}
	}
	s.Free("a", 16)
	if got := s.Take("d", 50); got != 16 {
		t.Errorf("d gets %d", got)
	}
	s.Free("b", 10)
	s.Free("c", 6)
	s.Free("d", 16)
	if s.taken != 0 || len(s.tenants) != 0 {
		t.Errorf("%d are taken by %v", s.taken, s.tenants)
	}
}

func TestAnOutcomeThatRedisDoesNotTakeIsWrittenAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		st := &recorded{due: []store.Due{{Claims: []store.Claim{claim("a", "n1")}}, {Claims: []store.Claim{claim("a", "n2")}}}, failures: 2}
		r := New(Options{Store: st, Log: slog.New(slog.NewTextHandler(&log, nil))})
		stop := run(t, r)
		time.Sleep(5 * time.Second)
		if got := st.of("n1"); len(got) != 1 || !got[0].Again {
			t.Errorf("got %+v", got)
		}
		st.mu.Lock()
		st.failures, st.due = 3, []store.Due{{Claims: []store.Claim{claim("a", "n3")}}}
		st.mu.Unlock()
		time.Sleep(5 * time.Second)
		stop()
		if got := st.of("n3"); len(got) != 0 || !strings.Contains(log.String(), "due_failed") {
			t.Errorf("got %+v, log %s", got, log.String())
		}
	})
}

// standing is a Store whose Redis answers nothing: its calls end with their deadlines, whatever ends their contexts.
type standing struct{ recorded }

func (s *standing) wait(ctx context.Context) error {
	until, ok := ctx.Deadline()
	if !ok {
		until = time.Now().Add(time.Hour)
	}
	<-time.After(time.Until(until))
	return notify.ErrUnavailable
}

func (s *standing) PushSubscriptions(ctx context.Context, _ notify.Stream) ([]store.Subscription, error) {
	return nil, s.wait(ctx)
}

func (s *standing) Escalated(ctx context.Context, _ store.Claim, _ store.Outcome) error {
	return s.wait(ctx)
}

func TestTheEndComesInItsTimeWhateverRedisDoes(t *testing.T) {
	for _, before := range []time.Duration{0, time.Millisecond, askTimeout / 2, askTimeout + writeTimeout/2} { // since the claim, of which Redis is then asked one thing or the other
		synctest.Test(t, func(t *testing.T) {
			c := claim("a", "n1")
			c.Via = notify.ViaWebPush
			st := &standing{recorded{due: []store.Due{{Claims: []store.Claim{c}}}}}
			r := New(Options{Store: st, Push: webpush.New(webpush.Options{})})
			stop := run(t, r)
			for len(st.lookedAt()) == 0 {
				time.Sleep(time.Millisecond)
			}
			time.Sleep(before)
			start := time.Now()
			stop()
			if took := time.Since(start); took > StopBudget {
				t.Errorf("asked %v after a claim it took %v to end", before, took)
			}
		})
	}
}
