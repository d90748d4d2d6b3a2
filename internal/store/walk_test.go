package store_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"allim/internal/store"
	"allim/pkg/notify"
)

const walkSteps = 250

// A walk does anything to ann's inbox, and looks at what that comes to.
type walk struct {
	*bench
	rnd  *rand.Rand
	made int
	did  []string // for whoever looks for a fault
}

func (w *walk) in(n int) bool { return w.rnd.IntN(n) == 0 }

// some is an id, most likely of an item that is there.
func (w *walk) some() string { return fmt.Sprint("n", max(0, w.made-1-w.rnd.IntN(16))) }

func (w *walk) key() string { return fmt.Sprint("k", w.rnd.IntN(3)) }

func (w *walk) say(format string, args ...any) { w.did = append(w.did, fmt.Sprintf(format, args...)) }

// ms is a time that is near.
func (w *walk) ms(least, most int) time.Duration {
	return time.Duration(least+w.rnd.IntN(most-least)) * time.Millisecond
}

func (w *walk) notifyOne() {
	m := notification(fmt.Sprint("n", w.made), []string{"", "a", "b", "c"}[w.rnd.IntN(4)])
	w.made++
	if w.in(8) {
		m.ID = w.some()
	}
	if w.in(2) {
		m.Terms = &notify.Terms{Mandatory: w.in(4)}
		if w.in(2) {
			m.Terms.Collapse = w.key()
		}
		if w.in(4) {
			m.Terms.NotBefore = time.Now().Add(w.ms(0, 20))
		}
		if w.in(4) {
			m.Terms.Escalate = &notify.Escalate{Unless: notify.ChangeSeen, After: w.ms(0, 10), Via: notify.ViaWebhook}
		}
	}
	if w.in(3) {
		m.ExpiresAt = time.Now().Add(w.ms(10, 40)).Truncate(time.Millisecond)
	}
	r := w.Publish(w.ctx, []notify.Stream{ann}, m)[0]
	w.say("notify %s %+v until %v: %+v", m.ID, m.Terms, m.ExpiresAt, r)
	if r.Err != nil && !errors.Is(r.Err, notify.ErrPast) {
		w.Fatal(r.Err)
	}
}

func (w *walk) markSome() {
	names := []string{"seen", "read", "unread", "archive", "unarchive", "delete"}
	m := store.Mark{Change: notify.Marks[names[w.rnd.IntN(len(names))]]}
	switch w.rnd.IntN(6) {
	case 0:
		m.All = true
	case 1:
		at := w.recover(ann, notify.Position{}, 0).Top
		m.Upto = &at
	default:
		for range 1 + w.rnd.IntN(4) {
			m.IDs = append(m.IDs, w.some())
		}
	}
	r, err := w.Store.Mark(w.ctx, ann, m)
	w.say("%c %+v: %+v", m.Change, m, r)
	if err != nil {
		w.Fatal(err)
	}
}

func (w *walk) step() {
	id, collapse := w.some(), ""
	if w.in(2) {
		id, collapse = "", w.key()
	}
	switch w.rnd.IntN(14) {
	case 0, 1, 2, 3:
		w.notifyOne()
	case 4, 5, 6, 7:
		w.markSome()
	case 8:
		u := store.UpdateOf{ID: id, Collapse: collapse, Data: strconv.AppendInt(nil, w.rnd.Int64N(5), 10)}
		if v := w.rnd.Int32N(5); w.in(2) {
			u.Version = &v
		}
		w.say("update %+v: %+v", u, w.update(u))
	case 9:
		w.say("retract %s%s: %+v", id, collapse, w.retract(store.RetractOf{ID: id, Collapse: collapse}))
	case 10:
		var mute []string
		for _, c := range []string{"a", "b", "c"} {
			if w.in(4) {
				mute = append(mute, c)
			}
		}
		w.mute(mute...)
		w.say("mute %v", mute)
	case 11, 12:
		d := w.due()
		w.say("due %+v", d)
		for _, c := range d.Claims {
			if err := w.publisher.Escalated(w.ctx, c, store.Outcome{Again: w.in(2), After: time.Millisecond}); err != nil {
				w.Fatal(err)
			}
		}
	default:
		w.publish(ann, fmt.Sprint("m", len(w.did)))
		w.say("an event")
	}
}

// counts says what is wrong with the badge of a list of everything.
func (w *walk) counts() string {
	p, err := w.List(w.ctx, ann, store.Query{Status: store.All, Limit: 100})
	if err != nil {
		w.Fatal(err)
	}
	want, by := notify.Badge{}, map[string]int{}
	for _, i := range p.Items {
		if !i.Archived && !i.Read {
			want.Unread++
			by[i.Category]++
		}
		if !i.Archived && !i.Seen {
			want.Unseen++
		}
	}
	for _, c := range []string{"a", "b", "c"} {
		if by[c] > 0 {
			want.By = append(want.By, notify.CategoryCount{Category: c, Unread: by[c]})
		}
	}
	if got := badgeText(&p.Badge); got != badgeText(&want) {
		return fmt.Sprintf("the badge is %s, of the items %s", got, badgeText(&want))
	}
	return ""
}

// leftovers says what is wrong with the keys.
func (w *walk) leftovers() (wrong []string) {
	k, due := w.keys.Inbox(ann), w.keys.Due(w.keys.Partition(ann))
	for _, key := range append(k.WithTerms(), due) {
		if w.rdb.PTTL(w.ctx, key).Val() == -1 {
			wrong = append(wrong, key+" has no lifetime")
		}
	}
	items := map[string]bool{}
	for _, id := range w.rdb.ZRange(w.ctx, k.Index, 0, -1).Val() {
		items[id] = true
	}
	for field := range w.rdb.HGetAll(w.ctx, k.Items).Val() {
		if id, _, _ := strings.Cut(field, "\x00"); !items[id] {
			wrong = append(wrong, fmt.Sprintf("field %q of no item", field))
		}
	}
	deadlines := w.rdb.ZRange(w.ctx, k.Deadlines, 0, -1).Val()
	for _, d := range deadlines {
		if d[0] != 's' && !items[d[2:]] {
			wrong = append(wrong, fmt.Sprintf("deadline %q of no item", d))
		}
	}
	if len(deadlines) > 0 && w.rdb.ZCard(w.ctx, due).Val() == 0 {
		wrong = append(wrong, "there are deadlines, and the partition has none")
	}
	terms := len(deadlines) > 0 || w.rdb.Exists(w.ctx, k.Collapse).Val() > 0 || w.rdb.HExists(w.ctx, k.Meta, "f").Val()
	if terms && !w.rdb.HExists(w.ctx, k.Meta, "o").Val() {
		wrong = append(wrong, "there are terms, and the stream does not say so")
	}
	return wrong
}

// Whatever is done, a list and its counts are of the same items, and nothing is left of what went. ALLIM_SEED repeats one walk, but for its clock.
func TestWhateverIsDoneListAndCountsAgreeAndNothingIsLeftBehind(t *testing.T) {
	onEach(t, store.Options{Inbox: store.Inbox{Size: 12}}, func(b *bench) {
		seed := rand.Uint64()
		if text := os.Getenv("ALLIM_SEED"); text != "" {
			seed, _ = strconv.ParseUint(text, 10, 64)
		}
		w := &walk{bench: b, rnd: rand.New(rand.NewPCG(seed, 6))}
		for i := range walkSteps {
			w.step()
			wrong := w.leftovers()
			if text := w.counts(); text != "" {
				wrong = append(wrong, text)
			}
			if len(wrong) > 0 {
				b.Fatalf("seed %d, step %d: %s\n%s", seed, i, strings.Join(wrong, "; "), strings.Join(w.did[max(0, len(w.did)-12):], "\n"))
			}
		}
	})
}
