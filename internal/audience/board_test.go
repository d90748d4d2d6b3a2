package audience

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"allim/pkg/notify"
)

var text = Text{Epoch: "k3abcd", Top: "12", Bases: "x1qrst:9 zzzzzz:4 ",
	Items:    "3 n3 0 1000 - \n7 n7 5000 2000 ! mention\n12 n12 0 3000 - a-b_c.9\n",
	Replaced: "n1 n3\nn2 n3\nn4 gone\n"}

func mustParse(t testing.TB, text Text, keep Keep) *Board {
	t.Helper()
	b, err := ParseBoard(text, keep)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func wantBoard(t testing.TB, what string, got, want *Board) {
	t.Helper()
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(Board{}, alias{}), cmpopts.EquateEmpty()); diff != "" {
		t.Fatalf("%s: (-want +got)\n%s", what, diff)
	}
}

func TestABoardIsReadAsRedisAnswersIt(t *testing.T) {
	wantBoard(t, "all", mustParse(t, text, Keep{}), &Board{Epoch: "k3abcd", Top: 12, Bases: []notify.Position{at("x1qrst", 9), at("zzzzzz", 4)},
		Items:    []Head{{3, "n3", "", 1000, 0, false}, {7, "n7", "mention", 2000, 5000, true}, {12, "n12", "a-b_c.9", 3000, 0, false}},
		replaced: []alias{{"n1", "n3"}, {"n2", "n3"}, {"n4", "gone"}}})
	old := Keep{Items: 2, Age: 2500 * time.Millisecond}
	wantBoard(t, "as this build is set", mustParse(t, Text{Epoch: "k3abcd", Top: "12", Items: text.Items}, old), &Board{Epoch: "k3abcd", Top: 12,
		Items: []Head{{7, "n7", "mention", 2000, 4500, true}, {12, "n12", "a-b_c.9", 3000, 5500, false}}, keep: old})
	wantBoard(t, "no segment", mustParse(t, Text{Top: "0"}, Keep{}), &Board{})
}

func TestABoardThatNobodyWroteIsRefused(t *testing.T) {
	for _, change := range []func(*Text){
		func(t *Text) { t.Top = "" },
		func(t *Text) { t.Top = "11" }, // of a later item
		func(t *Text) { t.Bases = "x1qrst" },
		func(t *Text) { t.Bases = ":1" },
		func(t *Text) { t.Items = "3 n3 0 1000 -\n" },
		func(t *Text) { t.Items = "3 n3 0 1000 ? c\n" },
		func(t *Text) { t.Items = "3 n,3 0 1000 - c\n" },
		func(t *Text) { t.Items = "3 n3 0 1000 - C\n" },
		func(t *Text) { t.Items = "x n3 0 1000 - c\n" },
		func(t *Text) { t.Items = "3 n3 -1 1000 - c\n" },
		func(t *Text) { t.Items = "3 n3 0 t - c\n" },
		func(t *Text) { t.Items = "0 n3 0 1000 - c\n" },
		func(t *Text) { t.Items = "3 n3 0 1000 - c\n3 n4 0 1000 - c\n" },
		func(t *Text) { t.Replaced = "n1\n" },
		func(t *Text) { t.Replaced = "n1 n,3\n" },
	} {
		bad := text
		change(&bad)
		if b, err := ParseBoard(bad, Keep{}); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%+v: got %+v, %v", bad, b, err)
		}
	}
}

func message(change notify.Change, offset uint64, id string) *notify.Message {
	return &notify.Message{Change: change, Position: at("k3abcd", offset), ID: id, Time: time.UnixMilli(9000)}
}

func TestABoardGoesOnWithWhatComes(t *testing.T) {
	b := mustParse(t, text, Keep{Items: 3, Age: time.Hour})
	before := mustParse(t, text, Keep{Items: 3, Age: time.Hour})
	for _, c := range []struct {
		name string
		m    *notify.Message
		want []string // ids; nil: only Redis knows
		same bool
	}{
		{"a new one pushes the oldest out", message(notify.ChangeNotification, 13, "n13"), []string{"n7", "n12", "n13"}, false},
		{"one that replaces", &notify.Message{Change: notify.ChangeNotification, Position: at("k3abcd", 13), ID: "n13", Replaces: "n7"}, []string{"n3", "n12", "n13"}, false},
		{"one that replaces what left", &notify.Message{Change: notify.ChangeNotification, Position: at("k3abcd", 13), ID: "n13", Replaces: "n0"}, []string{"n7", "n12", "n13"}, false},
		{"other data", message(notify.ChangeUpdate, 13, "n7"), []string{"n3", "n7", "n12"}, false},
		{"one taken back", message(notify.ChangeRetract, 13, "n7"), []string{"n3", "n12"}, false},
		{"one whose time is over", message(notify.ChangeExpire, 13, "n3"), []string{"n7", "n12"}, false},
		{"one taken back that left", message(notify.ChangeRetract, 13, "n0"), []string{"n3", "n7", "n12"}, false},
		{"a message", message(notify.ChangeMessage, 13, "m"), []string{"n3", "n7", "n12"}, false},
		{"what is here already", message(notify.ChangeNotification, 12, "n12"), []string{"n3", "n7", "n12"}, true},
		{"what has no place", &notify.Message{Change: notify.ChangeEphemeral}, []string{"n3", "n7", "n12"}, true},
		{"a hole", message(notify.ChangeNotification, 14, "n14"), nil, true},
		{"another epoch", &notify.Message{Change: notify.ChangeNotification, Position: at("x1qrst", 13)}, nil, true},
		{"another epoch, below the top", &notify.Message{Change: notify.ChangeNotification, Position: at("x1qrst", 3)}, nil, true},
		{"what a later build does", message(notify.ChangeUnknown, 13, "n7"), nil, true},
	} {
		next, ok := b.Apply(c.m)
		if (next == b) != c.same || ok != (c.want != nil) {
			t.Errorf("%s: ok %v, the same %v", c.name, ok, next == b)
		}
		if ok && !slices.Equal(ids(next), c.want) || ok && !c.same && next.Position() != c.m.Position {
			t.Errorf("%s: got %q at %s", c.name, ids(next), next.Position())
		}
		wantBoard(t, c.name+": the one before", b, before)
	}
}

func ids(b *Board) (all []string) {
	for _, h := range b.Items {
		all = append(all, h.ID)
	}
	return all
}

func TestABoardKeepsWhatANotificationSays(t *testing.T) {
	m := &notify.Message{Change: notify.ChangeNotification, Position: at("k3abcd", 1), ID: "n1", Category: "mention", Time: time.UnixMilli(5000),
		ExpiresAt: time.UnixMilli(7000), Terms: &notify.Terms{Mandatory: true}}
	got, ok := (&Board{keep: Keep{Age: time.Second}}).Apply(m) // the first of a segment that did not exist
	if !ok {
		t.Fatal("not applied")
	}
	wantBoard(t, "the first", got, &Board{Epoch: "k3abcd", Top: 1, Items: []Head{{1, "n1", "mention", 5000, 6000, true}}, keep: Keep{Age: time.Second}})
	m.Position.Offset = 2
	if _, ok := (&Board{}).Apply(m); ok {
		t.Error("a segment began with its second message")
	}
}

func TestOldIDsStandForTheNewItemInOneStep(t *testing.T) {
	b := mustParse(t, text, Keep{})
	b, _ = b.Apply(&notify.Message{Change: notify.ChangeNotification, Position: at("k3abcd", 13), ID: "n13", Replaces: "n3"})
	b, _ = b.Apply(message(notify.ChangeNotification, 14, "n14"))
	now := time.UnixMilli(4000)
	got := b.Named(map[string]bool{"n1": true, "n3": true, "n14": true, "n4": true, "n0": true, "n7": true}, now)
	want := []Ref{{7, "n7", "n7"}, {13, "n13", "n1"}, {13, "n13", "n3"}, {14, "n14", "n14"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("named: (-want +got)\n%s", diff)
	}
	if got := b.Named(map[string]bool{"n7": true}, time.UnixMilli(5000)); got != nil {
		t.Errorf("what is over is named: %v", got)
	}
	if diff := cmp.Diff([]Ref{{7, "n7", "n7"}, {12, "n12", "n12"}}, b.Within(12, now)); diff != "" {
		t.Errorf("up to 12: (-want +got)\n%s", diff)
	}
	if diff := cmp.Diff([]Ref{{12, "n12", "n12"}}, b.Within(12, time.UnixMilli(5000))); diff != "" {
		t.Errorf("up to 12, later: (-want +got)\n%s", diff)
	}
}

func TestNoMoreOldIDsAreKeptThanRedisKeeps(t *testing.T) {
	b := &Board{Epoch: "k3abcd"}
	const n = maxAliases + 5
	for i := range uint64(n + 1) {
		m := message(notify.ChangeNotification, i+1, "n"+time.Duration(i).String())
		if i > 0 {
			m.Replaces = "n" + time.Duration(i-1).String()
		}
		b, _ = b.Apply(m)
	}
	last := "n" + time.Duration(n).String()
	for i, want := range map[uint64]int{0: 0, 4: 0, 5: 1, n - 1: 1, n: 1} {
		id := "n" + time.Duration(i).String()
		if got := b.Named(map[string]bool{id: true}, time.Time{}); len(got) != want || want > 0 && got[0].ID != last {
			t.Errorf("%s: got %v", id, got)
		}
	}
}

func TestPositionsAreReadInTheEpochThatIs(t *testing.T) {
	b := mustParse(t, text, Keep{})
	for _, c := range []struct {
		at   notify.Position
		want uint64
	}{
		{at("k3abcd", 5), 5}, {at("k3abcd", 0), 0},
		{at("x1qrst", 8), 8}, {at("x1qrst", 9), 9}, {at("x1qrst", 11), 9}, // 10 and 11 were lost, and are others now
		{at("zzzzzz", 5), 4}, {at("aaaaaa", 5), 0}, {notify.Position{}, 0}, {at("-5", 0), 0},
	} {
		if got := b.Upto(c.at); got != c.want {
			t.Errorf("%s is %d, not %d", c.at, got, c.want)
		}
	}
}

func TestAMemberStartsWithTheNewest(t *testing.T) {
	b := mustParse(t, text, Keep{})
	for _, c := range []struct {
		n    int
		now  int64
		want uint64
	}{{0, 4000, 12}, {1, 4000, 11}, {2, 4000, 6}, {3, 4000, 2}, {20, 4000, 2}, {2, 5000, 2}} {
		if got := b.Start(c.n, time.UnixMilli(c.now)); got != at("k3abcd", c.want) {
			t.Errorf("the newest %d at %d: got %s, want %d", c.n, c.now, got, c.want)
		}
	}
	if got := (&Board{}).Start(20, time.UnixMilli(0)); got != (notify.Position{}) {
		t.Errorf("of no segment: %s", got)
	}
}

func TestABoardSaysWhenTheNextItemEnds(t *testing.T) {
	b := mustParse(t, Text{Epoch: "k3abcd", Top: "3", Items: "1 a 9000 1 - \n2 b 5000 1 - \n3 c 0 1 - \n"}, Keep{})
	for now, want := range map[int64]int64{0: 5000, 4999: 5000, 5000: 9000, 9000: 0} {
		got := int64(0)
		if at := b.Ends(time.UnixMilli(now)); !at.IsZero() {
			got = at.UnixMilli()
		}
		if got != want {
			t.Errorf("at %d: got %d, want %d", now, got, want)
		}
	}
}

func FuzzParseBoard(f *testing.F) {
	f.Add("k3abcd", "12", text.Bases, text.Items, text.Replaced)
	f.Fuzz(func(t *testing.T, epoch, top, bases, items, replaced string) {
		b, err := ParseBoard(Text{epoch, top, bases, items, replaced}, Keep{Items: 3})
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatal(err)
			}
			return
		}
		if len(b.Items) > 3 || b.last() > b.Top || !slices.IsSortedFunc(b.Items, func(x, y Head) int { return int(x.Offset) - int(y.Offset) }) {
			t.Fatalf("got %+v", b)
		}
		next, ok := b.Apply(&notify.Message{Change: notify.ChangeNotification, Position: notify.Position{Epoch: epoch, Offset: b.Top + 1}, ID: "new"})
		if !ok || len(next.Items) > 3 || next.last() != b.Top+1 {
			t.Fatalf("then %+v, %v", next, ok)
		}
	})
}
