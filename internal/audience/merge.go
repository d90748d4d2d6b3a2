package audience

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"math"
	"sort"

	"allim/pkg/notify"
)

// An Entry is one item of a list, by what its place in it follows from.
type Entry struct {
	Offset uint64
	Time   int64  // of its first acknowledgement, in ms of Unix time
	ID     string // of a segment's
	State  State  // of a segment's
}

// End is above every offset: what stands below it is everything.
const End = math.MaxInt64

// A List is what one stream has to give to a page.
type List struct {
	Topic   notify.Topic
	Entries []Entry // the newest first
	Below   uint64  // what follows them stands below it; 0: nothing does
}

// List is what a member has of a segment below an offset and in a state that is wanted, at most limit of it. category "" means all.
func (b *Board) List(m *Member, r Reader, below uint64, category string, want func(State) bool, limit int) List {
	l := List{Topic: notify.TopicOf(notify.KindSegment, m.Segment)}
	w := b.walk(m, r)
	w.items = w.items[:sort.Search(len(w.items), func(i int) bool { return w.items[i].Offset >= below })]
	for h, s := w.next(); h != nil; h, s = w.next() {
		if category != "" && h.Category != category || !want(s) {
			continue
		}
		if len(l.Entries) == limit {
			l.Below = l.Entries[limit-1].Offset
			break
		}
		l.Entries = append(l.Entries, Entry{Offset: h.Offset, Time: h.Time, ID: h.ID, State: s})
	}
	return l
}

// A Pick is one item of a page: the Entry-th of the List-th list.
type Pick struct{ List, Entry int }

// Merge is a page of at most limit items of several streams, the newest first; of those of one moment by topic. Those of one stream stay in its order whatever clocks
// said. It ends where a list does that says that more follows: nobody knows what.
func Merge(lists []List, limit int) (page []Pick) {
	at := make([]int, len(lists))
	for len(page) < limit {
		best := -1
		for i := range lists {
			l := &lists[i]
			if at[i] == len(l.Entries) {
				if l.Below != 0 {
					return page
				}
				continue
			}
			if best < 0 || before(l, at[i], &lists[best], at[best]) {
				best = i
			}
		}
		if best < 0 {
			return page
		}
		page = append(page, Pick{best, at[best]})
		at[best]++
	}
	return page
}

// before tells whether an entry of one list comes before one of another.
func before(a *List, i int, b *List, j int) bool {
	if x, y := a.Entries[i].Time, b.Entries[j].Time; x != y {
		return x > y
	}
	return a.Topic < b.Topic
}

// A token says where a page ends: for each stream the offset below which the next one begins, 0 where it is at its end. Offsets go on above everything visible whatever
// happens to an epoch, so pages are stable under what comes. It is base64url of
//
//	<length of filter> filter, then for each stream 8 bytes of the SHA-256 of its topic and the offset as uvarint
const (
	tokenHash = 8
	maxToken  = 1 << 10 // bytes; about 22 streams are named
)

// After is the token of the page that follows these items, which Merge gave for lists; "" where nothing does. Fewer of them may be given than it gave. filter is at
// most 255 bytes.
func After(filter string, lists []List, page []Pick) string {
	taken := make([]int, len(lists))
	for _, p := range page {
		taken[p.List] = p.Entry + 1
	}
	b := append([]byte{byte(len(filter))}, filter...)
	more := false
	for i := range lists {
		l, below := &lists[i], uint64(0)
		switch n := taken[i]; {
		case n == len(l.Entries):
			below = l.Below
		case n > 0:
			below = l.Entries[n-1].Offset
		default: // what comes meanwhile belongs to no later page
			below = l.Entries[0].Offset + 1
		}
		more = more || below > 0
		h := topicHash(l.Topic)
		b = binary.AppendUvarint(append(b, h[:]...), below)
	}
	if !more {
		return ""
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

// A Token says where a page begins. The zero value is the beginning.
type Token struct{ below map[[tokenHash]byte]uint64 }

// ParseToken reads what After wrote with the same filter; ok is false for anything else but "".
func ParseToken(filter, text string) (t Token, ok bool) {
	if text == "" {
		return t, true
	}
	if len(text) > maxToken*4/3 {
		return t, false
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(b) < 1+len(filter) || int(b[0]) != len(filter) || string(b[1:1+len(filter)]) != filter {
		return t, false
	}
	t.below = map[[tokenHash]byte]uint64{}
	for b = b[1+len(filter):]; len(b) > 0; {
		if len(b) < tokenHash+1 {
			return Token{}, false
		}
		offset, n := binary.Uvarint(b[tokenHash:])
		if n <= 0 || offset >= 1<<53 {
			return Token{}, false
		}
		t.below[[tokenHash]byte(b)] = offset
		b = b[tokenHash+n:]
	}
	return t, true
}

// Below is where a stream goes on: End where the token does not know it. 0 is nowhere.
func (t Token) Below(topic notify.Topic) uint64 {
	if below, known := t.below[topicHash(topic)]; known {
		return below
	}
	return End
}

func topicHash(t notify.Topic) [tokenHash]byte {
	sum := sha256.Sum256([]byte(t))
	return [tokenHash]byte(sum[:])
}
