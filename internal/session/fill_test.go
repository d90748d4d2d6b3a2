package session

import (
	"fmt"
	"strings"
	"testing"

	"allim/internal/keyspace"
	"allim/internal/wire"
	"allim/pkg/fanout"
	"allim/pkg/notify"
)

// What a transport makes of shared JSON is made once for all receivers, also where that is nothing; what is one receiver's own is never made into it.
func TestWhatManyReceiveIsMadeOnce(t *testing.T) {
	ss := New(Options{})
	made := 0
	f := &Framing{Format: 2, Append: func(b, json []byte) []byte { return append(append(b, json...), '\n') },
		Shared: func(json []byte) []byte {
			made++
			if strings.Contains(string(json), "short") {
				return []byte{}
			}
			return fmt.Appendf(nil, "packed %d\n", made)
		}}
	message := func(data string) *fanout.Delivery {
		return &fanout.Delivery{Stream: notify.Stream{Tenant: "default", Topic: "feed"},
			Message: &notify.Message{ID: "a", Data: []byte(data), Origin: "me", Position: notify.Position{Epoch: "abcdef", Offset: 1}}}
	}
	long, short := message(`"long"`), message(`"short"`)
	for _, c := range []struct {
		name  string
		hello Hello
		wants string // with JSON as the names of what stands in it
	}{
		{"one", Hello{}, "packed 1 short"},
		{"another", Hello{}, "packed 1 short"},
		{"who sent it", Hello{Origin: "me"}, "long,mine short,mine"},
		{"who holds a cursor", Hello{HasCursor: true}, "long,cursor short,cursor"},
	} {
		s := ss.Open(deafConn{}, c.hello, nil)
		at := &sub{s: s, topic: "feed"}
		s.mu.Lock()
		s.subs = []*sub{at}
		s.mu.Unlock()
		for _, d := range []*fanout.Delivery{long, short} {
			at.Deliver(nil, d, false)
		}
		b, _ := s.Fill(nil, 1<<20, f)
		var got []string
		for _, line := range strings.Split(strings.TrimSpace(string(b)), "\n") {
			if !strings.HasPrefix(line, "packed") {
				is := line
				line = ""
				for _, name := range []string{"long", "short", "mine", "cursor"} {
					if strings.Contains(is, `"`+name+`"`) {
						line += "," + name
					}
				}
				line = strings.TrimPrefix(line, ",")
			}
			got = append(got, line)
		}
		if text := strings.Join(got, " "); text != c.wants {
			t.Errorf("%s: got %s, want %s of %s", c.name, text, c.wants, b)
		}
		s.mu.Lock()
		s.subs = nil
		s.send(&wire.BadgeNow{Topic: "user:1", Badge: wire.BadgeOf(&notify.Badge{})}, item{})
		s.mu.Unlock()
		if b, _ := s.Fill(nil, 1<<20, f); !strings.HasPrefix(string(b), "{") {
			t.Errorf("%s: a frame of its own is %s", c.name, b)
		}
		s.Gone()
	}
	if made != 2 {
		t.Errorf("made %d times", made)
	}
}

// Who is refused a message while its inbox is listed, and has no room when the list is there, is given it when there is room: nothing else asks for it.
func TestWhoIsRefusedTwiceIsResumedAllTheSame(t *testing.T) {
	keys, err := keyspace.NewMap(0)
	if err != nil {
		t.Fatal(err)
	}
	s, c, _ := aReader(Limits{QueueFrames: 4})
	other := &sub{s: s, topic: "b"}
	s.own, s.listing, s.subs = c, true, append(s.subs, other)
	c.feed = fanout.New(fanout.Options{Keys: keys}).Attach(notify.Stream{Tenant: "default", Topic: c.topic}, fanout.From{Live: true}, c)
	read := func() {
		for f, _ := s.Pull(); f != nil; f, _ = s.Pull() {
		}
	}
	if c.Deliver(nil, offered(notify.ChangeMessage, 1), false) {
		t.Fatal("a message overtakes the list")
	}
	other.Deliver(nil, offered(notify.ChangeMessage, 1), false)
	read()
	for i := range 4 {
		other.Deliver(nil, offered(notify.ChangeMessage, 2+i), false)
	}
	s.mu.Lock()
	s.listed()
	s.mu.Unlock()
	if !c.lags {
		t.Error("it is resumed though there is no room")
	}
	if read(); c.lags {
		t.Error("nobody resumes it")
	}
}
