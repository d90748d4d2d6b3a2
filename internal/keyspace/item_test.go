package keyspace_test

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"allim/internal/keyspace"
	"allim/pkg/notify"
)

func version(n int32) *int32 { return &n }

var until = time.UnixMilli(1_795_000_001_500).UTC()

// Scripts and pods of two versions share heads in every rolling update.
func TestHeadsArePinned(t *testing.T) {
	for want, h := range map[string]keyspace.Head{
		"\n\n0\n":        {},
		"\nmention\n0\n": {Category: "mention"},
		"t1795000000123 v16 !\nmention\n1795000001500\nthread:7": {Since: full.Time, Version: version(16), Mandatory: true, Category: "mention",
			Expires: until, Collapse: "thread:7"},
		"v-1\n\n0\n":    {Version: version(-1)},
		"!\n\n0\nkey !": {Mandatory: true, Collapse: "key !"},
	} {
		if got := h.String(); got != want {
			t.Errorf("head: got %q, want %q", got, want)
		}
		got, err := keyspace.ParseHead(want)
		if diff := cmp.Diff(h, got); err != nil || diff != "" {
			t.Errorf("%q: %v (-want +got):\n%s", want, err, diff)
		}
	}
}

func TestAHeadSaysTheTermsOfItsNotification(t *testing.T) {
	m := full
	if got, want := keyspace.HeadOf(&m), (keyspace.Head{Category: "mention"}); got != want {
		t.Errorf("plain: got %+v, want %+v", got, want)
	}
	m.ExpiresAt, m.Terms = until, &notify.Terms{Collapse: "thread:7", Mandatory: true}
	if got, want := keyspace.HeadOf(&m), (keyspace.Head{Category: "mention", Expires: until, Collapse: "thread:7", Mandatory: true}); got != want {
		t.Errorf("with terms: got %+v, want %+v", got, want)
	}
}

func TestWhatALaterBuildSaysOfAnItemIsLeftAlone(t *testing.T) {
	h, err := keyspace.ParseHead("z9 t1795000000123 new ! !!\nmention\n0\n\nabcdef.7 -\nmore")
	want := keyspace.Head{Since: full.Time, Mandatory: true, Category: "mention"}
	if diff := cmp.Diff(want, h); err != nil || diff != "" {
		t.Fatalf("%v (-want +got):\n%s", err, diff)
	}
}

func TestWrongHeadsAreErrors(t *testing.T) {
	for _, head := range []string{"", "a\nb", "\nmention\n0", "\nmention\n\n", "\nmention\n1e+14\n", "\nmention\n-5\n", "\nmention\n253402300800000\n",
		"t\n\n0\n", "t1e12\n\n0\n", "v\n\n0\n", "v2147483648\n\n0\n"} {
		if h, err := keyspace.ParseHead(head); !errors.Is(err, keyspace.ErrCorrupt) {
			t.Errorf("%q: got %+v, %v", head, h, err)
		}
	}
}

func TestItemDecodesWhatItEncoded(t *testing.T) {
	body, err := keyspace.EncodeBody(&full)
	if err != nil {
		t.Fatal(err)
	}
	changed, err := keyspace.EncodeBody(&notify.Message{Data: []byte(`{"a":2}`), Origin: full.Origin})
	if err != nil {
		t.Fatal(err)
	}
	plain := notify.Item{ID: "n1", Category: "mention", Time: full.Time, Data: full.Data}
	ends, updated := plain, plain
	ends.ExpiresAt, updated.Data = until, []byte(`{"a":2}`)
	head := keyspace.Head{Category: "mention"}.String()
	for _, c := range []struct {
		name, head string
		update     []byte
		want       notify.Item
	}{
		{"plain", head, nil, plain},
		{"marked", head + "\nabcdef.7 -", []byte{}, plain},
		{"of a later build", head + "\nabcdef.7 -\nof a later build", nil, plain},
		{"that expires", "t1795000000123\nmention\n1795000001500\nkey", nil, ends},
		{"that was updated", head, changed, updated},
	} {
		got, err := keyspace.DecodeItem("n1", c.head, body, c.update)
		if diff := cmp.Diff(&c.want, got); err != nil || diff != "" {
			t.Errorf("item %s: %v (-want +got):\n%s", c.name, err, diff)
		}
	}
	for _, bad := range []struct {
		head         string
		body, update []byte
	}{{"a\nb", nil, nil}, {head, []byte("\xff"), nil}, {head, nil, []byte("\xff")}} {
		if _, err := keyspace.DecodeItem("n1", bad.head, bad.body, bad.update); !errors.Is(err, keyspace.ErrCorrupt) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

func FuzzDecodeItem(f *testing.F) {
	f.Add("\nmention\n0\n", []byte{}, []byte{})
	f.Add("t1795000000123 v16 !\nmention\n1795000001500\nkey\nabcdef.7 -", []byte{}, []byte("\x3a\x01\x31"))
	f.Fuzz(func(t *testing.T, head string, body, update []byte) {
		i, err := keyspace.DecodeItem("x", head, body, update)
		if (i == nil) == (err == nil) {
			t.Fatalf("item %v with error %v", i, err)
		}
		if err != nil && !errors.Is(err, keyspace.ErrCorrupt) {
			t.Fatalf("error of no kind: %v", err)
		}
		if err == nil && !i.ExpiresAt.IsZero() && i.ExpiresAt.Year() > 9999 {
			t.Fatalf("expires in %v", i.ExpiresAt)
		}
	})
}

func FuzzParseHead(f *testing.F) {
	f.Add("t1795000000123 v16 !\nmention\n1795000001500\nkey")
	f.Fuzz(func(t *testing.T, text string) {
		h, err := keyspace.ParseHead(text)
		if err != nil {
			return
		}
		again, err := keyspace.ParseHead(h.String()) // what is understood is written the same
		if diff := cmp.Diff(h, again); err != nil || diff != "" {
			t.Fatalf("%q: %v (-first +again):\n%s", text, err, diff)
		}
	})
}
