package fanout

import (
	"sync/atomic"
	"time"
)

// Stats are a hub's counters at one moment. Those without "now" only grow.
type Stats struct {
	Topics        int    // now
	Waiting       int    // topics whose subscription is not acknowledged, now
	Subscriptions int    // now
	Lagging       int    // subscriptions whose sink took no more, now
	Lag           uint64 // messages that the one furthest behind of these lacks, when it was last looked
	RingBytes     int    // of all rings, now
	HistoryQueued int    // questions to history that wait or run, now

	Messages      uint64            // received on topics' channels
	Offered       uint64            // to sinks
	Dropped       map[string]uint64 // by reason
	Resyncs       map[string]uint64 // by reason
	Epochs        map[string]uint64 // topics whose epoch in Redis is another one, by what became of theirs
	Regressions   uint64            // tops of the same epoch below what was heard of it: 0, or epochs do not do what they are for
	Unanswered    uint64            // Attach and Move that ended in ErrUnavailable
	HistoryErrors uint64

	Links         int               // lanes
	LinksUp       int               // now
	LinkUp        bool              // all of them are, now
	Generation    uint32            // links that were begun, of all lanes
	LinkEnds      map[string]uint64 // by cause
	ProbeAge      time.Duration     // since a probe came back, of the lane for which that is longest; negative: on some none ever did
	ProbeFailures uint64            // probes that Redis did not take, or that did not come back in time
}

// A cause says why something was not delivered, or not looked at.
type cause uint8

const (
	dropMailbox        cause = iota // a loop was behind: its topic resyncs
	dropBuffer                      // came while a topic synced, and was covered by history or made it sync again
	dropWaiting                     // before the subscription was acknowledged
	dropKnown                       // the topic was further already
	dropOldLink                     // from a link that is no more
	dropNoTopic                     // nobody listens any more
	dropVersion                     // of a schema that this build does not know: its topic resyncs
	dropCorrupt                     // not written by Allim: its topic resyncs
	dropRefused                     // by a sink that lags now; it comes from history
	dropRing                        // the rings' common bound: comes from history when needed
	dropEphemeralEarly              // ephemeral, while its topic was not live
	dropEphemeralSlow               // ephemeral, refused by a sink, or while it catches up
	numCauses
)

var causeNames = [numCauses]string{"mailbox", "sync_buffer", "waiting", "known", "old_link", "no_topic", "version", "corrupt", "refused",
	"ring", "ephemeral_not_live", "ephemeral_refused"}

// A turn is what became of a topic's epoch.
type turn uint8

const (
	turnContinued turn = iota // all that was heard of it is in the new one
	turnLost                  // some of it is not
	turnWiped                 // Redis knows nothing of it
	numTurns
)

var turnNames = [numTurns]string{"continued", "lost", "wiped"}

// counters are a shard's. Its loop writes; anyone reads.
type counters struct {
	subs, lagging             atomic.Int64
	waiting                   []atomic.Int64 // by lane
	held                      []atomic.Int64 // topics by partition
	messages, offered         atomic.Uint64
	regressions               atomic.Uint64
	epochs                    [numTurns]atomic.Uint64
	lag                       atomic.Uint64
	unanswered, historyErrors atomic.Uint64
	dropped                   [numCauses]atomic.Uint64
	resyncs                   [numReasons]atomic.Uint64
}

func (c *counters) drop(why cause) { c.dropped[why].Add(1) }

// Stats reads the counters.
func (h *Hub) Stats() Stats {
	s := Stats{Topics: int(h.topics.Load()), RingBytes: int(h.rings.Load()), HistoryQueued: h.recover.waiting(),
		Dropped: make(map[string]uint64, numCauses), Resyncs: make(map[string]uint64, numReasons),
		Epochs: make(map[string]uint64, numTurns)}
	for _, l := range h.loops {
		c := l.count
		for lane := range c.waiting {
			s.Waiting += int(c.waiting[lane].Load())
		}
		s.Subscriptions += int(c.subs.Load())
		s.Lagging += int(c.lagging.Load())
		s.Messages += c.messages.Load()
		s.Offered += c.offered.Load()
		s.Regressions += c.regressions.Load()
		for i := range c.epochs {
			s.Epochs[turnNames[i]] += c.epochs[i].Load()
		}
		s.Lag = max(s.Lag, c.lag.Load())
		s.Unanswered += c.unanswered.Load()
		s.HistoryErrors += c.historyErrors.Load()
		for i := range c.dropped {
			s.Dropped[causeNames[i]] += c.dropped[i].Load()
		}
		for i := range c.resyncs {
			s.Resyncs[reasonNames[i]] += c.resyncs[i].Load()
		}
	}
	h.linkStats(&s)
	return s
}

func (h *Hub) linkStats(s *Stats) {
	s.LinkEnds = make(map[string]uint64, numEndings)
	for _, f := range h.feeds {
		f.mu.Lock()
		s.Links++
		s.Generation += f.gen
		if f.up {
			s.LinksUp++
		}
		s.ProbeFailures += f.missed
		age := time.Since(f.last)
		if f.last.IsZero() {
			age = -1
		}
		for i, n := range f.ends {
			s.LinkEnds[endingNames[i]] += n
		}
		f.mu.Unlock()
		if s.Links == 1 || age < 0 || s.ProbeAge >= 0 && age > s.ProbeAge {
			s.ProbeAge = age
		}
	}
	s.LinkUp = s.LinksUp == s.Links
}
