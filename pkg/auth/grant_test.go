package auth

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"allim/pkg/notify"
)

func identity(t *testing.T, grant string) *Identity {
	t.Helper()
	id, err := verifierFor(t, options(t)).Verify(forge(head, `{"sub":"a b","exp":1800003600,"allim":`+grant+`}`, secret))
	if err != nil {
		t.Fatalf("%v: %s", err, Why(err))
	}
	return id
}

func TestWhoMayHearWhat(t *testing.T) {
	everything := `{"subscribe":["*","user:*","user:bob","segment:*","segment:org-8"],"segments":["org-7"]}`
	own, err := notify.UserTopic("a b")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		grant string
		topic notify.Topic
		want  bool
	}{
		{`{}`, "orders/1", false},
		{`{}`, own, true},
		{`{}`, "user:ab", false},
		{`{}`, "", false},
		{everything, "orders/1", true},
		{everything, "page:/orders/1", true},
		{everything, "user:bob", false},
		{everything, own, true},
		{everything, "segment:org-7", true},
		{everything, "segment:org-8", false},
		{everything, "segment:org-70", false},
		{`{"subscribe":["orders/*"]}`, "orders/1", true},
		{`{"subscribe":["orders/*"]}`, "orders/", true},
		{`{"subscribe":["orders/*"]}`, "order", false},
		{`{"subscribe":["orders/1"]}`, "orders/12", false},
		{`{"hear":["orders/all"]}`, "orders/all", true},
		{`{"hear":["page:/x"]}`, "page:/x", true},
		{`{"hear":["orders/all"]}`, "orders/al", false},
	} {
		if got := identity(t, c.grant).MayHear(c.topic); got != c.want {
			t.Errorf("%s may hear %q: got %v, want %v", c.grant, c.topic, got, c.want)
		}
	}
}

func TestWhoMaySendWhat(t *testing.T) {
	for _, c := range []struct {
		grant, event string
		want         bool
	}{
		{`{}`, "chat message", false},
		{`{"send":["chat message"]}`, "chat message", true},
		{`{"send":["chat message"]}`, "chat messages", false},
		{`{"send":["chat*"]}`, "chat message", true},
		{`{"send":["*"]}`, "", false},
		{`{"subscribe":["*"]}`, "chat", false},
	} {
		if got := identity(t, c.grant).MaySend(c.event); got != c.want {
			t.Errorf("%s may send %q: got %v, want %v", c.grant, c.event, got, c.want)
		}
	}
}

func TestTheAnonymousHaveWhatTheSettingSays(t *testing.T) {
	id, err := Anonymous(Grant{Subscribe: []string{"public/*"}, Hear: []string{"public/chat"}, Send: []string{"chat message"}})
	if err != nil {
		t.Fatal(err)
	}
	if !id.Anonymous || id.Tenant != "default" || id.User != "" || !id.Expires.IsZero() {
		t.Errorf("got %+v", id)
	}
	if own, ok := id.Own(); ok {
		t.Errorf("the anonymous own %q", own)
	}
	for topic, want := range map[notify.Topic]bool{"public/x": true, "public/chat": true, "orders/1": false, "user:42": false, "user:": false, "segment:x": false, "": false} {
		if got := id.MayHear(topic); got != want {
			t.Errorf("may hear %q: got %v, want %v", topic, got, want)
		}
	}
	if !slices.Equal(id.Heard(), []notify.Topic{"public/chat"}) || !id.MaySend("chat message") || id.MaySend("x") {
		t.Errorf("got %+v", id)
	}
	_, err = Anonymous(Grant{Subscribe: []string{"ok", "a b"}, Hear: []string{"user:1", "a*"}, Send: []string{""}})
	if got, want := fields(err), []string{"subscribe[1]", "hear[0]", "hear[1]", "send[0]"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if _, err = Anonymous(Grant{Segments: []string{"all"}}); err == nil {
		t.Error("the anonymous got a segment")
	}
	if _, err = Anonymous(Grant{Hear: strings.Split(strings.Repeat("a,", 50)+"a", ",")}); err != nil {
		t.Errorf("one topic many times: %v", err)
	}
}

func TestPublicTopicsAreForEveryClientAndOpenNoStreamOfAUser(t *testing.T) {
	all := []notify.Pattern{"public/*", "page:/open/*", "*"}
	own, err := notify.UserTopic("a b")
	if err != nil {
		t.Fatal(err)
	}
	identities := func(public []notify.Pattern) map[string]*Identity {
		o := options(t)
		o.Public = public
		named, err := verifierFor(t, o).Verify(forge(head, `{"sub":"a b","exp":1800003600}`, secret))
		if err != nil {
			t.Fatal(Why(err))
		}
		nobody, err := Anonymous(Grant{Public: public})
		if err != nil {
			t.Fatal(err)
		}
		return map[string]*Identity{"named": named, "anonymous": nobody}
	}
	for _, c := range []struct {
		public []notify.Pattern
		topic  notify.Topic
		want   bool
	}{
		{nil, "public/a", false},
		{all[:1], "public/a", true},
		{all[:1], "orders/1", false},
		{all[:1], "page:/open/a", false},
		{all[:2], "page:/open/a", true},
		{all[:2], "page:/closed", false},
		{all, "orders/1", true},
		{all, "user:bob", false},
		{all, "segment:org-7", false},
		{[]notify.Pattern{"use*", "segm*"}, "user:bob", false},
		{[]notify.Pattern{"use*", "segm*"}, "segment:org-7", false},
	} {
		for who, id := range identities(c.public) {
			if got := id.MayHear(c.topic); got != c.want {
				t.Errorf("%v public, %s may hear %q: got %v, want %v", c.public, who, c.topic, got, c.want)
			}
			if len(id.Heard()) > 0 && who == "anonymous" || slices.Contains(id.Heard(), "public/a") {
				t.Errorf("%v public, %s hears %v without asking", c.public, who, id.Heard())
			}
		}
	}
	if !identities(all)["named"].MayHear(own) || identities(all)["anonymous"].MayHear(own) {
		t.Error("the own stream is for its user alone")
	}
	bad := []notify.Pattern{"ok/*", "user:*", "segment:x", "a*b", "", "user:bob"}
	want := []string{"public[1]", "public[2]", "public[3]", "public[4]", "public[5]"}
	_, err = NewVerifier(Options{Public: bad})
	if got := fields(err); !slices.Equal(got, want) {
		t.Errorf("verifier: got %v, want %v", got, want)
	}
	_, err = Anonymous(Grant{Public: bad})
	if got := fields(err); !slices.Equal(got, want) {
		t.Errorf("anonymous: got %v, want %v", got, want)
	}
}

func TestPublicTopicsCostASessionNothing(t *testing.T) {
	o := options(t)
	for i := range 100 {
		o.Public = append(o.Public, notify.Pattern(fmt.Sprintf("public/%d/*", i)))
	}
	with, without := verifierFor(t, o), verifierFor(t, options(t))
	token := forge(head, good, secret)
	a, err := with.Verify(token)
	if err != nil {
		t.Fatal(err)
	}
	b, err := with.Verify(token)
	if err != nil {
		t.Fatal(err)
	}
	if a.public == nil || a.public != b.public {
		t.Error("identities do not share the list")
	}
	allocations := func(v *Verifier) float64 {
		return testing.AllocsPerRun(100, func() {
			if _, err := v.Verify(token); err != nil {
				t.Fatal(err)
			}
		})
	}
	if got, want := allocations(with), allocations(without); got > want {
		t.Errorf("verifying with public topics: got %v allocations, want %v", got, want)
	}
	o.Public[0] = "*" // the caller's slice is the caller's
	if a.MayHear("orders/1") {
		t.Error("what is public changed after the start")
	}
}
