package store

import (
	"time"

	"allim/pkg/notify"
)

// A Claim is a notification that no device showed in time, and that this program tells somebody of: until its lease ends, or Escalated says what became
// of it, no other does.
type Claim struct {
	Stream   notify.Stream
	Item     notify.Item // as it is now
	Collapse string      // key that it came with; "" for none
	Via      notify.Via
	Unless   notify.Change // ChangeSeen or ChangeRead: what would have made it needless
	Since    time.Time     // when it was due first, by Redis' clock
	Attempt  int           // 1 is the first; those count of which it was said that they ended
	Done     []string      // keys of the subscriptions that need no attempt any more

	claimer string // of no other claim of it
}

// An Outcome says what became of a Claim. The zero value: it is over.
type Outcome struct {
	Again bool          // there is to be another attempt
	After time.Duration // of Again: from now on
	Same  bool          // of Again: this one does not count
	Done  []string      // of Again: keys of all subscriptions that need no attempt any more
}

// Due says what a look at the deadlines came to.
type Due struct {
	Claims    []Claim
	Expired   int // items whose time was over
	Scheduled int // notifications whose time had come
	PutOff    int // claims that found no place and come again
	Cancelled map[notify.Via]int
	Lag       time.Duration // how long the oldest of what was due had been so; 0: nothing was
	More      bool          // there was more than one look takes
}

// Slots bound the claims. Take is asked for at most so many of a tenant's, and says how many there may be; Free gives back what was not made use of.
type Slots interface {
	Take(tenant string, most int) int
	Free(tenant string, n int)
}
