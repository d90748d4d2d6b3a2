package fanout

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"allim/internal/testkit"
	"allim/pkg/notify"
)

// What a message costs beside so many other topics on the same loop: "one" goes to one topic always, whose state is at hand; "all" go to all in turn, whose
// states come from memory.
func BenchmarkOtherTopics(b *testing.B) {
	for _, others := range []int{1, 1_000, 100_000} {
		for _, spread := range []bool{false, true} {
			b.Run(fmt.Sprintf("%d/%s", others, map[bool]string{false: "one", true: "all"}[spread]), func(b *testing.B) {
				c := newCalm(b, Options{Mailbox: 1 << 20, MailboxBytes: 1 << 30})
				c.allLive(others)
				subs := []*Subscription{c.sub}
				if spread {
					subs = c.others
				}
				const batch = 1024
				offsets, at, done := make([]int, len(subs)), 0, 0
				payload := func(o int) string { return fmt.Sprintf("2\nabcdef\n%d\n%d\n0\n0\n\nm\nid-%d\n", o, o, o) }
				for b.Loop() {
					if done%batch == 0 {
						b.StopTimer()
						c.finish()
						for range batch {
							offsets[at]++
							c.l.put(frame{gen: c.gen, channel: subs[at].channel, payload: payload(offsets[at])})
							at = (at + 1) % len(subs)
						}
						b.StartTimer()
					}
					if done%burst == 0 {
						c.l.step()
					}
					done++
				}
				c.finish()
				if got := int(c.l.count.offered.Load()); got < done {
					b.Fatalf("%d of %d messages were offered", got, done)
				}
			})
		}
	}
}

// delays are how long messages took that carry the time of their publication in their id.
type delays struct {
	mu    sync.Mutex
	took  []time.Duration
	begun time.Time
}

func (d *delays) note(id string) {
	var at int64
	_, _ = fmt.Sscanf(id, "at-%d", &at)
	d.mu.Lock()
	d.took = append(d.took, time.Since(d.begun)-time.Duration(at))
	d.mu.Unlock()
}

// report says how long those took that came since the last time.
func (d *delays) report(b *testing.B, what string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	slices.Sort(d.took)
	if len(d.took) == 0 {
		b.Fatalf("%s: no message came", what)
	}
	ms := func(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
	b.ReportMetric(ms(d.took[len(d.took)*99/100]), "ms-p99-"+what)
	b.ReportMetric(ms(d.took[len(d.took)-1]), "ms-max-"+what)
	d.took = nil
}

type delaySink struct {
	countSink
	delays
}

func (s *delaySink) Deliver(_ *Subscription, d *Delivery, _ bool) bool {
	s.note(d.Message.ID)
	return true
}

// How long a message takes from PUBLISH to its sink while nothing else happens, while 100k topics begin, while they are heard, and while they are left; and
// how long the same message takes to a bare subscription of go-redis beside the hub: what both wait for is Redis, and a processor that has more to do than
// it can (Go looks at its sockets every 10 ms then).
func BenchmarkAMessageWhile100kTopicsComeAndGo(b *testing.B) {
	const n = 100_000
	for b.Loop() {
		b.StopTimer()
		server := testkit.Redis(b)
		h := runHubAt(b, server, Options{Linger: 2 * time.Second})
		begun := time.Now()
		s, bare := &delaySink{delays: delays{begun: begun}}, &delays{begun: begun}
		h.Attach(notify.Stream{Tenant: "default", Topic: "live"}, From{Live: true}, s)
		testkit.Eventually(b, 10*time.Second, func() bool { return s.countSink.begun() == 1 }, "begun")
		client, channel := server.Client(), h.opt.Keys.Channel(notify.Stream{Tenant: "default", Topic: "live"})
		feed := client.Subscribe(b.Context(), channel)
		var ended atomic.Bool
		var both sync.WaitGroup
		both.Go(func() {
			for {
				m, err := feed.ReceiveMessage(b.Context())
				if err != nil {
					return // closed
				}
				bare.note(m.Payload[strings.LastIndex(m.Payload, "at-"):])
			}
		})
		both.Go(func() {
			defer feed.Close()
			pace := time.NewTicker(time.Millisecond)
			defer pace.Stop()
			for o := 8; !ended.Load(); o++ { // quietHistory is at 7
				payload := fmt.Sprintf("2\nabcdef\n%d\n%d\n0\n0\n\nm\nat-%d\n", o, o, time.Since(begun))
				if err := client.Publish(b.Context(), channel, payload).Err(); err != nil {
					b.Error(err)
					return
				}
				<-pace.C
			}
		})
		b.StartTimer()
		phase := func(name string, f func()) {
			f()
			s.report(b, name)
			bare.report(b, name+"-bare")
		}
		crowd, subs := &countSink{}, make([]*Subscription, n)
		phase("alone", func() { <-time.After(2 * time.Second) })
		phase("begin", func() {
			for i := range subs {
				subs[i] = h.Attach(notify.Stream{Tenant: "default", Topic: notify.Topic(fmt.Sprintf("orders/%06d", i))}, From{Live: true}, crowd)
			}
			testkit.Eventually(b, time.Minute, func() bool { return crowd.begun() == n }, "begun")
		})
		phase("heard", func() { <-time.After(2 * time.Second) })
		phase("leave", func() {
			for _, sub := range subs {
				sub.Detach()
			}
			testkit.Eventually(b, time.Minute, func() bool { return h.Stats().Topics == 1 }, "left")
		})
		ended.Store(true)
		both.Wait()
		if d := h.Stats().Dropped[causeNames[dropMailbox]]; d != 0 {
			b.Fatalf("%d frames did not fit", d)
		}
	}
}
