//go:build fault

package fault

import (
	"fmt"
	"net/http"
	"time"
)

// redisPaused freezes Redis: its connections stay open, and what is sent to it waits.
func redisPaused(d time.Duration) func(start) {
	return func(start start) {
		w := start(options{})
		w.begin(load{})
		before := w.metric(w.gateways, "allim_feed_link_generations_total")
		w.fault(fmt.Sprintf("Redis stands still for %v", d), func() {
			w.redis.Pause()
			w.pause(d)
			w.redis.Resume()
		})
		w.pause(3 * time.Second)
		w.finish(allowed{late: time.Second})
		w.proves("calls without an answer", w.row.sum.tried)
		links := w.metric(w.gateways, "allim_feed_link_generations_total") - before
		if d < 5*time.Second {
			if links != 0 {
				w.tb.Errorf("%d links were given up for a pause of %v", links, d)
			}
			return
		}
		w.proves("links begun anew", links)
		w.proves("readers told degraded", w.frames("degraded"))
		w.proves("readers told restored", w.frames("restored"))
	}
}

// frames is how many frames of a type readers got.
func (w *world) frames(kind string) int {
	return w.log.count(func(e *Event) bool { return e.What == told && e.Kind == kind })
}

// redisKilled kills a Redis that keeps its append file, and starts it again: nothing is lost, and nobody is to notice more than a pause.
func redisKilled(start start) {
	w := start(options{disk: true})
	w.begin(load{})
	histories := map[string]bool{w.redis.Info("replication")["master_replid"]: true}
	w.fault("Redis killed", func() {
		for i := range most(5, 1) {
			w.pause(w.drawn(2*time.Second, 4*time.Second))
			w.say("kill %d", i+1)
			w.redis.Restart()
			histories[w.redis.Info("replication")["master_replid"]] = true
		}
	})
	w.pause(4 * time.Second)
	w.finish(allowed{late: time.Second})
	w.proves("new histories", len(histories)-1)
	w.proves("operations that Redis still held", w.metric(w.nodes(), "allim_redis_replay_held_total"))
}

// redisWiped has Redis lose everything: what was acknowledged is written again by whoever acknowledged it.
func redisWiped(start start) {
	w := start(options{})
	w.begin(load{})
	size := int64(-1)
	w.fault("Redis wiped", func() {
		streams := w.streamsOn(w.redis)
		w.redis.Stop()
		for _, c := range w.callers {
			w.log.add(Event{What: kept, Stream: c.stream(), Pos: epoch(streams[c.stream()].top) + ".0"})
		}
		w.redis.Restart()
		size = w.redis.Client().DBSize(w.ctx).Val()
	})
	w.say("it came back with %d keys", size)
	w.pause(most(6*time.Second, 3*time.Second))
	w.finish(allowed{resets: lossResets, late: time.Second})
	w.proves("resets", w.row.sum.resets)
	w.proves("operations written again", w.metric(w.nodes(), "allim_redis_replayed_total"))
	w.proves("frames that said so", w.row.sum.replays)
}

// blackHole loses every packet between one gateway and Redis.
func blackHole(start start) {
	w := start(options{})
	w.begin(load{})
	g := w.gateways[0]
	missed := 0
	w.fault("black hole", func() {
		since := w.log.now()
		g.proxy.Blackhole(true)
		w.eventually(15*time.Second, "the gateway sees that its link is silent", func() bool { return g.now().Said("redis_link_ended", "", "") != nil })
		took := w.log.now() - since
		w.say("noticed after %v", took)
		if took > 10*time.Second+250*time.Millisecond+4*w.slack() {
			w.tb.Errorf("a silent link was noticed after %v, want at most 10 s", took)
		}
		w.pause(most(8*time.Second, 2*time.Second))
		missed = w.log.count(func(e *Event) bool { return e.What == acked && e.At > since })
		g.proxy.Heal()
	})
	w.pause(4 * time.Second)
	w.finish(allowed{late: time.Second})
	w.proves("operations meanwhile", missed)
	w.proves("silent links", w.metric(w.gateways[:1], "allim_feed_link_ends_total", "cause", "silent"))
}

// resetsEachSecond cuts every connection to Redis once a second. Nobody is to become unready for it.
func resetsEachSecond(start start) {
	w := start(options{})
	quiet := w.quietReaders(2, 60)
	w.begin(load{})
	links := func(g *node) int { return w.metric([]*node{g}, "allim_feed_link_generations_total") }
	before := w.metric(w.gateways, "allim_feed_link_generations_total")
	seconds, unready := most(60, 8), 0
	w.fault("resets each second", func() {
		last := map[*node]int{}
		for i := range seconds {
			for _, g := range w.gateways {
				last[g] = links(g)
			}
			for _, n := range w.nodes() {
				n.proxy.Cut()
				n.proxy.Heal()
			}
			if i >= seconds-3 { // nothing comes after these: only who looks when its link is back has them soon
				for range len(quiet) / (seconds - i) {
					w.callOnce("default", quiet[0])
					quiet = quiet[1:]
				}
			}
			for range 4 {
				w.pause(250 * time.Millisecond)
				for _, g := range w.gateways {
					if w.unready(g) {
						unready++
					}
				}
			}
		}
		for _, g := range w.gateways { // which is up to 2 s away, longer where the machine is busy
			w.eventually(healedAfter, g.name+" has a link", func() bool { return links(g) > last[g] && g.now().Metric("allim_feed_link_up") == 1 })
		}
	})
	w.pause(4 * time.Second)
	w.finish(allowed{late: time.Second, healed: 5 * time.Second}) // the next look at what was written comes within 10 s, and finds them as well
	w.proves("links begun", w.metric(w.gateways, "allim_feed_link_generations_total")-before)
	if unready > 0 {
		w.tb.Errorf("a gateway was not ready %d times of %d", unready, 4*seconds*len(w.gateways))
	}
}

// unready tells whether a gateway says that it is not ready. Who has no answer on a busy machine knows nothing.
func (w *world) unready(g *node) bool {
	r, err := http.Get("http://" + g.listen["ops"] + "/healthz/ready")
	if err != nil {
		return false
	}
	_ = r.Body.Close()
	return r.StatusCode == http.StatusServiceUnavailable
}

// onePercentDropped loses messages on their way to the gateways. In busy topics the next one shows the gap; in quiet ones nothing does but the looking.
func onePercentDropped(start start) {
	w := start(options{})
	quiet := w.quietReaders(10, 90)
	w.begin(load{})
	dropped := 0
	w.fault("1 % of the messages dropped", func() {
		for i, g := range w.gateways {
			g.proxy.Drop(100, w.seed+uint64(i), nil)
		}
		for _, topic := range quiet {
			w.callOnce("default", topic)
		}
		w.pause(most(60*time.Second, 16*time.Second))
		for _, g := range w.gateways {
			n, _ := g.proxy.Messages()
			dropped += n
			g.proxy.Drop(0, 0, nil)
		}
	})
	w.pause(time.Second)
	w.finish(allowed{late: time.Second})
	w.proves("dropped", dropped)
	w.proves("found by a gap", w.metric(w.gateways, "allim_feed_resyncs_total", "reason", "gap"))
	w.proves("found by looking", w.metric(w.gateways, "allim_feed_resyncs_total", "reason", "check"))
}

// quietReaders are readers who hear many topics each, in which hardly anything is written.
func (w *world) quietReaders(n, each int) (topics []string) {
	for i := range n {
		var some []string
		for j := range each {
			some = append(some, fmt.Sprintf("long/quiet-%d-%d", i, j))
		}
		w.reader("default", fmt.Sprint("quiet-", i), 1, some) // device 1: it marks nothing
		topics = append(topics, some...)
	}
	return topics
}

// outputBufferFull has Redis cut the subscriber of a gateway that no longer takes what it is sent.
func outputBufferFull(start start) {
	w := start(options{})
	admin := w.redis.Client()
	if err := admin.ConfigSet(w.ctx, "client-output-buffer-limit", "pubsub 1mb 512kb 2").Err(); err != nil {
		w.tb.Fatal(err)
	}
	w.begin(load{data: 32 << 10, topics: 6})
	g := w.gateways[0]
	w.fault("output buffer full", func() {
		g.proxy.Deafen(true)
		w.eventually(30*time.Second, "Redis cuts the subscriber", func() bool { return w.redis.Logged("output buffer limits") > 0 })
		g.proxy.Heal()
	})
	w.pause(4 * time.Second)
	cut := w.redis.Logged("output buffer limits")
	w.finish(allowed{late: time.Second})
	w.proves("subscribers cut by Redis", cut)
}
