package keyspace_test

import (
	"encoding/hex"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"allim/internal/keyspace"
	"allim/pkg/notify"
)

var full = notify.Message{Change: notify.ChangeNotification, Position: notify.Position{Epoch: "abcdef", Offset: 7}, ID: "n1",
	Category: "mention", Time: time.UnixMilli(1_795_000_000_123).UTC(), Origin: "0123456789abcdef", Data: []byte(`{"a":"b\nc"}`),
	Badge: &notify.Badge{Unread: 3, Unseen: 1, By: []notify.CategoryCount{{Category: "mention", Unread: 2}}, Revision: notify.Position{Epoch: "abcdef", Offset: 7}}}

// The bytes of a body, pinned: two versions of a pod share them in every rolling update.
func TestBodyBytesArePinned(t *testing.T) {
	b, err := keyspace.EncodeBody(&full)
	if err != nil {
		t.Fatal(err)
	}
	const want = "12076d656e74696f6e1a0b08c08df6d70610c0a9d33a2210303132333435363738396162636465663a0c7b2261223a22625c6e63227d"
	if got := hex.EncodeToString(b); got != want {
		t.Fatalf("body: got %s, want %s", got, want)
	}
}

// The same of what a notification with terms, and a mark of items in segments, have in it.
func TestBodyBytesOfTermsArePinned(t *testing.T) {
	terms := full
	terms.ExpiresAt, terms.Terms = full.Time.Add(time.Second), &notify.Terms{Mandatory: true, Collapse: "not in the body", NotBefore: full.Time}
	for want, m := range map[string]notify.Message{
		"12076d656e74696f6e1a0b08c08df6d70610c0a9d33a221030313233343536373839616263646566320b08c18df6d70610c0a9d33a3a0c7b2261223a22625c6e63227d5001": terms,
		"2210303132333435363738396162636465665801": {Change: notify.ChangeRead, Origin: "0123456789abcdef", Segments: true},
	} {
		b, err := keyspace.EncodeBody(&m)
		if got := hex.EncodeToString(b); err != nil || got != want {
			t.Fatalf("body: got %s, want %s (%v)", got, want, err)
		}
		got, err := keyspace.DecodeEntry("abcdef", "7", string(rune(m.Change)), m.ID, b)
		if m.Terms != nil {
			m.Terms = &notify.Terms{Mandatory: true}
		} else {
			m.IDs = []string{""}
		}
		m.Badge, m.Position = nil, notify.Position{Epoch: "abcdef", Offset: 7}
		if diff := cmp.Diff(&m, got); err != nil || diff != "" {
			t.Fatalf("message %v (-want +got):\n%s", err, diff)
		}
	}
}

func TestABodyThatIsReplayedIsTheSameAndSaysSo(t *testing.T) {
	body, err := keyspace.EncodeBody(&full)
	if err != nil {
		t.Fatal(err)
	}
	again := full
	again.Replayed = true
	want, err := keyspace.EncodeBody(&again)
	if err != nil {
		t.Fatal(err)
	}
	before := string(body)
	if got := keyspace.ReplayedBody(body); string(got) != string(want) || string(body) != before {
		t.Fatalf("got %x, want %x; the body is %x now", got, want, body)
	}
	if got := keyspace.ReplayedBody(nil); string(got) != "\x48\x01" { // of a mark without an origin
		t.Fatalf("of nothing: %x", got)
	}
}

func TestPayloadDecodes(t *testing.T) {
	body, err := keyspace.EncodeBody(&full)
	if err != nil {
		t.Fatal(err)
	}
	got, err := keyspace.DecodePayload(stream("default", "user:ann"), "2\nabcdef\n7\n7\n3\n1\nmention=2\nn\nn1\n"+string(body))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&full, got); diff != "" {
		t.Fatalf("message (-want +got):\n%s", diff)
	}
	got, err = keyspace.DecodePayload(stream("default", "user:ann"), "2\nabcdef\n8\n8\n0\n0\n\nr\nn1,n2\n")
	if err != nil || got.Change != notify.ChangeRead || cmp.Diff([]string{"n1", "n2"}, got.IDs) != "" || got.ID != "" {
		t.Fatalf("mark: %+v, %v", got, err)
	}
	if got, err = keyspace.DecodePayload(stream("default", "orders"), "2\nabcdef\n8\n8\n0\n0\n\nm\na\n"); err != nil || got.Badge != nil {
		t.Fatalf("event topic: %+v, %v", got, err)
	}
}

func TestWrongPayloadsAreErrors(t *testing.T) {
	for payload, want := range map[string]error{
		"":                                         keyspace.ErrVersion,
		"3\nabcdef\n7":                             keyspace.ErrVersion,
		"2\nabcdef\n7":                             keyspace.ErrCorrupt,
		"2\nabcdef\nx\n7\n3\n1\n\nn\nn1\n":         keyspace.ErrCorrupt,
		"2\nabcdef\n7\n7\n-3\n1\n\nn\nn1\n":        keyspace.ErrCorrupt,
		"2\nabcdef\n7\n7\n3\n1\nm\nn\nn1\n":        keyspace.ErrCorrupt,
		"2\nabcdef\n7\n7\n3\n1\n=2\nn\nn1\n":       keyspace.ErrCorrupt,
		"2\nabcdef\n7\n7\n3\n1\n\nnn\nn1\n":        keyspace.ErrCorrupt,
		"2\nabcdef\n7\n7\n3\n1\n\nn\nn1,n2,n3\n":   keyspace.ErrCorrupt,
		"2\nabcdef\n7\n7\n3\n1\n\nn\nn1\n\xff\xff": keyspace.ErrCorrupt,
	} {
		if _, err := keyspace.DecodePayload(stream("default", "user:ann"), payload); !errors.Is(err, want) {
			t.Errorf("%q: got %v, want %v", payload, err, want)
		}
	}
}

// The ids of an entry by its change, and what becomes of them.
func TestEveryChangeDecodes(t *testing.T) {
	for _, c := range []struct {
		change, ids string
		want        notify.Message
	}{
		{"n", "n1", notify.Message{Change: notify.ChangeNotification, ID: "n1"}},
		{"n", "n1,n0", notify.Message{Change: notify.ChangeNotification, ID: "n1", Replaces: "n0"}},
		{"p", "n1", notify.Message{Change: notify.ChangeUpdate, ID: "n1"}},
		{"t", "n1", notify.Message{Change: notify.ChangeRetract, ID: "n1"}},
		{"x", "n1", notify.Message{Change: notify.ChangeExpire, ID: "n1"}},
		{"f", "mention,order", notify.Message{Change: notify.ChangePreferences, IDs: []string{"mention", "order"}}},
		{"f", "", notify.Message{Change: notify.ChangePreferences}},
		{"s", "n1,n2", notify.Message{Change: notify.ChangeSeen, IDs: []string{"n1", "n2"}}},
		{"m", "m1", notify.Message{Change: notify.ChangeMessage, ID: "m1"}},
		{"?", "n1", notify.Message{Change: notify.ChangeUnknown}},
		{"q", "n1,n2,n3", notify.Message{Change: notify.ChangeUnknown}},
	} {
		c.want.Position = notify.Position{Epoch: "abcdef", Offset: 7}
		got, err := keyspace.DecodeEntry("abcdef", "7", c.change, c.ids, nil)
		if diff := cmp.Diff(&c.want, got); err != nil || diff != "" {
			t.Errorf("%s %s: %v (-want +got):\n%s", c.change, c.ids, err, diff)
		}
	}
}

// A pod of a later version writes what this one cannot know. Its counts are good all the same.
func TestAChangeOfALaterBuildHasAPlaceAndCounts(t *testing.T) {
	got, err := keyspace.DecodePayload(stream("default", "user:ann"), "2\nabcdef\n7\n7\n3\n1\nmention=2\nq\nn1,n2\n\xff no body of ours")
	want := &notify.Message{Change: notify.ChangeUnknown, Position: full.Position, Badge: full.Badge}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Fatalf("%v (-want +got):\n%s", err, diff)
	}
}

func FuzzDecodePayload(f *testing.F) {
	body, _ := keyspace.EncodeBody(&full)
	f.Add("2\nabcdef\n7\n7\n3\n1\nmention=2\nn\nn1\n" + string(body))
	f.Add("2\n\n0\n0\n0\n0\n\ne\nx\n")
	f.Add("2\nabcdef\n7\n7\n3\n1\n\nn\nn1,n0\n")
	f.Add("2\nabcdef\n7\n7\n3\n1\n\nf\nmention,order\n")
	f.Add("2\nabcdef\n7\n7\n3\n1\n\nq\nn1,n2\n")
	f.Add("1\n")
	f.Fuzz(func(t *testing.T, payload string) {
		m, err := keyspace.DecodePayload(stream("default", "user:ann"), payload)
		if err != nil {
			if !errors.Is(err, keyspace.ErrVersion) && !errors.Is(err, keyspace.ErrCorrupt) {
				t.Fatalf("error of no kind: %v", err)
			}
			return
		}
		if m.Badge == nil && m.Change != notify.ChangeEphemeral {
			t.Fatal("a user's message without a badge")
		}
		if notify.MarkName(m.Change) == "" && m.Change != notify.ChangePreferences && m.IDs != nil || strings.Contains(m.Replaces, ",") {
			t.Fatalf("%q became %+v", payload, m)
		}
	})
}
