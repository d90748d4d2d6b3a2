package notify

// A Recovery is one page of a stream's history: the answer to "what follows this position?". See delivery.md, recover.
type Recovery struct {
	Outcome  Outcome
	Position Position  // Delta: after the last message of this page. Reset: before the first message that can follow
	Top      Position  // the stream's last message when the page was read
	Messages []Message // in order, without badges; at most the page's bound
	Badge    *Badge    // of a user's stream: the counts at Top
	Why      Why       // of a Reset; "" where it is not known
}

// An Outcome says how a position relates to what Redis holds.
type Outcome byte

// The outcomes.
const (
	Delta Outcome = iota + 1 // Messages follow the position without a hole
	Reset                    // the position cannot be continued: take up at Position
	Empty                    // the stream does not exist; Position is EmptyAt now
)

// A Why says why a position cannot be continued.
type Why string

// The reasons of a reset. Whys lists them all.
const (
	WhyGone      Why = "gone"      // what follows it was trimmed: the client was away for too long
	WhyLost      Why = "lost"      // Redis lost what it had given there: a failover, or everything is gone
	WhyUnknown   Why = "unknown"   // of an epoch that Redis does not know, or unreadable
	WhyForgotten Why = "forgotten" // of a stream that did not exist, so long ago that one may have come and gone
)

// Whys are all reasons of a reset, as labels of metrics.
var Whys = []Why{WhyGone, WhyLost, WhyUnknown, WhyForgotten}
