package notify_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"allim/pkg/notify"
)

func TestPositionsReadBack(t *testing.T) {
	for _, s := range []string{"0", "k3abcd.40", "zzzzzz.0", "777777.9007199254740991", "-0.0", "-28339200.0"} {
		p, err := notify.ParsePosition(s)
		if err != nil || p.String() != s {
			t.Errorf("%q came back as %q, %v", s, p, err)
		}
	}
	for _, s := range []string{"", "null", "1", "k3abcd", "k3abcd.", "k3abcd.-1", "k3abcd.+1", "k3abcd.01", "k3abc1.1", "K3ABCD.1", "k3abcde.1", "k3abcd.9007199254740992",
		"-1.1", "-01.0", "-x.0", "k3abcd.1.1", " k3abcd.1", "-1073741824.0"} {
		if p, err := notify.ParsePosition(s); err == nil {
			t.Errorf("%q parsed as %+v", s, p)
		}
	}
}

func TestEmptyAtKeepsItsSecond(t *testing.T) {
	now := time.Date(2026, 11, 23, 4, 5, 6, 789e6, time.UTC)
	p := notify.EmptyAt(now.UnixMilli())
	ms, ok := p.Empty()
	if !ok || !time.UnixMilli(ms).Equal(now.Truncate(time.Second)) {
		t.Fatalf("%s is %s", p, time.UnixMilli(ms))
	}
	if _, ok := (notify.Position{Epoch: "k3abcd"}).Empty(); ok {
		t.Fatal("a place in a stream is no empty position")
	}
}

func TestCursorCarriesEveryPosition(t *testing.T) {
	var in []notify.TopicPosition
	for i := range 102 {
		in = append(in, notify.TopicPosition{Topic: notify.Topic(fmt.Sprint("topic/", i)), Position: notify.Position{Epoch: "k3abcd", Offset: uint64(i * i)}})
	}
	in[7] = notify.TopicPosition{Topic: "user:42", Position: notify.EmptyAt(time.Now().UnixMilli())}
	s := notify.EncodeCursor(in)
	if len(s) > 1600 || strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-") != "" {
		t.Fatalf("%d bytes: %s", len(s), s)
	}
	c, ok := notify.DecodeCursor(s)
	if !ok || !c.Complete() {
		t.Fatalf("read back: %v, complete %v", ok, c.Complete())
	}
	for _, p := range in {
		if got, ok := c.Position(p.Topic); !ok || got != p.Position {
			t.Errorf("%s: got %s, want %s", p.Topic, got, p.Position)
		}
	}
	if _, known := c.Position("other"); known {
		t.Error("a topic that was never there is known")
	}
}

func TestCursorThatCannotHoldEverythingSaysSo(t *testing.T) {
	var in []notify.TopicPosition
	for i := range 400 {
		in = append(in, notify.TopicPosition{Topic: notify.Topic(fmt.Sprint("topic/", i)), Position: notify.Position{Epoch: "k3abcd", Offset: 1 << 52}})
	}
	s := notify.EncodeCursor(in)
	c, ok := notify.DecodeCursor(s)
	if !ok || c.Complete() || len(s) > notify.MaxCursor {
		t.Fatalf("read %v, complete %v, %d bytes", ok, c.Complete(), len(s))
	}
	for _, left := range [][]notify.TopicPosition{
		{{Topic: "a", Position: notify.Position{}}},
		{{Topic: "a", Position: notify.Position{Epoch: "k3abcd"}}, {Topic: "a", Position: notify.Position{Epoch: "k3abcd"}}}, // equal hashes
	} {
		if c, ok := notify.DecodeCursor(notify.EncodeCursor(left)); !ok || c.Complete() {
			t.Errorf("%v: read %v, complete %v", left, ok, c.Complete())
		}
	}
}

func TestUnreadableCursorsAreNotOK(t *testing.T) {
	good := notify.EncodeCursor([]notify.TopicPosition{{Topic: "a", Position: notify.Position{Epoch: "k3abcd", Offset: 3}}})
	for _, s := range []string{"x", "AA", "Ag", good[:len(good)-2], good + "A", strings.ToUpper(good) + "!", strings.Repeat("A", 3000)} {
		if _, ok := notify.DecodeCursor(s); ok {
			t.Errorf("%q was read", s)
		}
	}
	if c, ok := notify.DecodeCursor(""); !ok || !c.Complete() {
		t.Error("the empty cursor is complete and names nothing")
	}
}

func FuzzDecodeCursor(f *testing.F) {
	f.Add(notify.EncodeCursor([]notify.TopicPosition{{Topic: "a", Position: notify.Position{Epoch: "k3abcd", Offset: 3}}}))
	f.Fuzz(func(t *testing.T, s string) {
		c, ok := notify.DecodeCursor(s)
		if !ok {
			return
		}
		if p, known := c.Position("a"); known {
			if _, err := notify.ParsePosition(p.String()); err != nil {
				t.Fatalf("position %+v: %v", p, err)
			}
		}
	})
}

func FuzzParsePosition(f *testing.F) {
	f.Add("k3abcd.40")
	f.Add("-5.0")
	f.Fuzz(func(t *testing.T, s string) {
		if p, err := notify.ParsePosition(s); err == nil && p.String() != s {
			t.Fatalf("%q came back as %q", s, p)
		}
	})
}
