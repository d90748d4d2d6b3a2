package notify

// A Recovery is one page of a stream's history: the answer to "what follows this position?". See delivery.md, recover.
type Recovery struct {
	Outcome  Outcome
	Position Position  // Delta: after the last message of this page. Reset: before the first message that can follow
	Top      Position  // the stream's last message when the page was read
	Messages []Message // in order, without badges; at most the page's bound
	Badge    *Badge    // of a user's stream: the counts at Top
}

// An Outcome says how a position relates to what Redis holds.
type Outcome byte

// The outcomes.
const (
	Delta Outcome = iota + 1 // Messages follow the position without a hole
	Reset                    // the position cannot be continued: take up at Position
	Empty                    // the stream does not exist; Position is EmptyAt now
)
