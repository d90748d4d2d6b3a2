package store_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"allim/internal/store"
	"allim/internal/testkit"
	"allim/pkg/notify"
)

// An item as the log of what was acknowledged has it.
type logged struct{ Seen, Read, Archived bool }

// holders is one user's inbox, written by several programs, and what was acknowledged of it.
type holders struct {
	*bench
	rnd        *rand.Rand
	user       notify.Stream
	publishers []*store.Store
	gateways   []*store.Store
	want       map[string]logged
	said       []string // what was done, for whoever looks for a fault
	made       int
	lost       bool // items may be missing until makeGood
}

func (h *holders) say(format string, args ...any) {
	h.said = append(h.said, fmt.Sprintf(format, args...))
}

func (h *holders) notifyOne() {
	h.made++
	id, at := fmt.Sprint("n", h.made), h.rnd.IntN(len(h.publishers))
	got := h.publishers[at].Write(h.ctx, []notify.Stream{h.user}, notification(id, ""), store.Committed)[0]
	if got.Err != nil {
		h.Fatal(got.Err)
	}
	h.say("publisher %d: %s at %s", at, id, got.Position)
	h.want[id] = logged{}
}

func (h *holders) markSome() {
	var ids []string
	for _, id := range slices.Sorted(maps.Keys(h.want)) { // a seed is one schedule
		if h.rnd.IntN(3) == 0 {
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		return
	}
	changes := []notify.Change{notify.ChangeSeen, notify.ChangeRead, notify.ChangeRead, notify.ChangeUnread, notify.ChangeUnread, notify.ChangeArchive, notify.ChangeUnarchive, notify.ChangeDelete}
	change, at := changes[h.rnd.IntN(len(changes))], h.rnd.IntN(len(h.gateways))
	if change == notify.ChangeDelete {
		ids = ids[:1]
	}
	got, err := h.gateways[at].Mark(h.ctx, h.user, store.Mark{Change: change, IDs: ids})
	if err != nil || len(got.Unknown) > 0 && !h.lost {
		h.Fatalf("%c %v: %+v, %v\n%s", change, ids, got, err, h.said)
	}
	h.say("gateway %d: %c %v at %s, but %v", at, change, ids, got.Position, got.Unknown)
	for _, id := range ids {
		if slices.Contains(got.Unknown, id) {
			continue // so the client was told
		}
		i := h.want[id]
		switch change {
		case notify.ChangeSeen:
			i.Seen = true
		case notify.ChangeRead:
			i.Seen, i.Read = true, true
		case notify.ChangeUnread:
			i.Read = false
		case notify.ChangeArchive:
			i.Seen, i.Archived = true, true
		case notify.ChangeUnarchive:
			i.Archived = false
		}
		if h.want[id] = i; change == notify.ChangeDelete {
			delete(h.want, id)
		}
	}
}

func (h *holders) some(n int) {
	for range n {
		if h.rnd.IntN(3) == 0 || len(h.want) == 0 {
			h.notifyOne()
		} else {
			h.markSome()
		}
	}
}

// makeGood has all holders look at what they hold, in any order.
func (h *holders) makeGood() {
	all := slices.Concat(h.publishers, h.gateways)
	h.rnd.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	for _, s := range all {
		if _, err := s.Mark(h.ctx, h.user, store.Mark{Change: notify.ChangeSeen, IDs: []string{"none"}}); err != nil {
			h.Fatal(err)
		}
	}
	for range 2 {
		for _, s := range all {
			s.Remark(h.ctx)
		}
	}
}

func (h *holders) compare(when string) {
	got := map[string]logged{}
	page, err := h.publishers[0].List(h.ctx, h.user, store.Query{Status: store.All, Limit: 100})
	if err != nil {
		h.Fatal(err)
	}
	unread := 0
	for _, i := range page.Items {
		got[i.ID] = logged{i.Seen, i.Read, i.Archived}
	}
	for _, i := range h.want {
		if !i.Read && !i.Archived {
			unread++
		}
	}
	if diff := cmp.Diff(h.want, got); diff != "" || page.Badge.Unread != unread {
		h.Fatalf("%s: unread %d, want %d (-want +got):\n%s\n%s", when, page.Badge.Unread, unread, diff, h.said)
	}
}

// Whatever was acknowledged by whomever, and whatever part of it a failover loses: together the holders bring back what was acknowledged. ALLIM_SEED
// repeats one schedule.
func TestWhateverIsLostItsHoldersBringItBack(t *testing.T) {
	t.Parallel()
	b := epochBench(t)
	b.ctx = testkit.Context(t, 2*time.Minute)
	first, end := uint64(1), uint64(101)
	if seed := os.Getenv("ALLIM_SEED"); seed != "" {
		n, err := strconv.ParseUint(seed, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		first, end = n, n+1
	}
	h := holders{bench: b, publishers: []*store.Store{b.publisher, b.another("publisher")},
		gateways: []*store.Store{b.Store, b.another("gateway"), b.another("gateway")}}
	for seed := first; seed < end; seed++ {
		h.rnd, h.user, h.said, h.made = rand.New(rand.NewPCG(seed, 4)), stream(fmt.Sprint("user:u", seed)), []string{fmt.Sprint("seed ", seed)}, 0
		h.want, h.lost = map[string]logged{}, false
		h.some(4)
		for round := range 3 {
			h.some(h.rnd.IntN(6))
			behind := b.snapshot(b.keys.Inbox(h.user).All()...)
			h.say("here is what remains")
			h.some(h.rnd.IntN(8))
			behind()
			b.newHistory()
			h.say("failover")
			h.lost = true
			h.some(h.rnd.IntN(4)) // before all know of it
			if round < 2 && h.rnd.IntN(3) == 0 {
				continue // and the next one comes before that
			}
			h.makeGood()
			h.lost = false
			h.compare(fmt.Sprint("seed ", seed, ", failover ", round))
		}
	}
}
