package keyspace_test

import (
	"encoding/hex"
	"errors"
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
		"2\nabcdef\n7\n7\n3\n1\n\nn\nn1\n\xff\xff": keyspace.ErrCorrupt,
	} {
		if _, err := keyspace.DecodePayload(stream("default", "user:ann"), payload); !errors.Is(err, want) {
			t.Errorf("%q: got %v, want %v", payload, err, want)
		}
	}
}

func TestItemDecodesWhatItEncoded(t *testing.T) {
	body, err := keyspace.EncodeBody(&full)
	if err != nil {
		t.Fatal(err)
	}
	got, err := keyspace.DecodeItem("n1", keyspace.EncodeHead("mention"), body)
	want := &notify.Item{ID: "n1", Category: "mention", Time: full.Time, Data: full.Data}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Fatalf("item %v (-want +got):\n%s", err, diff)
	}
	marked, err := keyspace.DecodeItem("n1", keyspace.EncodeHead("mention")+"\nabcdef.7 -", body)
	if diff := cmp.Diff(want, marked); err != nil || diff != "" {
		t.Fatalf("item that was marked %v (-want +got):\n%s", err, diff)
	}
	later, err := keyspace.DecodeItem("n1", keyspace.EncodeHead("mention")+"\nabcdef.7 -\nof a later build", body)
	if diff := cmp.Diff(want, later); err != nil || diff != "" {
		t.Fatalf("item of a later build %v (-want +got):\n%s", err, diff)
	}
	if _, err := keyspace.DecodeItem("n1", "a\nb", nil); !errors.Is(err, keyspace.ErrCorrupt) {
		t.Fatalf("half a head: %v", err)
	}
}

func FuzzDecodePayload(f *testing.F) {
	body, _ := keyspace.EncodeBody(&full)
	f.Add("2\nabcdef\n7\n7\n3\n1\nmention=2\nn\nn1\n" + string(body))
	f.Add("2\n\n0\n0\n0\n0\n\ne\nx\n")
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
	})
}

func FuzzDecodeItem(f *testing.F) {
	f.Add("\nmention\n0\n", []byte{})
	f.Add("\nmention\n0\n\nabcdef.7 -", []byte{})
	f.Fuzz(func(t *testing.T, head string, body []byte) {
		if i, err := keyspace.DecodeItem("x", head, body); (i == nil) == (err == nil) {
			t.Fatalf("item %v with error %v", i, err)
		}
	})
}
